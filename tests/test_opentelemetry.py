"""Spans and metrics for OpenTelemetry, as its own in-memory exporters see them."""

from __future__ import annotations

import asyncio
import errno
import gc
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointData,
    CheckpointStore,
    InvalidArgumentError,
    RawRecord,
    StorageError,
    copy_store,
)
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from aiocheckpoint.adapters.opentelemetry import Telemetry
from aiocheckpoint.testing import (
    BlobStoreContract,
    CheckpointStoreContract,
    Fault,
    FaultyFiles,
    LargeValue,
    MemoryStore,
)
from tests.conftest import MakeWriter
from tests.faults import Hold

_SECRET = "what nobody may see"


class Seen:
    """A `Telemetry`, and what it has told."""

    def __init__(self) -> None:
        self._spans, self._metrics = InMemorySpanExporter(), InMemoryMetricReader()
        self._tracers, self._meters = TracerProvider(), MeterProvider([self._metrics])
        self._tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = self._tracers.get_tracer("test")
        self.telemetry = Telemetry(tracer_provider=self._tracers, meter_provider=self._meters)

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Return the spans that have ended, and see that none has any content."""
        found = self._spans.get_finished_spans()
        assert not any(_SECRET in span.to_json() for span in found)
        return found

    def names(self) -> list[str]:
        return [span.name for span in self.spans()]

    def points(self, name: str) -> list[Any]:
        """Return the points of a metric; looking collects them."""
        data = self._metrics.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == f"aiocheckpoint.{name}"
            for point in metric.data.data_points
        ]

    def close(self) -> None:
        self._tracers.shutdown()
        self._meters.shutdown()


@pytest.fixture(name="seen")
def _seen() -> Iterator[Seen]:
    seen = Seen()
    yield seen
    seen.close()


async def _nothing(_: object) -> None:
    """Change nothing."""


def _step(number: int, session_id: str = "s") -> CheckpointData:
    return CheckpointData(session_id=session_id, checkpoint_id=f"c{number}", messages=[_SECRET])


class TestSpans:
    async def test_one_for_each_call(self, make_writer: MakeWriter, seen: Seen) -> None:
        """A call is a span with its name and session, whose parent is the caller's."""
        store = seen.telemetry.instrument(make_writer())
        with seen.tracer.start_as_current_span("turn") as turn:
            await store.save(_step(1))
            await store.load("s")
            await store.list("s")
            await store.copy_session(source_id="s", target_id="t")
        assert await store.delete("s", "c1") is True

        spans = seen.spans()
        assert [span.name for span in spans] == [
            "aiocheckpoint save", "aiocheckpoint load", "aiocheckpoint list",
            "aiocheckpoint copy_session", "turn", "aiocheckpoint delete",
        ]  # fmt: skip
        for span in spans[:4]:
            assert span.parent is not None
            assert span.parent.span_id == turn.get_span_context().span_id
            assert span.attributes is not None
            assert span.attributes["aiocheckpoint.session_id"] == "s"
            assert span.status.status_code is StatusCode.UNSET
        assert spans[-1].parent is None

    async def test_an_error_is_told_and_raised(self, make_writer: MakeWriter, seen: Seen) -> None:
        """What a call raises is its span's error, and the caller gets it as it is."""
        disk = FaultyFiles()
        store = seen.telemetry.instrument(make_writer(files=disk))
        await store.save(_step(1))
        disk.arm(Fault(errno.EIO, "write"))
        with pytest.raises(StorageError):
            await store.save(_step(2))
        disk.arm(None)

        failed = seen.spans()[-1]
        assert failed.status.status_code is StatusCode.ERROR
        assert failed.attributes is not None
        assert failed.attributes["error.type"] == "StorageError"
        assert [event.name for event in failed.events] == ["exception"]
        durations = seen.points("operation.duration")
        assert {point.attributes.get("error.type"): point.count for point in durations} == {
            None: 1, "StorageError": 1,
        }  # fmt: skip

    async def test_a_cancelled_call(self, make_writer: MakeWriter, seen: Seen) -> None:
        """A cancellation ends the span, and is no error of the store."""
        disk, hold = FaultyFiles(), Hold()
        store = seen.telemetry.instrument(make_writer(files=disk))
        await store.save(_step(0))
        disk.at("before_sync_log", hold)
        saving = asyncio.ensure_future(store.save(_step(1)))
        await asyncio.to_thread(hold.wait_arrived)
        saving.cancel()
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await saving

        cancelled = seen.spans()[-1]
        assert cancelled.status.status_code is StatusCode.UNSET
        assert cancelled.attributes is not None
        assert cancelled.attributes["error.type"] == "CancelledError"

    async def test_iterating(self, make_writer: MakeWriter, seen: Seen) -> None:
        """A listing of sessions is one span, and no parent of what is done between its steps."""
        store = seen.telemetry.instrument(make_writer())
        for name in ("s", "t"):
            await store.save(_step(1, name))
        found = []
        async for session_id in store.sessions():
            await store.load(session_id)
            found.append(session_id)

        assert sorted(found) == ["s", "t"]
        *_, first, second, listing = seen.spans()
        assert (listing.name, first.parent, second.parent) == ("aiocheckpoint sessions", None, None)

    async def test_a_block(self, seen: Seen) -> None:
        """What an owner does is told as well, within the span of its ownership."""
        store = seen.telemetry.instrument(MemoryStore(CheckpointData))
        async with store.own("s") as owner:
            await owner.save(_step(1))
            assert owner.token > 0
            assert await owner.delete_many(["none"]) == 0
            await owner.update(_nothing)

        *within, owned = seen.spans()
        assert [span.name.split()[-1] for span in within] == ["save", "delete_many", "update"]
        assert owned.name == "aiocheckpoint own"
        assert owned.context is not None
        for span in within:
            assert span.parent is not None
            assert span.parent.span_id == owned.context.span_id
            assert span.attributes is not None
            assert span.attributes["aiocheckpoint.session_id"] == "s"

    async def test_an_update(self, seen: Seen) -> None:
        """A method that takes work is a span about its session, and returns what the work does."""
        store = seen.telemetry.instrument(MemoryStore(CheckpointData))

        async def work(session: Any) -> int:
            session.save(_step(1))
            return 7

        assert await store.update("s", work) == 7
        assert seen.names() == ["aiocheckpoint update"]
        (span,) = seen.spans()
        assert span.attributes is not None
        assert span.attributes["aiocheckpoint.session_id"] == "s"

    async def test_a_save_is_what_it_was_when_it_was_called(
        self, make_writer: MakeWriter, seen: Seen
    ) -> None:
        """The record is encoded before the first suspension, as without spans."""
        store = seen.telemetry.instrument(make_writer())
        record = _step(1)
        saving = store.save(record)
        task = asyncio.ensure_future(saving)
        await asyncio.sleep(0)
        record.messages.append("later")
        await task
        loaded = await store.load("s")
        assert loaded is not None
        assert loaded.messages == [_SECRET]


class TestMetrics:
    @pytest.mark.usefixtures("no_flushing")
    async def test_the_lag_of_the_journal(self, make_writer: MakeWriter, seen: Seen) -> None:
        """What has no files is told by `stats`, and nothing once it has been flushed."""
        store = seen.telemetry.instrument(make_writer(), name="state")
        for number in range(3):
            await store.save(_step(number, f"s{number}"))
        (changes,), (size,) = seen.points("journal.changes"), seen.points("journal.size")
        (first,), (second,) = seen.points("journal.lag"), seen.points("journal.lag")
        assert (changes.value, changes.attributes) == (3, {"aiocheckpoint.store": "state"})
        assert size.value > 1_000
        assert 0 < first.value < second.value < 60
        await store.flush()
        assert [point.value for point in seen.points("journal.lag")] == [0.0]
        assert [point.value for point in seen.points("changes")] == [3]
        assert [point.value for point in seen.points("waiting")] == [0]
        assert 1 <= seen.points("commits")[0].value <= 4  # the flush is one, too

    async def test_several_stores(self, make_writer: MakeWriter, seen: Seen) -> None:
        """Each store that is observed has points of its own, for as long as it is in use."""
        for name in ("a", "b"):
            store = seen.telemetry.instrument(make_writer(), name=name)
            await store.save(_step(1, name))
        other = AsyncCheckpointWriter("unused")
        seen.telemetry.observe(other, name="c")
        names = [point.attributes["aiocheckpoint.store"] for point in seen.points("changes")]
        assert sorted(names) == ["a", "b", "c"]
        del other
        gc.collect()
        assert len(seen.points("changes")) == 2

    async def test_a_saver_of_langgraph(self, seen: Seen, tmp_path: Any) -> None:
        """LangGraph's saver can be observed, too."""
        async with CheckpointSaver(tmp_path / "state") as saver:
            seen.telemetry.observe(saver)
            assert [point.value for point in seen.points("changes")] == [0]


class TestDelegation:
    async def test_anything_else_is_as_it_was(self, make_writer: MakeWriter, seen: Seen) -> None:
        """What is not awaited is passed through; what is not there is not there."""
        writer = make_writer(max_checkpoints=3)
        store = seen.telemetry.instrument(writer)
        assert store.stats() == writer.stats()
        assert store.max_checkpoints == 3
        assert repr(writer) in repr(store)
        with pytest.raises(AttributeError, match="no_such_thing"):
            store.no_such_thing  # type: ignore[attr-defined]  # noqa: B018
        async with store as entered:
            assert entered is store
        assert seen.spans() == ()


@pytest.mark.few(40)
class TestInstrumentedStore(CheckpointStoreContract):
    """It keeps all promises of a store."""

    @pytest.fixture(name="store")
    def _store(self, seen: Seen) -> CheckpointStore[CheckpointData]:
        return seen.telemetry.instrument(MemoryStore(CheckpointData))


class TestInstrumentedBlobStore(BlobStoreContract):
    """It keeps all promises about blobs."""

    @pytest.fixture(name="blob_store")
    def _blob_store(self, seen: Seen) -> BlobStore[LargeValue]:
        return seen.telemetry.instrument(MemoryStore(LargeValue))


async def test_a_traced_store_is_not_copied_to_itself(make_writer: MakeWriter, seen: Seen) -> None:
    """That it is traced hides from nobody which place it is."""
    await make_writer().save(CheckpointData(session_id="s"))
    plain = make_writer(record_type=RawRecord)
    traced = seen.telemetry.instrument(plain)
    for source, target in ((plain, traced), (traced, plain), (traced, traced)):
        with pytest.raises(InvalidArgumentError, match="target"):
            await copy_store(source, target)


def test_without_opentelemetry_the_import_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An import of the adapter where the API is missing names it, and how to get it."""
    name = "aiocheckpoint.adapters.opentelemetry"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ModuleNotFoundError, match="-m pip install opentelemetry-api") as refused:
        importlib.import_module(name)
    assert refused.value.name == "opentelemetry"
