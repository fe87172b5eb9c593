"""The page and the example do what they say."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "pydantic_ai_harness", reason="needs the extra pydantic-harness: .ci/adapter pydantic-harness"
)

from pydantic_ai import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, UserPromptPart
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    RunRecord,
    ToolEffectRecord,
    ToolEffectStatus,
)

from aiocheckpoint.adapters.pydantic_harness import StepStore
from tests.adapters.pages import ends_once, goes_on, run_page
from tests.adapters.processes import TAKES_LONG
from tests.test_docs import REPOSITORY, fenced

EXAMPLE = "pydantic_harness_resume.py"
CONVERSATION = "order-7"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of the page runs, in order, and prints what the page says."""
    monkeypatch.chdir(tmp_path)
    run_page("pydantic-harness.md")


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("the model thinks, step 0", []),
        ("look_up", ["unknown: look_up"]),
        ("the model thinks, step 1", []),
    ],
)
def test_example_goes_on(tmp_path: Path, line: str, unknown: list[str]) -> None:
    """It is killed amid a turn, says what it does not know, waits for Ann, and refunds once."""
    runs = goes_on(EXAMPLE, tmp_path, line)
    assert [found for found in runs[0] if found.startswith("unknown")] == unknown


@pytest.mark.parametrize("line", ["the model thinks, step 2", "Your 40 euros"])
def test_example_ends_once(tmp_path: Path, line: str) -> None:
    """Killed after the refund it refunds no more; when it has ended it prints what is stored."""
    ends_once(EXAMPLE, tmp_path, line)


@pytest.mark.parametrize("status", ["started", "completed", "failed"])
@pytest.mark.parametrize("source", ["page", "example"])
def test_a_call_that_will_run_again_is_told_with_what_became_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, status: ToolEffectStatus
) -> None:
    """Also one that has ended, and one of an earlier attempt than that of the newest snapshot."""
    asyncio.run(_read_by(source, tmp_path, status))
    printed = capsys.readouterr().out
    assert "refund" in printed
    assert status in printed or (status == "started" and printed.startswith("unknown:"))


async def _read_by(source: str, root: Path, status: ToolEffectStatus) -> None:
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart("My lamp arrived broken.")]),
        ModelResponse(parts=[ToolCallPart("refund", {"euros": 40}, "call-2")]),
    ]
    async with StepStore(root) as store:
        for run_id in ("r1", "r2"):
            await store.register_run(RunRecord(run_id=run_id, conversation_id=CONVERSATION))
            await store.save_snapshot(
                ContinuableSnapshot(
                    run_id=run_id, step_index=1, messages=[*messages], state="interrupted"
                )
            )
        await store.record_tool_effect(
            ToolEffectRecord(tool_call_id="call-2", tool_name="refund", run_id="r1", status=status)
        )
        names: dict[str, Any]
        if source == "page":
            names = {}
            page = REPOSITORY / "docs" / "how-to" / "pydantic-harness.md"
            (recipe,) = [b.text for b in fenced(page) if "def messages_so_far" in b.text]
            exec(recipe, names)
            assert await names["messages_so_far"](store, CONVERSATION) == messages
        else:
            names = runpy.run_path(str(REPOSITORY / "examples" / EXAMPLE))
            assert await names["messages_so_far"](store) == messages
