"""A PostgreSQL of the tests' own: started, killed and started again; never as root."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import select
import shutil
import signal
import subprocess
import time
from functools import cache
from pathlib import Path
from urllib.parse import quote

from tests.directories import make_open_directory
from tests.servers import NOBODY, server_command

_PATIENCE_SECONDS = 60.0


def programs() -> Path | None:
    """
    Return the directory of the newest server that is installed; None where there is none.

    `AIOCHECKPOINT_POSTGRES` names another one, as the `bin` of another version.
    """
    if chosen := os.environ.get("AIOCHECKPOINT_POSTGRES"):
        return Path(chosen)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return None if initdb is None else Path(initdb).resolve().parent


def _version(initdb: Path) -> float:
    with contextlib.suppress(ValueError):
        return float(initdb.parent.parent.name)
    return 0.0


def has_program(name: str) -> bool:
    """Tell whether a program came with the server."""
    directory = programs()
    return directory is not None and (directory / name).exists()


def reason_to_skip() -> str | None:
    """Say why no server can be started; None if one can."""
    if programs() is None:
        return "PostgreSQL's server is not installed (looked in /usr/lib/postgresql and PATH)"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and there is no setpriv to run it as another"
    return None


class PostgresServer:
    """
    A server in a directory of its own, reached by a Unix socket.

    Args:
        directory: where to keep it; made if None, and removed by `stop`.
        settings: of the server.
    """

    def __init__(self, directory: Path | None = None, **settings: str) -> None:
        self._is_mine = directory is None
        self.directory = directory or make_open_directory("pg-")
        self._settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "dynamic_shared_memory_type": "mmap",  # or it stays when the server is killed
            "max_connections": "60",
            "shared_buffers": "32MB",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    @property
    def socket_path(self) -> str:
        """Where it listens."""
        return str(self.directory / ".s.PGSQL.5432")

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process is not None
        return self._process.pid

    def dsn(self, database: str = "postgres", user: str = "postgres", **query: str) -> str:
        """Return a URL of it."""
        items = {"host": str(self.directory), "user": user, **query}
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in items.items())
        return f"postgresql:///{database}?{text}"

    def make(self, primary: PostgresServer | None = None) -> None:
        """Make the files of an empty database, or of a replica of one that runs."""
        if os.geteuid() == 0:
            os.chown(self.directory, NOBODY, NOBODY)
        options = ["-U", "postgres", "-D", self._data, "--no-sync"]
        if primary is not None:
            self._run("pg_basebackup", *options, "-h", str(primary.directory), "-R", "-c", "fast")
        elif self._is_mine:
            subprocess.run(["cp", "-a", _empty_database()._data, self._data], check=True)
        else:
            self._run("initdb", *options, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")

    def new_schema(self) -> str:
        """Return the name of a schema that nobody else has used."""
        return f"test_{next(self._numbers)}"

    def promote(self) -> None:
        """Make a replica a server that takes changes."""
        self._run("pg_ctl", "promote", "-w", "-D", self._data)

    def _run(self, program: str, *options: str) -> None:
        directory = programs()
        assert directory is not None
        command = _command(str(directory / program), *options)
        subprocess.run(command, check=True, capture_output=True, cwd=self.directory)

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        directory = programs()
        assert directory is not None
        settings = [
            part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")
        ]
        command = _command(str(directory / "postgres"), "-D", self._data, *settings)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.directory, start_new_session=True
            )
        until = time.monotonic() + _PATIENCE_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        """Tell whether it takes connections, as its file of the process says."""
        with contextlib.suppress(OSError):
            lines = (self.directory / "data" / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[7].strip() == "ready"
        return False

    def kill(self) -> None:
        """Kill all of its processes, each of which leads a group of its own, and see them gone."""
        assert self._process is not None
        first = self.pid
        os.kill(first, signal.SIGSTOP)  # or it may start one more meanwhile
        os.waitid(os.P_PID, first, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        killed = [os.pidfd_open(process) for process in (*map(int, children), first)]
        for process in killed:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        self._process.wait()
        for process in killed:  # the next one does not start beside what has its memory still
            select.select([process], [], [], _PATIENCE_SECONDS)
            os.close(process)
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it, and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._is_mine:
            shutil.rmtree(self.directory, ignore_errors=True)


@cache
def _empty_database() -> PostgresServer:
    """Return one that is never started: to make the files takes a second, and to copy them none."""
    server = PostgresServer(make_open_directory("pg-empty-"))
    atexit.register(shutil.rmtree, server.directory, ignore_errors=True)
    server.make()
    return server


def _command(*command: str) -> list[str]:
    return server_command(*command, as_nobody=os.geteuid() == 0, ended_by="QUIT")
