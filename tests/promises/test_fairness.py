"""Processes that save as fast as they can share the log; a campaign, for it measures time."""

from __future__ import annotations

import pytest

from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.records import record

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(300)]

_SECONDS = 10.0
_SESSIONS = 16


def test_it_is_shared_evenly(start: Start) -> None:
    """Four processes with free loops share the log within 20 %, and none waits for a second."""
    workers = [start() for _ in range(4)]
    for worker in workers:
        worker.save(record("s", "begun"))
    runs = [w.begin(tasks.save_for, f"p{n}", _SESSIONS, _SECONDS) for n, w in enumerate(workers)]
    counts, waits = zip(*(run.result(3 * _SECONDS) for run in runs), strict=True)
    print(counts, waits)
    assert min(counts) >= 0.8 * max(counts)
    assert max(waits) < 1.0


def test_one_is_busy(start: Start) -> None:
    """With one busy main thread among four processes no save of another waits for a second."""
    workers = [start() for _ in range(4)]
    for worker in workers:
        worker.save(record("s", "begun"))
    (busy, *others) = workers
    busy.begin(tasks.save_while_busy, "busy", 4).note()
    runs = [w.begin(tasks.save_for, f"p{n}", _SESSIONS, _SECONDS) for n, w in enumerate(others)]
    counts, waits = zip(*(run.result(3 * _SECONDS) for run in runs), strict=True)
    print(counts, waits)
    assert max(waits) < 1.0
