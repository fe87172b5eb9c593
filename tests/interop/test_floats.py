"""What `aiocheckpoint._format.floats` says of serde_json is what serde_json does."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointEncodeError
from aiocheckpoint._format.floats import FloatSpelling, special_spellings
from tests.conftest import MakeWriter
from tests.interop.comparison import floats_in, units_apart
from tests.interop.driver import Rust
from tests.interop.flat import bits, flatten, from_bits
from tests.on_disk import path_of

pytestmark = pytest.mark.interop

Writer = AsyncCheckpointWriter[CheckpointData]
Draw = Callable[[random.Random], float]

_QUICK = 2_500
_CAMPAIGN = 75_000
_CHUNK = 5_000


def _any_bits(source: random.Random) -> float:
    value = from_bits(source.randbytes(8).hex())
    return value if math.isfinite(value) else 0.0


def _beside_power_of_two(source: random.Random) -> float:
    value = math.ldexp(1.0, source.randrange(-1074, 1024))
    return source.choice((value, math.nextafter(value, 0.0), math.nextafter(value, math.inf)))


def _beside_power_of_ten(source: random.Random) -> float:
    value = float(f"{source.randrange(1, 10)}e{source.randrange(-323, 308)}")
    return source.choice((value, math.nextafter(value, 0.0), math.nextafter(value, math.inf)))


_DISTRIBUTIONS: dict[str, Draw] = {
    "any bits": _any_bits,
    "unit interval": random.Random.random,
    "time": lambda source: 1_763_920_555 + source.random() * 1e7,
    "money": lambda source: round(source.random() * 100, 6),
    "whole numbers": lambda source: float(source.randrange(2**70) >> source.randrange(70)),
    "subnormal": lambda source: from_bits(f"{source.getrandbits(52):016x}"),
    "beside a power of two": _beside_power_of_two,
    "beside a power of ten": _beside_power_of_ten,
}


async def _require_agreement(rust: Rust, values: list[float]) -> int:
    """Compare predictions with the crate; return how many floats have no exact spelling."""
    signs = ["-" if math.copysign(1.0, value) < 0 else "" for value in values]
    spellings = _spellings([abs(value) for value in values])
    texts = [sign + s.written.decode() for sign, s in zip(signs, spellings, strict=True)]
    printed = await rust.call("print_floats", floats=[bits(value) for value in values])
    written = await rust.call("read_floats", texts=texts)
    as_printed = await rust.call("read_floats", texts=printed)
    reprinted = await rust.call("print_floats", floats=written)

    for index, (value, spelling) in enumerate(zip(values, spellings, strict=True)):
        assert printed[index] == signs[index] + spelling.printed.decode()
        assert reprinted[index] == signs[index] + spelling.canonical.decode()
        assert bits(float(texts[index])) == bits(value)
        assert (written[index] == bits(value)) is spelling.exact
        assert (as_printed[index] == bits(value)) is (
            spelling.exact and spelling.written == spelling.printed
        )
        assert units_apart(from_bits(written[index]), value) <= (0 if spelling.exact else 2)
    return sum(not spelling.exact for spelling in spellings)


def _spellings(magnitudes: list[float]) -> list[FloatSpelling]:
    """Return the spelling of each float, also of those that are written as msgspec prints them."""
    special = special_spellings(magnitudes)
    shortest = [msgspec.json.encode(value) for value in magnitudes]
    return [
        special.get(text, FloatSpelling(text, text, text, text, exact=True)) for text in shortest
    ]


async def _require_agreement_on(rust: Rust, distribution: str, count: int) -> None:
    source = random.Random(distribution)
    draw = _DISTRIBUTIONS[distribution]
    for _ in range(0, count, _CHUNK):
        chunk = [source.choice((1.0, -1.0)) * draw(source) for _ in range(min(_CHUNK, count))]
        inexact = await _require_agreement(rust, chunk)

        assert inexact < 0.01 * len(chunk)


class TestPredictions:
    @pytest.mark.parametrize("distribution", _DISTRIBUTIONS)
    async def test_hold_for_a_sample(self, rust: Rust, distribution: str) -> None:
        """Of 20,000 floats serde_json prints and reads each as predicted."""
        await _require_agreement_on(rust, distribution, _QUICK)

    @pytest.mark.campaign
    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("distribution", _DISTRIBUTIONS)
    async def test_hold_for_many(self, rust: Rust, distribution: str) -> None:
        """Of 600,000 floats serde_json prints and reads each as predicted."""
        await _require_agreement_on(rust, distribution, _CAMPAIGN)

    async def test_hold_at_the_edges(self, rust: Rust) -> None:
        """Zeros, the largest, the smallest, and every power of ten are as predicted."""
        powers = [float(f"1e{exponent}") for exponent in range(-323, 309)]
        edges = [0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1 / 3, 2.0**53 + 2]
        await _require_agreement(rust, [sign * v for v in edges + powers for sign in (1, -1)])


def _inexact(count: int) -> list[float]:
    """Return floats that no digits make serde_json read right."""
    source = random.Random(5)
    draws = ([source.random()] for _ in iter(int, 1))
    found = (
        draw[0] for draw in draws if any(not s.exact for s in special_spellings(draw).values())
    )
    return list(islice(found, count))


class TestFloatsThatRustCannotRead:
    async def test_rust_accepts_the_file_and_reads_neighbours(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """Such a float costs Rust one unit in the last place, never the file; us nothing."""
        values = [sign * value for value in _inexact(20) for sign in (1, -1)]
        saved = CheckpointData(session_id="s", messages=values, cost_estimate=values[0])
        await writer.save(saved)
        (meta,) = await writer.list("s")

        loaded = await rust.load(root, "s")

        assert loaded is not None
        assert await rust.verify(path_of(meta))
        assert len(await rust.listing(root, "s")) == 1
        assert units_apart(loaded["cost_estimate"], values[0]) == 1
        assert set(map(units_apart, loaded["messages"], values)) == {1}
        assert await writer.load("s") == saved

    async def test_are_refused_on_request(self, make_writer: MakeWriter, rust: Rust) -> None:
        """With refuse_inexact_floats every such float, and no other, is refused with its path."""
        writer = make_writer(refuse_inexact_floats=True)
        for value in _inexact(5):
            (misread,) = await rust.call("read_floats", texts=[repr(value)])
            with pytest.raises(CheckpointEncodeError) as refused:
                await writer.save(
                    CheckpointData(session_id="s", messages=[0.5, {"content": {"x": value}}])
                )

            assert refused.value.path == "messages[1].content.x"
            assert units_apart(from_bits(misread), value) == 1
        assert await writer.load("s") is None

    async def test_others_are_read_exactly(
        self, make_writer: MakeWriter, root: Path, rust: Rust
    ) -> None:
        """What passes refuse_inexact_floats Rust reads to the last bit, however it prints them."""
        writer = make_writer(refuse_inexact_floats=True)
        source = random.Random(6)
        values = [source.random() for _ in range(2_000)]
        spellings = zip(values, _spellings(values), strict=True)
        exact = [value for value, spelling in spellings if spelling.exact]
        await writer.save(CheckpointData(session_id="s", messages=exact))

        loaded = await rust.load(root, "s")
        as_printed = await rust.call("read_floats", texts=[repr(value) for value in exact])

        assert loaded is not None
        assert list(floats_in(flatten(loaded["messages"]))) == exact
        misread = sum(
            digits != bits(value) for digits, value in zip(as_printed, exact, strict=True)
        )
        assert 0.05 < misread / len(exact) < 0.2
