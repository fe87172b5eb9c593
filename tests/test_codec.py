"""Promises of the format: records to bytes and back, and what a damaged file is."""

from __future__ import annotations

import enum
import hashlib
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiocheckpoint import CheckpointData, CheckpointMeta, CheckpointRecord
from aiocheckpoint._format import documents, listing
from aiocheckpoint._format.codec import RecordCodec
from aiocheckpoint._format.documents import PIECEWISE_BYTES, Draft
from aiocheckpoint._format.floats import special_spellings
from aiocheckpoint._format.json_values import MAX_DEPTH
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    FormatVersionError,
    RecordTypeError,
)
from tests import json_documents, serde
from tests.formats import seal

_CODEC = RecordCodec(CheckpointData)
_CREATED = datetime(2026, 5, 11, 4, 12, 0, 123456, tzinfo=UTC)
_SAVED_AT = datetime(2026, 5, 12, tzinfo=UTC)
_WHEN_TEXT = "2026-05-11T04:12:00.123456Z"
_INEXACT = 30.467688030084318
_RESPELLED = 0.013320476908123725
_PATH = "/r/cp.json"

_records = st.builds(
    CheckpointData,
    session_id=json_documents.texts,
    checkpoint_id=json_documents.texts,
    created_at=st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])
    ),
    trigger=json_documents.texts,
    iteration=st.integers(-(2**31), 2**31 - 1),
    messages=st.lists(json_documents.values, max_size=3),
    tool_calls_pending=st.lists(json_documents.values, max_size=2),
    tool_results=json_documents.values,
    tokens_used=st.integers(-(2**63), 2**63 - 1),
    cost_estimate=json_documents.floats,
    resume_hint=st.none() | json_documents.texts,
)


def _record(**fields: Any) -> CheckpointData:
    defaults: dict[str, Any] = {"session_id": "s", "checkpoint_id": "x", "created_at": _CREATED}
    return CheckpointData(**(defaults | fields))


def _body(record: CheckpointData) -> bytes:
    return seal(_CODEC.draft(record))


def _checksum(record: CheckpointData) -> str:
    return documents.body_of(_CODEC.draft(record)).checksum.hex()


def _load(body: bytes) -> CheckpointData:
    return _CODEC.decode(documents.verified(body, _PATH), _PATH)


def _document(**fields: Any) -> dict[str, Any]:
    """Return what the file of a record holds, made without the library."""
    defaults: dict[str, Any] = {
        "session_id": "s",
        "checkpoint_id": "x",
        "created_at": _WHEN_TEXT,
        "trigger": "manual",
        "iteration": 0,
        "messages": [],
        "tool_calls_pending": [],
        "tool_results": None,
        "tokens_used": 0,
        "cost_estimate": 0.0,
        "resume_hint": None,
    }
    return defaults | fields


def _assert_identical(loaded: Any, saved: Any) -> None:
    """Equal, and alike in what equality does not see: 0.0 and -0.0, 1 and True."""
    assert loaded == saved
    assert _shown(loaded) == _shown(saved)


def _shown(record: Any) -> str:
    """Return a text of all values, keys and sets in order."""
    builtins = msgspec.to_builtins(record, str_keys=True, order="deterministic")
    return json.dumps(builtins, sort_keys=True)


class TestRoundTrip:
    @given(_records)
    def test_record_comes_back_identical(self, record: CheckpointData) -> None:
        """Whatever JSON a record holds, the same record comes back from its file."""
        _assert_identical(_load(_body(record)), record)

    @given(_records)
    @example(_record(messages=[_INEXACT, {"a": -_INEXACT}]))
    def test_rust_reads_the_file(self, record: CheckpointData) -> None:
        """A Rust reader finds the checksum right, and every value but the rarest float."""
        draft = _CODEC.draft(record)

        read = serde.read(seal(draft))

        assert serde.checksum(read) == documents.body_of(draft).checksum.hex()
        try:
            documents.require_exact_floats(draft)
        except CheckpointEncodeError:
            return
        assert serde.canonical(read) == serde.canonical(json.loads(draft.text))

    @given(_records)
    def test_checksum_is_of_the_canonical_text(self, record: CheckpointData) -> None:
        """It is the SHA-256 of the document with sorted keys, no spaces and Rust's numbers."""
        draft = _CODEC.draft(record)
        document = json.loads(draft.text, parse_float=_as_rust_will_read)

        assert documents.body_of(draft).checksum.hex() == serde.checksum(document)

    @given(_records)
    def test_rust_writes_files_that_load(self, record: CheckpointData) -> None:
        """A file that Rust wrote of the same values loads, whichever serde_json printed it."""
        document = json.loads(_CODEC.draft(record).text)

        for float_text in (serde.print_float, serde.print_float_before_1_0_150):
            _assert_identical(_load(serde.write(document, float_text)), record)

    @given(_records)
    def test_small_pieces_make_the_same_record(self, record: CheckpointData) -> None:
        """Decoding piece by piece gives what decoding at once gives."""
        text = documents.verified(_body(record), _PATH)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "PIECEWISE_BYTES", 8)
            _assert_identical(_CODEC.decode(text, _PATH), record)

    def test_large_record_comes_back_identical(self) -> None:
        """So does a document that is large enough to be decoded in pieces."""
        record = _record(
            messages=[{"text": f'"[{n}]\\' * 50, "numbers": [n, n / 7, -n]} for n in range(1_000)],
            tool_results={"long": "é" * PIECEWISE_BYTES, "list": [[1.5]] * 20_000},
        )
        body = _body(record)

        assert len(body) > 4 * PIECEWISE_BYTES
        _assert_identical(_load(body), record)


def _as_rust_will_read(text: str) -> float:
    """Return the float a Rust reader gets from what the library writes for a float."""
    spelling = special_spellings([float(text)]).get(text.lstrip("-").encode())
    written = text if spelling is None else "-" * text.startswith("-") + spelling.written.decode()
    return serde.read_float(written)


class TestFile:
    def test_is_readable(self) -> None:
        """The file is two-space JSON in UTF-8, sealed at its head, keys sorted."""
        record = _record(messages=[{"role": "user", "content": 'é "😀"\n'}, [], {}], iteration=-1)

        body = _body(record)

        content = 'é \\"😀\\"\\n'
        assert body.decode() == (
            "{\n"
            f'  "_checksum": "{_checksum(record)}",\n'
            '  "_version": "1.0",\n'
            '  "checkpoint_id": "x",\n'
            '  "cost_estimate": 0.0,\n'
            f'  "created_at": "{_WHEN_TEXT}",\n'
            '  "iteration": -1,\n'
            '  "messages": [\n'
            "    {\n"
            f'      "content": "{content}",\n'
            '      "role": "user"\n'
            "    },\n"
            "    [],\n"
            "    {}\n"
            "  ],\n"
            '  "resume_hint": null,\n'
            '  "session_id": "s",\n'
            '  "tokens_used": 0,\n'
            '  "tool_calls_pending": [],\n'
            '  "tool_results": null,\n'
            '  "trigger": "manual"\n'
            "}"
        )

    def test_checksum_is_for_ever(self) -> None:
        """The checksum of a given record never changes, or older files would be refused."""
        record = _record(messages=[{"n": [1e16, 1e-7, -0.0, 2**64 - 1, _RESPELLED], "é": "\x01/"}])

        assert _checksum(record) == (
            "f0d4cbe920414c1f1fc65050209b7c849f14f15b55d7635d1f8c411fadfa0917"
        )

    def test_draft_is_safe_from_later_changes(self) -> None:
        """What the caller changes after the draft does not reach the file."""
        record = _record(messages=[{"content": ["first"]}])
        draft = _CODEC.draft(record)
        before = seal(draft)

        record.session_id = "other"
        record.messages[0]["content"].append("second")
        record.messages.append(1.5)

        assert seal(draft) == before
        assert (draft.session_id, draft.checkpoint_id) == ("s", "x")
        assert _load(before).messages == [{"content": ["first"]}]

    def test_strings_are_never_respelled(self) -> None:
        """Text that looks like a number that Rust prints otherwise stays as it is."""
        numbers = "1e16,0.013320476908123725"
        messages = [f"[{numbers}]", f'"{numbers}\\', {numbers: [1e16, _RESPELLED, f":{numbers},"]}]

        body = _body(_record(messages=messages))

        assert _load(body).messages == messages
        assert serde.read(body)["messages"] == messages
        assert b"1e+16" in body
        assert b"0.0133204769081237250" in body

    @given(
        st.lists(st.sampled_from([1e16, 11e16, _RESPELLED, -_RESPELLED, 5e-324, 1e-5, 0.5])),
        st.lists(st.sampled_from(["", "1e16", "11e16,", "5e-324", "0.013320476908123725"])),
    )
    @example([_RESPELLED], [])
    @example([1e16, 11e16], [])
    def test_each_way_of_spelling_gives_the_same_file(
        self, floats: list[float], texts: list[str]
    ) -> None:
        """Searching for a few floats leads to the very file that a look at each number does."""
        draft = _CODEC.draft(_record(messages=[floats, texts, dict.fromkeys(texts, 1e16)]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "_FEW_SPELLINGS", -1)
            one_by_one = seal(draft)

        assert seal(draft) == one_by_one

    def test_keys_that_sort_before_the_seal_are_stored(self) -> None:
        """A record whose keys sort before the seal's keys loads, here and in Rust."""

        class Upper(CheckpointRecord):
            Zebra: float = 1e16

        upper = RecordCodec(Upper)
        record = Upper(session_id="s", checkpoint_id="x", created_at=_CREATED)

        body = seal(upper.draft(record))

        assert upper.decode(documents.verified(body, _PATH), _PATH) == record
        assert serde.read(body)["Zebra"] == 1e16


class TestExactFloats:
    @pytest.mark.parametrize("sign", [1, -1])
    def test_inexact_one_is_refused_with_its_path(self, sign: int) -> None:
        """A float that Rust would read as its neighbour is named where that is asked for."""
        draft = _CODEC.draft(_record(messages=[1, {"content": {"x": [0.1, sign * _INEXACT]}}]))

        with pytest.raises(CheckpointEncodeError) as refused:
            documents.require_exact_floats(draft)

        assert refused.value.path == "messages[1].content.x[1]"
        assert refused.value.reason.startswith(f"is {sign * _INEXACT}, which Rust would read")

    def test_all_others_pass(self) -> None:
        """Floats that Rust reads exactly, respelled or not, are fine."""
        documents.require_exact_floats(
            _CODEC.draft(_record(messages=[0.1, -1e16, _RESPELLED, 1e300]))
        )


class TestDamage:
    _RECORD = _record(
        messages=[{"a": [1, -2.5, _RESPELLED, _INEXACT, True, None], "é": '"\\'}], trigger="ü"
    )

    def test_every_flipped_bit_is_seen(self) -> None:
        """A file with one bit wrong is refused by name, or holds the very same record."""
        body = _body(self._RECORD)
        harmless = 0

        for position, bit in itertools.product(range(len(body)), range(8)):
            damaged = bytearray(body)
            damaged[position] ^= 1 << bit
            try:
                loaded = _load(bytes(damaged))
            except (CheckpointCorruptError, FormatVersionError):
                continue
            _assert_identical(loaded, self._RECORD)
            harmless += 1

        assert harmless < len(body)

    def test_every_truncation_is_seen(self) -> None:
        """A file that lost its end is refused by name."""
        body = _body(self._RECORD)

        for length in range(len(body)):
            with pytest.raises(CheckpointCorruptError):
                documents.verified(body[:length], _PATH)

    @given(st.data())
    def test_any_other_bytes_are_seen(self, data: st.DataObject) -> None:
        """A run of other bytes anywhere is refused by name, or the record is the same."""
        body = _body(self._RECORD)
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(start + 20, len(body))))
        damaged = body[:start] + data.draw(st.binary(max_size=20)) + body[end:]

        try:
            loaded = _load(damaged)
        except (CheckpointCorruptError, FormatVersionError):
            return
        _assert_identical(loaded, self._RECORD)

    @given(st.binary(max_size=200) | json_documents.values.map(msgspec.json.encode))
    def test_no_bytes_pass_for_a_checkpoint(self, data: bytes) -> None:
        """Whatever is not a checkpoint is refused by name."""
        with pytest.raises(CheckpointCorruptError):
            documents.verified(data, _PATH)

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda body: b"", "not JSON"),
            (lambda body: b"\0" * len(body), "not JSON"),
            (lambda body: b"\xef\xbb\xbf" + body, "not JSON"),
            (lambda body: body.decode().encode("utf-16"), "not JSON"),
            (lambda body: body + b"}", "not JSON"),
            (lambda body: body.replace(b'"manual"', b'"\xff"'), "not a JSON object"),
            (lambda body: body.replace(b'"manual"', b'"\\ud800"'), "not JSON"),
            (lambda body: body.replace(b'"manual"', b"NaN"), "not JSON"),
            (lambda body: body.replace(b'"manual"', b"1e999"), "not a JSON object"),
            (lambda body: body.replace(b'"manual"', b"1e" + b"9" * 5_000), "not a JSON object"),
            (lambda body: body.replace(b'"manual"', b"9" * 10_000), "not a JSON object"),
            (lambda body: body.replace(b'"manual"', b"9" * 100), "checksum does not match"),
            (lambda body: b"[" + body + b"]", "not a JSON object"),
            (lambda body: b"[" * 100_000, "nests deeper than 127"),
            (lambda body: body.replace(b"null", b"[" * 128 + b"]" * 128), "nests deeper than 127"),
            (lambda body: body.replace(b'"_checksum"', b'"checksum"'), "it has no _checksum"),
            (lambda body: body.replace(b'"_version"', b'"version"'), "it has no _version"),
            (lambda body: re.sub(b'm": "[0-9a-f]+"', b'm": 7', body), "it has no _checksum"),
            (lambda body: body.replace(b'"1.0"', b"1.0"), "it has no _version"),
            (lambda body: body.replace(b'"manual"', b'"Manual"'), "checksum does not match"),
            (lambda body: body.replace(b'"iteration": 0', b'"iteration": 0.0'), "does not match"),
            (lambda body: body.replace(b'"iteration": 0,', b""), "checksum does not match"),
            (lambda body: body.replace(b'"x"', b'"x", "checkpoint_id": "y"'), "does not match"),
        ],
    )
    def test_says_what_is_wrong(self, damage: Callable[[bytes], bytes], reason: str) -> None:
        """The error names the file and what was found in it."""
        with pytest.raises(CheckpointCorruptError) as refused:
            documents.verified(damage(_body(_record())), _PATH)

        assert refused.value.path == _PATH
        assert reason in refused.value.reason

    def test_checksums_are_shown(self) -> None:
        """A wrong checksum is told beside the right one."""
        body = _body(_record(iteration=1))
        claimed = _checksum(_record(iteration=1))

        with pytest.raises(CheckpointCorruptError) as refused:
            documents.verified(body.replace(b'"iteration": 1', b'"iteration": 2'), _PATH)

        actual = _checksum(_record(iteration=2))
        assert (refused.value.expected, refused.value.actual) == (claimed, actual)

    @pytest.mark.parametrize("version", ["2.0", "1.1", "", "1"])
    def test_other_version_is_its_own_error(self, version: str) -> None:
        """A file of another format is not called damaged by its content."""
        body = _body(_record()).replace(b'"1.0"', f'"{version}"'.encode())

        with pytest.raises(FormatVersionError) as refused:
            documents.verified(body, _PATH)

        assert (refused.value.found, refused.value.supported) == (version, "1.0")


class TestForeignFiles:
    _RECORD = _record(
        messages=[{"b": 1e16, "a": [{}, [], _RESPELLED, -1e-7, "x\ty"]}], trigger=":,"
    )

    @pytest.mark.parametrize(
        "rewrite",
        [
            lambda text: json.dumps(json.loads(text)),
            lambda text: json.dumps(json.loads(text), separators=(",", ":")),
            lambda text: json.dumps(json.loads(text), indent=4, ensure_ascii=False),
            lambda text: json.dumps(json.loads(text), indent="\t"),
            lambda text: json.dumps(dict(reversed(json.loads(text).items()))),
            lambda text: text.replace("\n", "\r\n"),
            lambda text: f" \n\t{text}\r\n",
            lambda text: text.replace('"x"', '"y",\n  "checkpoint_id": "\\u0078"'),
            lambda text: text.replace('"iteration": 0', '"iteration": -0'),
            lambda text: text.replace("1e+16", "10000000000000000.0"),
            lambda text: text.replace("1e+16", "1.0E16"),
        ],
    )
    def test_same_values_written_otherwise_are_intact(self, rewrite: Callable[[str], str]) -> None:
        """An editor or a script may indent and order a file anew: its values are what counts."""
        text = _body(self._RECORD).decode()
        rewritten = rewrite(text)

        assert rewritten != text
        _assert_identical(_load(rewritten.encode()), self._RECORD)

    def test_unknown_keys_count_and_are_ignored(self) -> None:
        """Keys of a newer writer are covered by the checksum and do not stop a load."""
        body = serde.write(_document(_future={"x": [1]}, zoom=1e16))

        assert _load(body) == _record()
        with pytest.raises(CheckpointCorruptError, match="checksum"):
            _load(body.replace(b'"x":[1]', b'"x":[2]'))

    @pytest.mark.parametrize(
        ("created_at", "expected"),
        [
            ("2026-05-11T04:12:00.123456789Z", _CREATED.replace(microsecond=123457)),
            ("2026-05-11T04:12:00.123456499Z", _CREATED),
            ("2026-05-11T04:12:00.999999999Z", _CREATED.replace(second=1, microsecond=0)),
            ("2026-05-11T04:12:00Z", _CREATED.replace(microsecond=0)),
            ("2026-05-11T06:12:00.123456+02:00", _CREATED),
        ],
    )
    def test_times_of_chrono_load(self, created_at: str, expected: datetime) -> None:
        """Rust's nanoseconds are rounded to microseconds; the file stays as it is."""
        body = serde.write(_document(created_at=created_at))

        assert _load(body).created_at == expected
        meta = listing.meta_of_file(body, Path("p"), _SAVED_AT)
        assert meta is not None
        assert meta.created_at == expected

    def test_integer_beyond_64_bits_loads(self) -> None:
        """An integer that another writer may store is not lost; it cannot be saved again."""
        body = serde.write(_document(messages=[{"n": [2**70]}]))
        record = _load(body)

        assert record.messages == [{"n": [2**70]}]
        with pytest.raises(CheckpointEncodeError, match=r"messages\[0\].n\[0\] is an integer"):
            _CODEC.draft(record)

    def test_float_that_rust_hashed_but_cannot_read_loads(self) -> None:
        """Rust hashes the float it was given; its file is right although Rust itself refuses it."""
        for float_text in (serde.print_float, serde.print_float_before_1_0_150):
            body = serde.write(_document(messages=[_INEXACT, -1e300]), float_text)

            assert _load(body).messages == [_INEXACT, -1e300]

    @pytest.mark.parametrize(
        "fields",
        [
            {"iteration": 2**31},
            {"iteration": 1.5},
            {"tokens_used": 2**63},
            {"created_at": "2026-05-11T04:12:00"},
            {"created_at": "yesterday"},
            {"messages": {}},
            {"trigger": None},
            {"cost_estimate": "1.5"},
            {"session_id": 7},
        ],
    )
    def test_intact_file_of_another_type_is_named(self, fields: dict[str, Any]) -> None:
        """An intact document that is no record of the type is an error that says so."""
        text = documents.verified(serde.write(_document(**fields)), _PATH)

        with pytest.raises(
            CheckpointDecodeError, match="is intact, but no CheckpointData"
        ) as refused:
            _CODEC.decode(text, _PATH)

        assert next(iter(fields)) in refused.value.reason
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "PIECEWISE_BYTES", 8)
            with pytest.raises(CheckpointDecodeError, match=re.escape(refused.value.reason)):
                _CODEC.decode(text, _PATH)

    def test_bytes_sealed_by_a_broken_writer_are_named(self) -> None:
        """Where the checksum covers bytes that are no text, loading says so."""
        content = serde.canonical(_document()).encode().replace(b'"s"', b'"\xff"')
        checksum = hashlib.sha256(content).hexdigest().encode()
        body = b'{"_checksum":"' + checksum + b'","_version":"1.0",' + content[1:]

        text = documents.verified(body, _PATH)

        with pytest.raises(CheckpointCorruptError, match="it has no ids or no time"):
            documents.identity(text, _PATH)
        with pytest.raises(CheckpointDecodeError, match="is intact, but no CheckpointData"):
            _CODEC.decode(text, _PATH)
        assert listing.meta_of_file(body, Path("p"), _SAVED_AT) is None

    def test_empty_object_is_intact_but_no_record(self) -> None:
        """A checksum over nothing is right; there is no id in it."""
        text = documents.verified(serde.write({}), _PATH)

        assert text == b"{}"
        with pytest.raises(CheckpointCorruptError, match="it has no ids or no time"):
            documents.identity(text, _PATH)


class Node(msgspec.Struct):
    children: list[Node]


class Tree(CheckpointRecord):
    node: Node


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"messages": [0, 1, 2, {"content": {"x": float("nan")}}]}, "messages[3].content.x"),
            ({"messages": [{"content": {"x": b"1"}}]}, "messages[0].content.x"),
            ({"messages": [{"a b": [2**64]}]}, "messages[0]['a b'][0]"),
            ({"messages": [{1: 2}]}, "messages[0]"),
            ({"messages": [{"\ud800": 2}]}, "messages[0]"),
            ({"messages": {}}, "messages"),
            ({"messages": None}, "messages"),
            ({"tool_calls_pending": [datetime(2026, 1, 1, tzinfo=UTC)]}, "tool_calls_pending[0]"),
            ({"tool_results": {"x": [{"y"}]}}, "tool_results.x[0]"),
            ({"tool_results": float("-inf")}, "tool_results"),
            ({"iteration": 2**31}, "iteration"),
            ({"iteration": -(2**31) - 1}, "iteration"),
            ({"iteration": True}, "iteration"),
            ({"iteration": 1.5}, "iteration"),
            ({"tokens_used": 2**63}, "tokens_used"),
            ({"tokens_used": -(2**63) - 1}, "tokens_used"),
            ({"cost_estimate": float("inf")}, "cost_estimate"),
            ({"cost_estimate": 2**53 + 1}, "cost_estimate"),
            ({"cost_estimate": "free"}, "cost_estimate"),
            ({"cost_estimate": object()}, "cost_estimate"),
            ({"created_at": datetime(2026, 1, 1)}, "created_at"),  # noqa: DTZ001
            ({"created_at": "yesterday"}, "created_at"),
            ({"trigger": None}, "trigger"),
            ({"trigger": "\udfff"}, "trigger"),
            ({"resume_hint": 1}, "resume_hint"),
            ({"session_id": 1}, "session_id"),
            ({"session_id": "\ud800"}, "session_id"),
            ({"checkpoint_id": None}, "checkpoint_id"),
        ],
    )
    def test_names_the_path(self, fields: dict[str, Any], path: str) -> None:
        """What cannot be stored exactly is refused, by its path in the document."""
        with pytest.raises(CheckpointEncodeError) as refused:
            _CODEC.draft(_record(**fields))

        assert refused.value.path == path
        assert refused.value.reason

    def test_cyclic_typed_field_is_named(self) -> None:
        """A Struct that holds itself is refused, too."""
        node = Node([])
        node.children += [node, node]

        with pytest.raises(CheckpointEncodeError) as refused:
            RecordCodec(Tree).draft(Tree(session_id="s", node=node))

        assert refused.value.path == "node"

    @pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH - 1])
    def test_depth_is_that_of_rust(self, depth: int) -> None:
        """What is saved is never too deep to be read: one level more is refused at save."""
        value: Any = 1
        for _ in range(depth):
            value = [value]
        record = _record(messages=[value])

        if depth == MAX_DEPTH - 2:
            assert _load(_body(record)) == record
        else:
            with pytest.raises(CheckpointEncodeError, match="nested deeper"):
                _CODEC.draft(record)

    @pytest.mark.parametrize(
        "record",
        [
            CheckpointRecord(session_id="s"),
            type("Extended", (CheckpointData,), {"__module__": __name__})(session_id="s"),
            {"session_id": "s"},
            None,
        ],
        ids=lambda record: type(record).__name__,
    )
    def test_record_of_another_type_is_refused(self, record: Any) -> None:
        """Only the very type is taken: a subclass would come back without its own fields."""
        with pytest.raises(RecordTypeError, match="this writer stores CheckpointData"):
            _CODEC.draft(record)


class Color(enum.Enum):
    RED = "red"


class Name(enum.StrEnum):
    ODD = "a/b"


class Move(msgspec.Struct, tag="move"):
    step: tuple[int, int]
    note: Any = None


class Talk(msgspec.Struct, tag="talk"):
    words: list[str]


@dataclass
class Position:
    x: float
    y: float


class GameState(CheckpointRecord, tag="game", forbid_unknown_fields=True):
    level: int = msgspec.field(name="stufe", default=0)
    color: Color = Color.RED
    picture: bytes = b""
    mutable: bytearray = msgspec.field(default_factory=bytearray)
    player: UUID = UUID(int=0)
    started: date = date(2026, 1, 1)
    played: timedelta = timedelta(0)
    next_move: datetime | None = None
    price: Decimal = Decimal("0.10")
    actions: list[Move | Talk] = []  # noqa: RUF012 - msgspec copies defaults
    scores: dict[int, float] = {}  # noqa: RUF012
    visited: set[str] = set()  # noqa: RUF012
    positions: dict[str, Position] = {}  # noqa: RUF012
    pair: tuple[str, float] = ("", 0.0)
    mode: Literal["easy", "hard"] = "easy"
    extra: dict[str, Any] = {}  # noqa: RUF012
    maybe: list[Any] | None = None
    absent: int | msgspec.UnsetType = msgspec.UNSET


_GAME = RecordCodec(GameState)
_games = st.builds(
    GameState,
    session_id=json_documents.texts,
    created_at=st.just(_CREATED),
    level=st.integers(-(2**63), 2**64 - 1),
    picture=st.binary(max_size=20),
    mutable=st.binary(max_size=20).map(bytearray),
    player=st.uuids(),
    started=st.dates(),
    played=st.timedeltas(timedelta(days=-9_999), timedelta(days=9_999)),
    next_move=st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    actions=st.lists(
        st.builds(Move, step=st.tuples(st.integers(0, 9), st.integers(0, 9)))
        | st.builds(Talk, words=st.lists(json_documents.texts, max_size=3)),
        max_size=3,
    ),
    scores=st.dictionaries(st.integers(-9, 9), json_documents.floats, max_size=3),
    visited=st.sets(json_documents.texts, max_size=3),
    positions=st.dictionaries(
        json_documents.texts,
        st.builds(Position, json_documents.floats, json_documents.floats),
        max_size=2,
    ),
    pair=st.tuples(json_documents.texts, json_documents.floats),
    extra=st.dictionaries(json_documents.texts, json_documents.values, max_size=3),
    maybe=st.none() | st.lists(json_documents.values, max_size=3),
    absent=st.integers(0, 9) | st.just(msgspec.UNSET),
)


class TestOwnRecords:
    @given(_games)
    def test_come_back_typed(self, record: GameState) -> None:
        """Records with fields of any type that msgspec knows come back as they were."""
        body = seal(_GAME.draft(record))
        text = documents.verified(body, _PATH)

        _assert_identical(_GAME.decode(text, _PATH), record)
        serde.read(body)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "PIECEWISE_BYTES", 8)
            _assert_identical(_GAME.decode(text, _PATH), record)

    @pytest.mark.long
    def test_large_one_comes_back_typed(self) -> None:
        """So do those that are large enough to be decoded in pieces."""
        record = GameState(
            session_id="s",
            picture=bytes(range(256)) * 2_000,
            actions=[Move((n, -n)) if n % 2 else Talk([str(n)] * 5) for n in range(20_000)],
            scores={n: n / 7 for n in range(20_000)},
            visited={str(n) for n in range(20_000)},
            positions={f"p{n}": Position(n / 3, -0.0) for n in range(10_000)},
        )
        body = seal(_GAME.draft(record))

        assert len(body) > 4 * PIECEWISE_BYTES
        assert _GAME.decode(documents.verified(body, _PATH), _PATH) == record

    def test_are_stored_under_their_json_names(self) -> None:
        """Tags and renamed fields stand in the file as msgspec writes them."""
        document = json.loads(_GAME.draft(GameState(session_id="s", level=3)).text)

        assert (document["type"], document["stufe"]) == ("game", 3)
        assert "absent" not in document

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"level": 2**64}, "stufe"),
            ({"level": "3"}, "stufe"),
            ({"scores": {1: float("nan")}}, "scores['1']"),
            ({"scores": {"a": 1.0}}, ""),
            ({"actions": [Move((1, 2), note=b"x")]}, "actions[0].note"),
            ({"actions": [Move((1, 2), note={"at": date(2026, 1, 1)})]}, "actions[0].note.at"),
            ({"actions": [Move((1, 2), note=Talk([]))]}, "actions[0].note"),
            ({"actions": [Move((1,))]}, "actions[0].step"),  # type: ignore[arg-type]
            ({"positions": {"home": Position(2**53 + 1, 0.0)}}, "positions.home.x"),
            ({"pair": ("", 2**53 + 1)}, "pair[1]"),
            ({"mode": "insane"}, "mode"),
            ({"extra": {"when": date(2026, 1, 1)}}, "extra.when"),
            ({"maybe": [{"x": b""}]}, "maybe[0].x"),
            ({"player": object()}, "player"),
            ({"picture": msgspec.Raw(b"[1, 2]")}, "picture"),
        ],
    )
    def test_refusals_name_the_path(self, fields: dict[str, Any], path: str) -> None:
        """What a typed field cannot give back is refused by its path, however deep it stands."""
        with pytest.raises(CheckpointEncodeError) as refused:
            _GAME.draft(GameState(session_id="s", **fields))

        assert refused.value.path == path

    def test_bounds_of_own_fields_are_kept(self) -> None:
        """Constraints of a type are checked at save, not first at load."""

        class Bounded(CheckpointRecord):
            lives: Annotated[int, msgspec.Meta(ge=0, le=9)] = 3
            titles: Annotated[list[Any], msgspec.Meta(max_length=1)] = []  # noqa: RUF012

        bounded = RecordCodec(Bounded)

        with pytest.raises(CheckpointEncodeError, match=r"lives is not valid: .* <= 9"):
            bounded.draft(Bounded(session_id="s", lives=10))
        with pytest.raises(CheckpointEncodeError, match="titles is not valid"):
            bounded.draft(Bounded(session_id="s", titles=[1, 2]))

    def test_unknown_key_is_named_where_it_is_forbidden(self) -> None:
        """A type that forbids unknown keys does not load a file that has some."""
        document = json.loads(_GAME.draft(GameState(session_id="s")).text)

        text = documents.verified(serde.write(document | {"surplus": 1}), _PATH)

        with pytest.raises(CheckpointDecodeError, match="surplus"):
            _GAME.decode(text, _PATH)

    def test_enum_ids_become_text(self) -> None:
        """Ids given as enums that extend `str` are plain text from the draft on."""
        draft = _CODEC.draft(_record(session_id=Name.ODD, checkpoint_id=Name.ODD))

        assert type(draft.session_id) is type(draft.checkpoint_id) is str
        assert (draft.session_id, draft.checkpoint_id) == ("a/b", "a/b")

    def test_defaults_may_be_left_out_of_files_of_others(self) -> None:
        """A type that omits defaults still stores its ids, and loads what lacks the rest."""

        class Sparse(CheckpointRecord, omit_defaults=True):
            checkpoint_id: str = "main"
            level: int = 1

        sparse = RecordCodec(Sparse)
        record = Sparse(session_id="s", created_at=_CREATED)

        text = documents.verified(seal(sparse.draft(record)), _PATH)

        assert documents.identity(text, _PATH).checkpoint_id == "main"
        assert sparse.decode(text, _PATH) == record


def _renamed() -> type:
    class Renamed(CheckpointRecord):
        session_id: str = msgspec.field(name="sessionId")

    return Renamed


def _retyped() -> type:
    class Retyped(CheckpointRecord):
        created_at: datetime

    return Retyped


def _array() -> type:
    class Array(CheckpointRecord, array_like=True):
        pass

    return Array


def _reserved() -> type:
    class Reserved(CheckpointRecord):
        checksum: str = msgspec.field(name="_checksum")

    return Reserved


def _reserved_tag() -> type:
    class ReservedTag(CheckpointRecord, tag_field="_version", tag="x"):
        pass

    return ReservedTag


class TestRecordTypes:
    @pytest.mark.parametrize(
        ("record_type", "reason"),
        [
            (_renamed(), "session_id must keep its key and its type"),
            (_retyped(), "created_at must keep its key and its type"),
            (_array(), "array_like"),
            (_reserved(), "_checksum and _version are taken"),
            (_reserved_tag(), "_checksum and _version are taken"),
            (msgspec.Struct, "does not extend CheckpointRecord"),
            (dict, "does not extend CheckpointRecord"),
            (list[CheckpointData], "does not extend CheckpointRecord"),
            ("CheckpointData", "does not extend CheckpointRecord"),
        ],
        ids=str,
    )
    def test_unfit_type_is_refused_at_once(self, record_type: Any, reason: str) -> None:
        """A type whose files could not be found again is refused before anything is saved."""
        with pytest.raises(RecordTypeError, match=f"cannot store .*{reason}"):
            RecordCodec(record_type)


class TestOtherSession:
    def test_all_but_the_session_stays(self) -> None:
        """A copy has every value and key of the original, and the other session."""
        document = _document(
            messages=[1e16, _RESPELLED], _future=1, created_at=_WHEN_TEXT[:-1] + "789Z"
        )
        text = documents.verified(serde.write(document), _PATH)

        draft = documents.with_session_id(text, "other")

        assert (draft.session_id, draft.checkpoint_id) == ("other", "x")
        assert json.loads(draft.text) == document | {"session_id": "other"}
        assert serde.read(seal(draft))["created_at"] == document["created_at"]

    def test_value_that_cannot_be_stored_is_named(self) -> None:
        """What only another writer could store is refused by its path."""
        text = documents.verified(serde.write(_document(messages=[[2**64]])), _PATH)

        with pytest.raises(CheckpointEncodeError, match=r"messages\[0\]\[0\] is an integer"):
            documents.with_session_id(text, "other")


class TestMeta:
    def test_holds_what_the_file_says(self) -> None:
        """The listing entry repeats the file's fields and its claimed checksum."""
        record = _record(trigger="tool_result", iteration=7)

        assert listing.meta_of_file(_body(record), Path("/p q"), _SAVED_AT) == CheckpointMeta(
            checkpoint_id="x",
            session_id="s",
            created_at=_CREATED,
            saved_at=_SAVED_AT,
            trigger="tool_result",
            iteration=7,
            checksum=_checksum(record),
            location="file:///p%20q",
            path=Path("/p q"),
        )

    @pytest.mark.parametrize(
        "fields",
        [{}, {"trigger": None, "iteration": "two"}, {"trigger": {"a": [1]}, "iteration": True}],
    )
    def test_odd_fields_of_own_records_count_as_none(self, fields: dict[str, Any]) -> None:
        """A record without a trigger, or with another thing of that name, is listed too."""
        document = {key: _document()[key] for key in ("session_id", "checkpoint_id", "created_at")}

        meta = listing.meta_of_file(serde.write(document | fields), Path("p"), _SAVED_AT)

        assert meta is not None
        assert (meta.trigger, meta.iteration) == ("", 0)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{}",
            b"[]",
            b"\xff",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"session_id":"\xff"}',
            serde.write(_document()).replace(b"null", b"[" * 200 + b"]" * 200),
        ],
        ids=len,
    )
    def test_other_data_has_none(self, data: bytes) -> None:
        """What is not a checkpoint has no listing entry."""
        assert listing.meta_of_file(data, Path("p"), _SAVED_AT) is None

    @given(_records, st.data())
    def test_ends_of_a_file_say_the_same(self, record: CheckpointData, data: st.DataObject) -> None:
        """The two ends, wherever they are cut, give the entry of the whole file or none."""
        body = _body(record)
        head_end = data.draw(st.integers(0, len(body)))
        tail_start = data.draw(st.integers(head_end, len(body)))

        meta = listing.peek_meta(body[:head_end], body[tail_start:], Path("p"), _SAVED_AT)

        assert meta in {None, listing.meta_of_file(body, Path("p"), _SAVED_AT)}

    @given(_games, st.data())
    def test_ends_of_other_records_say_the_same(self, game: GameState, data: st.DataObject) -> None:
        """So do those of records with fields of their own."""
        body = seal(_GAME.draft(game))
        head_end = data.draw(st.integers(0, len(body)))

        meta = listing.peek_meta(body[:head_end], body[head_end:], Path("p"), _SAVED_AT)

        assert meta in {None, listing.meta_of_file(body, Path("p"), _SAVED_AT)}

    def test_no_cut_forges_a_value(self) -> None:
        """Wherever a line is cut, no part of a value and no nested key passes for a field."""
        nested = {"trigger": "nested", "iteration": 9, "session_id": "nested"}
        body = _body(_record(messages=[nested], iteration=123_456, trigger="a long trigger"))
        whole = listing.meta_of_file(body, Path("p"), _SAVED_AT)
        found = 0

        for head_end in range(len(body)):
            for tail_start in range(head_end, min(head_end + 60, len(body))):
                meta = listing.peek_meta(body[:head_end], body[tail_start:], Path("p"), _SAVED_AT)
                assert meta in {None, whole}
                found += meta is not None

        assert found > 1_000

    def test_middle_of_a_large_file_is_not_needed(self) -> None:
        """A few kilobytes at each end of a large conversation suffice."""
        forged = '\n  "trigger": "forged",\n  "iteration": 9,\n'
        nested = {"trigger": "nested", "iteration": 8, "session_id": forged}
        record = _record(messages=[nested] * 10_000, trigger='last",\n', iteration=7)
        body = _body(record)

        meta = listing.peek_meta(body[:4096], body[-4096:], Path("p"), _SAVED_AT)

        assert meta is not None
        assert meta == listing.meta_of_file(body, Path("p"), _SAVED_AT)
        assert (meta.trigger, meta.iteration) == ('last",\n', 7)

    @pytest.mark.parametrize(
        "rewrite",
        [
            lambda text: text.replace("\n", "\r\n"),
            lambda text: json.dumps(json.loads(text)),
            lambda text: json.dumps(json.loads(text), indent=4),
            lambda text: json.dumps(json.loads(text), indent=1),
            lambda text: text + "\n",
            lambda text: text.replace('"_version": "1.0"', '"_version": "2.0"'),
            lambda text: text.replace('  "iteration": 0,\n', '  "iteration": [\n    0\n  ],\n'),
        ],
    )
    def test_file_of_another_shape_has_to_be_read(self, rewrite: Callable[[str], str]) -> None:
        """Where lines are not known to be top-level keys, the ends say nothing."""
        plain = _body(_record())
        body = rewrite(plain.decode()).encode()

        assert listing.peek_meta(*_cut(plain), Path("p"), _SAVED_AT) is not None
        assert listing.peek_meta(*_cut(body), Path("p"), _SAVED_AT) is None


def _cut(body: bytes) -> tuple[bytes, bytes]:
    """Cut a file in a line that the listing does not need."""
    middle = body.index(b"resume_hint")
    return body[:middle], body[middle:]


class TestDraft:
    def test_keeps_the_floats(self) -> None:
        """The draft knows every float of the document, for the spelling of each."""
        draft = _CODEC.draft(_record(messages=[1, 1.5, {"x": [2.5]}], cost_estimate=0.5))

        assert isinstance(draft, Draft)
        assert sorted(draft.floats) == [0.5, 1.5, 2.5]


class TestBody:
    @given(_records)
    @example(_record(messages=[_INEXACT, {"a": -_RESPELLED}]))
    def test_file_follows_from_it(self, record: CheckpointData) -> None:
        """What the journal keeps of a record is enough to make its file, whoever does."""
        draft = _CODEC.draft(record)

        body = documents.body_of(draft)

        assert documents.file_of(body.text, body.checksum) == seal(draft)
        assert body.digest == hashlib.sha256(body.text).digest()
        assert _CODEC.decode(body.text, _PATH) == record

    @given(_records)
    @example(_record(messages=[_INEXACT, {"a": -_RESPELLED}]))
    def test_follows_from_a_verified_file(self, record: CheckpointData) -> None:
        """A file that is saved again, as from a backup, is the same file as before."""
        body = documents.body_of_verified(documents.verified(_body(record), _PATH))

        assert documents.file_of(body.text, body.checksum) == _body(record)

    @given(_records)
    def test_has_the_listing_entry_of_its_file(self, record: CheckpointData) -> None:
        """A checkpoint is listed alike before and after its file is written."""
        body = documents.body_of(_CODEC.draft(record))

        meta = listing.meta_of_body(body.text, body.checksum, Path("p"), _SAVED_AT)

        assert meta is not None
        assert meta == listing.meta_of_file(_body(record), Path("p"), _SAVED_AT)

    @given(_records, st.integers(-200, 200))
    @example(_record(messages=[[[[[[[[[[]]]]]]]]]]), 0)
    @example(_record(messages=[[]] * 5_000), -1)
    def test_glance_never_misses_a_file_that_is_too_large(
        self, record: CheckpointData, difference: int
    ) -> None:
        """The look at a document tells each whose file exceeds the limit, and few others."""
        draft = _CODEC.draft(record)
        size = len(seal(draft))

        if difference < 0:
            assert documents.may_exceed(documents.body_of(draft).text, size + difference)
        assert not documents.may_exceed(draft.text, 300 * len(draft.text))
