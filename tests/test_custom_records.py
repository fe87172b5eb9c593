"""Records of the application's own: saved, and given back typed and validated."""

from __future__ import annotations

import asyncio
import enum
import json
import math
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, assert_type
from zoneinfo import ZoneInfo

import msgspec
import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobRecord,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointError,
    CheckpointRecord,
    RecordTypeError,
)
from tests.conftest import MakeWriter
from tests.durabilities import DURABILITIES
from tests.on_disk import on_disk, path_of
from tests.test_damaged_files import sealed

ItemT = TypeVar("ItemT")


class Page(msgspec.Struct, Generic[ItemT]):
    """A part of a record, of whatever items."""

    items: list[ItemT]


@pytest.fixture(name="make_writer", params=DURABILITIES)
def _make_writer(make_writer: MakeWriter, request: pytest.FixtureRequest) -> MakeWriter:
    """Make writers of each durability."""
    return partial(make_writer, **request.param)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Item(msgspec.Struct, frozen=True):
    name: str
    price: Decimal


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: int


class GameState(CheckpointRecord):
    """One field of every kind that msgspec stores in JSON."""

    level: int
    colour: Colour
    difficulty: Level = Level.LOW
    items: list[Item] = []  # noqa: RUF012 - msgspec copies it
    shape: Circle | Square | None = None
    seen: set[str] = set()  # noqa: RUF012
    frozen: frozenset[int] = frozenset()
    position: tuple[float, float] = (0.0, 0.0)
    scores: dict[str, int] = {}  # noqa: RUF012
    times: dict[str, datetime] = {}  # noqa: RUF012
    blob: bytes = b""
    player: uuid.UUID | None = None
    day: date | None = None
    spent: timedelta = timedelta()
    extra: Any = None


def game(**fields: Any) -> GameState:
    """Return a record with every field set."""
    defaults: dict[str, Any] = {
        "session_id": "s",
        "level": 3,
        "colour": Colour.BLUE,
        "difficulty": Level.HIGH,
        "items": [Item("sword", Decimal("1.10")), Item("é", Decimal("1E+3"))],
        "shape": Circle(1e16),
        "seen": {"a", "b"},
        "frozen": frozenset({1, 2}),
        "position": (1.5, -0.0),
        "scores": {"é": 2, "": 4},
        "times": {"start": datetime(2026, 1, 1, tzinfo=UTC)},
        "blob": b"\x00\xff",
        "player": uuid.UUID(int=7),
        "day": date(2026, 2, 28),
        "spent": timedelta(seconds=90.5),
        "extra": {"any": [1, None, "x"]},
    }
    return GameState(**(defaults | fields))


class TestRoundTrip:
    async def test_comes_back_typed(self, make_writer: MakeWriter) -> None:
        """Every field comes back equal and of its type."""
        data = game()
        await make_writer(record_type=GameState).save(data)

        loaded = await make_writer(record_type=GameState).load("s")

        assert loaded == data
        assert isinstance(loaded, GameState)
        for name in GameState.__struct_fields__:
            assert type(getattr(loaded, name)) is type(getattr(data, name)), name

    @pytest.mark.parametrize("size", [200_000, 1_000_000])
    async def test_large_one_comes_back_the_same(self, make_writer: MakeWriter, size: int) -> None:
        """A record large enough to be decoded in pieces comes back as a small one does."""
        data = game(
            blob=bytes(range(256)) * (size // 256),
            items=[Item(f"item {n}", Decimal(n) / 7) for n in range(size // 100)],
            scores={str(n): -n for n in range(size // 100)},
            seen={str(n) for n in range(size // 100)},
        )
        await make_writer(record_type=GameState).save(data)

        loaded = await make_writer(record_type=GameState).load("s")

        assert loaded == data

    async def test_every_method_works(self, make_writer: MakeWriter) -> None:
        """List, verify, copy, delete and recover serve any record type."""
        writer = make_writer(record_type=GameState)
        data = game(checkpoint_id="one")
        await writer.save(data)

        (meta,) = await writer.list("s")
        assert (meta.checkpoint_id, meta.session_id) == ("one", "s")
        assert (meta.trigger, meta.iteration) == ("", 0)
        assert meta.created_at == data.created_at
        assert await writer.verify(path_of(meta)) is True
        assert (await writer.recover("s")).newest_valid_id == "one"
        assert await writer.copy_session("s", "t") == 1
        copied = await writer.load("t", "one")
        assert copied == msgspec.structs.replace(data, session_id="t")
        assert await writer.delete("s", "one") is True
        assert await writer.load("s") is None

    async def test_base_record_reads_any(self, make_writer: MakeWriter) -> None:
        """A writer of the base record loads what they all have in common."""
        data = game()
        await make_writer(record_type=GameState).save(data)

        loaded = await make_writer(record_type=CheckpointRecord).load("s")

        assert loaded == CheckpointRecord(
            session_id="s", checkpoint_id=data.checkpoint_id, created_at=data.created_at
        )

    async def test_meta_shows_trigger_and_iteration_of_any_type(
        self, make_writer: MakeWriter
    ) -> None:
        """A record type with these two fields shows them in the list."""

        class Step(CheckpointRecord):
            trigger: str
            iteration: int

        writer = make_writer(record_type=Step)
        await writer.save(Step(session_id="s", trigger="timer", iteration=7))

        (meta,) = await writer.list("s")
        assert (meta.trigger, meta.iteration) == ("timer", 7)

    async def test_type_is_known_to_the_type_checker(self, root: Path) -> None:
        """Without a record type the writer is one of `CheckpointData`, with one it is of that."""
        plain = AsyncCheckpointWriter(root)
        typed = AsyncCheckpointWriter(root, record_type=GameState)

        assert_type(plain, AsyncCheckpointWriter[CheckpointData])
        assert_type(typed, AsyncCheckpointWriter[GameState])


class TestValidation:
    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"level": "three"}, "level"),
            ({"colour": "red"}, "colour"),
            ({"items": [{"name": "x"}]}, "items[0]"),
            ({"extra": {"deep": [math.inf]}}, "extra.deep[0]"),
            ({"extra": Decimal(1)}, "extra"),
            ({"position": (math.nan, 0.0)}, "position[0]"),
            ({"shape": Square(2**64)}, "shape.side"),
            ({"times": {"x": "yesterday"}}, "times"),
        ],
    )
    async def test_wrong_value_is_refused(
        self, make_writer: MakeWriter, fields: dict[str, Any], path: str
    ) -> None:
        """A value that is not of its field's type is refused by its path."""
        writer = make_writer(record_type=GameState)
        data = game()
        for name, value in fields.items():
            setattr(data, name, value)

        with pytest.raises(CheckpointEncodeError) as refused:
            await writer.save(data)
        assert refused.value.path.startswith(path)
        assert await writer.load("s") is None

    async def test_subclass_of_the_type_is_refused_or_checked(
        self, make_writer: MakeWriter
    ) -> None:
        """A subclass's extra field does not slip past the checks into the file."""

        class Sub(CheckpointData):
            extra: float = 0.0

        writer = make_writer()

        with pytest.raises(CheckpointError):
            await writer.save(Sub(session_id="s", extra=math.nan))
        assert await writer.load("s") is None


class Score(CheckpointRecord):
    """A type that is nothing but defaults when it is read from a file of another."""

    points: int = 0
    names: list[str] = []  # noqa: RUF012


class Marker(CheckpointRecord):
    """A type without fields of its own."""


class LargeScore(BlobRecord):
    points: int = 0


class TestAnotherType:
    """A record of another type is no damage, and is never read as an empty one."""

    @pytest.mark.parametrize(
        ("stored", "record_type"),
        [
            (game(), CheckpointData),
            (Score(session_id="s"), CheckpointData),
            (CheckpointData(session_id="s"), GameState),
            (CheckpointData(session_id="s"), Score),
            (CheckpointData(session_id="s"), Marker),
            (CheckpointData(session_id="s"), LargeScore),
            (BlobRecord(session_id="s"), Score),
            (LargeScore(session_id="s"), CheckpointData),
        ],
        ids=lambda given: getattr(given, "__name__", type(given).__name__),
    )
    async def test_is_an_error_that_leaves_all_as_it_is(
        self, make_writer: MakeWriter, stored: CheckpointRecord, record_type: type[CheckpointRecord]
    ) -> None:
        """Load raises and advises to mend the type; verify, check and recover call it intact."""
        owner: Any = make_writer(record_type=type(stored))
        writer = make_writer(record_type=record_type)
        await owner.save(stored)
        await on_disk(owner)
        key = stored.checkpoint_id

        for call in (writer.load("s"), writer.load("s", key), writer.load_many("s", [key])):
            with pytest.raises(CheckpointDecodeError, match="mend the type") as refused:
                await call
            assert not isinstance(refused.value, CheckpointCorruptError)
            assert refused.value.record_type == record_type.__qualname__
        (meta,) = await writer.list("s")
        assert (meta.checkpoint_id, str(meta.path)) == (key, refused.value.path)
        assert await writer.verify(path_of(meta)) is True
        assert await writer.check() == ()
        report = await writer.recover("s")
        assert (report.newest_valid_id, report.quarantined) == (key, ())
        assert await writer.copy_session("s", "t") == 1
        assert await owner.load("s") == stored

    async def test_recover_beside_damage_moves_the_damaged_one_alone(
        self, make_writer: MakeWriter
    ) -> None:
        """The newest intact checkpoint is the newest one, whatever its type is."""
        writer, other = make_writer(record_type=GameState, max_backups=0), make_writer()
        await writer.save(game(checkpoint_id="mine"))
        await other.save(CheckpointData(session_id="s", checkpoint_id="theirs"))
        await writer.save(game(checkpoint_id="damaged"))
        await on_disk(writer)
        await on_disk(other)
        (damaged, *_) = await writer.list("s")
        await asyncio.to_thread(path_of(damaged).write_bytes, b"{}")

        with pytest.raises(CheckpointCorruptError) as refused:
            await writer.load("s")

        assert refused.value.newest_valid_id == "theirs"
        report = await writer.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == ("theirs", 1)
        with pytest.raises(CheckpointDecodeError):
            await writer.load("s")
        assert await writer.delete("s", "theirs") is True
        loaded = await writer.load("s")
        assert loaded is not None
        assert loaded.checkpoint_id == "mine"

    async def test_large_one_is_refused_too(self, make_writer: MakeWriter) -> None:
        """So is a record that is large enough to be decoded in pieces."""
        data = CheckpointData(session_id="s", messages=["x" * 1000] * 300)
        await make_writer().save(data)

        with pytest.raises(CheckpointDecodeError, match="none of this type"):
            await make_writer(record_type=Score).load("s")

    @pytest.mark.parametrize("name", sorted(CheckpointData.__struct_fields__))
    async def test_checkpoint_data_lacks_no_field(
        self, make_writer: MakeWriter, root: Path, name: str
    ) -> None:
        """Rust and we write all fields, so a file without one is of another type, or no record."""
        fields = json.loads(msgspec.json.encode(CheckpointData(session_id="s", checkpoint_id="x")))
        del fields[name]
        directory = root / "s" / "checkpoints"
        await asyncio.to_thread(directory.mkdir, parents=True)
        path = directory / "cp_20260101_000000_000001_x.json"
        await asyncio.to_thread(path.write_bytes, sealed(fields))

        writer = make_writer()
        is_no_record = name in ("session_id", "checkpoint_id", "created_at")
        with pytest.raises(CheckpointCorruptError if is_no_record else CheckpointDecodeError):
            await writer.load("s")
        report = await writer.recover("s")
        assert len(report.quarantined) == is_no_record
        assert await asyncio.to_thread(path.exists) is not is_no_record

    async def test_base_types_read_any(self, make_writer: MakeWriter) -> None:
        """Who asks for what all records have in common gets it from each."""
        await make_writer().save(CheckpointData(session_id="s", checkpoint_id="x"))

        for base in (CheckpointRecord, BlobRecord):
            loaded = await make_writer(record_type=base).load("s")
            assert loaded is not None
            assert loaded.checkpoint_id == "x"

    async def test_field_with_a_default_may_be_missing(self, make_writer: MakeWriter) -> None:
        """A newer type without a field loads the older type's files, and one with a default."""

        class Before(CheckpointRecord):
            kept: int = 0
            dropped: int = 0

        class After(CheckpointRecord):
            kept: int = 0
            added: str = "default"

        await make_writer(record_type=Before).save(Before(session_id="s", kept=1, dropped=2))
        await make_writer(record_type=Marker).save(Marker(session_id="t"))

        loaded = await make_writer(record_type=After).load("s")
        assert isinstance(loaded, After)
        assert (loaded.kept, loaded.added) == (1, "default")
        empty = await make_writer(record_type=After).load("t")
        assert isinstance(empty, After)
        assert (empty.kept, empty.added) == (0, "default")


@dataclass
class Reply:
    text: str
    raw: Any = field(default=None, compare=False)


class Counter(msgspec.Struct):
    n: int = 0

    def __post_init__(self) -> None:
        self.n += 1


class Visited(CheckpointRecord):
    """Changes a JSON field of its own each time it is made."""

    notes: list[Any] = []  # noqa: RUF012
    deep: dict[str, Any] = {}  # noqa: RUF012

    def __post_init__(self) -> None:
        if self.deep:
            self.deep["inner"]["count"] += 1
        elif self.notes:
            self.notes.append("again")


class Failing(CheckpointRecord):
    text: str = ""

    def __post_init__(self) -> None:
        if self.text == "bad":
            raise KeyError(self.text)


class Person(CheckpointRecord):
    born: datetime | None = None
    replies: list[Reply] = []  # noqa: RUF012
    counter: Counter | None = None
    pair: list[int] = []  # noqa: RUF012
    tags: dict[int, Any] = {}  # noqa: RUF012
    price: Decimal = Decimal(0)
    notes: Any = None


class FakeDatetime(datetime):
    """As freezegun's, pendulum's and pandas' are."""


class TestWhatComesBack:
    """What is loaded equals what was saved, or the save is refused by its path."""

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"born": datetime(1930, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam"))}, "born"),
            (
                {"created_at": datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=30)))},
                "created_at",
            ),
            ({"replies": [Reply("hello", raw=b"x")]}, "replies[0].raw"),
            ({"counter": Counter(5)}, "counter.n"),
            ({"pair": (1, 2)}, "pair"),
            ({"tags": {1: (2,)}}, "tags[1]"),
            ({"tags": {1: [object()]}}, "tags[1][0]"),
            ({"notes": msgspec.UNSET}, "notes"),
            ({"born": msgspec.UNSET}, "born"),
        ],
    )
    async def test_what_would_change_is_refused(
        self, make_writer: MakeWriter, fields: dict[str, Any], path: str
    ) -> None:
        """No field changes in silence, not even where `==` does not look."""
        writer = make_writer(record_type=Person)

        with pytest.raises(CheckpointEncodeError) as refused:
            await writer.save(Person(session_id="s", **fields))

        assert refused.value.path == path
        assert await writer.load("s") is None

    @pytest.mark.parametrize(
        "fields", [{"notes": ["x"]}, {"deep": {"inner": {"count": 1}}}], ids=["notes", "deep"]
    )
    async def test_type_that_changes_itself_is_refused(
        self, make_writer: MakeWriter, fields: dict[str, Any]
    ) -> None:
        """A `__post_init__` that does more at each load is noticed, and the caller's data kept."""
        writer = make_writer(record_type=Visited)
        data = Visited(session_id="s", **fields)
        before = repr(data)

        with pytest.raises(CheckpointEncodeError, match=next(iter(fields))):
            await writer.save(data)
        assert repr(data) == before

    async def test_error_of_the_type_is_one_of_ours(self, make_writer: MakeWriter) -> None:
        """Whatever a type raises when it is read is in the library's tree."""
        writer = make_writer(record_type=Failing)
        data = Failing(session_id="s", text="good")
        data.text = "bad"
        with pytest.raises(CheckpointEncodeError, match="bad"):
            await writer.save(data)
        del data.text
        with pytest.raises(CheckpointEncodeError, match="text was deleted"):
            await writer.save(data)

        class Text(CheckpointRecord):
            text: str

        await make_writer(record_type=Text).save(Text(session_id="s", text="bad"))
        with pytest.raises(CheckpointDecodeError, match="bad"):
            await writer.load("s")

    async def test_signaling_nan_is_stored(self, make_writer: MakeWriter) -> None:
        """A number that cannot even be compared is refused by name, or comes back."""
        writer = make_writer(record_type=Person)

        await writer.save(Person(session_id="s", price=Decimal("sNaN")))

        loaded = await writer.load("s")
        assert loaded is not None
        assert str(loaded.price) == "sNaN"

    @pytest.mark.parametrize("zone", [UTC, ZoneInfo("Europe/Berlin")], ids=str)
    async def test_times_of_subclasses_are_stored(
        self, make_writer: MakeWriter, zone: tzinfo
    ) -> None:
        """A time of a frozen clock, of pandas or of pendulum is the moment that it is."""
        now = FakeDatetime(2026, 10, 25, 2, 30, 1, 2, tzinfo=zone, fold=1)
        writer = make_writer(record_type=Person)

        await writer.save(Person(session_id="s", created_at=now, born=now, counter=None))

        loaded = await writer.load("s")
        assert loaded is not None
        for moment in (loaded.created_at, loaded.born):
            assert type(moment) is datetime
            assert moment == now.astimezone(UTC)

    async def test_frozen_clock_stores(
        self, make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Under a clock that puts its class into all modules, records are saved and loaded."""
        for module in [m for name, m in sys.modules.items() if name.startswith("aiocheckpoint")]:
            if getattr(module, "datetime", None) is datetime:
                monkeypatch.setattr(module, "datetime", FakeDatetime)
        writer = make_writer()
        data = CheckpointData(session_id="s")
        assert type(data.created_at) is FakeDatetime

        await writer.save(data)

        assert await writer.load("s") == data
        assert len(await writer.list("s")) == 1


def _arrays() -> type[CheckpointRecord]:
    class Arrays(CheckpointRecord, array_like=True):
        pass

    return Arrays


def _checksum_field() -> type[CheckpointRecord]:
    class Checksum(CheckpointRecord):
        checksum: str = msgspec.field(name="_checksum", default="")

    return Checksum


def _version_field() -> type[CheckpointRecord]:
    class Version(CheckpointRecord):
        version: str = msgspec.field(name="_version", default="")

    return Version


def _renamed_ids() -> type[CheckpointRecord]:
    class Renamed(CheckpointRecord):
        session_id: str = msgspec.field(name="sessionId")

    return Renamed


def _omitted_id() -> type[CheckpointRecord]:
    class Omitted(CheckpointRecord, omit_defaults=True):
        session_id: str = "main"

    return Omitted


def _tag_named_as_an_id() -> type[CheckpointRecord]:
    class Tagged(CheckpointRecord, tag_field="_checksum", tag="x"):
        pass

    return Tagged


def _optional_time() -> type[CheckpointRecord]:
    class Timeless(CheckpointRecord):
        created_at: datetime | None = None  # type: ignore[assignment]

    return Timeless


def _integer_id() -> type[CheckpointRecord]:
    class Numbered(CheckpointRecord):
        checkpoint_id: int = 5  # type: ignore[assignment]

    return Numbered


def _ambiguous_union() -> type[CheckpointRecord]:
    class When(CheckpointRecord):
        at: datetime | str = ""

    return When


def _unknown_name() -> type[CheckpointRecord]:
    class Unknown(CheckpointRecord):
        x: "Nowhere" = None  # type: ignore[name-defined]  # noqa: F821, UP037

    return Unknown


class TestTypesThatCannotBeStored:
    @pytest.mark.parametrize("make_type", [_ambiguous_union, _unknown_name])
    def test_type_that_msgspec_cannot_read(
        self, tmp_path: Path, make_type: Callable[[], type[CheckpointRecord]]
    ) -> None:
        """What msgspec or an annotation raises is told as an error of the record type."""
        with pytest.raises(RecordTypeError, match="msgspec cannot read it"):
            AsyncCheckpointWriter(tmp_path, record_type=make_type())

    @pytest.mark.parametrize(
        "record_type", [dict, int, msgspec.Struct, Item, None, "CheckpointData"]
    )
    def test_not_a_record(self, tmp_path: Path, record_type: Any) -> None:
        """A type that does not extend `CheckpointRecord` is refused when the writer is made."""
        with pytest.raises(RecordTypeError, match="CheckpointRecord"):
            AsyncCheckpointWriter(tmp_path, record_type=record_type)

    @pytest.mark.parametrize(
        "make_type",
        [
            _arrays,
            _checksum_field,
            _version_field,
            _tag_named_as_an_id,
            _integer_id,
            _renamed_ids,
            _omitted_id,
            _optional_time,
        ],
    )
    async def test_is_refused_or_comes_back(
        self, make_writer: MakeWriter, make_type: Callable[[], type[CheckpointRecord]]
    ) -> None:
        """A type is refused by name, or a save of it loads, lists and verifies as any other."""
        record_type = make_type()
        try:
            writer = make_writer(record_type=record_type)
            data = record_type(session_id="main")
            await writer.save(data)
        except CheckpointError:
            return

        assert await writer.load("main") == data
        (meta,) = await writer.list("main")
        assert await writer.verify(path_of(meta)) is True
        assert await writer.delete("main", data.checkpoint_id) is True


class TestConfiguredTypes:
    async def test_renamed_and_tagged_fields(self, make_writer: MakeWriter) -> None:
        """A type whose fields are renamed in JSON, or that is tagged, is stored like any other."""

        class Configured(CheckpointRecord, rename="camel", tag=True):
            some_field: int
            other_field: list[Any] = []  # noqa: RUF012

        writer = make_writer(record_type=Configured)
        data = Configured(session_id="s", some_field=1, other_field=[{"a_b": 1e16}])

        await writer.save(data)

        assert await writer.load("s") == data
        assert len(await writer.list("s")) == 1

    async def test_keys_of_a_dict_may_be_typed(self, make_writer: MakeWriter) -> None:
        """A dict field with keys that JSON writes as text comes back with its own keys."""

        class Keyed(CheckpointRecord):
            by_number: dict[int, str] = {}  # noqa: RUF012
            by_colour: dict[Colour, int] = {}  # noqa: RUF012

        writer = make_writer(record_type=Keyed)
        data = Keyed(session_id="s", by_number={10: "x", 9: "y"}, by_colour={Colour.RED: 1})
        await writer.save(data)

        assert await writer.load("s") == data

    async def test_unknown_fields_may_be_forbidden(self, make_writer: MakeWriter) -> None:
        """A type that allows no unknown keys does not stumble over the checksum's."""

        class Strict(CheckpointRecord, forbid_unknown_fields=True):
            n: int = 0

        writer = make_writer(record_type=Strict)
        await writer.save(Strict(session_id="s", n=1))

        loaded = await writer.load("s")
        assert loaded is not None
        assert loaded.n == 1

    async def test_defaults_may_be_omitted(self, make_writer: MakeWriter) -> None:
        """Fields left out because they have their defaults come back with them."""

        class Sparse(CheckpointRecord, omit_defaults=True):
            n: int = 7
            items: list[int] = []  # noqa: RUF012

        writer = make_writer(record_type=Sparse)
        data = Sparse(session_id="s")
        await writer.save(data)

        assert await writer.load("s") == data

    async def test_constraints_are_checked_both_ways(self, make_writer: MakeWriter) -> None:
        """A value out of a field's bounds is refused at save, and a file with one at load."""

        class Loose(CheckpointRecord):
            n: int

        class Bounded(CheckpointRecord):
            n: int

            def __post_init__(self) -> None:
                if self.n > 10:
                    raise ValueError("n is at most 10")

        writer = make_writer(record_type=Bounded)
        data = Bounded(session_id="s", n=10)
        data.n = 11
        with pytest.raises(CheckpointEncodeError, match="at most 10"):
            await writer.save(data)
        await make_writer(record_type=Loose).save(Loose(session_id="s", n=11))
        with pytest.raises(CheckpointDecodeError, match="at most 10"):
            await writer.load("s")

    async def test_generic_type_is_refused_or_works(self, make_writer: MakeWriter) -> None:
        """A generic record is stored by its class; a parametrised alias is refused by name."""

        class Box(CheckpointRecord, Generic[ItemT]):
            item: ItemT

        writer = make_writer(record_type=Box)
        await writer.save(Box(session_id="s", item=[1]))
        loaded = await writer.load("s")
        assert loaded is not None
        assert loaded.item == [1]

        with pytest.raises(RecordTypeError, match="it has parameters in brackets"):
            make_writer(record_type=Box[int])

    @pytest.mark.parametrize("annotation", [Page[int], list[Page[int]], Page[Page[int]] | None])
    async def test_generic_struct_in_a_field(
        self, make_writer: MakeWriter, annotation: Any
    ) -> None:
        """A field may be of a generic Struct with its parameters, and is checked by them."""
        page = msgspec.convert({"items": [1]}, Page[int])
        value: Any = {
            Page[int]: page,
            list[Page[int]]: [page],
        }.get(annotation, msgspec.convert({"items": [{"items": [1]}]}, Page[Page[int]]))
        record_type = msgspec.defstruct("Pages", [("page", annotation)], bases=(CheckpointRecord,))
        writer = make_writer(record_type=record_type)

        await writer.save(record_type(session_id="s", page=value))

        loaded: Any = await writer.load("s")
        assert loaded.page == value
        with pytest.raises(CheckpointEncodeError, match="page"):
            await writer.save(record_type(session_id="s", page=Page(["x"])))

    async def test_two_types_in_one_store(self, make_writer: MakeWriter) -> None:
        """Sessions of different types live side by side under one root."""
        games, plain = make_writer(record_type=GameState), make_writer()

        await asyncio.gather(
            games.save(game(session_id="game")), plain.save(CheckpointData(session_id="plain"))
        )

        assert isinstance(await games.load("game"), GameState)
        assert isinstance(await plain.load("plain"), CheckpointData)
        assert [session async for session in games.sessions()] == ["game", "plain"]
