"""Promises of the names that ids have on disk."""

from __future__ import annotations

import enum
import itertools
import string
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiocheckpoint._format.ids import decode_id, encode_id, may_be_session, names_of_id
from aiocheckpoint._format.names import PRIVATE_DIRECTORY
from aiocheckpoint.errors import InvalidIdError
from aiocheckpoint.models import new_checkpoint_id
from tests.any_ids import ODD_IDS, SAFE_IDS, any_ids


class Team(str, enum.Enum):  # noqa: UP042 - prints otherwise than a StrEnum
    SAFE = "support"
    ODD = "a/b"


class TestEncodeId:
    @given(any_ids)
    def test_is_one_plain_file_name(self, value: str) -> None:
        """A name never leaves its directory, is never hidden, and every file system takes it."""
        name = encode_id(value, "session id")

        assert 0 < len(name) <= 200
        assert set(name) <= set(string.ascii_letters + string.digits + "._-~%")
        assert ".." not in name
        assert not name.startswith(".")
        assert not name.endswith(".")
        device = name.split(".")[0].upper()
        assert device not in {"CON", "PRN", "AUX", "NUL"}
        assert not (device[:3] in {"COM", "LPT"} and device[3:] in set(string.digits))

    @given(st.lists(any_ids, unique=True, min_size=2, max_size=8))
    def test_is_injective(self, values: list[str]) -> None:
        """Different ids have different names."""
        assert len({encode_id(value, "session id") for value in values}) == len(values)

    def test_is_injective_on_all_short_ids(self) -> None:
        """All ids of up to four characters out of the trickiest have different names."""
        alphabet = "aA.~%/2"
        ids = ["".join(part) for n in range(5) for part in itertools.product(alphabet, repeat=n)]

        names = {encode_id(value, "session id") for value in ids}

        assert len(names) == len(ids)

    def test_encoded_names_differ_where_case_is_folded(self) -> None:
        """Two encoded names never differ in case alone."""
        ids = ["/".join(part) for part in itertools.product("aAeEéÉ~%", repeat=3)]

        assert len({encode_id(value, "session id").lower() for value in ids}) == len(ids)

    @pytest.mark.parametrize("character", ["a", "é", "/"])
    def test_long_ids_are_not_kept(self, character: str) -> None:
        """Names are remembered for as many ids as one call asks for, and none of a megabyte."""
        value = character * 1_000_000
        references = sys.getrefcount(value)

        encode_id(value, "session id")
        names_of_id(value)

        assert sys.getrefcount(value) == references

    @pytest.mark.parametrize("value", SAFE_IDS)
    def test_safe_id_is_its_own_name(self, value: str) -> None:
        """What is safe stands as it is, as in the Rust crate."""
        assert encode_id(value, "session id") == value

    @pytest.mark.parametrize("value", ODD_IDS)
    def test_odd_id_has_a_name_no_safe_id_can_have(self, value: str) -> None:
        """What is encoded begins with a tilde, which no safe id does."""
        assert encode_id(value, "session id").startswith("~")

    @pytest.mark.parametrize(
        ("value", "name"),
        [
            ("", "~"),
            ("a/b", "~a%2fb"),
            ("..", "~%2e%2e"),
            ("é", "~%c3%a9"),
            ("A/~", "~%41%2f%7e"),
            ("con", "~con"),
            ("a b_c-d", "~a%20b_c-d"),
            ("a" * 199, "~" + "a" * 199),
            (
                "a" * 200,
                "~sha256-c2a908d98f5df987ade41b5fce213067efbcc21ef2240212a41e54b5e7c28ae5",
            ),
        ],
    )
    def test_known_names(self, value: str, name: str) -> None:
        """Names are for ever: a directory written today must be found by every later version."""
        assert encode_id(value, "session id") == name

    @pytest.mark.parametrize("value", [None, 1, b"x", ["a"], 1.5])
    def test_only_text_is_an_id(self, value: object) -> None:
        """Whatever is not a str is refused by name."""
        with pytest.raises(InvalidIdError, match=r"invalid session id .*give a str") as refused:
            encode_id(value, "session id")  # type: ignore[arg-type]

        assert refused.value.value == value

    @pytest.mark.parametrize("value", ["\ud800", "a\udfffb"])
    def test_lone_surrogate_is_refused(self, value: str) -> None:
        """Text that UTF-8 cannot hold is refused by name."""
        with pytest.raises(InvalidIdError, match="lone surrogate; replace it") as refused:
            encode_id(value, "checkpoint id")

        assert (refused.value.kind, refused.value.value) == ("checkpoint id", value)

    @pytest.mark.parametrize("value", Team)
    def test_enum_counts_as_its_text(self, value: Team) -> None:
        """An enum that extends `str` names the same directory as its text, however it prints."""
        name = encode_id(value, "session id")

        assert type(name) is str
        assert f"{name}" == encode_id(value.value, "session id")


class TestDecodeId:
    @given(any_ids)
    def test_is_the_inverse(self, value: str) -> None:
        """A directory's name gives its session's id, unless the id was too long for a name."""
        name = encode_id(value, "session id")

        if name.startswith("~sha256-"):
            assert decode_id(name) is None
            assert len(value.encode()) > 66
        else:
            assert decode_id(name) == value

    @given(st.text(max_size=12) | st.text(alphabet="~%aA2eEfF.", max_size=8).map("~".__add__))
    @example("~\udcff")
    @example("~%ff")
    @example("~%ed%a0%80")
    @example("~%2E")
    @example("~a")
    @example("~é")
    def test_only_names_of_ids_are_decoded(self, name: str) -> None:
        """A name is decoded only where that id would be given this very name."""
        value = decode_id(name)

        assert value is None or encode_id(value, "session id") == name

    @pytest.mark.parametrize("name", [".aiocheckpoint", "..", "", "a b", "~\udcff", "con", "~a"])
    def test_stray_names_are_no_sessions(self, name: str) -> None:
        """A name that stands for no id is nobody's, and no error."""
        assert decode_id(name) is None

    @given(any_ids)
    def test_no_session_passes_for_our_own_directory(self, session_id: str) -> None:
        """Whatever its id, a session's directory is not the one for the journal and its locks."""
        name = encode_id(session_id, "session id")

        assert name != PRIVATE_DIRECTORY
        assert may_be_session(name)
        assert not may_be_session(PRIVATE_DIRECTORY)


class TestNamesOfId:
    @given(any_ids)
    def test_are_ours_and_rusts(self, checkpoint_id: str) -> None:
        """An id is looked for under the name that we give it and under the one Rust does."""
        assert set(names_of_id(checkpoint_id)) == {
            encode_id(checkpoint_id, "checkpoint id"),
            checkpoint_id,
        }

    def test_generated_ids_are_never_ambiguous(self) -> None:
        """An id of our own has one name and no underscore."""
        checkpoint_id = new_checkpoint_id()

        assert names_of_id(checkpoint_id) == (checkpoint_id,)
        assert "_" not in checkpoint_id
