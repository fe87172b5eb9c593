"""The bytes of the files that say who owns sessions, and what those processes are; pure."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import msgspec

from aiocheckpoint._format.entries import Owned, decode_entries, encode_entries
from aiocheckpoint._format.log import LOG_VERSION
from aiocheckpoint.errors import JournalVersionError

_MAGIC = b"acOWNERS"
_MAX_HOST = 255
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


class _Process(msgspec.Struct):
    pid: int
    host: str


def encode_process(pid: int, host: str) -> bytes:
    """Return what a process says of itself to those who find that it owns what they want."""
    return msgspec.json.encode(_Process(pid, host)) + b"\n"


def told_by(data: bytes) -> str:
    """Return the same in words; empty where a process says nothing, as that of an old version."""
    try:
        found = msgspec.json.decode(data, type=_Process)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return f"process {found.pid} on {found.host[:_MAX_HOST]!a}"
