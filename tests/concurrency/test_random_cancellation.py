"""Cancellation at random times, by every means, thousands of times."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial

import pytest

from tests.concurrency.backends import run_uvloop
from tests.concurrency.cancellations import KINDS, Ending, Watched
from tests.concurrency.coroutines import yield_to_loop
from tests.concurrency.gates import GUARD_SECONDS
from tests.concurrency.site import Site, Writer, document

pytestmark = pytest.mark.usefixtures("flushing")

_WORKERS = 8
_ROUNDS_OF_SESSION = 20


class Tally:
    """
    How many calls were made and how they ended.

    Attributes:
        due: cancellations still to come.
        acknowledged: calls that returned before they were cancelled.
        stored: cancelled calls whose checkpoint is there all the same.
        dropped: cancelled calls that left nothing.
    """

    def __init__(self, due: int) -> None:
        self.due = due
        self.acknowledged = 0
        self.stored = 0
        self.dropped = 0

    def count(self, ending: Ending | None, *, is_stored: bool) -> None:
        if ending is not None and ending.error is None:
            self.acknowledged += 1
            return
        self.due -= 1
        if is_stored:
            self.stored += 1
        else:
            self.dropped += 1


class Worker:
    """Saves to sessions of its own, a few calls at once, and cancels most of them."""

    def __init__(self, writer: Writer, tally: Tally, number: int) -> None:
        self._writer = writer
        self._tally = tally
        self._number = number
        self._chance = random.Random(number)
        self._stored: list[str] = []
        self._saves = 0
        self._save_seconds = 0.002

    async def run(self) -> None:
        rounds = 0
        while self._tally.due > 0:
            if rounds % _ROUNDS_OF_SESSION == 0:
                self._session = f"w{self._number}-{rounds}"
                self._stored = []
            await asyncio.wait_for(self._cancel_some(), GUARD_SECONDS)
            await asyncio.wait_for(self._save_undisturbed(), GUARD_SECONDS)
            rounds += 1

    async def _moment(self) -> None:
        """Come at a random time: within the first turns of the loop, during the work, or after."""
        if self._chance.random() < 0.5:
            await yield_to_loop(self._chance.randrange(30))
        else:
            await asyncio.sleep(self._chance.random() * 8 * self._save_seconds)

    async def _cancel_some(self) -> None:
        called: list[str] = []
        calls: dict[str, Watched[str]] = {}
        for _ in range(self._chance.randrange(1, 5)):
            self._saves += 1
            name = f"c{self._saves}"
            calls[name] = Watched(partial(self._save, name, self._saves, called))
        kinds = [self._chance.choice(KINDS)(watched, self._moment) for watched in calls.values()]
        await asyncio.gather(*kinds)
        await self._assert_whole_or_nothing(called, calls)

    async def _save(self, name: str, number: int, called: list[str]) -> str:
        called.append(name)
        return await self._writer.save(document(self._session, number, name))

    async def _assert_whole_or_nothing(
        self, called: list[str], calls: dict[str, Watched[str]]
    ) -> None:
        metas = await self._writer.list(self._session)
        found = [meta.checkpoint_id for meta in metas][::-1]
        new = found[len(self._stored) :]
        assert found[: len(self._stored)] == self._stored
        assert new == [name for name in called if name in new], "not in call order"
        for name, watched in calls.items():
            if watched.ending is not None and watched.ending.error is None:
                assert name in new
            if name in new:
                expected = document(self._session, int(name[1:]), name)
                assert await self._writer.load(self._session, name) == expected
            self._tally.count(watched.ending, is_stored=name in new)
        self._stored = found

    async def _save_undisturbed(self) -> None:
        """Show that the lock is free and that the newest is what was saved last."""
        self._saves += 1
        name = f"c{self._saves}"
        data = document(self._session, self._saves, name)
        start = time.perf_counter()
        assert await self._writer.save(data) == name
        self._save_seconds = time.perf_counter() - start
        assert await self._writer.load(self._session) == data
        self._stored.append(name)


async def _bombard(site: Site, cancellations: int) -> Tally:
    tally = Tally(cancellations)
    async with site.writer() as writer, asyncio.TaskGroup() as group:
        for number in range(_WORKERS):
            group.create_task(Worker(writer, tally, number).run())
    await site.assert_intact()
    return tally


each_number = pytest.mark.parametrize(
    "cancellations",
    [100, pytest.param(10_000, marks=[pytest.mark.campaign, pytest.mark.timeout(1800)])],
)


@each_number
@pytest.mark.few(1)
async def test_random_cancellation(cancellations: int, site: Site) -> None:
    """Cancelled at any time, by any means, a save is whole or not there, and the next one works."""
    tally = await _bombard(site, cancellations)
    assert min(tally.acknowledged, tally.stored, tally.dropped) > cancellations // 50, vars(tally)


@each_number
@pytest.mark.long
def test_random_cancellation_on_uvloop(cancellations: int, default_site: Site) -> None:
    """The same on uvloop, whose timers and wake-ups come in another order."""

    async def main() -> None:
        await _bombard(default_site, cancellations)

    run_uvloop(main)
