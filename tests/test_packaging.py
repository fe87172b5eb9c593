"""What the package asks to be installed: of each extra, all that its modules import."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import aiocheckpoint

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "src" / "aiocheckpoint"
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

_PLACES = {
    "cli": "cli", "postgres": "stores/postgres", "s3": "stores/s3",
    "otel": "adapters/opentelemetry.py",
}  # fmt: skip
_DISTRIBUTIONS = {  # of what is imported by another name than it is installed by
    "agent_framework": "agent-framework-core", "agents": "openai-agents",
    "backports": "backports-zstd", "claude_agent_sdk": "claude-agent-sdk",
    "google.adk": "google-adk", "langgraph.checkpoint": "langgraph-checkpoint",
    "opentelemetry": "opentelemetry-api", "pydantic_ai": "pydantic-ai-slim",
    "pydantic_ai_harness": "pydantic-ai-harness", "strands": "strands-agents",
}  # fmt: skip
_ROOTS = {  # what each extra is there for
    "agent-framework": "agent_framework", "claude-agent": "claude_agent_sdk", "cli": "typer",
    "crewai": "crewai", "google-adk": "google.adk", "langgraph": "langgraph",
    "openai-agents": "agents", "otel": "opentelemetry", "postgres": "asyncpg",
    "pydantic-ai": "pydantic_ai", "pydantic-harness": "pydantic_ai_harness",
    "s3": "aiobotocore", "strands": "strands",
}  # fmt: skip


def _required(extra: str) -> set[str]:
    return {re.split(r"[\[<>=;! ]", each)[0].lower().replace(".", "-") for each in EXTRAS[extra]}


def _imported(place: Path) -> set[str]:
    """Return the modules that the files of a place import."""
    files = [place] if place.is_file() else [*place.rglob("*.py")]
    assert files, place
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
    return found


def test_each_extra_is_tried_here() -> None:
    """No extra is without an entry in these tests."""
    assert _ROOTS.keys() == EXTRAS.keys()


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_installs_what_it_is_there_for(extra: str) -> None:
    """What the modules of an extra import is required by that extra."""
    root = _ROOTS[extra]
    place = PACKAGE / _PLACES.get(extra, "adapters/" + extra.replace("-", "_"))
    imported = _imported(place)
    assert any(name == root or name.startswith(f"{root}.") for name in imported)
    assert _DISTRIBUTIONS.get(root, root) in _required(extra)


def test_the_command_and_buckets_need_several() -> None:
    """What else a module imports by name is required, too."""
    for extra, names in {
        "cli": {"rich", "typer"}, "s3": {"aiobotocore", "aiohttp"},
        "postgres": {"asyncpg", "backports-zstd"},
        "langgraph": {"langgraph", "langgraph-checkpoint"},
    }.items():  # fmt: skip
        assert names <= _required(extra), extra


def test_the_core_needs_three() -> None:
    """What the core imports beside the standard library is required by the package itself."""
    required = {re.split(r"[<>=]", each)[0] for each in PROJECT["dependencies"]}
    assert required == {"aiofiles", "anyio", "msgspec"}


def test_the_version_is_told() -> None:
    """`__version__` is what the package is built by, and one of a release."""
    assert PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", aiocheckpoint.__version__)


def test_the_command_is_there() -> None:
    """The installed command is the one of the documentation."""
    assert PROJECT["scripts"] == {"aiocheckpoint": "aiocheckpoint.cli:main"}
