"""Blobs: bytes named by their SHA-256, and the records that name them; pure."""

from __future__ import annotations

import re

import msgspec

from aiocheckpoint._format.documents import sha256
from aiocheckpoint.errors import CheckpointCorruptError, CheckpointEncodeError
from aiocheckpoint.models import JsonValue

DIGESTS_KEY = "blob_digests"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class _DigestFields(msgspec.Struct):
    blob_digests: JsonValue = ()


_decode_digests = msgspec.json.Decoder(_DigestFields).decode


def blob_digest(data: bytes) -> str:
    """Return the name of a blob: its SHA-256, 64 lower-case hex digits."""
    return sha256(data).hex()


def is_digest(value: object) -> bool:
    """Tell whether a value can be the name of a blob."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


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


def verified_blob(data: bytes, digest: str, path: str) -> bytes:
    """
    Return the content of a blob's file after checking it against its name.

    Raises:
        CheckpointCorruptError: when it is something else.
    """
    actual = blob_digest(data)
    if actual != digest:
        raise CheckpointCorruptError(path, "the blob does not match its name", digest, actual)
    return data
