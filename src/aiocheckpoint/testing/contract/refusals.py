"""What every store refuses, and of several reasons which one it tells."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from aiocheckpoint.errors import (
    CheckpointError,
    InvalidArgumentError,
    InvalidIdError,
    NestedCallError,
    WriterClosedError,
)
from aiocheckpoint.testing.contract.records import (
    Blobs,
    Store,
    checkpoint,
    listed_ids,
    refusal,
    sessions_of,
)
from aiocheckpoint.testing.contract.work import Session, owned

Refusal: TypeAlias = type[CheckpointError] | None
Ask: TypeAlias = Callable[[Store], Awaitable[object]]
"""A call, of whatever store."""

_NO_TEXT = "a\ud800"
_NO_LISTS: tuple[Any, ...] = ("ab", b"ab", None, 7)


async def _nothing(_session: object) -> None:
    """Stage nothing, and read nothing."""


async def _all(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


CHANGES: dict[str, Ask] = {
    "save": lambda store: store.save(checkpoint("s")),
    "save, of another session": lambda store: store.save(checkpoint("t")),
    "delete": lambda store: store.delete("s", "a"),
    "delete_many": lambda store: store.delete_many("s", ["a"]),
    "delete_many, of none": lambda store: store.delete_many("s", []),
    "delete_session": lambda store: store.delete_session("s"),
    "copy_session": lambda store: store.copy_session("s", "t"),
    "copy_session, to it": lambda store: store.copy_session("t", "s"),
    "copy_session, of nothing": lambda store: store.copy_session("nobody", "t"),
    "copy_session, to itself": lambda store: store.copy_session("s", "s"),
    "update": lambda store: store.update("s", _nothing),
    "update, of another session": lambda store: store.update("t", _nothing),
    "update_many": lambda store: store.update_many(["s"], _nothing),
    "own": lambda store: owned(store, "s"),
    "own, another session": lambda store: owned(store, "t"),
    "recover": lambda store: store.recover("s"),
    "recover, another session": lambda store: store.recover("t"),
}
"""What the work of an update of "s" may not call, for it would wait, or could."""

READS: dict[str, Ask] = {
    "load": lambda store: store.load("s"),
    "load, by id": lambda store: store.load("s", "a"),
    "load_many": lambda store: store.load_many("s", ["a"]),
    "load_many, of none": lambda store: store.load_many("s", []),
    "list": lambda store: store.list("s"),
    "ids": lambda store: store.ids("s"),
    "verify": lambda store: store.verify("s", "a"),
    "load_newest": lambda store: store.load_newest(["t", "s"]),
    "read": lambda store: store.read("s", lambda session: session.load()),
}
"""What the work of an update of "s" may not call, for it would be no part of the step."""

LOOKS: dict[str, Ask] = {
    "load_newest, of none": lambda store: store.load_newest([]),
    "sessions": lambda store: _all(store.sessions()),
    "unfinished": lambda store: _all(store.unfinished(final_triggers=())),
    "check": lambda store: store.check(),
    "exists": lambda store: store.exists(),
}
"""What it may call, for it is about all sessions."""


def calls_of_ids(bad: Any) -> dict[str, Ask]:
    """Return each call that takes an id, with one that is none."""
    return {
        "save": lambda store: store.save(checkpoint("s", checkpoint_id=bad)),
        "save, session": lambda store: store.save(checkpoint(bad)),
        "load": lambda store: store.load("s", bad),
        "load, session": lambda store: store.load(bad),
        "load_many": lambda store: store.load_many("s", ["a", bad]),
        "load_many, session": lambda store: store.load_many(bad, ["a"]),
        "list": lambda store: store.list("s", before=bad),
        "list, session": lambda store: store.list(bad),
        "ids": lambda store: store.ids("s", before=bad),
        "ids, session": lambda store: store.ids(bad),
        "delete": lambda store: store.delete("s", bad),
        "delete, session": lambda store: store.delete(bad, "a"),
        "delete_many": lambda store: store.delete_many("s", ["a", bad]),
        "delete_many, session": lambda store: store.delete_many(bad, ["a"]),
        "delete_session": lambda store: store.delete_session(bad),
        "copy_session": lambda store: store.copy_session(bad, "s"),
        "copy_session, target": lambda store: store.copy_session("s", bad),
        "update": lambda store: store.update(bad, _nothing),
        "update_many": lambda store: store.update_many(["s", bad], _nothing),
        "own": lambda store: owned(store, bad),
        "read": lambda store: store.read(bad, lambda session: session.load()),
        "load_newest": lambda store: store.load_newest(["s", bad]),
        "verify": lambda store: store.verify("s", bad),
        "verify, session": lambda store: store.verify(bad, "a"),
        "recover": lambda store: store.recover(bad),
    }


def calls_of_lists(bad: Any) -> dict[str, Ask]:
    """Return each call that takes several things, with what is no list of them."""
    return {
        "load_many": lambda store: store.load_many("s", bad),
        "delete_many": lambda store: store.delete_many("s", bad),
        "update_many": lambda store: store.update_many(bad, _nothing),
        "load_newest": lambda store: store.load_newest(bad),
        "unfinished": lambda store: _all(store.unfinished(final_triggers=bad)),
    }


def calls_of_others(bad: Any) -> dict[str, Ask]:
    """Return calls with something else that is wrong, of whatever type is wrong for all."""
    return {
        "save, expected": lambda store: store.save(checkpoint("s"), expected=bad),
        "list, limit": lambda store: store.list("s", limit=bad),
        "ids, limit": lambda store: store.ids("s", limit=bad),
        "ids, prefix": lambda store: store.ids("s", prefix=bad),
        "sessions, prefix": lambda store: _all(store.sessions(prefix=bad)),
        "unfinished, prefix": lambda store: _all(store.unfinished(final_triggers=(), prefix=bad)),
        "unfinished, triggers": lambda store: _all(store.unfinished(final_triggers=[bad])),
        "update": lambda store: store.update("s", bad),
        "update_many": lambda store: store.update_many(["s"], bad),
        "read": lambda store: store.read("s", bad),
        "own": lambda store: owned(store, "s", wait=bad),
    }


async def refused(store: Store, calls: dict[str, Ask]) -> dict[str, Refusal]:
    """Return the kind of error that each call raises; None of one that raises none."""
    return {name: await refusal(ask(store)) for name, ask in calls.items()}


def all_by(kind: Refusal, calls: dict[str, Ask]) -> dict[str, Refusal]:
    """Return what `refused` tells of calls that are all refused by one kind of error."""
    return dict.fromkeys(calls, kind)


async def _assert_looks_at_arguments(store: Store) -> None:
    """See that every wrong call is told as such, whatever else would be refused."""
    of_ids, of_lists, of_others = calls_of_ids(_NO_TEXT), calls_of_lists("s"), calls_of_others(0.5)
    assert await refused(store, of_ids) == all_by(InvalidIdError, of_ids)
    assert await refused(store, of_lists) == all_by(InvalidArgumentError, of_lists)
    assert await refused(store, of_others) == all_by(InvalidArgumentError, of_others)


class RefusalContract:
    """
    What is refused, and of several reasons which is told; for a `CheckpointStore`.

    First what is wrong with the arguments, then that the store is closed, then that the work of an
    update makes the call: so a wrong call is wrong everywhere.

    The subclass gives a fixture `store`: an empty store of `CheckpointData`.
    """

    async def test_an_id_that_is_no_text_is_refused_by_all_calls(self, store: Store) -> None:
        """A lone surrogate, which no JSON body can hold, and what is no str at all."""
        await store.save(checkpoint("s", checkpoint_id="a"))
        for bad in (_NO_TEXT, 7):
            calls = calls_of_ids(bad)
            assert await refused(store, calls) == all_by(InvalidIdError, calls)
        by_condition = store.save(checkpoint("s"), expected=_NO_TEXT)
        assert await refusal(by_condition) is InvalidIdError
        assert await listed_ids(store, "s") == ["a"]

    async def test_one_str_is_no_list(self, store: Store) -> None:
        """Neither of ids nor of triggers: it would be taken for a list of its letters."""
        await store.save(checkpoint("s", checkpoint_id="a", trigger="a"))
        for bad in _NO_LISTS:
            calls = calls_of_lists(bad)
            assert await refused(store, calls) == all_by(InvalidArgumentError, calls)
        assert await listed_ids(store, "s") == ["a"]

    async def test_within_a_session_one_str_is_no_list(self, store: Store) -> None:
        """So it is for the reads of a session, and for its owner."""
        await store.save(checkpoint("s", checkpoint_id="a"))
        wrong: Any = "a"

        async def work(session: Session) -> Refusal:
            return await refusal(session.load_many(wrong))

        assert await store.update("s", work) is InvalidArgumentError
        reading = store.read("s", lambda session: session.load_many(wrong))
        assert await refusal(reading) is InvalidArgumentError
        async with store.own("s") as owner:
            assert await refusal(owner.delete_many(wrong)) is InvalidArgumentError
        assert await listed_ids(store, "s") == ["a"]

    async def test_what_is_wrong_is_refused_by_name(self, store: Store) -> None:
        """So is each other argument of a wrong type, and nothing changes."""
        await store.save(checkpoint("s", checkpoint_id="a"))
        calls = calls_of_others(0.5)
        calls["list, negative"] = lambda store: store.list("s", limit=-1)
        calls["ids, negative"] = lambda store: store.ids("s", limit=-1)
        assert await refused(store, calls) == all_by(InvalidArgumentError, calls)
        assert await listed_ids(store, "s") == ["a"]

    async def test_what_no_id_can_begin_with_finds_nothing(self, store: Store) -> None:
        """A lone surrogate is a str, so as a prefix or a trigger it is like any other."""
        await store.save(checkpoint("s", checkpoint_id="a"))
        assert await store.ids("s", prefix=_NO_TEXT) == ()
        assert await store.read("s", lambda session: session.saved_ids(prefix=_NO_TEXT)) == ()
        assert await sessions_of(store, _NO_TEXT) == []
        assert await _all(store.unfinished(final_triggers=(), prefix=_NO_TEXT)) == []
        assert len(await _all(store.unfinished(final_triggers=[_NO_TEXT]))) == 1

    async def test_a_closed_store_still_looks_at_arguments(self, store: Store) -> None:
        """A wrong call is told as such, also where a right one would be refused."""
        await store.save(checkpoint("s"))
        await store.aclose()
        await _assert_looks_at_arguments(store)

    async def test_within_an_update_arguments_come_first(self, store: Store) -> None:
        """A wrong call is told as such, also where a right one would be a nested one."""

        async def work(_session: Session) -> None:
            await _assert_looks_at_arguments(store)

        await store.update("s", work)
        assert await store.list("s") == ()

    async def test_an_update_calls_what_is_about_all_sessions_alone(self, store: Store) -> None:
        """No change of any session, `recover` and copies among them, and no read of its own."""
        for session_id in "st":
            await store.save(checkpoint(session_id, checkpoint_id="a"))

        async def work(session: Session) -> None:
            for calls in (CHANGES, READS):
                assert await refused(store, calls) == all_by(NestedCallError, calls)
            assert await refused(store, LOOKS) == all_by(None, LOOKS)
            session.save(checkpoint("s", checkpoint_id="b"))

        async with asyncio.timeout(30):
            await store.update("s", work)
        assert await listed_ids(store, "s") == ["b", "a"]
        assert await listed_ids(store, "t") == ["a"]

    async def test_that_it_is_closed_comes_before_that_it_is_nested(self, store: Store) -> None:
        """What the work of an update calls while the store waits for it is told that it closes."""
        outside = contextvars.copy_context()

        async def work(session: Session) -> asyncio.Task[None]:
            closing = asyncio.create_task(store.aclose(), context=outside)
            await asyncio.sleep(0)  # from here on it is told
            for calls in (CHANGES, READS, LOOKS):
                assert await refused(store, calls) == all_by(WriterClosedError, calls)
            session.save(checkpoint("s"))
            return closing

        async with asyncio.timeout(30):
            await (await store.update("s", work))

    async def test_a_closed_store_refuses(self, store: Store) -> None:
        """After `aclose`, or the end of `async with`, every call is refused but `aclose`."""
        async with store as entered:
            assert entered is store
            await store.save(checkpoint("s"))
        await store.aclose()
        for calls in (CHANGES, READS, LOOKS):
            assert await refused(store, calls) == all_by(WriterClosedError, calls)
        assert await refusal(store.__aenter__()) is WriterClosedError

    async def test_an_owner_of_a_closed_store_is_refused(self, store: Store) -> None:
        """Its calls look at their arguments first, as those of the store do."""
        wrong: Any = 0.5
        async with store.own("s") as owner:
            await store.aclose()
            assert await refusal(owner.save(checkpoint("s"))) is WriterClosedError
            assert await refusal(owner.delete_many(["a"])) is WriterClosedError
            assert await refusal(owner.update(_nothing)) is WriterClosedError
            assert await refusal(owner.save(checkpoint("t"))) is InvalidArgumentError
            assert await refusal(owner.delete_many("a")) is InvalidArgumentError
            assert await refusal(owner.update(wrong)) is InvalidArgumentError


class BlobRefusalContract:
    """
    The same about blobs.

    The subclass gives a fixture `blob_store`: an empty store of `LargeValue`.
    """

    async def test_one_str_is_no_list_of_digests(self, blob_store: Blobs) -> None:
        """Nor is one digest a list, and what is no digest is refused by name, closed or not."""
        digest = "0" * 64

        async def work(session: Any) -> list[Refusal]:
            return [
                await refusal(session.load_blobs(digest)),
                await refusal(session.load_blobs(["x"])),
                await refusal(blob_store.load_blobs("s", digest)),
                await refusal(blob_store.load_blobs("s", [])),
            ]

        expected = [InvalidArgumentError, InvalidIdError, InvalidArgumentError, NestedCallError]
        assert await blob_store.update("s", work) == expected
        reading = blob_store.read("s", lambda session: session.load_blobs(digest))
        assert await refusal(reading) is InvalidArgumentError
        for _ in range(2):
            assert await refusal(blob_store.load_blobs("s", digest)) is InvalidArgumentError
            assert await refusal(blob_store.load_blobs("s", ["x"])) is InvalidIdError
            assert await refusal(blob_store.load_blobs(_NO_TEXT, [])) is InvalidIdError
            await blob_store.aclose()
        assert await refusal(blob_store.load_blobs("s", [])) is WriterClosedError
