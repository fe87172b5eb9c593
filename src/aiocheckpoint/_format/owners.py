"""The bytes of the file that says who owned which session when the journal was flushed; pure."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

from aiocheckpoint._format.entries import Owned, decode_entries, encode_entries
from aiocheckpoint._format.log import LOG_VERSION
from aiocheckpoint.errors import JournalVersionError

_MAGIC = b"acOWNERS"
_HEAD = struct.Struct("<8sII")


def encode_owners(owners: Iterable[Owned]) -> bytes:
    """Return the bytes of the file."""
    table = encode_entries(list(owners))
    return _HEAD.pack(_MAGIC, zlib.crc32(table), LOG_VERSION) + table


def parse_owners(data: bytes, path: str) -> list[Owned]:
    """
    Return who owns what; nobody where the file is torn, which a power cut alone can do.

    Raises:
        JournalVersionError: a newer version of this library wrote it.
    """
    if len(data) < _HEAD.size:
        return []
    magic, crc, version = _HEAD.unpack_from(data)
    table = data[_HEAD.size :]
    if magic != _MAGIC or zlib.crc32(table) != crc:
        return []
    if version != LOG_VERSION:
        raise JournalVersionError(path, version, LOG_VERSION)
    return [entry for entry in decode_entries(table) if isinstance(entry, Owned)]
