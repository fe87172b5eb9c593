"""The names of checkpoint files, and their order; pure.

    <root>/<session>/checkpoints/cp_20261123_101500_123456_<checkpoint>.json

The time stamp is strictly increasing within a session: it is the order of saving.
"""

from __future__ import annotations

import bisect
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from aiocheckpoint._format.ids import decode_id, names_of_id
from aiocheckpoint._format.json_values import is_unicode
from aiocheckpoint.errors import StorageError
from aiocheckpoint.models import CheckpointId

CHECKPOINTS_DIRECTORY = "checkpoints"
BLOBS_DIRECTORY = "blobs"
NODE_SUFFIX = ".node"

LATEST_NAME = "latest.json"
PRIVATE_DIRECTORY = ".aiocheckpoint"
QUARANTINE_DIRECTORY = "quarantine"
TEMP_PREFIX = ".tmp_cp_"
RUST_TEMP_PREFIXES = (".tmp_checkpoint_", ".tmp_latest_")
_LEFTOVER_PREFIXES = (TEMP_PREFIX, *RUST_TEMP_PREFIXES)
BACKUP_SUFFIX = ".backup"

_PREFIX = "cp_"
_RUST_FRACTION = "999999"
_DAY = r"[1-9]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_HOUR = r"(?:[01]\d|2[0-3])"
_MINUTE_AND_SECOND = r"[0-5]\d[0-5]\d"
_TIME = rf"{_HOUR}{_MINUTE_AND_SECOND}"
_STAMPED = rf"cp_{_DAY}_{_TIME}_(?:(\d{{6}})_)?"
_NAME = re.compile(rf"{_STAMPED}(.+)\.json", re.ASCII | re.DOTALL)
_SECOND = rf"(?<=/)cp_{_DAY}_{_TIME}_"  # of names between slashes, as none has any
_FINE = r"\d{6}_[^/]+\.json(?=/)"
_REST = rf"{_MINUTE_AND_SECOND}_(?!{_RUST_FRACTION})\d{{6}}_(?!\.json/)[^/]++(?<=\.json)/"
_FINE_NAMES = re.compile(_SECOND + _FINE, re.ASCII)
# All of a directory in one match: to find each takes twice as long. Names of one hour stand
# together and are held against its text: to read the day of each takes that long again.
_ALL_FINE = re.compile(rf"(?:(cp_{_DAY}_{_HOUR}){_REST}(?:\1{_REST})*+)*+", re.ASCII)
_RUST_NAMES = re.compile(rf"{_SECOND}(?!{_FINE})[^/]+\.json(?=/)", re.ASCII)
_LEAST_FINE = len("cp_20261123_101500_123456_.json")  # what is as long has no id behind the stamp
_TRUSTED_NS = 2_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_STAMP = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND - 1


class FileName(NamedTuple):
    """
    A checkpoint file's name, taken apart; sorts in the order of saving.

    Attributes:
        stamp: `"20261123_101500_123456"`, UTC. Rust's names have whole seconds and count as the
            end of theirs, so that the next save of ours comes after it.
        text: the name.
    """

    stamp: str
    text: str

    @property
    def id_names(self) -> tuple[str, ...]:
        """
        What `encode_id` may have given for its checkpoint id.

        One name for Rust's, two for `cp_..._123456_x.json`, which may be our `x` or Rust's
        `123456_x`.
        """
        text = self.text.removesuffix(BACKUP_SUFFIX)  # a backup has the name of its file
        if text.startswith(f"{self.stamp}_", 3) and len(text) > _LEAST_FINE:
            return text[26:-5], text[19:-5]
        return (text[19:-5],)

    @property
    def is_rust(self) -> bool:
        """Whether the stamp has whole seconds, within which only file times tell the order."""
        return self.stamp.endswith(_RUST_FRACTION)

    @property
    def microseconds(self) -> int:
        """The stamp, in microseconds since 1970."""
        return _seconds_of(self.stamp[:-7]) * 1_000_000 + int(self.stamp[-6:])

    @property
    def saved_at(self) -> datetime:
        """The stamp as a time."""
        return _EPOCH + self.microseconds * _MICROSECOND


def parse_name(text: str) -> FileName | None:
    """Return a checkpoint file's name taken apart; None for any other name."""
    match = _NAME.fullmatch(text)
    if match is None or not is_unicode(text):
        return None
    return fine_name(text) if match[1] else _rust_name(text)


def fine_name(text: str) -> FileName:
    """Return one of `fine_names` taken apart."""
    return FileName(text[3:25], text)


def _rust_name(text: str) -> FileName:
    return FileName(f"{text[3:19]}{_RUST_FRACTION}", text)


def parse_names(texts: Iterable[str]) -> list[FileName]:
    """Return those of the names in a directory that `parse_name` takes apart, sorted."""
    joined = f"/{'/'.join(texts)}/"
    if not is_unicode(joined):
        return sorted(filter(None, map(parse_name, joined[1:-1].split("/"))))
    fine, rust = _FINE_NAMES.findall(joined), _RUST_NAMES.findall(joined)
    return sorted([*map(fine_name, fine), *map(_rust_name, rust)])


def fine_names(texts: Sequence[str]) -> list[str] | None:
    """
    Return the same of sorted texts, where all are such that the order of texts is that of saving.

    None where one is of Rust's, or counts as the end of its second.
    """
    found = _beginning(texts, _PREFIX)
    joined = "/".join([*found, ""])
    return found if is_unicode(joined) and _ALL_FINE.fullmatch(joined) else None


def without_backups(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return sorted texts but for those that name backups of this library, and those."""
    others = [*texts]
    backups = [found for found in ending(texts, BACKUP_SUFFIX) if is_backup(found)]
    for backup in backups:
        del others[bisect.bisect_left(others, backup)]
    return others, backups


def has_leftovers(texts: Sequence[str]) -> bool:
    """Tell whether one of sorted texts names a temporary file, ours or the Rust crate's."""
    return any(map(is_leftover, _beginning(texts, ".")))


def _beginning(texts: Sequence[str], prefix: str) -> list[str]:
    """Return those of sorted texts that begin so: they stand together."""
    behind = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return [*texts[bisect.bisect_left(texts, prefix) : bisect.bisect_left(texts, behind)]]


def ending(texts: Iterable[str], suffix: str) -> Iterator[str]:
    """Yield those of the names in a directory that end so, without a look at each of them."""
    joined = f"/{'/'.join(texts)}/"
    start = joined.find(f"{suffix}/")
    while start >= 0:
        end = start + len(suffix)
        yield joined[joined.rfind("/", 0, start) + 1 : end]
        start = joined.find(f"{suffix}/", end)


@lru_cache(maxsize=8)
def _seconds_of(text: str) -> int:
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    hour, minute, second = (int(text[at : at + 2]) for at in (9, 11, 13))
    start = datetime(year, month, 1, hour, minute, second, 0, UTC)
    return (start - _EPOCH + timedelta(days=day - 1)) // timedelta(seconds=1)


def next_name(
    checkpoint_id: CheckpointId,
    now_microseconds: int,
    newest: FileName | None,
    leap_microseconds: Callable[[], int],
) -> FileName:
    """Return the name of the next save; see `next_stamp`."""
    if 0 <= now_microseconds < _LAST_STAMP:
        stamp = _stamp(now_microseconds)
        if not stamp.endswith(_RUST_FRACTION) and (newest is None or stamp > newest.stamp):
            return _named(checkpoint_id, stamp)
    microseconds = next_stamp(now_microseconds, newest, leap_microseconds())
    return _named(checkpoint_id, _stamp(microseconds))


def _named(checkpoint_id: CheckpointId, stamp: str) -> FileName:
    return FileName(stamp, f"cp_{stamp}_{names_of_id(checkpoint_id)[0]}.json")


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
    for rust in [name for name in names if name.stamp.endswith(_RUST_FRACTION)]:
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


def name_fits(name: FileName, checkpoint_id: CheckpointId) -> bool:
    """Tell whether a file of that name may hold a checkpoint of that id."""
    return not set(names_of_id(checkpoint_id)).isdisjoint(name.id_names)


def blob_file(digest: str, *, is_node: bool) -> str:
    """Return the name of a blob's file, which tells whether it refers to others."""
    return digest + NODE_SUFFIX if is_node else digest


def is_leftover(name: str) -> bool:
    """Tell whether a name is that of a temporary file, ours or the Rust crate's."""
    return name.startswith(_LEFTOVER_PREFIXES)


def is_backup(name: str) -> bool:
    """Tell whether a name is that of a backup this library made."""
    return name.endswith(BACKUP_SUFFIX) and parse_name(name[: -len(BACKUP_SUFFIX)]) is not None


def id_of_name(name: FileName) -> CheckpointId | None:
    """
    Return the id in a file's name; None where only the body can tell.

    Of `cp_..._123456_x.json` it is `x`: no id of ours begins with six digits and an underscore.
    """
    return decode_id(name.id_names[0])
