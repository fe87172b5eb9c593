"""What stands between a store and its server, and cuts, holds or loses what passes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

from tests.stores.postgres.server import PostgresServer

_CHUNK_BYTES = 1 << 16


class Proxy:
    """
    Passes bytes on, until it is told otherwise.

    Args:
        server: to whom.

    Attributes:
        connections: how many were made so far.
        is_down: whether connections are refused, and those that are open cut.
        delay_seconds: how long every piece is on its way.
        may_pass: cleared, nothing gets through any more, and nobody is told.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._target = server.socket_path
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._traps: list[tuple[bytes, Callable[[], Awaitable[None]], bool]] = []
        self.connections = 0
        self.is_down = False
        self.delay_seconds = 0.0
        self.may_pass = asyncio.Event()
        self.may_pass.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def dsn(self, user: str = "postgres") -> str:
        """Return a URL that leads through it."""
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://{user}@127.0.0.1:{port}/postgres"

    def cut(self) -> None:
        """Cut all connections."""
        for writer in [*self._writers]:
            writer.transport.abort()

    def on(
        self,
        needle: bytes,
        act: Callable[[], Awaitable[None]],
        *,
        is_passed_on: bool,
    ) -> None:
        """
        Do something once when a client sends some bytes, and then cut its connection.

        Args:
            needle: what it has to send.
            act: awaited before the cut; nothing comes back to the client meanwhile.
            is_passed_on: whether the server gets the bytes; then `act` follows its answer.
        """
        self._traps.append((needle, act, is_passed_on))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_down:
            writer.transport.abort()
            return
        try:
            other_reader, other_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, other_writer}
        is_muted = asyncio.Event()
        answered = asyncio.Event()
        for work in (
            self._from_client(reader, other_writer, is_muted, answered),
            self._from_server(other_reader, writer, is_muted, answered),
        ):
            task = asyncio.create_task(self._until_closed(work, writer, other_writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _until_closed(
        self, work: Awaitable[None], writer: asyncio.StreamWriter, other: asyncio.StreamWriter
    ) -> None:
        try:
            with contextlib.suppress(OSError):
                await work
        finally:
            for each in (writer, other):
                each.transport.abort()
                self._writers.discard(each)

    async def _from_client(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_muted: asyncio.Event,
        answered: asyncio.Event,
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self.may_pass.wait()
            await asyncio.sleep(self.delay_seconds)
            trap = next((trap for trap in self._traps if trap[0] in data), None)
            if trap is None:
                writer.write(data)
                await writer.drain()
                continue
            self._traps.remove(trap)
            _, act, is_passed_on = trap
            is_muted.set()
            if is_passed_on:
                answered.clear()
                writer.write(data)
                await writer.drain()
                await answered.wait()
            await act()
            return

    async def _from_server(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_muted: asyncio.Event,
        answered: asyncio.Event,
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self.may_pass.wait()
            answered.set()
            if not is_muted.is_set():
                await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()


async def nothing() -> None:
    """Only cut."""
