"""Seeded random checkpoints that hold everything JSON can, at its edges."""

from __future__ import annotations

import math
import random
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from aiocheckpoint import CheckpointData
from aiocheckpoint._format.json_values import MAX_DEPTH

_INTEGERS = (0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 1 - 2**63)
_FLOATS = (
    *(0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308),
    *(1e15, 1e16, 1e17, 1e21, 1e22, 1e23, 1e-4, 1e-5, 1e-6, 1e-7, 0.1, 1 / 3, 2.0**53, -1e300),
)
# Text that holds what the codec looks for in numbers, keys and seals.
_TRAPS = (
    "1e16",
    '"0.30000000000000004"',
    "\\",
    '\\"1e16\\"',
    '{"_checksum":"',
    "NaN",
    "], [",
    "\n}",
)
_ESCAPED = '"\\/\x7f\u0080\u2028\u2029\ufeff\uffff\u0301'


def random_float(source: random.Random) -> float:
    """Return a finite float of any magnitude."""
    match source.randrange(6):
        case 0:
            return source.choice(_FLOATS)
        case 1:
            return source.random()
        case 2:
            return 1_763_920_555 + source.random() * 1e7  # what time.time() returns
        case 3:
            return round(source.random() * 100, 4)
        case 4:
            return float(source.randrange(2**53))
        case _:
            value: float = struct.unpack(">d", source.randbytes(8))[0]
            return value if math.isfinite(value) else 1.5


def _integer(source: random.Random) -> int:
    if source.random() < 0.5:
        return source.choice(_INTEGERS)
    return source.randrange(-(2**63), 2**64) >> source.randrange(64)


def _character(source: random.Random) -> str:
    match source.randrange(6):
        case 0:
            return chr(source.randrange(0x20))
        case 1:
            return source.choice(_ESCAPED)
        case 2:
            return chr(source.randrange(0x10000, 0x110000))
        case 3:
            return chr(source.randrange(0x80, 0xD800))
        case 4:
            return chr(source.randrange(0xE000, 0x10000))
        case _:
            return chr(source.randrange(0x20, 0x7F))


def _text(source: random.Random) -> str:
    if source.random() < 0.1:
        return source.choice(_TRAPS)
    return "".join(_character(source) for _ in range(source.choice((0, 1, 2, 5, 30))))


def _leaf(source: random.Random) -> Any:
    match source.randrange(6):
        case 0:
            return None
        case 1:
            return source.random() < 0.5
        case 2:
            return _integer(source)
        case 3:
            return random_float(source)
        case _:
            return _text(source)


def random_value(source: random.Random, depth: int) -> Any:
    """Return a JSON value of at most `depth` containers inside one another."""
    match source.randrange(3) if depth else 2:
        case 0:
            return [random_value(source, depth - 1) for _ in range(source.randrange(5))]
        case 1:
            keys = [_text(source) for _ in range(source.randrange(5))]
            return {key: random_value(source, depth - 1) for key in keys}
        case _:
            return _leaf(source)


def tower(source: random.Random, depth: int) -> Any:
    """Return `depth` containers inside one another."""
    value = _leaf(source)
    for _ in range(depth):
        value = [value] if source.random() < 0.5 else {_text(source): value}
    return value


def random_checkpoint(source: random.Random, session_id: str) -> CheckpointData:
    """Return a checkpoint; one in ten nests as deep as may be."""
    messages = [random_value(source, 5) for _ in range(source.randrange(6))]
    if source.random() < 0.1:
        messages.append(tower(source, MAX_DEPTH - 2))
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return CheckpointData(
        session_id=session_id,
        checkpoint_id=source.randbytes(16).hex(),
        # The crate prints three digits of a second where three are enough, msgspec always six.
        created_at=start + timedelta(milliseconds=source.randrange(4 * 10**12), microseconds=7),
        trigger=_text(source),
        iteration=source.choice((0, 2**31 - 1, -(2**31), source.randrange(10**6))),
        messages=messages,
        tool_calls_pending=[{}, [], random_value(source, 3)],
        tool_results=random_value(source, 5),
        tokens_used=source.choice((0, 2**63 - 1, -(2**63), source.randrange(10**12))),
        cost_estimate=random_float(source),
        resume_hint=source.choice((None, _text(source))),
    )
