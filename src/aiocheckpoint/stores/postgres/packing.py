"""Bodies as they are stored: compressed, most of them against an earlier one; pure."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from aiocheckpoint.errors import CheckpointCorruptError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MAGIC = b"\x28\xb5\x2f\xfd"  # a document begins with a brace
_LEVEL = 1  # more saves little of what was added, and takes three times as long
_LARGE_BYTES = 1 << 17
_MOST_WINDOW = 27
_LEAST_BYTES = 1024  # what is smaller is stored as it is, and depends on nothing
_MOST_PARTS = 16
_SMALL_BYTES = 4000
_MOST_PARTS_OF_SMALL = 6  # for the server finds parts more slowly than it reads them
_MOST_READ_BYTES = 64 << 20
_DOUBTFUL = 0.25  # of a body: what is larger might be as small alone
_WORTH = 1.25  # less is better stored so that it depends on nothing


class Version(NamedTuple):
    """
    A body that is stored, against which others may be packed.

    Attributes:
        seq: its place in the order of its session.
        body: what was saved.
        digests: SHA-256 of its content, by which the server knows that it is this one, and before
            it of those that it needs, the first one first.
    """

    seq: int
    body: bytes
    digests: tuple[bytes, ...]

    @property
    def chain(self) -> bytes:
        """The digests in one, that of its content first."""
        return b"".join(self.digests[::-1])

    def is_made_of(self, parts: Sequence[bytes]) -> bool:
        """Tell whether these contents come to this very body."""
        return len(parts) == len(self.digests) and all(
            hashlib.sha256(part).digest() == digest
            for part, digest in zip(parts, self.digests, strict=True)
        )


class Packed(NamedTuple):
    """
    A body, as it is to be stored.

    Attributes:
        content: a document, or a frame of zstd.
        sha256: of the content.
        base: what a frame needs; None where it needs nothing.
    """

    content: bytes
    sha256: bytes
    base: Version | None

    def version(self, seq: int, body: bytes) -> Version:
        """Return it as others may be packed against it, now that it has a place."""
        before = () if self.base is None else self.base.digests
        return Version(seq, body, (*before, self.sha256))


def plain(body: bytes) -> Packed:
    """Return a body as it is."""
    return Packed(body, hashlib.sha256(body).digest(), None)


def packed(body: bytes, base: Version | None) -> Packed:
    """Return a body as small as it gets, alone or against another one."""
    if len(body) < _LEAST_BYTES:
        return plain(body)
    if base is not None and not _may_follow(base, body):
        base = None
    content = _compressed(body, base)
    if base is not None and len(content) > _DOUBTFUL * len(body):
        alone = _compressed(body, None)
        if len(alone) <= _WORTH * len(content):
            content, base = alone, None
    return Packed(content, hashlib.sha256(content).digest(), base)


def may_be_base(body: bytes) -> bool:
    """Tell whether anything is packed against a body, as far as its size tells."""
    return len(body) >= _LEAST_BYTES


def _may_follow(base: Version, body: bytes) -> bool:
    """Tell whether a load stays quick, and damage small, with one body more behind a base."""
    if not may_be_base(base.body):
        return False
    parts = len(base.digests) + 1
    size_bytes = max(len(body), len(base.body))
    most_parts = _MOST_PARTS_OF_SMALL if size_bytes < _SMALL_BYTES else _MOST_PARTS
    return parts <= most_parts and parts * size_bytes <= _MOST_READ_BYTES


def _compressed(body: bytes, base: Version | None) -> bytes:
    if base is None:
        return zstd.compress(body, _LEVEL)
    options: dict[int, int] = {zstd.CompressionParameter.compression_level: _LEVEL}
    size_bytes = len(body) + len(base.body)
    if size_bytes > _LARGE_BYTES:  # else it would look no further back than its own size
        window = min(size_bytes.bit_length(), _MOST_WINDOW)
        options[zstd.CompressionParameter.window_log] = window
        options[zstd.CompressionParameter.enable_long_distance_matching] = 1
    return zstd.compress(body, options=options, zstd_dict=_prefix(base.body))


def _prefix(body: bytes) -> tuple[zstd.ZstdDict, int]:
    return zstd.ZstdDict(body, is_raw=True).as_prefix


def unpacked(parts: Sequence[bytes], location: str) -> bytes:
    """
    Return a body.

    Args:
        parts: its content, and before it those that it needs, the first one first.
        location: of the checkpoint.

    Raises:
        CheckpointCorruptError: they do not fit together.
    """
    if not parts:
        raise CheckpointCorruptError(location, "its body is missing")
    body = b""
    try:
        for part in parts:
            if not part.startswith(_MAGIC):
                body = part
            elif body:
                body = zstd.decompress(part, zstd_dict=_prefix(body))
            else:
                body = zstd.decompress(part)
    except (zstd.ZstdError, ValueError) as error:
        reason = f"its body, or one that it is packed against, was changed: {error}"
        raise CheckpointCorruptError(location, reason) from error
    return body


def unpacked_bytes(parts: Sequence[bytes]) -> int:
    """Return about how many bytes are unpacked for a body, those of what it needs included."""
    return sum(map(_size_of, parts))


def _size_of(content: bytes) -> int:
    if content.startswith(_MAGIC):
        try:
            return zstd.get_frame_info(content).decompressed_size or 0
        except zstd.ZstdError:
            return 0
    return len(content)
