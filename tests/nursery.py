"""
Processes that begin with what they need imported: one that has imported it, and no more, forks.

They are as fresh as those that are started, for a twentieth of the time. Forked from the process of
the tests they would not be: it has threads, and whatever earlier tests left.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_PROJECT = Path(__file__).parents[1]
_SCRIPT = "import sys; from tests.nursery import main; main(*sys.argv[1:])"
_IS_SUBREAPER = 36  # of prctl: whoever is orphaned below becomes a child of this process
_MAX_BYTES = 1 << 20
_MAX_DESCRIPTORS = 16


class _Birth(NamedTuple):
    """What is to be done, where, and in which environment."""

    function: Callable[..., object]
    args: tuple[Any, ...]
    environment: dict[str, str]
    directory: str


class Forked:
    """A child of this process, with what `subprocess.Popen` can do with one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, if it has."""
        return self._reap(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended, once it has."""
        if self.returncode is None and timeout is not None:
            self._wait_until_ended(timeout)
        status = self._reap(0)
        assert status is not None
        return status

    def _wait_until_ended(self, timeout: float) -> None:
        descriptor = os.pidfd_open(self.pid)
        try:
            if not select.select([descriptor], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
        finally:
            os.close(descriptor)

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it is there still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it is there still."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """
    A process that forks others.

    Args:
        modules: that they find imported.
        strict: whether a warning is an error.
    """

    def __init__(self, *modules: str, strict: bool = True) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = ["-W", "error"] if strict else []
        command = [sys.executable, *options, "-c", _SCRIPT, str(other.fileno()), *modules]
        with other:
            self._process = subprocess.Popen(command, pass_fds=[other.fileno()], cwd=_PROJECT)
        atexit.register(self._close)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()

    def start(
        self, function: Callable[..., object], *args: Any, descriptors: Sequence[int] = ()
    ) -> Forked:
        """
        Start a process of a function.

        Args:
            function: of a module.
            args: for it.
            descriptors: to be passed on; it gets their numbers there as further arguments.

        Returns:
            the process, a child of this one.
        """
        birth = pickle.dumps(_Birth(function, args, dict(os.environ), os.getcwd()))
        assert len(birth) <= _MAX_BYTES
        _adopt_orphans(wanted=True)
        try:
            socket.send_fds(self._socket, [birth], descriptors)
            return Forked(int(self._socket.recv(_MAX_BYTES)))
        finally:
            _adopt_orphans(wanted=False)

    def run(
        self, function: Callable[..., object], *args: Any, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """
        Start a process of a function, and wait until it has ended.

        Args:
            function: of a module.
            args: for it.
            timeout: how many seconds it may take.

        Returns:
            how it ended, and what it printed.
        """
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            descriptors = [output.fileno(), errors.fileno()]
            process = self.start(_printing, function, args, descriptors=descriptors)
            status = process.wait(timeout)
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(
                args, status, output.read().decode(), errors.read().decode()
            )


def _printing(
    function: Callable[..., object], args: Sequence[Any], output: int, errors: int
) -> None:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    function(*args)


def _adopt_orphans(*, wanted: bool) -> None:
    failed = ctypes.CDLL(None, use_errno=True).prctl(_IS_SUBREAPER, int(wanted), 0, 0, 0)
    assert not failed, os.strerror(ctypes.get_errno())


def main(descriptor: str, *modules: str) -> None:
    """Fork whenever the process at the other end asks for it, until that is gone."""
    for module in modules:
        __import__(module)
    gc.collect()
    gc.freeze()  # or each collection of a child would copy the pages of all that is imported
    with socket.socket(fileno=int(descriptor)) as connection:
        born = _first_birth(connection)
    if born is not None:
        birth, descriptors = born
        os.environ.clear()
        os.environ.update(birth.environment)
        os.chdir(birth.directory)
        try:
            birth.function(*birth.args, *descriptors)
        except SystemExit as ended:
            if isinstance(ended.code, int):
                _end(ended.code)
            raise
        _end(0)


def _end(status: int) -> None:
    """
    End as an interpreter does, but leave what is imported where it is.

    To take it apart would copy the page of each object, for which many a process takes longer than
    for its work. Where something cannot be printed this returns, and the interpreter tells.
    """
    threading._shutdown()  # type: ignore[attr-defined] # which waits for threads, as at any end
    atexit._run_exitfuncs()
    gc.collect()  # what was not closed is told here
    with contextlib.suppress(OSError):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        os._exit(status)


def _first_birth(connection: socket.socket) -> tuple[_Birth, list[int]] | None:
    """Return in each forked process what it is for, and None in the one that forks."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, _MAX_BYTES, _MAX_DESCRIPTORS)
        if not request:
            return None
        pid = _fork_orphan()
        if not pid:
            return pickle.loads(request), descriptors
        connection.send(b"%d" % pid)
        for each in descriptors:
            os.close(each)


def _fork_orphan() -> int:
    """Fork twice; the one in between has ended, so whoever asked has adopted the other."""
    reading, writing = os.pipe()
    between = os.fork()
    if not between:
        pid = os.fork()
        if pid:
            os.write(writing, b"%d" % pid)
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        if not between:
            return 0
        os.waitpid(between, 0)
        return int(told.read())
