"""
The blobs of a history, a list that grows: which there are, and what they say; pure.

What one addition brings is a *run*, one small blob; it refers to the runs before it. When there
are many, or they are large, they are put together into *pages*, plain blobs of JSON, and an
*index* refers to those. So every item is written once when it comes, and at most once more.

    run     [length of the whole history, how many runs are before it, items]
            links: the index, if there is one; of the runs before it the last of each group
            of 8, and those of its own group
    page    [item, ...]
    index   [[height, [how many items are below each link, ...]], ...]
            links: of height 0 pages, of others an index of 32 links of the height below
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from aiocheckpoint._format.blobs import BlobNode, blob_digest, blob_links
from aiocheckpoint._format.json_values import encode_exactly
from aiocheckpoint.errors import CheckpointDecodeError, CheckpointEncodeError
from aiocheckpoint.models import JsonValue

_MAX_RUNS = 32
_GROUP = 8
_FAN_OUT = 32
_PAGE_BYTES = 64 * 1024
_LARGE_RUN_BYTES = 16 * 1024
_MOST_PAGE_BYTES = 80 * 1024  # a page of what little is left would be one more blob to be read
_KEY = "history"
_PREFIX_BYTES = len(b'{"history":')


class _Head(msgspec.Struct, array_like=True, frozen=True):
    """What a run says."""

    length: int
    earlier: int
    items: tuple[msgspec.Raw, ...]


class Run(NamedTuple):
    """
    A run.

    Attributes:
        digest: of its blob.
        items: as JSON.
    """

    digest: str
    items: tuple[bytes, ...]


class Part(NamedTuple):
    """
    What an index refers to.

    Attributes:
        digest: of the blob.
        height: 0 for a page.
        length: how many items are below it.
    """

    digest: str
    height: int
    length: int


class Trunk(NamedTuple):
    """
    What has to be known of a history to let it grow.

    Attributes:
        length: how many items it has.
        root: digest of the run that leads to all the rest; None of an empty one.
        index_digest: digest of the index, None while there are no pages.
        parts: what the index refers to, oldest first.
        runs: those that are in no page, oldest first.
        run_bytes: how much JSON is in those.
    """

    length: int = 0
    root: str | None = None
    index_digest: str | None = None
    parts: tuple[Part, ...] = ()
    runs: tuple[Run, ...] = ()
    run_bytes: int = 0


Blobs: TypeAlias = dict[str, bytes]
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_index = msgspec.json.Decoder(list[tuple[int, list[int]]]).decode
_decode_page = msgspec.json.Decoder(list[Any]).decode
_decode_raw_items = msgspec.json.Decoder(tuple[msgspec.Raw, ...]).decode
_ValueT = TypeVar("_ValueT")


# Growing


def encoded_items(items: list[JsonValue]) -> tuple[bytes, ...]:
    """
    Return items as JSON, each by itself.

    Raises:
        CheckpointEncodeError: one would not come back as it is.
    """
    text, _ = encode_exactly({_KEY: items})
    return tuple(map(bytes, _decode_raw_items(text[_PREFIX_BYTES:-1])))


def require_json(items: tuple[bytes, ...]) -> None:
    """
    Refuse items that are not the JSON of one value each.

    Raises:
        CheckpointEncodeError: names the place of the first.
    """
    if not _are_json(items):
        refused = next(number for number, item in enumerate(items) if not _are_json((item,)))
        reason = f"is not compact JSON of one value: {_fault(items[refused])}"
        raise CheckpointEncodeError(f"{_KEY}[{refused}]", reason)


def _fault(item: bytes) -> str:
    """Return what is wrong with an item that is refused."""
    try:
        _decode_page(_array((item,)))
        msgspec.json.decode(item)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return str(error)
    return "there is white space around it"


def _are_json(items: tuple[bytes, ...]) -> bool:
    text = _array(items)
    try:
        _decode_page(text)  # numbers and texts are looked at, too
        return tuple(map(bytes, _decode_raw_items(text))) == items
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def grown(trunk: Trunk, added: tuple[bytes, ...], blobs: Blobs) -> Trunk:
    """Return a history with more items, at least one; `blobs` receives what is new."""
    size = sum(map(len, added))
    run_bytes = trunk.run_bytes + size
    length = trunk.length + len(added)
    is_full = len(trunk.runs) + 1 >= _MAX_RUNS or run_bytes >= _PAGE_BYTES
    if is_full or size >= _LARGE_RUN_BYTES:
        items = [item for run in trunk.runs for item in run.items]
        return indexed(length, _with_pages(trunk.parts, [*items, *added], blobs), blobs)
    root = _add_run(trunk, length, added, blobs)
    runs = (*trunk.runs, Run(root, added))
    return Trunk(length, root, trunk.index_digest, trunk.parts, runs, run_bytes)


def indexed(length: int, parts: Sequence[Part], blobs: Blobs) -> Trunk:
    """Return a history all items of which are in pages; `blobs` receives what is new."""
    if not parts:
        return Trunk()
    trunk = Trunk(length, index_digest=_add(_index_of(parts), blobs), parts=tuple(parts))
    return trunk._replace(root=_add_run(trunk, length, (), blobs))


def _with_pages(parts: Iterable[Part], items: Sequence[bytes], blobs: Blobs) -> list[Part]:
    """Return the parts of an index with pages for more items; 32 of a height are one instead."""
    found = [*parts]
    for page in _pages(items):
        found.append(Part(_add(_array(page), blobs), 0, len(page)))
        while len(found) >= _FAN_OUT and found[-_FAN_OUT].height == found[-1].height:
            below = found[-_FAN_OUT:]
            count = sum(part.length for part in below)
            digest = _add(_index_of(below), blobs)
            found[-_FAN_OUT:] = [Part(digest, below[0].height + 1, count)]
    return found


def _pages(items: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield items in pages of about the same size; a large one has its own, but the last."""
    page: list[bytes] = []
    size = 0
    left = sum(map(len, items))
    for item in items:
        if page and size + len(item) > _PAGE_BYTES and size + left > _MOST_PAGE_BYTES:
            yield page
            page, size = [], 0
        page.append(item)
        size += len(item)
        left -= len(item)
    if page:
        yield page


def _add_run(trunk: Trunk, length: int, added: tuple[bytes, ...], blobs: Blobs) -> str:
    earlier = [run.digest for run in trunk.runs]
    own_group = len(earlier) // _GROUP * _GROUP
    index = [] if trunk.index_digest is None else [trunk.index_digest]
    links = [*index, *earlier[_GROUP - 1 : own_group : _GROUP], *earlier[own_group:]]
    payload = b"[%d,%d,%b]" % (length, len(earlier), _array(added))
    return _add(BlobNode(links, payload) if links else payload, blobs)


def _add(blob: bytes, blobs: Blobs) -> str:
    digest = blob_digest(blob)
    blobs[digest] = blob
    return digest


def _array(items: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def _index_of(parts: Iterable[Part]) -> BlobNode:
    counts: list[tuple[int, list[int]]] = []
    links: list[str] = []
    for part in parts:
        if not counts or counts[-1][0] != part.height:
            counts.append((part.height, []))
        counts[-1][1].append(part.length)
        links.append(part.digest)
    return BlobNode(links, msgspec.json.encode(counts))


# Reading


class Opened(NamedTuple):
    """
    A run, and where the others are.

    Attributes:
        digest: of its blob.
        length: of the whole history.
        items: as JSON.
        index_digest: digest of the index, None if there is none.
        groups: digests of the last runs of the groups before it.
        own_group: digests of the runs before it in its own group.
    """

    digest: str
    length: int
    items: tuple[bytes, ...]
    index_digest: str | None
    groups: tuple[str, ...]
    own_group: tuple[str, ...]


def opened(digest: str, content: bytes) -> Opened:
    """
    Return what a run says.

    Raises:
        CheckpointDecodeError: it is none.
    """
    head = _decoded(_decode_head, _payload_of(content), digest)
    links = blob_links(content)
    groups, own = divmod(head.earlier, _GROUP)
    index = links[: len(links) - groups - own]
    if len(index) > 1 or len(links) < groups + own:
        raise _not_ours(digest, "it has other links than a run")
    rest = links[len(index) :]
    return Opened(
        digest, head.length, tuple(map(bytes, head.items)),
        index[0] if index else None, rest[:groups], rest[groups:],
    )  # fmt: skip


def _runs_of(root: Opened, blobs: Mapping[str, bytes]) -> tuple[Run, ...]:
    found: list[Opened] = []
    for last in root.groups:
        run = opened(last, blobs[last])
        found += [opened(digest, blobs[digest]) for digest in run.own_group]
        found.append(run)
    found += [opened(digest, blobs[digest]) for digest in root.own_group]
    found += [root] if root.items else []
    return tuple(Run(run.digest, run.items) for run in found)


def trunk_of(root: Opened, blobs: Mapping[str, bytes]) -> Trunk:
    """
    Return a history, from its root, its index and all runs that are in no page.

    Raises:
        CheckpointDecodeError: they do not fit together.
    """
    index = root.index_digest
    parts = () if index is None else tuple(parts_of(index, blobs[index]))
    runs = _runs_of(root, blobs)
    if root.length != sum(part.length for part in parts) + sum(len(run.items) for run in runs):
        raise _not_ours(root.digest, "its parts do not add up to its length")
    run_bytes = sum(len(item) for run in runs for item in run.items)
    return Trunk(root.length, root.digest, index, parts, runs, run_bytes)


def parts_of(digest: str, content: bytes) -> list[Part]:
    """
    Return what an index refers to, oldest first.

    Raises:
        CheckpointDecodeError: it is none.
    """
    links = blob_links(content)
    levels = _decoded(_decode_index, _payload_of(content), digest)
    shape = [(height, count) for height, counts in levels for count in counts]
    if len(shape) != len(links):
        raise _not_ours(digest, "it has other links than it counts")
    return [Part(link, height, count) for link, (height, count) in zip(links, shape, strict=True)]


def as_page(run: Run) -> bytes:
    """Return what a page with the items of a run would hold."""
    return _array(run.items)


def page_json_items(digest: str, content: bytes) -> list[bytes]:
    """
    Return the items of a page as JSON.

    Raises:
        CheckpointDecodeError: it is none.
    """
    return [*map(bytes, _decoded(_decode_raw_items, content, digest))]


def page_items(digest: str, content: bytes) -> list[JsonValue]:
    """
    Return the items of a page.

    Raises:
        CheckpointDecodeError: it is none.
    """
    return _decoded(_decode_page, content, digest)


def _payload_of(content: bytes) -> bytes:
    return content.payload if isinstance(content, BlobNode) else content


def _decoded(decode: Callable[[bytes], _ValueT], content: bytes, digest: str) -> _ValueT:
    try:
        return decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_ours(digest, str(error)) from error


def _not_ours(digest: str, reason: str) -> CheckpointDecodeError:
    return CheckpointDecodeError(f"blob {digest}", "History", reason)
