"""What callers may hand in besides ids and records; pure."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping
from typing import Any, TypeVar

from aiocheckpoint._format.blobs import is_digest, reachable_blobs, require_kind
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint.errors import InvalidArgumentError, InvalidIdError, shown
from aiocheckpoint.models import ANY_NEWEST, CheckpointId, SessionId

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")

_READS_ALONE = "an async function that awaits the reads it is given, and nothing else"
_LACKS_LOOP = (
    "no running event loop",
    "There is no current event loop",
    "is bound to a different event loop",  # of a Lock that tasks of a loop have waited for
)


def require_count(name: str, value: object, least: int) -> None:
    """
    Refuse what is no whole number of at least so much.

    Raises:
        InvalidArgumentError: it is not.
    """
    if type(value) is not int or value < least:
        raise InvalidArgumentError(name, value, f"a plain int of at least {least}")


def require_seconds(name: str, value: object) -> None:
    """
    Refuse what is no time to wait.

    Raises:
        InvalidArgumentError: it is not.
    """
    try:
        is_time = isinstance(value, (int, float)) and float(value) >= 0
    except OverflowError:
        is_time = False
    if not is_time or isinstance(value, bool):
        raise InvalidArgumentError(name, value, "a number of seconds, 0 or more")


def require_query(
    prefix: str, before: CheckpointId | None = None, limit: int | None = None
) -> None:
    """
    Refuse what cannot select ids.

    Raises:
        InvalidArgumentError: a prefix or a limit that is none.
        InvalidIdError: a `before` that is no id.
    """
    given: object = prefix
    if not isinstance(given, str):
        raise InvalidArgumentError("prefix", given, "a str")
    if before is not None:
        encode_id(before, "checkpoint id")
    if limit is not None:
        require_count("limit", limit, 0)


def require_expected(value: object) -> None:
    """
    Refuse what cannot be the id of the newest checkpoint.

    Raises:
        InvalidArgumentError: it is no str.
        InvalidIdError: an id that no checkpoint can have.
    """
    if value is None or value is ANY_NEWEST:
        return
    if not isinstance(value, str):
        raise InvalidArgumentError("expected", value, "the id of the newest checkpoint, or None")
    encode_id(value, "checkpoint id")


def require_session(given: SessionId, session_id: SessionId) -> None:
    """
    Check whose a record is.

    Args:
        given: the session that it says.
        session_id: the one it has to be of.

    Raises:
        InvalidArgumentError: it is of another one.
    """
    if given != session_id:
        wanted = f"a record of session {session_id!r}"
        raise InvalidArgumentError("data.session_id", given, wanted)


def require_instance(name: str, value: object, kind: type) -> None:
    """
    Refuse what is of another class.

    Raises:
        InvalidArgumentError: it is.
    """
    if not isinstance(value, kind):
        raise InvalidArgumentError(name, value, f"a {kind.__qualname__}")


def frozen_blobs(blobs: Mapping[str, object], digests: Collection[str]) -> dict[str, bytes]:
    """
    Return blobs that are given with a record, as bytes that nobody can change any more.

    Args:
        blobs: by their digests; those of `bytes` are not copied.
        digests: what the record names.

    Raises:
        InvalidArgumentError: no mapping, no bytes, or a blob that neither the record nor a node
            that it names refers to.
        CheckpointEncodeError: a plain blob that begins as a node does.
    """
    require_instance("blobs", blobs, Mapping)
    frozen: dict[str, bytes] = {}
    for digest, data in blobs.items():
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidArgumentError(f"blobs[{shown(digest)}]", data, "bytes")
        frozen[digest] = data if isinstance(data, bytes) else bytes(memoryview(data))
        require_kind(digest, frozen[digest])
    if not frozen.keys() <= {*digests}:
        unnamed = frozen.keys() - reachable_blobs(digests, frozen)
        if unnamed:
            wanted = "only blobs that the record's `blob_digests` name, or a `BlobNode` among them"
            raise InvalidArgumentError("blobs", min(unnamed, key=str), wanted)
    return frozen


def result_at_once(work: Callable[[ArgumentT], Awaitable[ResultT]], given: ArgumentT) -> ResultT:
    """
    Return what an async function returns that never has to wait, without an event loop.

    Raises:
        InvalidArgumentError: it is no async function, has to wait, or asks for a running loop.
    """
    try:
        return _result_of_one_step(work, given)
    except (AttributeError, RuntimeError) as error:
        if _lacks_loop(error):
            raise InvalidArgumentError("work", work, _READS_ALONE) from error
        raise


def _result_of_one_step(
    work: Callable[[ArgumentT], Awaitable[ResultT]], given: ArgumentT
) -> ResultT:
    answer: object = work(given)
    if not inspect.isawaitable(answer):
        raise InvalidArgumentError("work", work, "an async function")
    steps = answer.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: ResultT = end.value
        return result
    if isinstance(steps, Generator):  # or it would be told of as never awaited
        steps.close()
    raise InvalidArgumentError("work", work, _READS_ALONE)


def _lacks_loop(error: AttributeError | RuntimeError) -> bool:
    """Tell whether it is what asyncio raises for what waits, where no event loop runs."""
    if isinstance(error, AttributeError):  # of an Event, a Lock or a Queue, by Python's own mistake
        return error.obj is None and error.name == "create_future"
    return type(error) is RuntimeError and any(text in str(error) for text in _LACKS_LOOP)


def require_callable(name: str, value: object) -> None:
    """
    Refuse what cannot be called.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not callable(value):
        raise InvalidArgumentError(name, value, "an async function")


async def result_of(work: Callable[..., Awaitable[ResultT]], *arguments: Any) -> ResultT:
    """
    Call the work of an update, and return what comes of it.

    Raises:
        InvalidArgumentError: it is not async; what it staged is not to be committed.
    """
    answer: Any = work(*arguments)
    if not inspect.isawaitable(answer):
        raise InvalidArgumentError("work", work, "an async function")
    result: ResultT = await answer
    return result


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """
    Refuse what is none of the choices.

    Raises:
        InvalidArgumentError: it is not.
    """
    if value not in choices:
        raise InvalidArgumentError(name, value, " or ".join(map(repr, choices)))


def checkpoint_ids_of(values: Iterable[CheckpointId]) -> tuple[CheckpointId, ...]:
    """
    Return checkpoint ids, each of which some checkpoint can have.

    Raises:
        InvalidArgumentError: one str, which is iterable too, or nothing iterable.
        InvalidIdError: an id that none can have.
    """
    checkpoint_ids = listed("checkpoint_ids", values)
    for checkpoint_id in checkpoint_ids:
        encode_id(checkpoint_id, "checkpoint id")
    return checkpoint_ids


def session_ids_of(values: Iterable[SessionId]) -> tuple[SessionId, ...]:
    """
    Return session ids, each once, each of which some session can have.

    Raises:
        InvalidArgumentError: one str, which is iterable too, or nothing iterable.
        InvalidIdError: an id that none can have.
    """
    session_ids = tuple(dict.fromkeys(listed("session_ids", values)))
    for session_id in session_ids:
        encode_id(session_id, "session id")
    return session_ids


def triggers_of(values: Iterable[str]) -> tuple[str, ...]:
    """
    Return triggers.

    Raises:
        InvalidArgumentError: one str, which is iterable too, nothing iterable, or what is no str.
    """
    triggers = listed("final_triggers", values)
    for trigger in triggers:
        given: object = trigger
        if not isinstance(given, str):
            raise InvalidArgumentError("final_triggers", given, "a list of str")
    return triggers


def digests_of(values: Iterable[str]) -> tuple[str, ...]:
    """
    Return digests, each of which some blob can have.

    Raises:
        InvalidArgumentError: one str, which is iterable too, or nothing iterable.
        InvalidIdError: a digest that none can have.
    """
    digests = listed("digests", values)
    for digest in digests:
        if not is_digest(digest):
            raise InvalidIdError("blob digest", digest, "give 64 lower-case hex digits")
    return digests


def listed(
    name: str,
    values: Iterable[Any],
    *,
    single: tuple[type, ...] = (str, bytes),
    wanted: str = "a list, even for a single one",
) -> tuple[Any, ...]:
    """
    Return several things.

    Args:
        name: of the argument.
        values: as given.
        single: what is iterable, and one thing all the same.
        wanted: what should be given instead.

    Raises:
        InvalidArgumentError: one thing, or nothing iterable.
    """
    given: object = values
    if isinstance(given, single) or not isinstance(given, Iterable):
        raise InvalidArgumentError(name, given, wanted)
    return tuple(given)
