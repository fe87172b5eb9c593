"""The tests' own server ends with them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_REPOSITORY = Path(__file__).parents[3]
_STARTS = """
import pathlib, sys, time
from tests.stores.postgres.server import PostgresServer
server = PostgresServer(pathlib.Path(sys.argv[1]))
server.make()
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("server")  # or it is skipped
def test_a_server_ends_with_tests_that_are_killed() -> None:
    """Nobody is left who could stop it: it stops by itself."""
    server = PostgresServer()
    try:
        _wait_for_end(_killed(server.directory))
    finally:
        server.stop()


def _killed(directory: Path) -> int:
    """Kill a process that has started a server in a directory; return a handle on the server."""
    command = [sys.executable, "-c", _STARTS, str(directory)]
    with subprocess.Popen(command, cwd=_REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        server = os.pidfd_open(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
    return server


def _wait_for_end(server: int) -> None:
    ended, _, _ = select.select([server], [], [], 60)
    os.close(server)
    assert ended
