"""Comparing what two savers answer."""

from __future__ import annotations

from typing import Any

from langgraph.types import Interrupt


class DifferenceError(AssertionError):
    """The savers do not agree."""


def plain(value: Any) -> Any:
    """Return a value in a form that can be compared, and shown."""
    match value:
        case dict():
            known = sorted(
                ((str(key), each) for key, each in value.items()), key=lambda pair: pair[0]
            )
            return {key: plain(each) for key, each in known if not key.startswith("__pregel")}
        case str() | int() | float() | None:
            return value
        case BaseException():
            return repr(value)
        case tuple() if hasattr(value, "_asdict"):
            return {k: plain(v) for k, v in value._asdict().items() if k != "created_at"}
        case [Interrupt(), *_]:  # of nodes side by side, as they come
            return sorted(map(repr, value))
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
    return repr(value)


def require_equal(known: Any, tested: Any, what: str) -> None:
    """
    See that two answers are the same.

    Raises:
        DifferenceError: they are not; it tells the first place where.
    """
    if known == tested:
        return
    if isinstance(known, dict) and isinstance(tested, dict):
        for key in [*known, *(key for key in tested if key not in known)]:
            require_equal(known.get(key), tested.get(key), f"{what}, {key}")
    elif isinstance(known, list) and isinstance(tested, list) and len(known) == len(tested):
        for at, (one, other) in enumerate(zip(known, tested, strict=True)):
            require_equal(one, other, f"{what}, {at}")
    raise DifferenceError(f"{what}: {known} in memory, {tested} here")
