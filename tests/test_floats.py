"""Promises of the spelling of floats."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiocheckpoint._format.floats import FloatSpelling, rust_spellings, special_spellings
from tests import json_documents, serde

# Found among random floats; no digits of any of them are read alike by Rust and by the rest.
_INEXACT = [30.467688030084318, 0.9568527039238407, 1.7976931348380375e308]


def _shortest(value: float) -> bytes:
    return msgspec.json.encode(abs(value))


def _spelling(value: float) -> FloatSpelling:
    """Return how a float is written, special or not."""
    text = _shortest(value)
    plain = FloatSpelling(text, text, text, text, exact=True)
    return special_spellings([value]).get(text, plain)


class TestSpecialSpellings:
    @given(json_documents.floats)
    @example(1.7976931348380375e308)
    def test_correct_reader_gets_the_same_float(self, value: float) -> None:
        """Whoever reads JSON correctly reads what is written as the float that was saved."""
        written = _spelling(value).written

        assert float(written) == abs(value)
        assert msgspec.json.decode(written) == abs(value)

    @given(json_documents.floats)
    @example(1.7976931348380375e308)
    def test_rust_prints_the_canonical_text(self, value: float) -> None:
        """What goes into the checksum is what Rust prints after reading what is written."""
        spelling = _spelling(value)

        read = serde.read_float(spelling.written.decode())
        assert serde.print_float(read) == spelling.canonical.decode()
        assert spelling.exact == (read == abs(value))

    @given(json_documents.floats)
    def test_printed_is_what_rust_prints_for_the_float(self, value: float) -> None:
        """`printed` is what a Rust writer of the same float hashes."""
        assert _spelling(value).printed.decode() == serde.print_float(abs(value))

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (1e16, b"1e+16"),
            (-1e16, b"1e+16"),
            (1.5e300, b"1.5e+300"),
            (0.013320476908123725, b"0.0133204769081237250"),
            (192.99609096756421, b"192.996090967564210"),
            (-1.0219979602318985e-22, b"1.02199796023189847e-22"),
            (3.0314799507388324e144, b"3.03147995073883240e+144"),
        ],
    )
    def test_known_spellings(self, value: float, written: bytes) -> None:
        """A float that Rust prints otherwise, or reads wrong, is written in another way."""
        assert _spelling(value).written == written

    @pytest.mark.parametrize("value", [0.0, -0.0, 1.5, 0.1, 1e15, 1e-5, 123456.789012345])
    def test_common_floats_are_not_special(self, value: float) -> None:
        """Floats of up to 15 digits without an exponent are written as they are."""
        assert special_spellings([value]) == {}

    def test_no_floats_have_no_spellings(self) -> None:
        """No float, no spelling."""
        assert special_spellings([]) == {}

    def test_sign_does_not_matter(self) -> None:
        """A float and its negative share one spelling, which is without a sign."""
        value = 0.013320476908123725

        assert special_spellings([value, -value]) == special_spellings([value])

    def test_almost_all_are_exact(self) -> None:
        """Of random floats of 17 digits Rust reads more than 99.5 % exactly, not nine in ten."""
        generator = random.Random(20260511)
        values = [generator.random() for _ in range(20_000)]

        special = special_spellings(values).values()

        assert len(special) > 1_000
        assert sum(not spelling.exact for spelling in special) < 100

    @pytest.mark.parametrize("value", _INEXACT)
    def test_where_nothing_helps_the_neighbour_is_hashed(self, value: float) -> None:
        """A float that Rust cannot read is written in full and hashed as what Rust will read."""
        spelling = _spelling(value)

        assert not spelling.exact
        assert float(spelling.written) == value
        assert float(spelling.canonical) in (
            math.nextafter(value, 0),
            math.nextafter(value, math.inf),
        )


class TestRustSpellings:
    @given(st.lists(json_documents.floats, max_size=5))
    def test_hold_every_way_of_printing(self, values: list[float]) -> None:
        """Printed by the current serde_json, hashed as Rust will read it, printed by an old one."""
        texts = {_shortest(value) for value in values}

        printed, canonical, shortest = rust_spellings(texts)

        for text in texts:
            value = float(text)
            assert printed[text].decode() == serde.print_float(value)
            assert canonical[text] == _spelling(value).canonical
            assert shortest[text].decode() == serde.print_float_before_1_0_150(value)

    @pytest.mark.parametrize("text", [b"1.0", b"1.00", b"10e-1", b"0.1E1", b"1e+0"])
    def test_keys_are_the_texts_as_they_stand(self, text: bytes) -> None:
        """However a float is spelled in a file, it is hashed as Rust prints it."""
        for spellings in rust_spellings({text}):
            assert spellings == {text: b"1.0"}

    @pytest.mark.parametrize("text", [b"1e999", b"1e" + b"9" * 5_000, b"1" * 5_000 + b".5"])
    def test_number_out_of_range_is_no_crash(self, text: bytes) -> None:
        """A number that no float can hold gives some text, and so another checksum."""
        for spellings in rust_spellings({text}):
            assert spellings == {text: b"null"}
