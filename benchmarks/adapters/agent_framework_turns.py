"""Workflows of Agent Framework: `python -m benchmarks.adapters.agent_framework_turns`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    FileCheckpointStorage,
    Message,
    WorkflowBuilder,
    WorkflowCheckpoint,
)

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.agent_framework import CheckpointStorage, StoredCheckpoint
from benchmarks.adapters.turns import TURNS, Store, measure, text


def messages(turn: int) -> list[dict[str, Any]]:
    """Return what a turn adds: a question, a call of a tool, what it returned, and the answer."""

    def message(role: str, **content: Any) -> dict[str, Any]:
        return {"type": "message", "role": role, "contents": [content]}

    call = f"call-{turn}"
    return [
        message("user", type="text", text=text(turn, 800)),
        message("assistant", type="function_call", call_id=call, name="look_up", arguments="{}"),
        message("tool", type="function_result", call_id=call, result=text(turn + 1000, 1200)),
        message("assistant", type="text", text=text(turn + 2000, 1200)),
    ]


class Checkpoints:
    """A workflow with the session of an agent in its state, as `AgentExecutor` has it."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._messages: list[dict[str, Any]] = []
        self._last: str | None = None

    async def write(self, turn: int) -> None:
        """Save a checkpoint with one more turn."""
        self._messages += messages(turn)
        session = {"type": "session", "state": {"in_memory": {"messages": self._messages}}}
        checkpoint = WorkflowCheckpoint(
            workflow_name="w",
            checkpoint_id=f"c-{turn}",
            graph_signature_hash="graph",
            previous_checkpoint_id=self._last,
            state={"_executor_state": {"agent": {"cache": [], "agent_session": session}}},
            iteration_count=turn,
        )
        self._last = await self._storage.save(checkpoint)

    async def read(self) -> int:
        """Load the newest."""
        found = await self._storage.get_latest(workflow_name="w")
        state = found.state["_executor_state"]["agent"]["agent_session"]["state"]
        return len(state["in_memory"]["messages"])


class ById(Checkpoints):
    """The same, read by its id: the framework's own reads all files for the newest."""

    async def read(self) -> int:
        """Load the last one."""
        found = await self._storage.load(f"c-{TURNS - 1}")
        return len(found.state)


class Client(BaseChatClient[Any]):
    """A model that answers at once."""

    turn = 0

    def _inner_get_response(self, **_options: Any) -> Awaitable[ChatResponse[Any]]:
        async def answer() -> ChatResponse[Any]:
            return ChatResponse(messages=[Message("assistant", [text(self.turn + 2000, 2400)])])

        return answer()


class Runs(Checkpoints):
    """A real workflow of one agent: each turn is a run, which saves three checkpoints."""

    def __init__(self, storage: Any) -> None:
        super().__init__(storage)
        self._client = Client()
        agent = Agent(client=self._client, name="agent")
        builder = WorkflowBuilder(name="w", start_executor=agent, checkpoint_storage=storage)
        self._workflow = builder.build()

    async def write(self, turn: int) -> None:
        """Run a turn."""
        self._client.turn = turn
        await self._workflow.run(text(turn, 800))


class RunsById(Runs):
    """The same, read by the id of the checkpoint that was saved last."""

    _saved_last: ClassVar[str]

    def __init__(self, storage: Any) -> None:
        save = storage.save

        async def noted(checkpoint: WorkflowCheckpoint) -> str:
            RunsById._saved_last = checkpoint.checkpoint_id
            return str(await save(checkpoint))

        storage.save = noted
        super().__init__(storage)

    async def read(self) -> int:
        """Load it."""
        found = await self._storage.load(self._saved_last)
        return len(found.state)


Kind = Callable[[Any], Checkpoints]
FILES, OURS = "`FileCheckpointStorage`", "`CheckpointStorage`"
OF_RUNS = "a run of an agent, "


@asynccontextmanager
async def ours(
    directory: Path, kind: Kind = Checkpoints, durability: Durability = "journal"
) -> AsyncIterator[Store]:
    """Open the adapter."""
    async with AsyncCheckpointWriter[Any](
        directory, record_type=StoredCheckpoint, durability=durability
    ) as writer:
        yield kind(CheckpointStorage(writer))


@asynccontextmanager
async def files(directory: Path, kind: Kind = Checkpoints) -> AsyncIterator[Store]:
    """Open the framework's own store."""
    yield kind(FileCheckpointStorage(directory))


if __name__ == "__main__":
    whole = [message for turn in range(TURNS) for message in messages(turn)]
    measure(
        {
            FILES: files,
            OURS: ours,
            f'{OURS}, `"none"`': partial(ours, durability="none"),
            f"{FILES}, `load`": partial(files, kind=ById),
            f"{OURS}, `load`": partial(ours, kind=ById),
            f"{OF_RUNS}{OURS}": partial(ours, kind=Runs),
            f"{OF_RUNS}{FILES}, `load`": partial(files, kind=RunsById),
            f"{OF_RUNS}{OURS}, `load`": partial(ours, kind=RunsById),
        },
        len(msgspec.json.encode(whole)),
        beside=[
            (OURS, FILES),
            (f"{OURS}, `load`", f"{FILES}, `load`"),
            (f"{OF_RUNS}{OURS}, `load`", f"{OF_RUNS}{FILES}, `load`"),
        ],
    )
