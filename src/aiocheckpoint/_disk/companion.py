"""A process beside this one that lives no longer than it, and how the two talk."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

from aiocheckpoint._disk.files import close_in_forks, keep_in_forks
from aiocheckpoint.errors import StorageError, storage_error

_START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from {0} import main; main()"
_RECEIVED_BYTES = 1 << 16
_SENT_AT_ONCE_BYTES = 4096  # what a socket that has room takes for sure
_END_SECONDS = 5.0


class Companion:
    """
    A process that runs `main` of a module, with arguments.

    It is told to work, and answers in lines. Where this process ends, however it does, so does it.

    Args:
        module: with the function.
        arguments: in its `sys.argv` from 1 on.

    Attributes:
        is_busy: whether it was asked, and has not said yet that it is done.

    Raises:
        StorageError: it cannot be started.
    """

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        if getattr(sys, "frozen", False):  # then that is the whole program, which would begin anew
            raise StorageError("start", sys.executable, None, "it is no Python")
        self._socket, theirs = socket.socketpair()
        close_in_forks(self._socket.fileno())
        command = [sys.executable, "-c", _START.format(module), json.dumps(sys.path), *arguments]
        self.is_busy = False
        self._received = b""
        try:
            with theirs:
                # In a session of its own: Ctrl-C is for this process, which ends it.
                self._process = subprocess.Popen(  # noqa: S603 - this very Python
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            self._close()
            cause = error if isinstance(error, OSError) else OSError(str(error))
            raise storage_error("start", sys.executable, cause) from error

    def ask(self) -> None:
        """
        Let it work.

        Raises:
            StorageError: it has ended.
        """
        self.is_busy = True
        with self._told():
            self._socket.sendall(b"\n", getattr(socket, "MSG_NOSIGNAL", 0))

    def lines(self, seconds: float) -> list[bytes]:
        """
        Return what it has said, waiting a while for something; an empty line: it has done its work.

        Raises:
            StorageError: it has ended.
        """
        with self._told():
            self._socket.settimeout(seconds)
            try:
                data = self._socket.recv(_RECEIVED_BYTES)
            except TimeoutError:
                return []
            if not data:
                raise StorageError("ask", self._name, None, "the process has ended")
        *lines, self._received = (self._received + data).split(b"\n")
        if b"" in lines:
            self.is_busy = False
        return lines

    @property
    def _name(self) -> str:
        return f"process {self._process.pid}"

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error("ask", self._name, error) from error

    def end(self) -> None:
        """End it: it does not stop in the middle of a file, if that does not take for ever."""
        self._close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._process.kill()
        self._process.wait()

    def _close(self) -> None:
        keep_in_forks(self._socket.fileno())
        self._socket.close()


class Principal:
    """The process that this one was started by."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=0)

    def requests(self) -> Iterator[None]:
        """Yield whenever there is work to do, until the other process ends."""
        with contextlib.suppress(OSError):
            while self._socket.recv(_RECEIVED_BYTES):
                yield

    def hint(self, lines: Sequence[bytes]) -> None:
        """Say something that the other need not hear, where it does not listen just now."""
        room = _SENT_AT_ONCE_BYTES
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        for line in lines:
            if poller.poll(0) and len(line) < room:
                self._socket.sendall(line + b"\n")

    def done(self) -> None:
        """Say that the work is done."""
        self._socket.sendall(b"\n")
