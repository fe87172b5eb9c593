"""Listing entries, from whole files or from their ends; pure."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import msgspec

from aiocheckpoint._format.documents import CHECKSUM_KEY, FORMAT_VERSION, VERSION_KEY, sealed
from aiocheckpoint._format.json_values import is_too_deep
from aiocheckpoint._format.names import FileName, id_of_name
from aiocheckpoint.errors import FormatVersionError
from aiocheckpoint.models import AwareDatetime, CheckpointMeta, JsonValue, SessionId

_MEMBER = re.compile(rb'^  "([^"\\]*)": (.+?),?$', re.MULTILINE)
_KEY = re.compile(rb'  "([^"\\]*)": ')
_HEAD = re.compile(rb'\{\n  "_checksum": "[0-9a-f]{64}",\n  "_version": "1\.0",\n')


class _MetaFields(msgspec.Struct):
    session_id: str
    checkpoint_id: str
    created_at: AwareDatetime
    checksum: str = msgspec.field(name=CHECKSUM_KEY)
    version: str = msgspec.field(name=VERSION_KEY, default=FORMAT_VERSION)
    trigger: JsonValue = ""
    iteration: JsonValue = 0


_META_KEYS = frozenset(key.encode() for key in _MetaFields.__struct_encode_fields__)
_decode_meta = msgspec.json.Decoder(_MetaFields).decode


def location_of_file(path: str) -> str:
    """Return the URL of a file, given by its absolute path."""
    return "file://" + quote(path, errors="surrogateescape")


def parse_meta(
    data: bytes, location: str, saved_at: datetime, path: Path | None = None
) -> CheckpointMeta | None:
    """Return the listing entry of a whole document, not verified; None when it is none."""
    if is_too_deep(data):
        return None
    try:
        fields = _decode_meta(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    problem = None
    if fields.version != FORMAT_VERSION:
        problem = str(FormatVersionError(str(path or location), fields.version, FORMAT_VERSION))
    return CheckpointMeta(
        checkpoint_id=fields.checkpoint_id,
        session_id=fields.session_id,
        created_at=fields.created_at,
        saved_at=saved_at,
        trigger=fields.trigger if isinstance(fields.trigger, str) else "",
        iteration=fields.iteration if type(fields.iteration) is int else 0,
        checksum=fields.checksum,
        location=location,
        path=path,
        problem=problem,
    )


def meta_of_file(data: bytes, path: Path, saved_at: datetime) -> CheckpointMeta | None:
    """Return the listing entry of a whole file."""
    return parse_meta(data, location_of_file(str(path)), saved_at, path)


def meta_of_body(
    text: bytes, checksum: bytes, path: Path, saved_at: datetime
) -> CheckpointMeta | None:
    """Return the listing entry of a document that is not in its file yet."""
    return meta_of_file(sealed(text, checksum), path, saved_at)


def meta_of_name(name: FileName, session_id: SessionId, path: Path, problem: str) -> CheckpointMeta:
    """Return what the name of a file tells, for one whose content tells nothing."""
    checkpoint_id = id_of_name(name)
    return CheckpointMeta(
        checkpoint_id=name.id_names[0] if checkpoint_id is None else checkpoint_id,
        session_id=session_id,
        created_at=name.saved_at,
        saved_at=name.saved_at,
        trigger="",
        iteration=0,
        checksum="",
        location=location_of_file(str(path)),
        path=path,
        problem=problem,
    )


def peek_meta(head: bytes, tail: bytes, path: Path, saved_at: datetime) -> CheckpointMeta | None:
    """
    Return the listing entry from the two ends of a file, if they suffice.

    Args:
        head: the first bytes.
        tail: the last bytes, not overlapping `head`.
        path: of the file.
        saved_at: as its name says.

    Returns:
        None when a needed key may be in neither; read the whole file then.

    In an indented file every line that begins with two spaces and a quote is a top-level
    key: JSON strings hold no raw newline. Keys are sorted, so where none is missing between
    those at the ends, a record type has none. The rest of the file is left to `verified`.
    """
    if not _HEAD.match(head) or not tail.endswith(b"\n}"):
        return None
    cut = head.rfind(b"\n") + 1
    first = _MEMBER.findall(head[:cut])
    last = _MEMBER.findall(tail, tail.find(b"\n") + 1)
    cut_key = _KEY.match(head, cut)
    before_gap = [key for key, _ in first] + ([cut_key[1]] if cut_key else [])
    after_gap = [key for key, _ in last]
    keys = (before_gap + after_gap)[2:]  # those of the seal come first
    if not after_gap or keys != sorted(set(keys)):
        return None
    members = [(key, value) for key, value in first + last if key in _META_KEYS]
    missing = _META_KEYS.difference(key for key, _ in members)
    if any(before_gap[-1] <= key < after_gap[0] for key in missing):
        return None
    shortened = b"{%s}" % b",".join(b'"%s":%s' % member for member in members)
    return meta_of_file(shortened, path, saved_at)
