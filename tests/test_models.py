"""Promises of the records and the facts about them."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import pytest

import aiocheckpoint
from aiocheckpoint import (
    BlobRecord,
    CheckpointData,
    CheckpointMeta,
    CheckpointRecord,
    models,
    new_checkpoint_id,
)
from aiocheckpoint.models import Finding, FindingKind, RecoveryReport, is_json_type


class Item(msgspec.Struct):
    name: str


class TestIds:
    def test_generated_ids_are_28_hex_digits(self) -> None:
        """An id is 28 lower-case hex digits, without an underscore."""
        for checkpoint_id in (new_checkpoint_id() for _ in range(1_000)):
            assert set(checkpoint_id) <= set("0123456789abcdef")
            assert len(checkpoint_id) == 28

    def test_generated_ids_are_all_different(self) -> None:
        """No id is given twice."""
        assert len({new_checkpoint_id() for _ in range(10_000)}) == 10_000

    def test_forked_process_goes_its_own_way(self) -> None:
        """Parent and child draw different ids, although the child begins as a copy."""
        copied = models._random.getstate()
        parent = new_checkpoint_id()
        models._random.setstate(copied)

        models.reseed_ids()

        assert new_checkpoint_id() != parent


class TestCheckpointData:
    def test_has_the_fields_of_the_crate(self) -> None:
        """The record is, field for field, what the Rust crate stores."""
        assert {field.encode_name for field in msgspec.structs.fields(CheckpointData)} == {
            "checkpoint_id",
            "session_id",
            "created_at",
            "trigger",
            "iteration",
            "messages",
            "tool_calls_pending",
            "tool_results",
            "tokens_used",
            "cost_estimate",
            "resume_hint",
        }

    def test_only_the_session_is_required(self) -> None:
        """Every other field has a sensible value."""
        before = datetime.now(UTC)
        record = CheckpointData(session_id="s")

        assert record == CheckpointData(
            session_id="s",
            checkpoint_id=record.checkpoint_id,
            created_at=record.created_at,
            trigger="manual",
            iteration=0,
            messages=[],
            tool_calls_pending=[],
            tool_results=None,
            tokens_used=0,
            cost_estimate=0.0,
            resume_hint=None,
        )
        assert timedelta() <= record.created_at - before < timedelta(seconds=5)
        assert record.created_at.tzinfo is UTC
        with pytest.raises(TypeError, match="session_id"):
            CheckpointData()  # type: ignore[call-arg]

    def test_defaults_are_not_shared(self) -> None:
        """Two records never share an id or a list."""
        first, second = CheckpointData(session_id="s"), CheckpointData(session_id="s")
        first.messages.append("x")
        first.tool_calls_pending.append("x")

        assert (second.messages, second.tool_calls_pending) == ([], [])
        assert first.checkpoint_id != second.checkpoint_id

    def test_extends_the_base_record(self) -> None:
        """It is one of the records that an application may define itself."""
        assert issubclass(CheckpointData, CheckpointRecord)


class Game(CheckpointRecord):
    level: int
    items: list[str] = []  # noqa: RUF012


class TestNext:
    @pytest.mark.parametrize(
        "record",
        [
            CheckpointData(session_id="s", iteration=3, messages=["a"], tokens_used=7),
            Game(session_id="s", level=2, items=["lamp"]),
            BlobRecord(session_id="s", blob_digests=("0" * 64,)),
        ],
        ids=lambda record: type(record).__name__,
    )
    def test_has_an_id_and_a_time_of_its_own(self, record: CheckpointRecord) -> None:
        """All else stays as it was, in a record of the same type."""
        old = datetime(2020, 1, 1, tzinfo=UTC)
        record = record.next(created_at=old)

        following = record.next()

        assert type(following) is type(record)
        assert following.checkpoint_id != record.checkpoint_id
        assert len(following.checkpoint_id) == 28
        assert timedelta() <= datetime.now(UTC) - following.created_at < timedelta(seconds=5)
        same = {"checkpoint_id": record.checkpoint_id, "created_at": old}
        assert following.next(**same) == record

    def test_changes_what_is_named(self) -> None:
        """Fields are changed by name, the id and the time too; the record itself stays."""
        record = CheckpointData(session_id="s", iteration=1, messages=["a"])

        following = record.next(
            iteration=2, messages=[*record.messages, "b"], checkpoint_id="current"
        )

        assert (following.iteration, following.messages) == (2, ["a", "b"])
        assert following.checkpoint_id == "current"
        assert (record.iteration, record.messages) == (1, ["a"])
        with pytest.raises(TypeError, match="iteratoin"):
            record.next(iteratoin=2)


class TestFacts:
    @pytest.mark.parametrize(
        "fact",
        [
            CheckpointMeta(
                checkpoint_id="x",
                session_id="s",
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
                saved_at=datetime(2026, 1, 1, tzinfo=UTC),
                trigger="",
                iteration=0,
                checksum="0" * 64,
                location="file:///x",
                path=Path("x"),
            ),
            Finding(kind="damaged", location="file:///x", detail="d"),
            RecoveryReport(session_id="s", newest_valid_id=None, quarantined=()),
        ],
        ids=lambda fact: type(fact).__name__,
    )
    def test_cannot_be_changed(self, fact: msgspec.Struct) -> None:
        """What was found is found: facts are frozen, and can be kept in sets."""
        with pytest.raises(AttributeError, match="immutable"):
            fact.session_id = "other"  # type: ignore[attr-defined]

        assert hash(fact) == hash(copy.copy(fact))


class TestIsJsonType:
    @pytest.mark.parametrize(
        ("annotation", "expected"),
        [
            (Any, True),
            (list, True),
            (list[Any], True),
            (dict, True),
            (dict[str, Any], True),
            (dict[str, list[dict[str, Any]]], True),
            (Annotated[list[Any], msgspec.Meta(max_length=3)], True),
            (list[Any] | None, True),
            (list[Any] | dict[str, Any] | None, True),
            (dict[int, Any], False),
            (list[int], False),
            (dict[str, str], False),
            (list[Any] | int, False),
            (tuple[Any, ...], False),
            (set[Any], False),
            (str, False),
            (Item, False),
            (list[Item], False),
        ],
    )
    def test_tells_json_from_types(self, annotation: object, expected: bool) -> None:
        """Where no type restores what JSON cannot hold, values must be JSON themselves."""
        assert is_json_type(annotation) is expected


class Named(CheckpointRecord):
    items: tuple[Item, ...] = ()


class TestRepr:
    def test_begins_with_the_ids(self) -> None:
        """What a log line shows of a record before it is cut off is which record it is."""
        for kind in (CheckpointRecord, CheckpointData, Named):
            shown = repr(kind(session_id="s", checkpoint_id="c"))
            ids = "session_id='s', checkpoint_id='c', created_at="
            assert shown.startswith(f"{kind.__name__}({ids}")

    def test_has_every_field_once(self) -> None:
        """The other fields follow, in their order."""
        record = Named(session_id="s", items=(Item("lamp"),))
        assert repr(record).endswith("items=(Item(name='lamp'),))")
        fields = CheckpointData.__struct_fields__
        shown = repr(CheckpointData(session_id="s"))
        assert [shown.count(f"{name}=") for name in fields] == [1] * len(fields)


@pytest.mark.parametrize(
    ("kind", "is_damage"),
    [
        ("damaged", True),
        ("damaged-journal", True),
        ("unreadable", True),
        ("misplaced", True),
        ("missing-blob", True),
        ("lost-id", True),
    ]
    + [(kind, False) for kind in ("leftover", "dangling-pointer", "stale-pointer")]
    + [(kind, False) for kind in ("unflushed-journal", "unwritten-session", "unused-blob")]
    + [(kind, False) for kind in ("other-version", "given-up-journal", "busy-journal")],
)
def test_a_finding_says_whether_it_is_damage(kind: Any, is_damage: bool) -> None:
    """What a killed process leaves behind is no damage; what cannot be loaded is."""
    assert Finding(kind=kind, location="", detail="").is_damage is is_damage


def test_every_kind_of_finding_is_tried() -> None:
    """No kind is left out above."""
    assert len(get_args(FindingKind)) == 15


def test_the_package_names_its_version() -> None:
    """`aiocheckpoint.__version__` is the version that is installed."""
    assert aiocheckpoint.__version__ == version("aiocheckpoint")
