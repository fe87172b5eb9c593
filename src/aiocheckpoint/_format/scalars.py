"""Scalars that JSON lacks as text, one text for each value, and back; pure.

What a text looks like stands in files, and never changes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Context, Decimal
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from aiocheckpoint._format.escapes import RefusedError
from aiocheckpoint._format.json_values import is_unicode

_SURROGATE = re.compile(r"\\(?:(\\)|u(d[89a-f][0-9a-f]{2}))")
_MAX_DECIMAL_BITS = 2048  # above, Python may be set to refuse the digits
_CAPITALS = Context(capitals=1)  # the current one may ask for `1e+3`
_MOMENT = re.compile(
    r"(?P<wall>[^;\[]*?)"
    r"(?P<offset>(?P<sign>[+-])(?P<hours>\d\d):(?P<minutes>\d\d)"
    r"(?::(?P<seconds>\d\d)(?:\.(?P<microseconds>\d{6}))?)?)?"
    r"(?P<fold>;fold=1)?"
    r"(?:\[(?P<zone>.*)\])?",
    re.DOTALL | re.ASCII,
)
_SECONDS = re.compile(r"(-?)(\d+)(?:\.(\d{6}))?", re.ASCII)


class Scalar(NamedTuple):
    """
    One kind of scalar.

    Attributes:
        name: in files.
        kind: the class, and no subclass of it.
        format: returns the text of a value; `RefusedError` says what is in the way.
        parse: returns the value of a text; any exception says that it is none.
    """

    name: str
    kind: type
    format: Callable[[Any], str]
    parse: Callable[[str], Any]

    def to_text(self, value: Any) -> str:
        """
        Return a value as text.

        Raises:
            RefusedError: saying why no text would bring it back.
        """
        text = self.format(value)
        if not is_unicode(text):
            raise RefusedError("has a time zone whose name has a lone surrogate; replace it")
        return text

    def from_text(self, text: object) -> Any:
        """
        Return the value that a text stands for.

        Raises:
            RefusedError: it is not what `to_text` returns for any value.
        """
        objection = f"is no {self.name} as to_json writes it"
        if not isinstance(text, str):
            raise RefusedError(objection)
        try:
            value = self.parse(text)
            is_ours = self.format(value) == text
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise RefusedError(f"{objection}: {error}", error) from error
        if not is_ours:
            raise RefusedError(objection)
        return value


def _int_text(value: int) -> str:
    return str(value) if value.bit_length() <= _MAX_DECIMAL_BITS else hex(value)


def _int(text: str) -> int:
    return int(text, 16 if "x" in text else 10)


def _str_text(value: str) -> str:
    r"""Return a text with each backslash doubled and each lone surrogate as `\udxxx`."""
    return value.replace("\\", "\\\\").encode(errors="backslashreplace").decode()


def _str(text: str) -> str:
    return _SURROGATE.sub(lambda found: found[1] or chr(int(found[2], 16)), text)


def _bytes_text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _timedelta_text(value: timedelta) -> str:
    """Return a difference as seconds, with six digits after the point or none."""
    microseconds = value // timedelta.resolution
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    return f"{'-' * (microseconds < 0)}{seconds}" + (f".{rest:06}" if rest else "")


def _timedelta(text: str, kind: type[timedelta]) -> timedelta:
    found = _SECONDS.fullmatch(text)
    if found is None:
        raise ValueError(text)
    sign, seconds, microseconds = found.groups("0")
    value = kind(seconds=int(seconds), microseconds=int(microseconds))
    return -value if sign == "-" else value


def _moment_text(value: datetime | time) -> str:
    """Return a date and time, or a time: ISO 8601, the fold, and what names the zone."""
    zone = value.tzinfo
    fold = ";fold=1" if value.fold else ""
    if zone is None:
        return f"{value.isoformat()}{fold}"
    if type(zone) is timezone:
        name = zone.tzname(None)
        is_named = name != timezone(zone.utcoffset(None)).tzname(None)
        return f"{value.isoformat()}{fold}" + (f"[{name}]" if is_named else "")
    if type(zone) is not ZoneInfo or zone.key is None:
        shown = f"a {type(zone).__qualname__} as its time zone"
        raise RefusedError(f"has {shown}; give it a datetime.timezone or a ZoneInfo with a key")
    try:
        ZoneInfo(zone.key)  # one made from a file may have any key
    except Exception as error:
        reason = f"has the time zone {zone.key!r}, unknown to this system; give it another"
        raise RefusedError(reason, error) from error
    return f"{value.replace(tzinfo=None).isoformat()}{fold}[{zone.key}]"


def _moment(text: str, kind: Any) -> Any:
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    value = kind.fromisoformat(found["wall"])
    return value.replace(tzinfo=_zone(found), fold=1 if found["fold"] else 0)


def _zone(found: re.Match[str]) -> timezone | ZoneInfo | None:
    name = found["zone"]
    if found["offset"] is None:
        return None if name is None else ZoneInfo(name)
    # Not by `fromisoformat`, which loses an offset below a second.
    names = ("hours", "minutes", "seconds", "microseconds")
    offset = timedelta(**{part: int(found[part] or 0) for part in names})
    offset = -offset if found["sign"] == "-" else offset
    return timezone(offset) if name is None else timezone(offset, name)


# Partials, for clocks that tests freeze replace these classes wherever a module names them.
SCALARS = (
    Scalar("int", int, _int_text, _int),
    Scalar("float", float, repr, float),
    Scalar("str", str, _str_text, _str),
    Scalar("bytes", bytes, _bytes_text, partial(base64.b64decode, validate=True)),
    Scalar("datetime", datetime, _moment_text, partial(_moment, kind=datetime)),
    Scalar("date", date, date.isoformat, date.fromisoformat),
    Scalar("time", time, _moment_text, partial(_moment, kind=time)),
    Scalar("timedelta", timedelta, _timedelta_text, partial(_timedelta, kind=timedelta)),
    Scalar("decimal", Decimal, _CAPITALS.to_sci_string, Decimal),
    Scalar("uuid", UUID, str, UUID),
)
"""Every kind. Names are added, and never given another meaning."""
