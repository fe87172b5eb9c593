"""The clients of one store, one for each event loop that uses it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Generic

from aiocheckpoint.errors import UnsupportedOperationError, WriterClosedError
from aiocheckpoint.kit import RecordKit, RecordT, outlast
from aiocheckpoint.stores.postgres.client import Client
from aiocheckpoint.stores.postgres.identity import Identity
from aiocheckpoint.stores.postgres.options import Options
from aiocheckpoint.stores.postgres.urls import place_of

_ByLoop = dict[asyncio.AbstractEventLoop, Client[Any]]


class Clients(Generic[RecordT]):
    """
    What a store has of connections, until it is closed.

    Args:
        source: a URL, or a pool of the application's.
        options: how to use the server.
        kit: what bodies are.
        max_checkpoints: how many to keep in a session; None for all.
    """

    def __init__(
        self, source: Any, options: Options, kit: RecordKit[RecordT], max_checkpoints: int | None
    ) -> None:
        self._source = source
        self._options = options
        self._kit = kit
        self._max_checkpoints = max_checkpoints
        self._identity = Identity(options.schema) if options.must_exist else None
        self._was_connected = threading.Event()
        self._by_loop: _ByLoop = {}
        self._process_id: int | None = None  # of whoever makes the first call
        self._is_closed = False

    def __repr__(self) -> str:
        """Say where they lead, without credentials, and whether they still do."""
        place = self._source if isinstance(self._source, str) else "postgresql:///"
        state = "closed" if self._is_closed else "open"
        return f"{place_of(place, self._options.schema)} {state}"

    def require_open(self) -> None:
        """
        Refuse calls after the end.

        Raises:
            WriterClosedError: they were closed, or belong to the parent of this process.
        """
        if self._is_closed:
            raise WriterClosedError("the store is closed")
        if self._process_id is None:
            self._process_id = os.getpid()
            weakref.finalize(self, _let_go, self._by_loop, self._process_id).atexit = False
        if self._process_id != os.getpid():
            raise WriterClosedError("this store belongs to the process that was forked")

    def here(self) -> Client[RecordT]:
        """
        Return that of the running loop, new for one that has none.

        Raises:
            WriterClosedError: they were closed, or belong to the parent of this process.
            UnsupportedOperationError: a pool of the application's belongs to another loop.
        """
        self.require_open()
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        if client is None:
            for ended in [known for known in self._by_loop if known.is_closed()]:
                del self._by_loop[ended]
            if self._by_loop and not isinstance(self._source, str):
                reason = "a pool belongs to one event loop; give each a store, or give a URL"
                raise UnsupportedOperationError("use on a second event loop", "this store", reason)
            client = Client(
                self._source,
                self._options,
                self._kit,
                self._max_checkpoints,
                self._identity,
                self._was_connected,
            )
            self._by_loop[loop] = client
        return client

    async def aclose(self) -> None:
        """Refuse further calls, finish what was called on all loops, and let go of connections."""
        self._is_closed = True
        if self._process_id in (None, os.getpid()):
            await _aclose(self._by_loop)


async def _aclose(clients: _ByLoop) -> None:
    """Take out and close them; those of loops that ended are closed."""
    taken = [(loop, clients.pop(loop)) for loop in list(clients)]
    for loop, client in taken:
        if loop is asyncio.get_running_loop():
            await outlast(client.aclose())
        elif loop.is_running():
            ended = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(client.aclose(), loop))
            await asyncio.wait([ended])
            if not ended.cancelled():  # else its loop has ended, and let go of what it had
                ended.result()


def _let_go(clients: Mapping[asyncio.AbstractEventLoop, Client[Any]], process_id: int) -> None:
    """Let go of what a store had that was dropped, but for a child of its process."""
    if os.getpid() == process_id:
        for client in clients.values():
            client.let_go()
