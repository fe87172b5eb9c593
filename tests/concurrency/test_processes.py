"""Several processes, each with many tasks, saving to and reading from one directory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.concurrency.board import Board
from tests.concurrency.saver_process import (
    Plan,
    assert_complete,
    checkpoint_name,
    session_name,
)
from tests.concurrency.site import Site, document
from tests.on_disk import path_of

_PROJECT = Path(__file__).parents[2]
_RUN_SECONDS = 900


_SLICE = Plan(processes=4, tasks=64, sessions=16, saves=250)
_FULL = Plan(processes=4, tasks=64, sessions=16, saves=5_000)
_CAMPAIGN = [pytest.mark.campaign, pytest.mark.timeout(2 * _RUN_SECONDS)]


@pytest.mark.parametrize(
    ("site", "plan"),
    [
        pytest.param("journal", _SLICE, id="journal-1000-saves"),
        pytest.param("file", _SLICE, id="file-1000-saves", marks=_CAMPAIGN),
        pytest.param("journal", _FULL, id="journal-20000-saves", marks=_CAMPAIGN),
        pytest.param("file", _FULL, id="file-20000-saves", marks=_CAMPAIGN),
    ],
    indirect=["site"],
)
@pytest.mark.long
def test_processes_on_one_directory(plan: Plan, site: Site, root: Path, tmp_path: Path) -> None:
    """With many tasks in several processes nothing is lost, torn, out of order or left over."""
    board_path = tmp_path / "board"
    with Board(board_path, plan.processes, plan.sessions) as board:
        _run_all(site, root, board_path, plan)
        expected = [board.acknowledged(session) for session in range(plan.sessions)]
    assert sum(map(sum, expected)) == plan.processes * plan.saves
    asyncio.run(_assert_everything_is_there(site, expected))
    asyncio.run(site.assert_intact())


def _run_all(site: Site, root: Path, board_path: Path, plan: Plan) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.concurrency.saver_process"]
    files = [str(root), str(board_path), str(site.options["durability"])]
    processes = [
        subprocess.Popen(
            [*command, *files, str(number), *map(str, plan)],
            cwd=_PROJECT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(plan.processes)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=_RUN_SECONDS)
            assert process.returncode == 0, errors
            assert errors == ""
    finally:
        for process in processes:
            process.kill()
            process.communicate()


async def _assert_everything_is_there(site: Site, expected: list[list[int]]) -> None:
    async with site.writer() as writer:
        for session, counts in enumerate(expected):
            name = session_name(session)
            metas = await writer.list(name)
            assert_complete(metas, counts)
            assert len(metas) == sum(counts)
            assert [path_of(meta).name for meta in metas] == sorted(
                (path_of(meta).name for meta in metas), reverse=True
            )
            assert await writer.load(name) == document(
                name, metas[0].iteration, metas[0].checkpoint_id
            )
            for process, count in enumerate(counts):
                for number in range(1, count + 1):
                    checkpoint = checkpoint_name(process, number)
                    loaded = await writer.load(name, checkpoint)
                    assert loaded == document(name, number, checkpoint)
