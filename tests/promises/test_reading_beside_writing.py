"""Reading is exact while another process writes: no state is shown that never was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import plain_ids
from tests.promises.records import record


@pytest.fixture(name="board")
def _board(tmp_path: Path) -> Path:
    """Return a file in which one process tells another how far it has got."""
    path = tmp_path / "board"
    path.write_bytes(bytes(8))
    return path


@pytest.mark.parametrize(
    ("others", "looks"), [(299, 40), pytest.param(2999, 8, marks=pytest.mark.campaign)]
)
@pytest.mark.parametrize("journal_bytes", [64 << 20, 1 << 18], ids=["", "small-log"])
@pytest.mark.some(1)
@pytest.mark.long
def test_one_is_replaced_for_ever(
    start: Start, board: Path, journal_bytes: int, others: int, looks: int
) -> None:
    """Of a checkpoint that is replaced all the time there is one, the last or a later one."""
    writer, reader = start(max_journal_bytes=journal_bytes), start()
    writer.call(tasks.save_many, "s", "n", others)
    writer.begin(tasks.replace_for_ever, "s", "one", board).note()

    last = reader.call(tasks.watch, "s", "one", others, board, looks)
    assert last > 1
    writer.kill()
    final = int.from_bytes(board.read_bytes(), "little")
    for some in (reader, start()):
        newest = some.load("s", "one")
        assert newest in (record("s", "one", final), record("s", "one", final + 1))
        assert len(some.list("s")) == others + 1


def test_two_replace_it(start: Start, root: Path, board: Path, tmp_path: Path) -> None:
    """When two processes replace one checkpoint there is one all the time, and one file."""
    other_board = tmp_path / "other-board"
    other_board.write_bytes(bytes(8))
    first, second, reader = start(), start(), start()
    first.call(tasks.save_many, "s", "n", 50)
    first.begin(tasks.replace_for_ever, "s", "one", board).note()
    second.begin(tasks.replace_for_ever, "s", "one", other_board).note()

    assert reader.call(tasks.most_listed, "s", 100) == 51
    for worker in (first, second):
        worker.kill()
    reader.call("flush")
    assert plain_ids(root, "s") == [*(f"n{number}" for number in range(50)), "one"]


@pytest.mark.long
def test_a_session_that_is_dropped_for_ever(start: Start) -> None:
    """A session that is filled and dropped all the time is read without an error."""
    writer, reader = start(), start()
    for number in range(40):
        saving = writer.begin(tasks.save_many, "s", "n", 5)
        reader.call(tasks.most_listed, "s", 5)
        saving.result()
        dropping = writer.begin("delete_session", "s")
        assert reader.load("s", "n4") in (None, record("s", "n4", 4)), number
        assert dropping.result()
        assert reader.list("s") == ()
        assert reader.load("s") is None
