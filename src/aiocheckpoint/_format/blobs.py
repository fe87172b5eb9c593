"""Blobs: bytes named by their SHA-256, and what names them: records and other blobs; pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import msgspec

from aiocheckpoint._format.documents import sha256
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointEncodeError,
    InvalidArgumentError,
)
from aiocheckpoint.models import JsonValue

DIGESTS_KEY = "blob_digests"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]*")
_DIGEST_BYTES = 32
_DIGEST_LENGTHS = {64}
_NODE_MAGIC = b"\x89aiocheckpoint\r\n"
_NODE_HEAD = struct.Struct("<16sI")


class _DigestFields(msgspec.Struct):
    blob_digests: JsonValue = ()


_decode_digests = msgspec.json.Decoder(_DigestFields).decode


def blob_digest(data: bytes) -> str:
    """Return the name of a blob: its SHA-256, 64 lower-case hex digits."""
    return sha256(data).hex()


def is_digest(value: object) -> bool:
    """Tell whether a value can be the name of a blob."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def are_digests(values: Iterable[str]) -> bool:
    """Tell at one look whether all of some values can be names of blobs."""
    given = (*values,)
    try:
        text = "".join(given)
    except TypeError:
        return False
    return _DIGEST_LENGTHS.issuperset(map(len, given)) and _HEX.fullmatch(text) is not None


class BlobNode(bytes):
    """
    A blob that refers to others, which stay in the session as long as it does.

    It is bytes: 16 that are fixed, the number of links in 4 (little endian), 32 for each digest,
    the payload. A plain blob that begins with those 16 is refused at save, so no bytes of
    somebody else are ever taken for a node.

    Args:
        links: digests of the blobs that it refers to, at least one; one may be there twice.
        payload: what else it holds.

    Raises:
        InvalidArgumentError: links that are no digests, or none.
    """

    __slots__ = ()

    def __new__(cls, links: Iterable[str], payload: bytes = b"") -> Self:
        """Return the node of some links and a payload."""
        given = tuple(links)
        if not given or not are_digests(given):
            raise InvalidArgumentError("links", given, "at least one SHA-256, 64 hex digits each")
        head = _NODE_HEAD.pack(_NODE_MAGIC, len(given))
        return super().__new__(cls, b"".join((head, *map(bytes.fromhex, given), payload)))

    def __getnewargs__(self) -> tuple[tuple[str, ...], bytes]:  # type: ignore[override]
        """Return what copies and pickles are made of."""
        return self.links, self.payload

    @property
    def links(self) -> tuple[str, ...]:
        """Digests of the blobs that it refers to."""
        return blob_links(self)

    @property
    def payload(self) -> bytes:
        """What it holds besides."""
        return self[_end_of_links(self) :]


def blob_links(content: bytes) -> tuple[str, ...]:
    """
    Return the digests of the blobs that a blob refers to; none for a plain one.

    A store that keeps what its records name, what those blobs name, and so on, keeps what it must.
    """
    starts = range(_NODE_HEAD.size, _end_of_links(content), _DIGEST_BYTES)
    return tuple(content[start : start + _DIGEST_BYTES].hex() for start in starts)


def has_links(content: bytes) -> bool:
    """Tell whether a blob refers to others."""
    return _end_of_links(content) > _NODE_HEAD.size


def _end_of_links(content: bytes) -> int:
    """Return where the links of a node end; 0 for a plain blob."""
    if not content.startswith(_NODE_MAGIC) or len(content) < _NODE_HEAD.size:
        return 0
    _, count = _NODE_HEAD.unpack_from(content)
    end: int = _NODE_HEAD.size + _DIGEST_BYTES * count
    return end if end <= len(content) else 0


def as_blob(content: bytes) -> bytes:
    """Return the content of a blob as what was saved: a `BlobNode` if it is one."""
    return bytes.__new__(BlobNode, content) if has_links(content) else content


def reachable_blobs(digests: Iterable[str], blobs: Mapping[str, bytes]) -> Iterator[str]:
    """Yield digests, and all that those of the blobs name that are given; each once."""
    waiting = [*digests]
    seen: set[str] = set()
    while waiting:
        digest = waiting.pop()
        if digest in seen:
            continue
        seen.add(digest)
        yield digest
        if digest in blobs:
            waiting.extend(blob_links(blobs[digest]))


def blob_digests(text: bytes) -> tuple[str, ...]:
    """Return which blobs a verified file refers to; none for a record that has no such field."""
    digests = _decode_digests(text).blob_digests
    if not isinstance(digests, list) or not all(map(is_digest, digests)):
        return ()
    return tuple(digests)


def require_digests(digests: tuple[str, ...]) -> None:
    """
    Refuse names that no blob can have.

    Raises:
        CheckpointEncodeError: naming the path.
    """
    if are_digests(digests) and len(set(digests)) == len(digests):
        return
    seen: set[str] = set()
    for position, digest in enumerate(digests):
        path = f"blob_digests[{position}]"
        if not is_digest(digest):
            raise CheckpointEncodeError(path, "is not a SHA-256 of 64 lower-case hex digits")
        if digest in seen:
            raise CheckpointEncodeError(path, "is there twice; name each blob once")
        seen.add(digest)


def require_digest(digest: str, data: bytes) -> None:
    """
    Refuse a blob that is not what its name says.

    Raises:
        CheckpointEncodeError: naming the blob.
    """
    if blob_digest(data) != digest:
        raise CheckpointEncodeError(f"blobs[{digest!r}]", "has another SHA-256")


def require_kind(digest: str, data: bytes) -> None:
    """
    Refuse bytes that would be taken for a node, and are not given as one.

    Raises:
        CheckpointEncodeError: naming the blob.
    """
    if data.startswith(_NODE_MAGIC) and not isinstance(data, BlobNode):
        reason = "begins as only a BlobNode may; give a BlobNode, or put a byte before it"
        raise CheckpointEncodeError(f"blobs[{digest!r}]", reason)


def verified_blob(data: bytes, digest: str, path: str) -> bytes:
    """
    Return the content of a blob's file after checking it against its name.

    Raises:
        CheckpointCorruptError: when it is something else.
    """
    actual = blob_digest(data)
    if actual != digest:
        raise CheckpointCorruptError(path, "the blob does not match its name", digest, actual)
    return as_blob(data)
