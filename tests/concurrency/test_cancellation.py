"""Cancellation, by every means, at every moment: all or nothing, and nothing left behind."""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from typing import Any

import pytest

from tests.concurrency import cancellations, scenarios
from tests.concurrency.backends import BACKENDS, Run, run_counting
from tests.concurrency.cancellations import ANYIO_KINDS, KINDS, NATIVE_KINDS, Kind, each_kind
from tests.concurrency.scenarios import CHANGES, Change
from tests.concurrency.site import Site

each_backend = pytest.mark.parametrize("run", BACKENDS)

_SAVE = CHANGES[1]
_SCOPED = tuple(kind for kind in ANYIO_KINDS if kind is not cancellations.native_inside_anyio_scope)
_FULL_SLICE = (cancellations.native, cancellations.anyio_cancel_scope)


def _pairs(full_slice: Container[Kind], sliced: Container[Change]) -> list[Any]:
    """Return every kind with every change; those beyond the slices only in the campaign."""
    return [
        pytest.param(
            kind,
            change,
            id=f"{kind.__name__}-{change.name}",
            marks=() if kind in full_slice or change in sliced else pytest.mark.campaign,
        )
        for kind in KINDS
        for change in CHANGES
    ]


each_way = pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.campaign)], ids=["some", "every"]
)


@pytest.mark.parametrize(("kind", "change"), _pairs(_FULL_SLICE, [_SAVE]))
@each_way
@pytest.mark.some
@pytest.mark.few(6)
async def test_cancelled_amid_its_work(
    change: Change, kind: Kind, default_site: Site, every: bool
) -> None:
    """Cancelled at a failpoint or file operation, a call waits, and is whole or nothing."""
    await scenarios.change_cancelled_while_held(default_site, kind, change, every=every)


@pytest.mark.parametrize(("kind", "change"), _pairs([cancellations.native], []))
@pytest.mark.parametrize("site", ["file"], indirect=True)
@each_way
@pytest.mark.few(2)
async def test_cancelled_while_it_waits_for_files(
    change: Change, kind: Kind, site: Site, every: bool
) -> None:
    """The same of a call that waits for files as well."""
    await scenarios.change_cancelled_while_held(site, kind, change, every=every)


@pytest.mark.parametrize(("kind", "change"), _pairs(_FULL_SLICE, [_SAVE]))
@pytest.mark.some
@pytest.mark.few(6)
async def test_cancelled_after_any_number_of_turns(
    change: Change, kind: Kind, default_site: Site
) -> None:
    """Cancelled after any number of turns of the loop, a call is whole or nothing."""
    await scenarios.call_cancelled_after_turns(default_site, kind, change)


@each_backend
@each_kind(*NATIVE_KINDS)
@pytest.mark.some
@pytest.mark.few(6)
def test_cancellation_is_reported(run: Run, kind: Kind, default_site: Site) -> None:
    """A call that asyncio cancelled amid its work raises `CancelledError` when that has ended."""
    run(partial(scenarios.cancelled_call_raises_at_its_end, default_site, kind))


@each_backend
@each_kind()
@pytest.mark.some
@pytest.mark.few(6)
def test_error_is_the_cause(run: Run, kind: Kind, default_site: Site) -> None:
    """The error of a cancelled call's work is the cancellation's cause."""
    run(partial(scenarios.error_travels_with_the_cancellation, default_site, kind))


@each_backend
@each_kind()
@pytest.mark.some
@pytest.mark.few(6)
def test_nothing_spins(run: Run, kind: Kind, default_site: Site) -> None:
    """A cancelled call is resumed a few times at most, however long its work is held."""
    run(partial(scenarios.cancelled_call_does_not_spin, default_site, kind))


@each_kind()
def test_loop_sleeps(kind: Kind, default_site: Site) -> None:
    """While a cancelled call waits for its held work, nothing keeps the loop turning."""
    run_counting(partial(scenarios.loop_sleeps_while_held, default_site, kind))


@each_backend
@each_kind()
@pytest.mark.some
@pytest.mark.few(6)
def test_queued_call_is_withdrawn(run: Run, kind: Kind, default_site: Site) -> None:
    """A call cancelled before its work has begun ends at once and leaves nothing."""
    run(partial(scenarios.queued_call_is_withdrawn, default_site, kind))


@each_kind()
async def test_call_that_waits_for_the_lock_is_withdrawn(kind: Kind, default_site: Site) -> None:
    """A call cancelled while it waits for the lock of the journal ends at once, without effect."""
    await scenarios.call_is_withdrawn_before_its_commit(default_site, kind)


@each_kind()
@pytest.mark.parametrize("site", ["file"], indirect=True)
@pytest.mark.few(5)
async def test_files_are_left_to_others(kind: Kind, site: Site) -> None:
    """A call cancelled when its change is durable ends at once; its file is written later."""
    await scenarios.files_are_left_to_others(site, kind)


@each_kind()
async def test_reads(kind: Kind, default_site: Site) -> None:
    """A cancelled read ends with its file work, and the next one works."""
    await scenarios.reads_cancelled_while_held(default_site, kind)
