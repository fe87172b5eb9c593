"""Spans and metrics of stores for OpenTelemetry, the extra `otel`."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

from aiocheckpoint import CheckpointStore, WriterStats
from aiocheckpoint.adapters._needs import needs

with needs("OpenTelemetry", "opentelemetry", extra="otel", requirement="opentelemetry-api"):
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

__all__ = ("HasStats", "Telemetry")

_NAME = "aiocheckpoint"
_GAUGES = (
    ("waiting", "waiting", "{change}", "Changes that are not committed yet."),
    ("journal.lag", "lag_seconds", "s", "Age of the oldest change that has no file yet."),
    ("journal.size", "unflushed_bytes", "By", "What of the journal has no files yet."),
    ("journal.changes", "unflushed_changes", "{change}", "Changes that have no files yet."),
)
_COUNTERS = (
    ("changes", "changes", "{change}", "Saves, deletes and other changes that were decided."),
    ("commits", "commits", "{commit}", "Commits that took: their ratio is how many share a sync."),
    ("reads", "reads", "{read}", "Reads that were begun, or wait."),
)
StoreT = TypeVar("StoreT", bound=CheckpointStore[Any])
ResultT = TypeVar("ResultT")


class HasStats(Protocol):
    """What can be observed: a writer, and LangGraph's `CheckpointSaver`."""

    def stats(self) -> WriterStats:
        """Return how it is doing, without waiting."""
        ...


class Telemetry:
    """
    Makes spans and metrics of stores; make one for an application.

    Spans are named `aiocheckpoint save` and so on, and have the attributes
    `aiocheckpoint.operation` and, where a call is about one session, `aiocheckpoint.session_id`;
    no content of a checkpoint. The metrics are `aiocheckpoint.operation.duration` by operation and
    `error.type`, and of what is observed `aiocheckpoint.journal.lag`, `.journal.size`,
    `.journal.changes`, `.waiting`, `.changes`, `.commits` and `.reads`.

    Args:
        tracer_provider: where spans go; the global one by default.
        meter_provider: where metrics go; the global one by default.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, version(_NAME), tracer_provider)
        meter = metrics.get_meter(_NAME, version(_NAME), meter_provider)
        self._durations = meter.create_histogram(
            f"{_NAME}.operation.duration", "s", "How long calls of a store take."
        )
        self._observed: weakref.WeakKeyDictionary[HasStats, str] = weakref.WeakKeyDictionary()
        for name, field, unit, text in _GAUGES:
            meter.create_observable_gauge(f"{_NAME}.{name}", [self._of(field)], unit, text)
        for name, field, unit, text in _COUNTERS:
            meter.create_observable_counter(f"{_NAME}.{name}", [self._of(field)], unit, text)

    def instrument(self, store: StoreT, *, name: str = "") -> StoreT:
        """
        Return a store that does what another does, and makes spans and metrics of its calls.

        Whatever methods it has are there, those that no Protocol names as well. A store with
        `stats` is observed. It is open and closed together with the other one.

        Args:
            store: any.
            name: tells its metrics from those of other stores, as attribute `aiocheckpoint.store`.

        Cost: some microseconds a call.
        """
        if hasattr(store, "stats"):
            self.observe(cast("HasStats", store), name=name)
        return cast("StoreT", _Traced(store, self._operation))

    def observe(self, writer: HasStats, *, name: str = "") -> None:
        """
        Make metrics of `stats()` for as long as a writer, or a `CheckpointSaver`, is in use.

        Args:
            writer: it is not kept from being dropped.
            name: as for `instrument`.
        """
        self._observed[writer] = name

    def _of(self, field: str) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observed(_: CallbackOptions) -> Iterator[Observation]:
            for writer, name in list(self._observed.items()):
                yield Observation(getattr(writer.stats(), field), {"aiocheckpoint.store": name})

        return observed

    @contextmanager
    def _operation(self, name: str, subject: object, *, is_parent: bool = True) -> Iterator[None]:
        """Make a span and a duration of what is done within."""
        attributes = {"aiocheckpoint.operation": name}
        session_id = getattr(subject, "session_id", subject)
        of_span = {"aiocheckpoint.session_id": session_id} if isinstance(session_id, str) else {}
        span = self._tracer.start_span(
            f"{_NAME} {name}", kind=SpanKind.CLIENT, attributes=attributes | of_span
        )
        began = asyncio.get_running_loop().time()
        try:
            with trace.use_span(span, record_exception=False) if is_parent else nullcontext():
                yield
        except (Exception, asyncio.CancelledError) as error:
            attributes["error.type"] = type(error).__qualname__
            span.set_attribute("error.type", type(error).__qualname__)
            if isinstance(error, Exception):  # that a caller changed its mind is no fault
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, str(error)))
            raise
        finally:
            self._durations.record(asyncio.get_running_loop().time() - began, attributes)
            span.end()


class _Traced:
    """Does what something else does, each call as a span."""

    def __init__(self, traced: Any, operation: Callable[..., AbstractContextManager[None]]) -> None:
        self._traced = traced
        self._operation = operation

    def __repr__(self) -> str:
        return f"<traced {self._traced!r}>"

    async def __aenter__(self) -> Self:
        await self._traced.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._traced.__aexit__(exc_type, exc, traceback)

    def __getattr__(self, name: str) -> Any:
        if name == "read_blocking":  # there is a loop for the span of `read` alone
            return None
        found = getattr(self._traced, name)
        return partial(self._call, name, found) if inspect.ismethod(found) else found

    def _call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method; what is to be awaited, entered or iterated is done in a span."""
        result = method(*args, **kwargs)
        # What an owner does is about the session that it owns.
        is_owner = hasattr(self._traced, "session_id")
        subject = self._traced if is_owner else next(iter((*args, *kwargs.values())), None)
        if inspect.isawaitable(result):
            return self._awaited(name, subject, result)
        if isinstance(result, AbstractAsyncContextManager):
            return self._entered(name, subject, result)
        if isinstance(result, AsyncIterator):
            return self._iterated(name, result)
        return result

    async def _awaited(self, name: str, subject: object, result: Awaitable[ResultT]) -> ResultT:
        with self._operation(name, subject):
            return await result

    @asynccontextmanager
    async def _entered(
        self, name: str, subject: object, block: AbstractAsyncContextManager[Any]
    ) -> AsyncIterator[Any]:
        with self._operation(name, subject):
            async with block as held:
                # A text, as of a mark, has no calls.
                yield held if isinstance(held, str) else _Traced(held, self._operation)

    async def _iterated(self, name: str, result: AsyncIterator[ResultT]) -> AsyncIterator[ResultT]:
        # It is no parent: between two steps the caller does other things.
        with self._operation(name, None, is_parent=False):
            async for one in result:
                yield one
