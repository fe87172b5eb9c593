"""A way to run the tool in this process, and stores to run it on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from aiocheckpoint.cli import main
from tests.on_disk import path_of


class Outcome(NamedTuple):
    """What a command line left: its exit status and what it printed."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


Tool = Callable[..., Outcome]


@pytest.fixture(name="tool")
def _tool(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Tool:
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Outcome:
        capfdbinary.readouterr()
        status = main([str(argument) for argument in arguments])
        output, errors = capfdbinary.readouterr()
        return Outcome(status, output.decode(), errors.decode())

    return run


def saved(root: Path, *records: CheckpointData) -> list[Path]:
    """Save records and return their files, in the same order."""

    async def save() -> list[Path]:
        async with AsyncCheckpointWriter(root) as writer:
            for record in records:
                await writer.save(record)
            metas = [meta for record in records for meta in await writer.list(record.session_id)]
        paths = {(meta.session_id, meta.checkpoint_id): path_of(meta) for meta in metas}
        return [paths[record.session_id, record.checkpoint_id] for record in records]

    return asyncio.run(save())


@pytest.fixture(name="store")
def _store(root: Path) -> Path:
    """A store with three checkpoints of one session and one of another with an odd id."""
    saved(
        root,
        *(
            CheckpointData(
                session_id="support-42",
                checkpoint_id=f"step{number}",
                trigger="tool_result",
                iteration=number,
                messages=[{"role": "user", "content": f"message {n}"} for n in range(number)],
            )
            for number in (1, 2, 3)
        ),
        CheckpointData(session_id="a/b 客服", checkpoint_id="only"),
    )
    return root


def damaged(path: Path) -> Path:
    """Change one digit of a checkpoint file."""
    body = path.read_bytes()
    path.write_bytes(body.replace(b'"tokens_used": 0', b'"tokens_used": 7'))
    assert path.read_bytes() != body
    return path


def tree(root: Path) -> list[tuple[str, bytes | None]]:
    """Return everything under a directory, to see whether a command changed it."""
    return sorted(
        (str(path), path.read_bytes() if path.is_file() else None) for path in root.rglob("*")
    )
