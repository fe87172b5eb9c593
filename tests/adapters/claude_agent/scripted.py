"""The framework's real runner, its command-line program included, with a scripted model."""

from __future__ import annotations

import runpy
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_MODEL = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "claude_agent_model.py"))

serve: Callable[[Callable[[Any], Awaitable[None]]], Awaitable[str]] = _MODEL["serve"]
parts_of: Callable[[Any, str], list[Any]] = _MODEL["parts_of"]


def _has_program() -> bool:
    spec = find_spec("claude_agent_sdk")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "_bundled" / "claude").exists()


needs_program = pytest.mark.skipif(
    not _has_program(), reason="needs the program that the framework's wheels bring along"
)


def environment(address: str, local: Path) -> dict[str, str]:
    """Return what the program takes its model from, and where it keeps files of its own."""
    return {
        "ANTHROPIC_BASE_URL": address,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CONFIG_DIR": str(local),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "MAX_MCP_OUTPUT_TOKENS": "1000000",
    }
