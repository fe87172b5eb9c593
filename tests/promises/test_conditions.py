"""Conditions and limits hold over processes: they are decided where the order is."""

from __future__ import annotations

import pytest

from aiocheckpoint import SessionChangedError
from tests.conftest import MakeWriter
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.records import assert_whole, record
from tests.promises.tasks import Writer
from tests.promises.workers import Worker


def test_no_increment_is_lost(start: Start) -> None:
    """Of increments on condition by several processes and tasks none is lost."""
    workers = [start() for _ in range(3)]
    running = [
        worker.begin(tasks.increment, "counter", f"p{number}-{task}", 20)
        for number, worker in enumerate(workers)
        for task in range(2)
    ]
    for pending in running:
        pending.result()

    for some in (*workers, start()):
        assert assert_whole(some.load("counter")).iteration == 120
        assert [meta.iteration for meta in some.list("counter")] == list(range(120, 0, -1))


def test_no_increment_is_lost_to_the_limit(start: Start) -> None:
    """A limit of checkpoints holds over processes, at every moment, and keeps the newest."""
    workers = [start(max_checkpoints=4) for _ in range(3)]
    reader = start()
    running = [
        worker.begin(tasks.increment, "counter", f"p{number}", 25)
        for number, worker in enumerate(workers)
    ]
    assert reader.call(tasks.most_listed, "counter", 100) <= 4
    for pending in running:
        pending.result()

    for some in (*workers, reader, start()):
        assert [meta.iteration for meta in some.list("counter")] == [75, 74, 73, 72]
        assert len(some.ids("counter")) == 4


def test_a_limit_counts_what_others_saved(start: Start) -> None:
    """Each save keeps to its own writer's limit, whoever saved what is there."""
    without, with_limit = start(), start(max_checkpoints=3)
    without.call(tasks.save_many, "s", "n", 6)
    with_limit.save(record("s", "n1", 1))  # replaces one
    assert without.listed_ids("s") == ("n1", "n5", "n4")
    without.save(record("s", "more"))
    assert with_limit.listed_ids("s") == ("more", "n1", "n5", "n4")
    with_limit.save(record("s", "last"))
    assert without.listed_ids("s") == ("last", "more", "n1")


def test_a_session_is_created_once(start: Start) -> None:
    """Of many who create one session on condition that there is none, exactly one does."""
    workers = [start() for _ in range(3)]
    names = [f"s{number}" for number in range(30)]
    running: list[list[str]] = []
    pending = [
        worker.begin(tasks.create, names, f"p{number}-{task}")
        for number, worker in enumerate(workers)
        for task in range(2)
    ]
    running = [call.result() for call in pending]

    assert sorted(name for created in running for name in created) == sorted(names)
    reader = start()
    for created, label in zip(
        running, (f"p{number}-{task}" for number in range(3) for task in range(2)), strict=True
    ):
        for name in created:
            assert reader.listed_ids(name) == (label,)


def _refuse(worker: Worker, expected: str | None, newest: str | None) -> None:
    with pytest.raises(SessionChangedError) as refused:
        worker.save(record("s", "refused"), expected=expected)
    assert (refused.value.session_id, refused.value.newest_id) == ("s", newest)


def test_the_newest_is_what_was_saved_last(start: Start) -> None:
    """A condition is about what was saved last, by anybody, never about the greatest id."""
    one, two = start(), start()
    _refuse(one, "x", None)
    one.save(record("s", "z"), expected=None)
    _refuse(two, None, "z")
    two.save(record("s", "a"), expected="z")
    _refuse(one, "z", "a")
    one.save(record("s", "z", 1), expected="a")  # replaced: the newest again
    _refuse(two, "a", "z")
    two.delete("s", "z")
    _refuse(one, "z", "a")
    one.save(record("s", "b"), expected="a")
    one.call("delete_session", "s")
    _refuse(two, "b", None)
    two.save(record("s", "a"), expected=None)
    assert one.listed_ids("s") == ("a",)
    one.save(record("s", "b"))  # no condition
    assert two.listed_ids("s") == ("b", "a")


def test_a_condition_after_a_kill(start: Start) -> None:
    """A condition counts what a killed process had acknowledged, and nothing it had deleted."""
    first = start()
    first.save(record("s", "a"))
    first.save(record("s", "b"))
    first.delete("s", "b")
    first.kill()

    second = start()
    _refuse(second, "b", "a")
    _refuse(second, None, "a")
    second.save(record("s", "c"), expected="a")
    assert second.listed_ids("s") == ("c", "a")


async def test_refused_saves_leave_nothing(make_writer: MakeWriter) -> None:
    """A save whose condition does not hold changes nothing, now or after a reopening."""
    writer: Writer = make_writer()
    await writer.save(record("s", "a"))
    for _ in range(3):
        with pytest.raises(SessionChangedError):
            await writer.save(record("s", "a", 1), expected="b")
        with pytest.raises(SessionChangedError):
            await writer.save(record("s", "b"), expected=None)
    for some in (writer, make_writer()):
        assert [meta.checkpoint_id for meta in await some.list("s")] == ["a"]
        assert await some.load("s") == record("s", "a")
