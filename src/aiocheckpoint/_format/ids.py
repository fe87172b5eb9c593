"""Ids to the names they have on disk, and back; pure.

A safe id is its own name, as in the Rust crate. Any other is percent-encoded behind a tilde,
a name no safe id can have, or hashed where that would be too long; the body holds the id itself.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from urllib.parse import quote, unquote

import msgspec

from aiocheckpoint.errors import InvalidIdError
from aiocheckpoint.models import CheckpointId

_SAFE_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?<!\.)")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_FOLDED_OR_SPECIAL = re.compile(r"[A-Z.~]")
_SESSION_ID = re.compile(rb'"session_id"\s*:\s*("(?:[^"\\]|\\.)*+")')
_MAX_ENCODED_LENGTH = 200
_REMEMBERED = 4096
_HASHED_PREFIX = "~sha256-"
_HASHED = re.compile(rf"{_HASHED_PREFIX}[0-9a-f]{{64}}")


def encode_id(value: str, kind: str) -> str:
    """
    Return the name that stands for an id on disk.

    Args:
        value: any text that UTF-8 can hold.
        kind: `"session id"` or `"checkpoint id"`, for the error.

    Returns:
        at most 200 ASCII characters, different for different ids.

    Raises:
        InvalidIdError: when it is not a `str` or holds a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidIdError(kind, value, f"of type {type(value).__qualname__}; give a str")
    text = str.__str__(value)  # an enum that extends `str` prints as something else
    if is_plain(text):
        return text
    try:
        return _name_of(text) if len(text) < _MAX_ENCODED_LENGTH else _hashed(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidIdError(kind, value, "it holds a lone surrogate; replace it") from error


def is_plain(text: str) -> bool:
    """Tell at a glance, of most ids, that they are safe: no device has a name of five letters."""
    return 4 < len(text) <= 128 and text.isascii() and text.isalnum()


@lru_cache(maxsize=_REMEMBERED)  # each call on a session asks several times
def _name_of(text: str) -> str:
    if _is_safe(text):
        return text
    data = text.encode()
    name = "~" + _quote(data)
    return name if len(name) <= _MAX_ENCODED_LENGTH else _hashed(data)


def _hashed(data: bytes) -> str:
    return _HASHED_PREFIX + hashlib.sha256(data).hexdigest()


def _is_safe(text: str) -> bool:
    return _SAFE_ID.fullmatch(text) is not None and _DEVICE.fullmatch(text) is None


def _quote(data: bytes) -> str:
    """Percent-encode; upper case too, because ~A and ~a would meet on a disk that folds case."""
    quoted = _ESCAPE.sub(lambda found: found[0].lower(), quote(data, safe=""))
    return _FOLDED_OR_SPECIAL.sub(lambda found: f"%{ord(found[0]):02x}", quoted)


def may_be_session(name: str) -> bool:
    """Tell whether a directory's name may be one that `encode_id` gives."""
    return decode_id(name) is not None or _HASHED.fullmatch(name) is not None


@lru_cache(maxsize=_REMEMBERED)
def decode_id(name: str) -> str | None:
    """Return the id that a name stands for; None where only a body can tell, or of no id."""
    if _is_safe(name):
        return name
    if not name.startswith("~") or name.startswith(_HASHED_PREFIX) or not name.isascii():
        return None
    try:
        value = unquote(name[1:], errors="strict")
    except UnicodeDecodeError:
        return None
    return value if encode_id(value, "id") == name else None


def find_session_id(data: bytes, name: str) -> str | None:
    """
    Return the session id that damaged JSON holds, proven by the name that stands for it.

    Args:
        data: what is left of a document, or of several.
        name: what `encode_id` gave for the id.

    Returns:
        None where the damage goes through each of them.
    """
    for found in _SESSION_ID.finditer(data):
        try:
            candidate = msgspec.json.decode(found[1], type=str)
            if encode_id(candidate, "session id") == name:
                return candidate
        except (msgspec.MsgspecError, UnicodeDecodeError, InvalidIdError):
            continue
    return None


def names_of_id(checkpoint_id: CheckpointId) -> tuple[str, ...]:
    """Return the names an id may have on disk: ours, and the raw one Rust would use."""
    encoded = encode_id(checkpoint_id, "checkpoint id")
    return (encoded,) if encoded == checkpoint_id else (encoded, checkpoint_id)
