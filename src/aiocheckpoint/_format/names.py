"""Ids to names and back, and the order of checkpoint files; pure.

    <root>/<session>/checkpoints/cp_20261123_101500_123456_<checkpoint>.json

A safe id is its own name, as in the Rust crate. Any other is percent-encoded behind a tilde,
a name no safe id can have, or hashed where that would be too long; the body holds the id
itself. The time stamp is strictly increasing within a session: it is the order of saving.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from aiocheckpoint.errors import InvalidIdError, StorageError
from aiocheckpoint.models import CheckpointId, SessionId

CHECKPOINTS_DIRECTORY = "checkpoints"
BLOBS_DIRECTORY = "blobs"

LATEST_NAME = "latest.json"
PRIVATE_DIRECTORY = ".aiocheckpoint"
QUARANTINE_DIRECTORY = "quarantine"
JOURNAL_PREFIX = "journal-"
TEMP_PREFIX = ".tmp_cp_"
RUST_TEMP_PREFIXES = (".tmp_checkpoint_", ".tmp_latest_")
BACKUP_SUFFIX = ".backup"

_SAFE_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?<!\.)")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_FOLDED_OR_SPECIAL = re.compile(r"[A-Z.~]")
_MAX_ENCODED_LENGTH = 200
_HASHED_PREFIX = "~sha256-"
_DAY = r"[1-9]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3])[0-5]\d[0-5]\d"
_NAME = re.compile(rf"cp_({_DAY}_{_TIME})_(?:(\d{{6}})_)?(.+)\.json", re.ASCII | re.DOTALL)
_RUST_FRACTION = "999999"
_TRUSTED_NS = 2_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_STAMP = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND - 1


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
        raise InvalidIdError(kind, value, f"a {type(value).__qualname__}; give a str")
    if _is_safe(value):
        return str.__str__(value)  # an enum that extends `str` prints as something else
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise InvalidIdError(kind, value, "it holds a lone surrogate; replace it") from error
    name = "~" + _quote(data)
    if len(name) <= _MAX_ENCODED_LENGTH:
        return name
    return _HASHED_PREFIX + hashlib.sha256(data).hexdigest()


@lru_cache(maxsize=1024)
def _is_safe(text: str) -> bool:
    return _SAFE_ID.fullmatch(text) is not None and _DEVICE.fullmatch(text) is None


def _quote(data: bytes) -> str:
    """Percent-encode; upper case too, because ~A and ~a would meet on a disk that folds case."""
    quoted = _ESCAPE.sub(lambda found: found[0].lower(), quote(data, safe=""))
    return _FOLDED_OR_SPECIAL.sub(lambda found: f"%{ord(found[0]):02x}", quoted)


def may_be_session(name: str) -> bool:
    """Tell whether a directory's name is one that `encode_id` gives."""
    return _is_safe(name) or name.startswith("~")


def decode_session_name(name: str) -> SessionId | None:
    """Return the session id a directory's name stands for; None where only a body can tell."""
    return _decoded(name)


def _decoded(name: str) -> str | None:
    if _is_safe(name):
        return name
    if not name.startswith("~") or name.startswith(_HASHED_PREFIX) or not name.isascii():
        return None
    try:
        value = unquote(name[1:], errors="strict")
    except UnicodeDecodeError:
        return None
    return value if encode_id(value, "id") == name else None


class FileName(NamedTuple):
    """
    A checkpoint file's name, taken apart; sorts in the order of saving.

    Attributes:
        stamp: `"20261123_101500_123456"`, UTC. Rust's names have whole seconds and count as the
            end of theirs, so that the next save of ours comes after it.
        text: the name.
        id_names: what `encode_id` may have given for its checkpoint id: one name for Rust's,
            two for `cp_..._123456_x.json`, which may be our `x` or Rust's `123456_x`.
    """

    stamp: str
    text: str
    id_names: tuple[str, ...]

    @property
    def is_rust(self) -> bool:
        """Whether the stamp has whole seconds, within which only file times tell the order."""
        return self.stamp.endswith(_RUST_FRACTION)

    @property
    def microseconds(self) -> int:
        """The stamp, in microseconds since 1970."""
        year, month, day = int(self.stamp[:4]), int(self.stamp[4:6]), int(self.stamp[6:8])
        hour, minute, second = (int(self.stamp[at : at + 2]) for at in (9, 11, 13))
        start = datetime(year, month, 1, hour, minute, second, int(self.stamp[-6:]), UTC)
        return (start - _EPOCH + timedelta(days=day - 1)) // _MICROSECOND


def parse_name(text: str) -> FileName | None:
    """Return a checkpoint file's name taken apart; None for any other name."""
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    seconds, fraction, rest = match.groups()
    if fraction is None:
        return FileName(f"{seconds}_{_RUST_FRACTION}", text, (rest,))
    return FileName(f"{seconds}_{fraction}", text, (rest, f"{fraction}_{rest}"))


def make_name(checkpoint_id: CheckpointId, microseconds: int) -> FileName:
    """Return the name of a checkpoint saved at that time, microseconds since 1970, UTC."""
    rest = encode_id(checkpoint_id, "checkpoint id")
    stamp = _stamp(microseconds)
    return FileName(stamp, f"cp_{stamp}_{rest}.json", (rest, f"{stamp[-6:]}_{rest}"))


def _stamp(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{_seconds_text(seconds)}_{fraction:06}"


@lru_cache(maxsize=2)
def _seconds_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y%m%d_%H%M%S")


def next_stamp(now_microseconds: int, newest: FileName | None, leap_microseconds: int = 1) -> int:
    """
    Return the time stamp of the next save, in microseconds since 1970.

    It is now, or, where the clock is behind, after the newest by a leap that should differ from
    save to save: or a name that was given to a file removed since would be given again. Never
    the last microsecond of a second, which stands for Rust's names.

    Raises:
        StorageError: when the clock, or the newest file's name, is past the year 9999.
    """
    stamp = now_microseconds
    if newest is not None and stamp <= newest.microseconds:
        stamp = newest.microseconds + (leap_microseconds if stamp < newest.microseconds else 1)
    if stamp % 1_000_000 == int(_RUST_FRACTION):
        stamp += 1
    if stamp > _LAST_STAMP:
        if newest is not None and now_microseconds <= _LAST_STAMP:
            reason = "no time is left after the one in its name; move it away"
            raise StorageError("name the next file after", newest.text, None, reason)
        reason = "it is past the year 9999; set it right"
        raise StorageError("name the next file", "the system's clock", None, reason)
    return stamp


class _Doubt(NamedTuple):
    """The stamps, first and end, among which those of ours do not tell what came before Rust's."""

    first: str
    end: str


def _doubt_about(rust: FileName) -> _Doubt:
    """
    Return the span from Rust's second to the end of the next.

    A save of ours that follows one of Rust's in the same second is stamped with the next.
    """
    end = min(rust.microseconds + 1_000_001, _LAST_STAMP)
    return _Doubt(rust.stamp[: -len(_RUST_FRACTION)], _stamp(end))


def doubtful(names: list[FileName]) -> set[FileName]:
    """Return those of sorted names whose order only the times of their files tell."""
    found: set[FileName] = set()
    for rust in (name for name in names if name.is_rust):
        doubt = _doubt_about(rust)
        start = bisect.bisect_left(names, (doubt.first,))
        near = names[start : bisect.bisect_left(names, (doubt.end,))]
        if any(not name.is_rust or (name != rust and name.stamp == rust.stamp) for name in near):
            found.update(near)
    return found


def in_order(names: list[FileName], modified_ns: Mapping[str, int]) -> list[FileName]:
    """
    Return sorted names in the order of saving.

    Args:
        names: sorted.
        modified_ns: times of the doubtful files, ns since 1970, by name.

    Returns:
        those of ours by stamp, whatever the times; between them Rust's by time, where that is
        within two seconds of the name, or else by the name too.
    """
    rust = [name for name in names if name.is_rust]
    ours = deque(name for name in names if not name.is_rust)
    ordered: list[FileName] = []
    for name in sorted(rust, key=lambda name: (name.stamp, modified_ns.get(name.text, 0), name)):
        doubt, modified = _doubt_about(name), modified_ns.get(name.text)
        if modified is None or abs(modified - name.microseconds * 1000) > _TRUSTED_NS:
            doubt = _Doubt(name.stamp, name.stamp)
        while ours and (
            ours[0].stamp < doubt.first
            or (
                ours[0].stamp < doubt.end
                and (modified_ns.get(ours[0].text, 0), ours[0].stamp) < (modified, name.stamp)
            )
        ):
            ordered.append(ours.popleft())
        ordered.append(name)
    return [*ordered, *ours]


def names_of_id(checkpoint_id: CheckpointId) -> tuple[str, ...]:
    """Return the names an id may have on disk: ours, and the raw one Rust would use."""
    encoded = encode_id(checkpoint_id, "checkpoint id")
    return (encoded,) if encoded == checkpoint_id else (encoded, checkpoint_id)


def name_fits(name: FileName, checkpoint_id: CheckpointId) -> bool:
    """Tell whether a file of that name may hold a checkpoint of that id."""
    return not set(names_of_id(checkpoint_id)).isdisjoint(name.id_names)


def is_leftover(name: str) -> bool:
    """Tell whether a name is that of a temporary file, ours or the Rust crate's."""
    return name.startswith((TEMP_PREFIX, *RUST_TEMP_PREFIXES))


def is_backup(name: str) -> bool:
    """Tell whether a name is that of a backup this library made."""
    return name.endswith(BACKUP_SUFFIX) and parse_name(name[: -len(BACKUP_SUFFIX)]) is not None


def id_of_name(name: FileName) -> CheckpointId | None:
    """
    Return the id in a file's name; None where only the body can tell.

    Of `cp_..._123456_x.json` it is `x`: no id of ours begins with six digits and an underscore.
    """
    return _decoded(name.id_names[0])
