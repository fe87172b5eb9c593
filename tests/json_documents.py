"""Arbitrary JSON values for property tests, with every corner that the format has."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_AWKWARD_TEXTS = [
    "",
    "\x00\x01\x1f\x7f\x80\u2028\u2029\ufeff\uffff",
    '"\\/\b\f\n\r\t',
    "\\\\",
    '\\"',
    '\\u0041 \\ud800 \\"',
    "😀 é 日本 \U0010ffff",
    '[{"[{',
    "]}",
    '",0.013320476908123725,"',
    '0.013320476908123725,1e16,[2.5,-1e300],"a":1e-7}',
    '\n  "trigger": "forged",\n  "iteration": 7,\n}',
    '  "session_id": "forged",',
    "_checksum",
    "_version",
]
_AWKWARD_INTEGERS = [
    *(
        sign * 2**power + delta
        for power in (31, 53, 62)
        for sign in (1, -1)
        for delta in (-1, 0, 1)
    ),
    -(2**63),
    2**63 - 1,
    2**63,
    2**64 - 1,
]
_AWKWARD_FLOATS = [
    0.0,
    -0.0,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    1e15,
    1e16,
    -1e16,
    1e17,
    1e22,
    1e-4,
    1e-5,
    1e-6,
    1e-7,
    0.1 + 0.2,
    0.013320476908123725,
    30.467688030084318,
    123456789012345680.0,
    9007199254740993.0,
    float(2**63),
    float(2**64),
]


def _float_of_bits(bits: int) -> float:
    (value,) = struct.unpack("<d", bits.to_bytes(8, "little"))
    return float(value)


texts: SearchStrategy[str] = st.text(max_size=12) | st.sampled_from(_AWKWARD_TEXTS)
integers: SearchStrategy[int] = st.integers(-(2**63), 2**64 - 1) | st.sampled_from(
    _AWKWARD_INTEGERS
)
floats: SearchStrategy[float] = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(0, 1)
    | st.sampled_from(_AWKWARD_FLOATS)
    | st.integers(0, 2**63 - 2**52 - 1).map(_float_of_bits)
)
scalars: SearchStrategy[Any] = st.none() | st.booleans() | integers | floats | texts
values: SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)
