"""Arbitrary values that are written exactly, nested in each other, and what makes two the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests import json_documents

_ZONES = [ZoneInfo(key) for key in ("Europe/Berlin", "America/New_York", "UTC", "Asia/Kathmandu")]
_TAGS = ["!", "!!", "!int", "!tuple", "!set", "!dict", "!own", "!str", "!unknown"]
_A_DAY = timedelta(hours=24)

any_texts: SearchStrategy[str] = (
    st.text(st.characters(exclude_categories=()), max_size=12)
    | st.text("\\ud8ab0\ud800\udfff\ud83d\ude00é", max_size=8)
    | json_documents.texts
)
_offsets = st.timedeltas(-_A_DAY, _A_DAY).filter(lambda offset: abs(offset) < _A_DAY)
_zones: SearchStrategy[tzinfo | None] = (
    st.none()
    | st.just(UTC)
    | st.sampled_from(_ZONES)
    | st.builds(timezone, _offsets)
    | st.builds(timezone, _offsets, json_documents.texts)
)
_folds = st.sampled_from([0, 1])


def _with_fold(moment: datetime | time, fold: int) -> datetime | time:
    return moment.replace(fold=fold)


scalars: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.integers(-(2**2100), 2**2100),
    st.floats(),
    any_texts,
    st.binary(max_size=12),
    st.builds(_with_fold, st.datetimes(timezones=_zones, allow_imaginary=True), _folds),
    st.builds(_with_fold, st.times(timezones=_zones), _folds),
    st.dates(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
)
hashable: SearchStrategy[Any] = st.recursive(
    scalars.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values: SearchStrategy[Any] = st.recursive(
    scalars | hashable,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(json_documents.texts, inner, max_size=4),
        st.dictionaries(st.sampled_from(_TAGS), inner, max_size=2),
        st.dictionaries(hashable, inner, max_size=3),
        st.sets(hashable, max_size=3),
    ),
    max_leaves=15,
)


def described(value: Any) -> Any:
    """
    Return what a value is, types included, as something that `==` compares strictly.

    Any NaN is any other; dicts and sets have no order.
    """
    kind = type(value).__name__
    match value:
        case dict():
            items = [(described(key), described(item)) for key, item in value.items()]
            return kind, sorted(items, key=lambda item: repr(item[0]))
        case list() | tuple():
            return kind, [described(item) for item in value]
        case set() | frozenset():
            return kind, sorted(map(described, value), key=repr)
        case datetime() | time():
            return kind, value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)
        case date() | timedelta() | UUID() | bytes() | str() | int() | None:
            return kind, repr(value) if not isinstance(value, int) else hex(value)
        case Decimal():
            return kind, value.as_tuple()
        case float():
            return kind, repr(value)
    raise AssertionError(kind)


def _zone(zone: tzinfo | None) -> tuple[object, ...]:
    if isinstance(zone, ZoneInfo):
        return "ZoneInfo", zone.key
    return type(zone).__name__, zone and (zone.utcoffset(None), zone.tzname(None))
