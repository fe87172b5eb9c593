"""Blobs come and go with the records that refer to them, in whatever order things are written."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import pytest

from aiocheckpoint import MissingBlobError, SessionReader, blob_digest
from tests.conftest import MakeWriter
from tests.promises import note_tasks
from tests.promises.conftest import Start
from tests.promises.note_tasks import NoteCall
from tests.promises.places import holding
from tests.promises.records import Note, by_digest, note
from tests.promises.workers import Worker

_CALLS = (
    NoteCall("save", "x", has_blob=True),
    NoteCall("save", "y", has_blob=True),
    NoteCall("save", "x"),
    NoteCall("delete", "x"),
    NoteCall("delete", "y"),
    NoteCall("drop"),
)
_BEFORE = ((), _CALLS[:1], _CALLS[:2])


class Case(NamedTuple):
    """
    What happens to one session.

    Attributes:
        session: its id.
        before: calls that are flushed.
        calls: those after it, that are not.
    """

    session: str
    before: tuple[NoteCall, ...]
    calls: tuple[NoteCall, ...]

    def expected(self) -> dict[str, bool]:
        """Return what is there at the end: by id whether it has the blob."""
        there: dict[str, bool] = {}
        for call in (*self.before, *self.calls):
            if call.kind == "save":
                there[call.checkpoint_id] = call.has_blob
            elif call.kind == "delete":
                there.pop(call.checkpoint_id, None)
            else:
                there.clear()
        return there


def _cases(length: int) -> list[Case]:
    """Return every sequence of so many calls, each behind each beginning."""
    chosen = itertools.product(_BEFORE, itertools.product(_CALLS, repeat=length))
    return [Case(f"s{number}", *case) for number, case in enumerate(chosen)]


def _assert_right(worker: Worker, cases: list[Case]) -> None:
    """Every session shows what was acknowledged; those that do not are told."""
    session_ids = [case.session for case in cases]
    seen: list[dict[str, bool] | str] = worker.call(note_tasks.look_at_notes, session_ids)
    wrong = [
        f"flushed: {case.before}, then: {case.calls}: {found}"
        for case, found in zip(cases, seen, strict=True)
        if found != case.expected()
    ]
    assert not wrong, "\n".join(wrong)


def _begin(worker: Worker, cases: list[Case]) -> None:
    first = [("first", (NoteCall("save", "x"),))]
    worker.call(note_tasks.act_on_notes, [*first, *((case.session, case.before) for case in cases)])
    worker.call("flush")


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.few(1)
def test_short_sequences(start: Start, root: Path, length: int) -> None:
    """After any short sequence of calls each record has its blobs, before and after the flush."""
    cases = _cases(length)
    worker = start(record_type=Note)
    _begin(worker, cases)
    with holding(root, "applier"):  # so that nothing of it is written before its end
        worker.call(note_tasks.act_on_notes, [(case.session, case.calls) for case in cases])
        _assert_right(worker, cases)
    worker.call("flush")
    _assert_right(worker, cases)
    _assert_right(start(record_type=Note), cases)


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.few(1)
def test_short_sequences_and_a_kill(start: Start, root: Path, length: int) -> None:
    """The same where the process is killed before anything of it was written."""
    cases = _cases(length)
    worker = start(record_type=Note)
    _begin(worker, cases)
    with holding(root, "applier"):
        worker.call(note_tasks.act_on_notes, [(case.session, case.calls) for case in cases])
        worker.kill()
        second = start(record_type=Note)
        _assert_right(second, cases)
    second.call("flush")
    _assert_right(second, cases)
    _assert_right(start(record_type=Note), cases)


@pytest.mark.long
async def test_what_was_never_there_is_not_remembered(make_writer: MakeWriter) -> None:
    """However many blobs are asked for that are missing: memory does not grow with them."""
    writer = make_writer(record_type=Note)
    kept = b"kept"
    await writer.save(note("s", "a", kept), blobs=by_digest(kept))

    numbers = itertools.count()

    async def ask(session: SessionReader[Note]) -> None:
        for number in itertools.islice(numbers, 2_000):
            with pytest.raises(MissingBlobError):
                await session.load_blobs([f"{number:064x}"])

    await writer.read("s", ask)
    tracemalloc.start()
    try:
        await writer.read("s", ask)
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown_bytes < 2_000 * 20
    missing = b"given in the end"
    digest = blob_digest(missing)
    with pytest.raises(MissingBlobError):
        await writer.load_blobs("s", [digest])
    await writer.save(note("s", "b", missing), blobs=by_digest(missing))
    assert await writer.load_blobs("s", [digest]) == by_digest(missing)
