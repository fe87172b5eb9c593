"""The newest checkpoints of many sessions in one call, and the sessions that have work left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointData,
    CheckpointRecord,
    InvalidArgumentError,
    NestedCallError,
    Transaction,
)
from tests.conftest import MakeWriter
from tests.promises.conftest import Start
from tests.promises.places import on_disk, session_files
from tests.promises.records import record


def _at_end(data: CheckpointData, trigger: str) -> CheckpointData:
    return data.next(checkpoint_id=f"{data.checkpoint_id}-{trigger}", trigger=trigger)


class Plain(CheckpointRecord):
    """A record without a trigger."""

    text: str


@pytest.mark.long
async def test_newest_of_many(make_writer: MakeWriter) -> None:
    """The newest of each session is loaded, in the order asked for, by one hop for 256 of them."""
    writer = make_writer()
    for number in range(300):
        await writer.save(record(f"s{number}", "older"))
        await writer.save(record(f"s{number}", "newest", number))
    await writer.delete_session("s7")
    asked = [f"s{number}" for number in reversed(range(300))] + ["unknown", "s3"]
    expected = {s: record(s, "newest", int(s[1:])) for s in asked if s not in ("s7", "unknown")}

    for _ in ("from memory", "from files"):
        before = writer.stats().reads
        found = await writer.load_newest(asked)
        assert list(found.items()) == list(expected.items())
        assert writer.stats().reads - before == 2
        await on_disk(writer)
    assert await writer.load_newest([]) == {}
    assert await make_writer().load_newest(asked) == found
    assert await make_writer(writer_root(writer) / "nothing").load_newest(["s"]) == {}


def writer_root(writer: Any) -> Path:
    """Return where a writer keeps its checkpoints."""
    return Path(repr(writer).split("'")[1])


@pytest.mark.damages_store
@pytest.mark.blocking
async def test_damage_is_told(make_writer: MakeWriter, root: Path) -> None:
    """The error is that of the first session that cannot be loaded, and names the others."""
    writer = make_writer()
    for name in ("a", "b", "c"):
        await writer.save(record(name, "x"))
    await on_disk(writer)
    for name in ("c", "b"):
        session_files(root, name)[0].write_bytes(b"{}")

    with pytest.raises(CheckpointCorruptError) as damage:
        await writer.load_newest(["a", "b", "c"])

    assert "/b/" in damage.value.path
    assert any("/c/" in text for text in damage.value.__notes__)
    unfinished = [meta async for meta in writer.unfinished(final_triggers=["manual"])]
    assert [meta.session_id for meta in unfinished] == ["b", "c"], "damage must not go unseen"
    assert all(meta.problem for meta in unfinished)


@pytest.mark.parametrize("is_flushed", [False, True])
@pytest.mark.few(1)
async def test_unfinished(make_writer: MakeWriter, *, is_flushed: bool) -> None:
    """Sessions are found whose newest checkpoint says that they are not over."""
    writer = make_writer()
    for number in range(150):
        data = record(f"job-{number}", "x")
        await writer.save(data)
        if number % 3:
            await writer.save(_at_end(data, "done" if number % 3 == 1 else "failed"))
    await writer.save(record("job-1", "goes-on"))
    await writer.save(record("other", "x"))
    await writer.delete_session("job-3")
    if is_flushed:
        await on_disk(writer)

    found = {
        meta.session_id: meta.checkpoint_id
        async for meta in writer.unfinished(final_triggers={"done", "failed"}, prefix="job-")
    }

    expected = {f"job-{number}": "x" for number in range(0, 150, 3) if number != 3}
    assert found == expected | {"job-1": "goes-on"}
    some = [m async for m in writer.unfinished(final_triggers=["manual", "done"])]
    assert {meta.trigger for meta in some} == {"failed"}


async def test_unfinished_records_of_another_type(make_writer: MakeWriter) -> None:
    """Where records have no trigger it is `""`."""
    writer = make_writer(record_type=Plain)
    await writer.save(Plain(session_id="s", text="hello"))

    assert [m.session_id async for m in writer.unfinished(final_triggers=["done"])] == ["s"]
    assert [m async for m in writer.unfinished(final_triggers=[""])] == []


async def test_bad_arguments(make_writer: MakeWriter) -> None:
    """A str in the place of a list, and what is no trigger, is refused by name."""
    writer = make_writer()
    number: Any = 7

    with pytest.raises(InvalidArgumentError):
        await writer.load_newest("abc")
    for triggers in ("done", [number], number):
        with pytest.raises(InvalidArgumentError):
            await anext(writer.unfinished(final_triggers=triggers))

    async def work(session: Transaction[CheckpointData]) -> None:
        with pytest.raises(NestedCallError):
            await writer.load_newest(["t", "s"])

    await writer.update("s", work)


def test_what_another_process_has_saved_is_found(start: Start) -> None:
    """What one process has acknowledged is the newest for the other, at once."""
    first, second = start(), start()
    first.save(record("s", "a"))
    assert second.call("load_newest", ["s"]) == {"s": record("s", "a")}
    first.save(record("s", "b"))

    assert second.call("load_newest", ["s", "t"]) == {"s": record("s", "b")}
