"""Moving flows here from CrewAI's SQLite store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("crewai", reason="needs the extra crewai: .ci/adapter crewai")

from crewai.flow.async_feedback import PendingFeedbackContext
from crewai.flow.persistence import SQLiteFlowPersistence

from aiocheckpoint.adapters.crewai import (
    Copied,
    CopyMismatchError,
    FlowPersistence,
    FlowRecord,
    copy_flows,
)
from aiocheckpoint.adapters.crewai.__main__ import main
from aiocheckpoint.testing import MemoryStore
from tests.adapters.damages import Place, cells, loosened
from tests.adapters.moving import MoverContract

pytestmark = pytest.mark.blocking


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> Path:
    path = tmp_path / "old data?.db"
    old = SQLiteFlowPersistence(str(path))
    for flow, count in (("ann", 3), ("é/../x", 1)):
        for number in range(count):
            old.save_state(flow, f"step_{number}", {"id": flow, "number": number, "nan": 1e999})
    context = PendingFeedbackContext("bob", "m.Flow", "ask", {"draft": "x"}, "Ok?")
    old.save_pending_feedback("bob", context, {"id": "bob", "number": 7})
    old.save_pending_feedback("eve", context, {"id": "eve", "number": 1})
    old.save_state("eve", "later", {"id": "eve", "number": 2})
    return path


def test_all_flows_come_and_may_come_again(database: Path) -> None:
    """The newest state of each, and what it waits for; a second copy changes nothing."""
    store: MemoryStore[Any] = MemoryStore(FlowRecord)
    told: list[Copied] = []

    assert copy_flows(database, store, progress=told.append) == Copied(4, 2)
    assert copy_flows(database, store) == Copied(4, 2)

    assert told[-1] == Copied(4, 2)
    assert len(told) == 4
    old, new = SQLiteFlowPersistence(str(database)), FlowPersistence(store)
    for flow in ("ann", "bob", "eve", "é/../x"):
        assert new.load_state(flow) == old.load_state(flow)
        assert new.load_pending_feedback(flow) == old.load_pending_feedback(flow)


def test_nothing_there_is_replaced(database: Path) -> None:
    """A flow that has another state is refused by name, and keeps it."""
    store: MemoryStore[Any] = MemoryStore(FlowRecord)
    FlowPersistence(store).save_state("ann", "mine", {"id": "ann", "mine": True})

    with pytest.raises(CopyMismatchError, match="'ann'"):
        copy_flows(database, store)

    assert FlowPersistence(store).load_state("ann") == {"id": "ann", "mine": True}


def test_damaged_row_is_told(database: Path) -> None:
    """A row that is no JSON is refused by the flow."""
    connection = sqlite3.connect(database)
    connection.execute("UPDATE flow_states SET state_json = '{' WHERE flow_uuid = 'ann'")
    connection.commit()
    connection.close()

    with pytest.raises(
        CopyMismatchError, match="'ann': state_json in row 3 of flow_states is no JSON"
    ):
        copy_flows(database, MemoryStore[Any](FlowRecord))


def test_command(database: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says how much it has copied, and refuses what is no database."""
    main([str(database), str(root)])
    assert capsys.readouterr().out == "4 flows, 2 that wait copied and compared\n"

    for wrong in (root / "missing.db", Path(__file__)):
        with pytest.raises(SystemExit) as ended:
            main([str(wrong), str(root)])
        assert ended.value.code == 2
        assert "is no database of SQLiteFlowPersistence" in capsys.readouterr().err


class TestMover(MoverContract):
    record_type = FlowRecord
    main = main
    refused = "eve"
    unit = "flow"
    units: ClassVar = {"ann": 1, "bob": 1, "eve": 1, "é/../x": 1}

    @pytest.fixture(name="source")
    def _source(self, database: Path) -> Path:
        return loosened(database)

    def places(self, source: Any) -> Iterator[Place]:
        newest = "flow_uuid = '{}' ORDER BY id DESC"
        yield from cells(source, "flow_states", newest.format("ann"), "ann", but="id")
        yield from cells(source, "flow_states", newest.format("eve"), "eve", but="id")
        yield from cells(source, "pending_feedback", newest.format("bob"), "bob", but="id")
        yield from cells(source, "pending_feedback", newest.format("eve"), "eve", but="id")

    async def copy(self, source: Any, storage: Any) -> Copied:
        return await asyncio.to_thread(copy_flows, source, storage)

    async def add_nan(self, source: Any) -> None:
        old = SQLiteFlowPersistence(str(source))
        await asyncio.to_thread(old.save_state, "nan", "rate", {"id": "nan", "nan": float("nan")})

    async def go_on(self, storage: Any) -> None:
        def save() -> None:
            context = PendingFeedbackContext("eve", "m.Flow", "ask", {"draft": "y"}, "Sure?")
            with FlowPersistence(storage) as target:
                target.save_pending_feedback("eve", context, {"id": "eve", "number": 2})

        await asyncio.to_thread(save)
