"""What callers may hand in besides ids and records; pure."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping
from os import PathLike
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from aiocheckpoint._format.blobs import is_digest, reachable_blobs, require_kind
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint.errors import InvalidArgumentError, InvalidIdError, shown
from aiocheckpoint.models import ANY_NEWEST, CheckpointId, SessionId

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")

# Of two slashes a `Path` has made one, and some forget both.
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://|(postgres|postgresql|s3|file):", re.IGNORECASE)


_ALMOST_URL = re.compile(r"//.*:.*@", re.DOTALL)
# What clings to a text that came through a shell, a file of settings or a page.
_STRAY = r"[\s\x00-\x1f'\"`\u2018\u2019\u201c\u201d\u200b\ufeff]"
_STRAY_END = re.compile(rf"\A{_STRAY}|{_STRAY}\Z")
_PART_OF_URL = re.compile(r"://|\A\?|\?[a-z_]+=", re.IGNORECASE)
_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^:,\[\]]*)(?::[0-9]*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")


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
        InvalidArgumentError: it is no async function, or has to wait.
    """
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
    wanted = "an async function that awaits the reads it is given, and nothing else"
    raise InvalidArgumentError("work", work, wanted)


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


def path_text(name: str, value: str | PathLike[str], *, may_be_empty: bool = False) -> str:
    """
    Return a path as a str.

    Raises:
        InvalidArgumentError: it is empty and may not, no path, or none that the system can have.
    """
    given: Any = value
    text = given.__fspath__() if isinstance(given, PathLike) else given
    if not isinstance(text, str) or not (text or may_be_empty):
        raise InvalidArgumentError(name, given, "a path, as a str or a Path")
    if not _is_possible(text):
        raise InvalidArgumentError(name, given, "a path without NUL and lone surrogates")
    return text


class ServerUrl(NamedTuple):
    """
    A URL of a server, taken apart.

    Attributes:
        scheme: before `://`, lower case.
        user: who is to be, as it is written; empty where it does not say so.
        has_password: whether one stands beside the user.
        hosts: with their ports, as they are written.
        path: from the slash on.
        query: behind the question mark.
    """

    scheme: str
    user: str
    has_password: bool
    hosts: str
    path: str
    query: str


def server_url(url: str) -> ServerUrl | None:
    """
    Take a URL of a server apart.

    Returns:
        None where nobody can tell what in it is a password: one that is not percent-encoded may
        end in the place of a port, a database or an option. None of it may be shown then.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#\\\s]", rest, maxsplit=1)[0]
    behind = rest.removeprefix(authority)
    login, _, hosts = authority.rpartition("@")
    user, has_password, _ = login.partition(":")
    is_doubtful = "@" in login or (":" in authority and "@" in behind)
    if is_doubtful or not _HOSTS.fullmatch(hosts) or re.search(r"[#\\\s]", behind):
        return None
    path, _, query = behind.partition("?")
    return ServerUrl(scheme.lower(), user, bool(has_password), hosts, path, query)


def path_of_url(name: str, value: str) -> str | None:
    """
    Return the path in a `file://` URL; None of any other text.

    Raises:
        InvalidArgumentError: it is of another machine, has an option, or no path that can be.
    """
    if not value.lower().startswith("file://"):
        return None
    machine, slash, path = value.removeprefix(value[:7]).partition("/")
    if machine not in ("", "localhost") or "?" in value or "#" in value:
        wanted = "file:// and an absolute path of this machine, ? and # in it as %3F and %23"
        raise InvalidArgumentError(name, "file://...", wanted)
    return path_text(name, unquote(slash + path, errors="surrogateescape"))


def _is_possible(path: str) -> bool:
    try:
        path.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
    except UnicodeEncodeError:
        return False
    return "\0" not in path


def require_no_stray_ends(name: str, value: str | PathLike[str]) -> None:
    """
    Refuse a text that begins or ends with a quote or white space: it would lead somewhere else.

    A `Path` is taken as it is.

    Raises:
        InvalidArgumentError: it does; the error does not repeat it, for it may have a password.
    """
    if isinstance(value, str) and (found := _STRAY_END.search(value)):
        is_begin = found.start() == 0
        shown_part = f"{found[0]}..." if is_begin else f"...{found[0]}"
        wanted = (
            f"a text that does not {'begin' if is_begin else 'end'} with a quote or white space, "
            "or a Path if a directory is called so"
        )
        raise InvalidArgumentError(name, shown_part, wanted)


def directory_text(name: str, value: str | PathLike[str]) -> str:
    """
    Return the path of a directory as a str.

    A text that looks like a URL, or a part of one, is refused: it would become a directory here,
    and nobody would be told. Of a `Path` that is refused only which was made of a URL.

    Raises:
        InvalidArgumentError: it is empty, no path, or a URL.
    """
    text = path_text(name, value)
    url = _URL.match(text)
    if url is not None:  # of which the rest may be a password
        begin = f"{url[1]}://" if url[1] else f"{url[2]}:"
        raise InvalidArgumentError(name, f"{begin}...", "a directory, or the URL to open_store")
    if _ALMOST_URL.search(text):
        wanted = "a directory, or a URL that begins with its scheme and :// to open_store"
        raise InvalidArgumentError(name, "...//...@...", wanted)
    require_no_stray_ends(name, value)
    part = _PART_OF_URL.search(text) if isinstance(value, str) else None
    if part is not None:
        begin, end = "..." * (part.start() > 0), "..." * (part.end() < len(text))
        wanted = "a directory, as a Path if it is called so, or the whole URL to open_store"
        raise InvalidArgumentError(name, f"{begin}{part[0]}{end}", wanted)
    return text


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
