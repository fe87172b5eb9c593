"""A PostgreSQL of the benchmark's own, on the disk to measure; fsync is on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.rounds import UnavailableError

_NOBODY = 65534
_PATIENCE_SECONDS = 60.0


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise UnavailableError("install PostgreSQL's server, as postgresql-15 of Debian")
    return found[-1].parent


def _as_user(*command: str) -> list[str]:
    """Return a command as somebody who is not root, which the server refuses."""
    if os.geteuid() != 0:
        return list(command)
    if shutil.which("setpriv") is None:
        raise UnavailableError("PostgreSQL does not run as root, and there is no setpriv")
    user = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
    return ["setpriv", *user, *command]


@contextmanager
def postgres_server(parent: Path) -> Iterator[str]:
    """
    Start a server with its files in a directory, and yield a URL of it, to which a name is added.

    Raises:
        UnavailableError: none is installed.
    """
    programs = _programs()
    directory = (parent / "pg").resolve()
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, _NOBODY, _NOBODY)
        for above in directory.parents:
            if above.stat().st_mode & 0o011 != 0o011 and above.stat().st_uid == 0:
                above.chmod(above.stat().st_mode | 0o011)
    data = str(directory / "data")
    options = ("-U", "postgres", "-A", "trust", "--no-instructions", "-E", "UTF8")
    subprocess.run(
        _as_user(str(programs / "initdb"), "-D", data, *options), check=True, capture_output=True
    )
    command = _as_user(
        str(programs / "postgres"), "-D", data, "-k", str(directory), "-c", "listen_addresses="
    )
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(programs, directory, server)
        yield f"postgresql://postgres@/{{}}?host={quote(str(directory), safe='')}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(directory)


async def make_database(url: str, name: str) -> None:
    """Make an empty database."""
    import asyncpg

    connection: Any = await asyncpg.connect(url)
    await connection.execute(f"create database {name}")
    await connection.close()


def _wait(programs: Path, directory: Path, server: subprocess.Popen[bytes]) -> None:
    ready = [str(programs / "pg_isready"), "-q", "-h", str(directory)]
    until = time.monotonic() + _PATIENCE_SECONDS
    while subprocess.run(ready, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > until:
            raise UnavailableError((directory / "log").read_text(encoding="utf-8")[-2000:])
        time.sleep(0.05)
