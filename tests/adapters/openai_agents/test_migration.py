"""Moving conversations here from the framework's SQLite sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("agents", reason="needs the extra openai-agents: .ci/adapter openai-agents")

from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession

from aiocheckpoint.adapters.openai_agents import (
    Copied,
    CopyMismatchError,
    Session,
    SessionRecord,
    copy_sessions,
)
from aiocheckpoint.adapters.openai_agents.__main__ import main
from aiocheckpoint.testing import MemoryStore
from tests.adapters.damages import Place, cells, loosened
from tests.adapters.moving import MoverContract

pytestmark = pytest.mark.blocking


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> Path:
    path = tmp_path / "old data?.db"
    for name, count in (("ann", 3), ("bob", 120), ("é/../x", 1)):
        session = SQLiteSession(name, path)
        items: list[Any] = [{"role": "user", "content": f"{name} {n}"} for n in range(count)]
        await session.add_items(items)
        session.close()
    return path


async def test_all_conversations_come_and_may_come_again(database: Path) -> None:
    """All items of all sessions are there, in order; a second copy changes nothing."""
    store: MemoryStore[Any] = MemoryStore(SessionRecord)
    told: list[Copied] = []

    assert await copy_sessions(database, store, progress=told.append) == Copied(3, 124)
    assert await copy_sessions(database, store) == Copied(3, 124)

    assert told == [Copied(1, 3), Copied(2, 123), Copied(3, 124)]
    for name in ("ann", "bob", "é/../x"):
        old = SQLiteSession(name, database)
        assert await Session(name, store).get_items() == await old.get_items()
        old.close()


async def test_nothing_there_is_replaced(database: Path) -> None:
    """A session that has other items is refused by name, and keeps them."""
    store: MemoryStore[Any] = MemoryStore(SessionRecord)
    other: list[Any] = [{"role": "user", "content": "mine"}]
    await Session("ann", store).add_items(other)

    with pytest.raises(CopyMismatchError, match="'ann'"):
        await copy_sessions(database, store)

    assert await Session("ann", store).get_items() == other


async def test_damaged_row_is_told(database: Path) -> None:
    """A row that `SQLiteSession` leaves out in silence is refused by its number."""
    connection = sqlite3.connect(database)
    connection.execute("UPDATE agent_messages SET message_data = '{' WHERE id = 2")
    connection.commit()
    connection.close()

    store: MemoryStore[Any] = MemoryStore(SessionRecord)
    with pytest.raises(CopyMismatchError, match="row 2 of agent_messages"):
        await copy_sessions(database, store)


async def test_branches_are_not_mixed(database: Path) -> None:
    """
    A session with branches is refused by their names, and those without are copied.

    All items of it, which are in one table, were a conversation that there never was.
    """
    for name in ("one branch", "branches"):
        session = AdvancedSQLiteSession(session_id=name, db_path=database, create_tables=True)
        await session.add_items([{"role": "user", "content": "Where is it?"}])
        if name == "branches":
            await session.create_branch_from_turn(1, "other")
            await session.add_items([{"role": "user", "content": "And that one?"}])
        session.close()
    store: MemoryStore[Any] = MemoryStore(SessionRecord)

    with pytest.raises(CopyMismatchError, match="'branches': it has the branches 'main', 'other'"):
        await copy_sessions(database, store)

    assert await Session("branches", store).get_items() == []
    assert len(await Session("one branch", store).get_items()) == 1
    assert len(await Session("ann", store).get_items()) == 3


def test_command(database: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says how much it has copied, and refuses what is no database."""
    main([str(database), str(root)])
    assert capsys.readouterr().out == "3 sessions, 124 items copied and compared\n"

    for wrong in (root / "missing.db", Path(__file__)):
        with pytest.raises(SystemExit) as ended:
            main([str(wrong), str(root)])
        assert ended.value.code == 2
        assert "is no database of SQLiteSession" in capsys.readouterr().err


class TestMover(MoverContract):
    record_type = SessionRecord
    main = main
    refused = "bob"
    units: ClassVar = {"ann": 1, "bob": 1, "é/../x": 1}

    @pytest.fixture(name="source")
    def _source(self, database: Path) -> Path:
        return loosened(database)

    def places(self, source: Any) -> Iterator[Place]:
        yield from cells(source, "agent_sessions", "session_id = 'ann'", "ann")
        yield from cells(source, "agent_messages", "id = 2", "ann", but="id session_id")

    async def copy(self, source: Any, storage: Any) -> Copied:
        return await copy_sessions(source, storage)

    async def add_nan(self, source: Any) -> None:
        session = SQLiteSession("nan", source)
        item: Any = {"type": "function_call_output", "call_id": "c", "score": float("nan")}
        await session.add_items([item])
        session.close()

    async def go_on(self, storage: Any) -> None:
        await Session("bob", storage).add_items([{"role": "user", "content": "mine"}])
