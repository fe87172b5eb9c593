"""The values of records; pure but for the serializer.

A channel's value is what the saver's serializer made of it. A long one is a blob of its ends, which
checkpoints share that have the same value; it refers to blobs of all that is between them, which a
list that grows at its end shares with what it was before.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint import (
    BlobNode,
    BlobRecord,
    CheckpointDecodeError,
    JsonValue,
    blob_digest,
    blob_links,
)

HEAD_BYTES = 64
"""Of a value: lists begin with their length, which changes with every item."""
BLOB_BYTES = 4096
_BLOBS_IN_A_LARGER_ONE = 16
_PAGE_BYTES = BLOB_BYTES * _BLOBS_IN_A_LARGER_ONE
_LARGEST_SPAN_BYTES = _PAGE_BYTES * _BLOBS_IN_A_LARGER_ONE

_MAX_PLAIN_LEVELS = 64  # half of what a checkpoint may nest; what is deeper goes to the serializer

Serialized = dict[str, JsonValue]


def blob_spans(length: int) -> Iterator[tuple[int, int]]:
    """
    Yield where bytes of a length are cut; the rest stays a tail.

    Small spans first; sixteen in a row, but for those at the start, are one larger span
    instead. So a value of any length has few spans. The largest are blobs that refer to sixteen
    of the size below, so that one which grows at its end is written twice at most.
    """
    position = 0
    while (size := _blob_size(position, length)) > 0:
        yield position, position + size
        position += size


def _blob_size(position: int, length: int) -> int:
    if position + BLOB_BYTES > length:
        return 0
    size = BLOB_BYTES
    while size < _LARGEST_SPAN_BYTES:
        larger = size * _BLOBS_IN_A_LARGER_ONE
        if position < larger or position % larger or position + larger > length:
            break
        size = larger
    return size


class Encoder:
    """
    Serializes the values of one record and collects their blobs.

    Attributes:
        blobs: all of them, by digest.
    """

    def __init__(self, serde: SerializerProtocol) -> None:
        self.blobs: dict[str, bytes] = {}
        self._serde = serde
        self._positions: dict[str, int] = {}

    @property
    def digests(self) -> tuple[str, ...]:
        """Those that the record has to name: one of each long value, in order."""
        return tuple(self._positions)

    def encode(self, value: Any) -> Serialized:
        """Return a value as JSON: the serializer's tag, and its bytes or which blob it is."""
        tag, data = self._serde.dumps_typed(value)
        body_length = len(data) - HEAD_BYTES
        spans = list(blob_spans(body_length))
        if not spans:
            return {"type": tag, "data": _text(data)}
        body = memoryview(data)[HEAD_BYTES:]
        links = [self._add_span(body[start:end]) for start, end in spans]
        ends = data[:HEAD_BYTES] + body[spans[-1][1] :]
        digest = self._add(BlobNode(links, ends))
        position = self._positions.setdefault(digest, len(self._positions))
        return {"type": tag, "blob": position}

    def _add_span(self, span: memoryview) -> str:
        if len(span) < _LARGEST_SPAN_BYTES:
            return self._add(bytes(span))
        starts = range(0, len(span), _PAGE_BYTES)
        return self._add(
            BlobNode(self._add_span(span[start : start + _PAGE_BYTES]) for start in starts)
        )

    def _add(self, blob: bytes) -> str:
        digest = blob_digest(blob)
        self.blobs[digest] = blob
        return digest

    def split(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Serialized]]:
        """Return the values that JSON gives back as they are, and the others serialized."""
        plain = {key: value for key, value in values.items() if is_plain(value)}
        others = {key: value for key, value in values.items() if key not in plain}
        return plain, {key: self.encode(value) for key, value in others.items()}


def _text(data: bytes | memoryview) -> str:
    return base64.b64encode(data).decode()


def is_plain(value: Any, max_levels: int = _MAX_PLAIN_LEVELS) -> bool:
    """Tell whether JSON gives a value back as it is; a tuple would come back as a list."""
    kind = type(value)
    if kind is str:
        return _is_unicode(value)
    if kind is dict:
        if max_levels == 1:
            return not value
        for key, part in value.items():
            if type(key) is not str or not _is_unicode(key) or not is_plain(part, max_levels - 1):
                return False
        return True
    if kind is list:
        if max_levels == 1:
            return not value
        return all(is_plain(part, max_levels - 1) for part in value)
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    if kind is float:
        return math.isfinite(value)
    return value is None or kind is bool


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Decoder:
    """
    Gives serialized values back.

    Args:
        serde: the serializer.
        blobs: by digest, all that the records refer to.
    """

    def __init__(self, serde: SerializerProtocol, blobs: Mapping[str, bytes]) -> None:
        self._serde = serde
        self._blobs = blobs

    def decode(self, record: BlobRecord, value: Serialized) -> Any:
        """
        Return a value of a record.

        Raises:
            CheckpointDecodeError: the record is intact, but no record of ours.
        """
        try:
            tag = value["type"]
            if "blob" in value:
                data = self._joined(record.blob_digests[value["blob"]])
            else:
                data = base64.b64decode(value["data"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"a value in it is not as we write it: {error!r}"
            raise CheckpointDecodeError(
                record.checkpoint_id, type(record).__qualname__, reason
            ) from error
        return self._serde.loads_typed((tag, data))

    def _joined(self, digest: str) -> bytes:
        node = self._blobs[digest]
        if not isinstance(node, BlobNode):
            raise TypeError("its blob refers to no others")
        ends = node.payload
        return b"".join((ends[:HEAD_BYTES], *self._parts(node), ends[HEAD_BYTES:]))

    def _parts(self, node: BlobNode) -> Iterator[bytes]:
        for link in node.links:
            blob = self._blobs[link]
            if isinstance(blob, BlobNode):
                yield from self._parts(blob)
            else:
                yield blob

    def decode_all(self, record: BlobRecord, values: Any) -> dict[str, Any]:
        """Return values of a record by their keys; none where it has none."""
        return {key: self.decode(record, value) for key, value in (values or {}).items()}


def blobs_of(record: BlobRecord, values: Iterable[Serialized]) -> Iterator[str]:
    """Yield the digests of the blobs in which some values of a record are."""
    for value in values:
        if "blob" in value:
            yield record.blob_digests[value["blob"]]


async def load_all(
    load: Callable[[Iterable[str]], Awaitable[dict[str, bytes]]], digests: Iterable[str]
) -> dict[str, bytes]:
    """Return blobs, and all that they refer to, by a function that loads some."""
    blobs: dict[str, bytes] = {}
    missing = {*digests}
    while missing:
        found = await load(missing)
        blobs |= found
        missing = {link for blob in found.values() for link in blob_links(blob)} - blobs.keys()
    return blobs
