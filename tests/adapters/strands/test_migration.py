"""Moving sessions here from the framework's own storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("strands", reason="needs the extra strands: .ci/adapter strands")

from strands import Agent
from strands.session import FileSessionManager, SnapshotSessionManager
from strands.storage import LocalFileStorage

from aiocheckpoint.adapters.strands import (
    Copied,
    CopyMismatchError,
    SessionManager,
    Storage,
    StoredValue,
    copy_storage,
)
from aiocheckpoint.adapters.strands.__main__ import main
from aiocheckpoint.testing import MemoryStore
from tests.adapters.damages import Place, file
from tests.adapters.moving import MoverContract
from tests.adapters.strands.shop import ScriptedModel, quiet_agent

pytestmark = pytest.mark.blocking


@pytest.fixture(name="directory")
async def _directory(tmp_path: Path) -> Path:
    path = tmp_path / "old data?"
    for name in ("ann", "bob"):
        manager = SnapshotSessionManager(
            name, storage=LocalFileStorage(str(path)), snapshot_trigger=lambda **_: True
        )
        agent = Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None)
        await agent.invoke_async(f"hello from {name}")
    await LocalFileStorage(str(path)).write("notes.md", b"\xff\x00 no text")
    return path


async def test_all_values_come_and_may_come_again(directory: Path) -> None:
    """All that is stored is there, and an agent goes on; a second copy changes nothing."""
    store: Any = MemoryStore(StoredValue)
    source = LocalFileStorage(str(directory))
    told: list[Copied] = []

    assert await copy_storage(source, store, progress=told.append) == Copied(3, 5)
    assert await copy_storage(source, store) == Copied(3, 5)

    assert len(told) == 3
    assert await Storage(store).list() == await source.list()
    for key in await source.list():
        assert await Storage(store).read(key) == await source.read(key)
    agent = quiet_agent(SessionManager("bob", store), ScriptedModel())
    assert agent.messages[0]["content"] == [{"text": "hello from bob"}]


async def test_nothing_there_is_replaced(directory: Path) -> None:
    """A key that has another value is refused by name, and keeps it."""
    store: Any = MemoryStore(StoredValue)
    await Storage(store).write("notes.md", b"mine")

    with pytest.raises(CopyMismatchError, match=r"'notes\.md'"):
        await copy_storage(LocalFileStorage(str(directory)), store)

    assert await Storage(store).read("notes.md") == b"mine"


async def test_an_agent_of_the_older_files_is_taken_over(tmp_path: Path, root: Path) -> None:
    """Its messages and its state are in the snapshot that is saved of it."""
    directory = str(tmp_path / "older")
    before = quiet_agent(FileSessionManager("ann", storage_dir=directory), ScriptedModel())
    before.state.set("language", "French")
    for turn in range(3):
        await before.invoke_async(f"question {turn}")

    old = quiet_agent(FileSessionManager("ann", storage_dir=directory), ScriptedModel())
    async with SessionManager("ann", root) as sessions:
        await sessions.save_snapshot(old, is_latest=True)

    async with SessionManager("ann", root) as sessions:
        after = quiet_agent(sessions, ScriptedModel())
        assert after.messages == before.messages
        assert len(after.messages) == 6
        assert after.state.get("language") == "French"


def test_command(directory: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says how much it has copied, and refuses what is no directory."""
    main([str(directory), str(root)])
    assert capsys.readouterr().out == "3 sessions, 5 values copied and compared\n"

    with pytest.raises(SystemExit) as ended:
        main([str(root / "missing"), str(root)])
    assert ended.value.code == 2
    assert "is no directory of LocalFileStorage" in capsys.readouterr().err


class TestMover(MoverContract):
    record_type = StoredValue
    main = main
    refused = "session/ann/"
    units: ClassVar = {"session/ann/": 1, "session/bob/": 1, "": 1}

    @pytest.fixture(name="source")
    def _source(self, directory: Path) -> Path:
        return directory

    async def copy(self, source: Any, storage: Any) -> Copied:
        return await copy_storage(LocalFileStorage(str(source)), storage)

    def places(self, source: Any) -> Iterator[Place]:
        path = next((source / "session" / "ann").rglob("*.json"))
        yield file(path, "session/ann/")

    async def add_nan(self, source: Any) -> None:
        await LocalFileStorage(str(source)).write("session/nan/state", b'{"score": NaN}')

    async def go_on(self, storage: Any) -> None:
        await Storage(storage).write("session/ann/mine", b"mine")
