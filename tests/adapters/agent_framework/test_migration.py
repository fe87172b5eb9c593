"""Moving checkpoints here from the framework's files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from agent_framework import FileCheckpointStorage, Message, WorkflowMessage

from aiocheckpoint.adapters.agent_framework import (
    CheckpointStorage,
    Copied,
    CopyMismatchError,
    StoredCheckpoint,
    copy_checkpoints,
)
from aiocheckpoint.adapters.agent_framework.__main__ import main
from aiocheckpoint.testing import MemoryStore
from tests.adapters.agent_framework.checkpoints import checkpoint, message
from tests.adapters.damages import Place, file
from tests.adapters.moving import MoverContract

pytestmark = pytest.mark.blocking


@dataclass
class Own:
    number: int


ALLOWED = [f"{Own.__module__}:{Own.__qualname__}"]


@pytest.fixture(name="files")
async def _files(tmp_path: Path) -> Path:
    directory = tmp_path / "old files?"
    storage = FileCheckpointStorage(directory, allowed_checkpoint_types=ALLOWED)
    for name, count in (("one", 20), ("two é/..", 3)):
        last: Any = None
        for number in range(count):
            texts = [Message("user", [message(n)["text"]]) for n in range(number)]
            last = checkpoint(
                {"texts": texts, "own": Own(number), "nan": float("nan"), "big": 10**20},
                last,
                workflow_name=name,
                checkpoint_id=f"{name[:3]}-{99 - number}",
                timestamp=f"2026-01-01T00:00:{number:02}",
                messages={"a": [WorkflowMessage(data=(1, {2}), source_id="a")]},
            )
            await storage.save(last)
    return directory


async def test_all_checkpoints_come_and_may_come_again(files: Path) -> None:
    """All of all workflows are there, in the order of their times; a second copy adds nothing."""
    store: MemoryStore[Any] = MemoryStore(StoredCheckpoint)
    told: list[Copied] = []

    options: Any = {"allowed_checkpoint_types": ALLOWED}
    assert await copy_checkpoints(files, store, progress=told.append, **options) == Copied(2, 23)
    assert await copy_checkpoints(files, store, **options) == Copied(2, 23)

    assert told == [Copied(1, 20), Copied(2, 23)]
    storage = CheckpointStorage(store, **options)
    ids = await storage.list_checkpoint_ids(workflow_name="one")
    assert ids == [f"one-{99 - number}" for number in range(20)]
    latest = await storage.get_latest(workflow_name="two é/..")
    assert latest is not None
    assert latest.state["own"] == Own(2)
    assert [it.text for it in latest.state["texts"]] == [message(0)["text"], message(1)["text"]]
    assert latest.messages["a"][0].data == (1, {2})


async def test_nothing_there_is_replaced(files: Path) -> None:
    """A workflow that has other checkpoints is refused by name, and keeps them."""
    store: MemoryStore[Any] = MemoryStore(StoredCheckpoint)
    storage = CheckpointStorage(store)
    mine = checkpoint({"mine": 1}, workflow_name="one")
    await storage.save(mine)

    with pytest.raises(CopyMismatchError, match="'one'"):
        await copy_checkpoints(files, store, allowed_checkpoint_types=ALLOWED)

    assert await storage.list_checkpoints(workflow_name="one") == [mine]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "no checkpoint"), ("[]", "no checkpoint"), ('{"timestamp": 1}', "no checkpoint")],
)
async def test_damaged_file_is_told(files: Path, content: str, reason: str) -> None:
    """A file that the framework leaves out in silence is named, and nothing is copied."""
    (files / "one-90.json").write_text(content)

    store: MemoryStore[Any] = MemoryStore(StoredCheckpoint)
    with pytest.raises(CopyMismatchError, match=rf"^one-90\.json is {reason}") as raised:
        await copy_checkpoints(files, store, allowed_checkpoint_types=ALLOWED)
    assert "\nnothing was copied" in str(raised.value)
    assert "all others" not in str(raised.value)
    assert [failure.session_id for failure in raised.value.failures] == [None]
    assert not await store.exists()


@pytest.mark.parametrize("field", ["timestamp", "checkpoint_id"])
async def test_damage_to_a_file_that_tells_its_workflow_stops_no_other(
    files: Path, field: str
) -> None:
    """A file without an id or a time is refused with its workflow; all others come."""
    path = files / "one-90.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: [1]}))

    reason = r"workflow 'one': one-90\.json is no checkpoint; mend or delete it"
    with pytest.raises(CopyMismatchError, match=reason) as raised:
        await copy_checkpoints(
            files, MemoryStore[Any](StoredCheckpoint), allowed_checkpoint_types=ALLOWED
        )
    assert raised.value.copied == Copied(1, 3)


def test_command_says_that_nothing_was_copied(
    files: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a torn file it calls no file a session, and does not say that the others are there."""
    (files / "zzz.json").write_text("{torn")
    with pytest.raises(SystemExit) as ended:
        main([str(files), str(root), "--allow-type", *ALLOWED])
    assert ended.value.code == 1
    first, outcome, count = capsys.readouterr().err.splitlines()
    assert first.startswith("zzz.json is no checkpoint; mend or delete it")
    assert outcome.startswith("nothing was copied")
    assert count.startswith("0 workflows, 0 checkpoints ")
    assert not root.exists()


async def test_file_under_another_name_is_told(files: Path) -> None:
    """A file whose checkpoint has another id is refused with its workflow; all others come."""
    (files / "one-90.json").rename(files / "renamed.json")

    reason = r"workflow 'one': renamed\.json is the checkpoint 'one-90'"
    with pytest.raises(CopyMismatchError, match=reason) as raised:
        await copy_checkpoints(
            files, MemoryStore[Any](StoredCheckpoint), allowed_checkpoint_types=ALLOWED
        )
    assert raised.value.copied == Copied(1, 3)


async def test_class_that_is_not_allowed_is_told(files: Path) -> None:
    """A checkpoint with a class that nobody allowed is refused by its name."""
    with pytest.raises(CopyMismatchError, match=r"one-99\.json cannot be read"):
        await copy_checkpoints(files, MemoryStore[Any](StoredCheckpoint))


def test_command(files: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says how much it has copied, and refuses what is no directory."""
    main([str(files), str(root), "--allow-type", *ALLOWED])
    assert capsys.readouterr().out == "2 workflows, 23 checkpoints copied and compared\n"

    with pytest.raises(SystemExit) as ended:
        main([str(files / "missing"), str(root)])
    assert ended.value.code == 2
    assert "is no directory of FileCheckpointStorage" in capsys.readouterr().err
    assert not (files / "missing").exists()


class TestMover(MoverContract):
    record_type = StoredCheckpoint
    main = main
    refused = "one"
    unit = "workflow"
    units: ClassVar = {"one": 1, "two é/..": 1}

    @pytest.fixture(name="source")
    def _source(self, files: Path) -> Path:
        return files

    async def copy(self, source: Any, storage: Any) -> Copied:
        return await copy_checkpoints(source, storage, allowed_checkpoint_types=ALLOWED)

    def places(self, source: Any) -> Iterator[Place]:
        yield file(source / "one-90.json", "one")

    async def add_nan(self, source: Any) -> None:
        files = FileCheckpointStorage(source, allowed_checkpoint_types=ALLOWED)
        await files.save(checkpoint({"nan": float("nan")}, workflow_name="nan"))

    async def go_on(self, storage: Any) -> None:
        other = checkpoint({"mine": 1}, workflow_name="one", checkpoint_id="one-99")
        await CheckpointStorage(storage).save(other)

    def arguments(self, source: Any) -> list[str]:
        return [str(source), "--allow-type", *ALLOWED]
