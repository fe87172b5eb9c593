"""
The child process of the demo: scripted agents that save after every step.

Each session replays a bundled conversation, one message a step, and goes on where its newest
checkpoint ends. What happens is reported on standard output, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import random
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointError, Durability
from aiocheckpoint.cli.json_files import JsonFiles

Message: TypeAlias = dict[str, Any]
Store: TypeAlias = AsyncCheckpointWriter[CheckpointData] | JsonFiles

_TRIGGERS = {"system": "start", "user": "user_message", "tool": "tool_result"}
_CHARACTERS_PER_TOKEN = 4


class Conversation(Struct, frozen=True):
    """
    What an agent replays.

    Attributes:
        name: short, part of session ids.
        title: one line.
        messages: as chat APIs take them, tool calls and their results included.
    """

    name: str
    title: str
    messages: list[Message]


class Task(Struct, frozen=True, kw_only=True):
    """
    What the child is to do.

    Attributes:
        directory: where to save.
        store: with what: this library, or `JsonFiles` to compare with.
        sessions: how many agents run at once.
        durability: of the writer.
        pace_seconds: how long an agent thinks before a step, on average.
        seed: of the thinking times.
    """

    directory: str
    store: Literal["aiocheckpoint", "json.dump"] = "aiocheckpoint"
    sessions: int
    durability: Durability
    pace_seconds: float
    seed: int


class Resumed(Struct, frozen=True, tag=True):
    """A session goes on after `step`, 0 for a new one."""

    session_id: str
    step: int


class Saving(Struct, frozen=True, tag=True):
    """The save of a step is about to be called."""

    session_id: str
    step: int


class Saved(Struct, frozen=True, tag=True):
    """The save of a step has returned: the step must never be lost from here on."""

    session_id: str
    step: int
    checkpoint_id: str


Event: TypeAlias = Resumed | Saving | Saved


@cache
def conversations() -> tuple[Conversation, ...]:
    """Return the bundled conversations in the order of their files."""
    directory = files("aiocheckpoint.cli") / "conversations"
    paths = sorted(directory.iterdir(), key=lambda path: path.name)
    return tuple(msgspec.json.decode(path.read_bytes(), type=Conversation) for path in paths)


def casting(sessions: int) -> dict[str, Conversation]:
    """Return which conversation each session replays; with many sessions they come again."""
    scripts = conversations()
    takes = (divmod(number, len(scripts)) for number in range(sessions))
    return {f"{scripts[which].name}-{take + 1}": scripts[which] for take, which in takes}


def state_after(session_id: str, messages: list[Message]) -> CheckpointData:
    """Return the checkpoint of an agent whose conversation has come so far."""
    last = messages[-1]
    pending = _pending_calls(messages)
    characters = sum(len(message["content"] or "") for message in messages)
    return CheckpointData(
        session_id=session_id,
        trigger=_TRIGGERS.get(last["role"], "tool_call" if pending else "answer"),
        iteration=len(messages),
        messages=messages,
        tool_calls_pending=pending,
        tool_results={last["tool_call_id"]: last["content"]} if last["role"] == "tool" else None,
        tokens_used=characters // _CHARACTERS_PER_TOKEN,
        resume_hint=f"tool calls to answer: {len(pending)}" if pending else None,
    )


def _pending_calls(messages: list[Message]) -> list[Message]:
    answered = {message.get("tool_call_id") for message in messages}
    calls = (call for message in messages for call in message.get("tool_calls", ()))
    return [call for call in calls if call["id"] not in answered]


def report(event: Event) -> None:
    """Write an event at once, so that what the parent has read did happen."""
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()


async def run_agent(store: Store, session_id: str, script: Conversation, task: Task) -> None:
    """Go on with a session from its newest checkpoint to the end of its script."""
    thinking = random.Random(f"{task.seed} {session_id}")  # noqa: S311 - a pace, not a secret
    latest = await store.load(session_id)
    messages = [] if latest is None else latest.messages
    report(Resumed(session_id, len(messages)))
    for message in script.messages[len(messages) :]:
        await asyncio.sleep(thinking.uniform(0, 2 * task.pace_seconds))
        messages.append(message)
        report(Saving(session_id, len(messages)))
        checkpoint_id = await store.save(state_after(session_id, messages))
        report(Saved(session_id, len(messages), checkpoint_id))


async def run_agents(task: Task) -> None:
    """Run all sessions at once to their ends."""
    async with _opened(task) as store, asyncio.TaskGroup() as group:
        for session_id, script in casting(task.sessions).items():
            group.create_task(run_agent(store, session_id, script, task))


def _opened(task: Task) -> Store:
    if task.store == "json.dump":
        return JsonFiles(Path(task.directory))
    return AsyncCheckpointWriter(task.directory, durability=task.durability)


def main(task: str) -> None:
    """Run the process; an error of the library is one line on standard error."""
    try:
        asyncio.run(run_agents(msgspec.json.decode(task, type=Task)))
    except* CheckpointError as errors:
        sys.exit(str(errors.exceptions[0]))


if __name__ == "__main__":
    main(sys.argv[1])
