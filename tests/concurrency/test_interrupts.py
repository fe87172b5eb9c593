"""A process that is interrupted while it saves."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.concurrency.site import Site, document

_PROJECT = Path(__file__).parents[2]
_GUARD_SECONDS = 30.0
_SESSIONS = 8


def _start(site: Site, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.concurrency.interrupted_process", str(site.root)]
    return subprocess.Popen(
        [*command, str(site.options["durability"]), *options],
        cwd=_PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _interrupt(process: subprocess.Popen[str], after_lines: int, times: int) -> list[str]:
    """Interrupt a process once it has acknowledged some saves, and return all it acknowledged."""
    assert process.stdout is not None
    watchdog = threading.Timer(_GUARD_SECONDS, process.kill)
    watchdog.start()
    try:
        lines = [process.stdout.readline() for _ in range(after_lines)]
        for _ in range(times):
            process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()
        process.wait(_GUARD_SECONDS)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT), process.returncode
    return [line.rstrip("\n") for line in lines]


async def _assert_nothing_acknowledged_is_lost(site: Site, lines: list[str]) -> None:
    acknowledged = [line.split(" ") for line in lines]
    async with site.writer() as writer:
        for number in range(_SESSIONS):
            session = f"s{number}"
            found = [meta.checkpoint_id for meta in await writer.list(session)][::-1]
            promised = [name for owner, name in acknowledged if owner == session]
            assert found[: len(promised)] == promised
            assert len(found) <= len(promised) + 1  # the one in flight
            if found:
                assert await writer.load(session) == document(session, len(found) - 1)
    await site.assert_intact()


_CAMPAIGN = [pytest.mark.campaign, pytest.mark.timeout(900)]


@pytest.mark.parametrize("options", [("--closes",), ()], ids=["closes", "does-not-close"])
@pytest.mark.parametrize("times", [1, 3], ids=["once", "thrice"])
@pytest.mark.parametrize(
    ("site", "rounds"),
    [
        ("journal", 1),
        pytest.param("journal", 50, marks=_CAMPAIGN),
        pytest.param("file", 50, marks=_CAMPAIGN),
    ],
    indirect=["site"],
)
@pytest.mark.few(1)
def test_interrupted_process(
    options: tuple[str, ...], times: int, rounds: int, root: Path, site: Site
) -> None:
    """Ctrl-C, however impatient, ends a process that saves, and loses nothing acknowledged."""
    chance = random.Random(times)
    for number in range(rounds):
        place = Site(root / str(number), **site.options)
        lines = _interrupt(_start(place, *options), chance.randrange(1, 100), times)
        asyncio.run(_assert_nothing_acknowledged_is_lost(place, lines))
