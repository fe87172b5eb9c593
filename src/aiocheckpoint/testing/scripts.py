"""The same calls on two stores, right ones and wrong ones: what they answer; needs hypothesis."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st
from msgspec import structs

from aiocheckpoint._format.blobs import BlobNode
from aiocheckpoint.errors import CheckpointError
from aiocheckpoint.kit import blob_digest
from aiocheckpoint.models import ANY_NEWEST, BlobRecord, CheckpointMeta

_SESSION_IDS = ("s", "t", "")
_CHECKPOINT_IDS = ("a", "b", "c", "d", "")
_CREATED_AT = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
_NO_IDS: tuple[Any, ...] = (7, "\ud800", b"a", None)
_LEAF, _OTHER, _GONE = b"leaf", b"other", b"gone"
_NODE = BlobNode([blob_digest(_LEAF)], b"node")
_BLOBS = {blob_digest(blob): blob for blob in (_LEAF, _OTHER, _GONE, _NODE)}
_DIGESTS = tuple(_BLOBS)


class Scripted(BlobRecord):
    """
    The record of scripts.

    Attributes:
        iteration: a number.
        trigger: a text.
    """

    iteration: int = 0
    trigger: str = ""


class Step(NamedTuple):
    """
    A call.

    Attributes:
        on: `"store"`, `"owner"`, `"former owner"`, `"transaction"` or `"former transaction"`; what
            is not there is the store.
        method: its name.
        arguments: by position.
        named: by name.
        inner: for a block or work, what happens in it.
    """

    on: str
    method: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = {}
    inner: Sequence[Any] = ()


Script: TypeAlias = Sequence[Step]
Call: TypeAlias = tuple[str, tuple[Any, ...], Mapping[str, Any]]


class _Values(NamedTuple):
    """Right values of an argument, and wrong ones."""

    right: st.SearchStrategy[Any]
    wrong: tuple[Any, ...]

    @property
    def mixed(self) -> st.SearchStrategy[Any]:
        """Mostly right ones."""
        wrong = st.sampled_from(self.wrong)
        return st.integers(0, 11).flatmap(lambda n: wrong if n == 11 else self.right)


_session_id = _Values(st.sampled_from(_SESSION_IDS), _NO_IDS)
_id = _Values(st.sampled_from(_CHECKPOINT_IDS), _NO_IDS)
_id_or_none = _Values(st.sampled_from((None, *_CHECKPOINT_IDS)), (7, "\ud800", b"a"))
_id_list = _Values(st.lists(_id.right, max_size=3), ("a", 7, None, [7], ["a", "\ud800"]))
_limit = _Values(st.sampled_from((None, None, 0, 1, 2)), (-1, True, 1.5, "1"))
_prefix = _Values(st.sampled_from(("", "", "a", "s")), (7, None))
_digest = st.sampled_from(_DIGESTS)
_digest_list = _Values(st.lists(_digest, max_size=3), ("a", 7, ["no digest"], [7]))
_expected = _Values(st.sampled_from((ANY_NEWEST, ANY_NEWEST, None, "a", "b")), (7, "\ud800"))
_number = st.integers(0, 99)


@st.composite
def _records(draw: st.DrawFn, session_ids: st.SearchStrategy[Any]) -> Any:
    if draw(st.integers(0, 19)) == 19:
        return draw(st.sampled_from((None, "record", {"session_id": "s"})))
    digests = draw(st.lists(st.sampled_from(_DIGESTS), max_size=2, unique=True))
    return Scripted(
        session_id=draw(session_ids),
        checkpoint_id=draw(_id.mixed),
        created_at=_CREATED_AT,
        iteration=draw(_number),
        trigger=draw(st.sampled_from(("", "step", "done"))),
        blob_digests=tuple(digests),
    )


@st.composite
def _given(draw: st.DrawFn, record: Any) -> Mapping[str, Any]:
    """Return blobs that are given with a record: what it leads to, but for some, or anything."""
    named = record.blob_digests if isinstance(record, Scripted) else ()
    reached = {*named, *(_NODE.links if blob_digest(_NODE) in named else ())}
    kept = [digest for digest in sorted(reached) if draw(st.integers(0, 4))]
    blobs: dict[str, Any] = {digest: _BLOBS[digest] for digest in kept}
    match draw(st.integers(0, 19)):
        case 17:
            blobs[_DIGESTS[0]] = b"something else"
        case 18:
            blobs[_DIGESTS[1]] = "no bytes"
        case 19:
            blobs[blob_digest(b"unnamed")] = b"unnamed"
    return {"blobs": blobs} if blobs else {}


@st.composite
def _save(draw: st.DrawFn, session_ids: st.SearchStrategy[Any] = _session_id.mixed) -> Call:
    record = draw(_records(session_ids))
    return "save", (record,), draw(_given(record))


@st.composite
def _save_as_expected(
    draw: st.DrawFn, session_ids: st.SearchStrategy[Any] = _session_id.right
) -> Call:
    record = draw(_records(session_ids))
    return "save", (record,), {"expected": draw(_expected.right)}


@st.composite
def _call(draw: st.DrawFn, /, method: str, *arguments: _Values, **named: _Values) -> Call:
    """Return a call with at most one wrong argument: which of two is told is nobody's promise."""
    wrong = draw(st.integers(0, 5 * (len(arguments) + len(named))))

    def drawn(position: int, values: _Values) -> Any:
        return draw(st.sampled_from(values.wrong) if position == wrong else values.right)

    positional = tuple(drawn(number, values) for number, values in enumerate(arguments, 1))
    by_name = {
        name: drawn(number, values)
        for number, (name, values) in enumerate(named.items(), len(arguments) + 1)
    }
    return method, positional, by_name


_CALLS = st.one_of(
    _save(),
    _save(),
    _save_as_expected(),
    _call("save", _Values(_records(_session_id.right), (None, "record")), expected=_expected),
    _call("load", _session_id, _id_or_none),
    _call("load_many", _session_id, _id_list),
    _call("list", _session_id, before=_id_or_none, limit=_limit),
    _call("ids", _session_id, prefix=_prefix, before=_id_or_none, limit=_limit),
    _call("load_blobs", _session_id, _digest_list),
    _call("delete", _session_id, _id),
    _call("delete_many", _session_id, _id_list),
    _call("delete_session", _session_id),
    _call("copy_session", _session_id, _session_id),
    _call("verify", _session_id, _Values(_id.right, (7, "\ud800"))),
    _call("load_newest", _Values(st.lists(_session_id.right, max_size=3), ("s", 7, [7], [None]))),
    _call("sessions", prefix=_prefix),
    _call(
        "unfinished",
        final_triggers=_Values(st.lists(st.sampled_from(("", "done"))), ("done", [7], 7)),
        prefix=_prefix,
    ),
    _call("recover", _session_id),
    _call("check"),
)
_CALLS_OF_OWNERS = st.one_of(
    _save(st.sampled_from(("s", "s", "s", "t"))),
    _save_as_expected(st.just("s")),
    _call("delete_many", _id_list),
)
_CALLS_OF_WORK = st.one_of(
    _save(st.sampled_from(("s", "s", "s", "s", "s", "t"))),
    _save(st.just("s")),
    _call("delete", _id),
    _call("delete_session"),
    _call("load", _id_or_none),
    _call("load_many", _id_list),
    _call("list", before=_id_or_none, limit=_limit),
    _call("ids", prefix=_prefix, before=_id_or_none, limit=_limit),
    _call("saved_ids", prefix=_prefix, limit=_limit),
    _call("load_blobs", _digest_list),
)


def _on(on: str, calls: st.SearchStrategy[Call]) -> st.SearchStrategy[Step]:
    return calls.map(lambda call: Step(on, *call))


_NOTHING_NAMED: st.SearchStrategy[Mapping[str, Any]] = st.just({})


def _block(
    on: str,
    method: str,
    arguments: st.SearchStrategy[tuple[Any, ...]],
    inner: st.SearchStrategy[Step],
    named: st.SearchStrategy[Mapping[str, Any]] = _NOTHING_NAMED,
) -> st.SearchStrategy[Step]:
    parts = st.tuples(arguments, named, st.lists(inner, max_size=5))
    return parts.map(lambda drawn: Step(on, method, *drawn))


_at_store = _on("store", _CALLS)
_nested = st.sampled_from(("update", "own", "aclose", "raise")).map(lambda m: Step("store", m))
_in_work = st.one_of(*(_on("transaction", _CALLS_OF_WORK),) * 4, _at_store, _nested)
_works = st.sampled_from(("async",) * 9 + ("sync", "no function"))


def _update(on: str, session_ids: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return _block(on, "update", st.tuples(session_ids, _works), _in_work)


_own_again = st.sampled_from(
    (Step("store", "own", ("s",)), Step("store", "own", ("s",), {"wait": False}))
)
_in_block = st.one_of(
    *(_on("owner", _CALLS_OF_OWNERS),) * 2, _update("owner", st.just("s")), _at_store, _own_again
)
_wait = _Values(st.booleans(), ("no", None))
_some_sessions = _Values(st.sampled_from((("s",), ("s", "s"), ())), ("s", 7, [7]))
_steps = st.one_of(
    *(_at_store,) * 3,
    *(_update("store", st.just("s")),) * 2,
    _update("store", _session_id.mixed),
    _block("store", "update_many", st.tuples(_some_sessions.mixed, _works), _in_work),
    _block("store", "own", st.just(("s",)), _in_block),
    _block("store", "own", st.tuples(_session_id.mixed), _in_block),
    _block(
        "store", "own", st.just(("s",)), _in_block, st.fixed_dictionaries({"wait": _wait.mixed})
    ),
    _on("former owner", _CALLS_OF_OWNERS),
    _update("former owner", st.just("s")),
    _on("former transaction", _CALLS_OF_WORK),
    st.integers(0, 9).map(lambda n: Step("store", "check" if n else "aclose")),
)


def _without_blobs(steps: Sequence[Step]) -> Script:
    return [_plain(step) for step in steps if step.method != "load_blobs"]


def _plain(step: Step) -> Step:
    arguments = tuple(
        structs.replace(it, blob_digests=()) if isinstance(it, Scripted) else it
        for it in step.arguments
    )
    named = {name: value for name, value in step.named.items() if name != "blobs"}
    return Step(step.on, step.method, arguments, named, _without_blobs(step.inner))


def scripts(max_steps: int = 12, *, with_blobs: bool = True) -> st.SearchStrategy[Script]:
    """
    Return a strategy for scripts.

    ```python
    import asyncio

    from hypothesis import given, settings

    from aiocheckpoint.testing import MemoryStore
    from aiocheckpoint.testing.scripts import Scripted, outcomes, scripts


    @settings(max_examples=5)
    @given(script=scripts())
    def test_my_store_answers_as_memory_does(script):
        mine, model = (asyncio.run(outcomes(MemoryStore(Scripted), script)) for _ in range(2))
        assert mine == model
    ```

    Args:
        max_steps: how many calls a script has at most, without those within updates.
        with_blobs: whether records may lead to blobs, which a `CheckpointStore` need not know.
    """
    drawn = st.lists(_steps, max_size=max_steps)
    return drawn if with_blobs else drawn.map(_without_blobs)


async def outcomes(store: Any, script: Script) -> list[object]:
    """
    Return what a store answers to a script, told so that stores may be compared; and close it.

    Args:
        store: an empty `BlobStore` of `Scripted`; for scripts without blobs a `CheckpointStore`.
        script: the calls, which are made one after the other.
    """
    run = _Run(store)
    async with contextlib.aclosing(run):
        for step in script:
            await run.do(step)
    return run.told


class _Run:
    def __init__(self, store: Any) -> None:
        self._store = store
        self._there: dict[str, Any] = {"store": store}
        self.told: list[object] = []

    async def aclose(self) -> None:
        await self._store.aclose()

    async def do(self, step: Step) -> None:
        """Make a call, and write down what comes of it; on what is not there none is made."""
        if step.method == "raise":
            raise ZeroDivisionError
        target = self._there.get(step.on)
        if target is None:
            return
        try:
            answer = await self._answer(target, step)
        except Exception as error:  # noqa: BLE001 - whatever it is, both stores are to raise it
            answer = _told_error(error)
        self.told.append((step.on, step.method, answer))

    async def _answer(self, target: Any, step: Step) -> object:
        if step.method in ("update", "update_many"):
            return await self._update(target, step)
        if step.method == "own":
            return await self._own(step)
        answer = getattr(target, step.method)(*step.arguments, **step.named)
        if isinstance(answer, Awaitable):
            answer = await answer
        elif hasattr(answer, "__aiter__"):
            answer = sorted([_told(item) for item in [one async for one in answer]], key=repr)
        return _told(answer)

    async def _update(self, target: Any, step: Step) -> object:
        session_ids, kind = step.arguments or ("s", "async")
        works: dict[str, Any] = {"async": self._work(step), "sync": _not_async, "no function": 7}
        arguments = (session_ids,) if step.on == "store" else ()
        return _told(await getattr(target, step.method)(*arguments, works[kind]))

    def _work(self, step: Step) -> Callable[[Any], Awaitable[int]]:
        async def work(given: Any) -> int:
            before = dict(self._there)
            transaction = given.get("s") if isinstance(given, Mapping) else given
            self._there["transaction"] = self._there["former transaction"] = transaction
            try:
                if transaction is not None:
                    for inner in step.inner:
                        await self.do(inner)
            finally:
                self._there.pop("transaction", None)
                self._there.update(before)
                self._there["former transaction"] = transaction
            return len(step.inner)

        return work

    async def _own(self, step: Step) -> object:
        arguments = step.arguments or ("s",)
        async with self._store.own(*arguments, **step.named) as owner:
            before = self._there.get("owner")
            self._there["owner"] = self._there["former owner"] = owner
            try:
                for inner in step.inner:
                    await self.do(inner)
            finally:
                self._there["owner"] = before
                if before is None:
                    del self._there["owner"]
        return "owned"


def _not_async(transaction: Any) -> None:
    """Stage something, and return nothing that can be awaited."""
    if hasattr(transaction, "delete_session"):
        transaction.delete_session()


def _told_error(error: Exception) -> object:
    name = type(error).__name__
    if not isinstance(error, CheckpointError):
        return name
    of_all = ("session_id", "newest_id", "operation", "name", "kind")
    return name, [getattr(error, field) for field in of_all if hasattr(error, field)]


def _told(answer: Any) -> Any:
    """Return an answer without what is a store's own affair: places and times."""
    if isinstance(answer, Scripted):
        return answer.session_id, answer.checkpoint_id, answer.iteration, answer.trigger
    if isinstance(answer, CheckpointMeta):
        is_sound = answer.problem is None
        return answer.checkpoint_id, answer.iteration, answer.trigger, answer.checksum, is_sound
    if isinstance(answer, dict):
        return [(key, _told(value)) for key, value in answer.items()]
    if isinstance(answer, (tuple, list)):
        return [_told(item) for item in answer]
    if hasattr(answer, "newest_valid_id"):
        return answer.session_id, answer.newest_valid_id
    return answer
