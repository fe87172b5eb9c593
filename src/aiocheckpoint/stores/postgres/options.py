"""How a store uses its server, as its maker says."""

from __future__ import annotations

import re
from typing import NamedTuple

from aiocheckpoint.errors import InvalidArgumentError
from aiocheckpoint.kit import require_count, require_instance, require_seconds

_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_FEWEST_CONNECTIONS = 4


class Options(NamedTuple):
    """
    How to use the server.

    Attributes:
        schema: where the tables are.
        max_connections: how many connections a pool of our own may have.
        statement_cache_size: prepared statements that each of them keeps; None for what suits.
        lock_timeout_seconds: how long to wait for what others hold.
        server_timeout_seconds: how long to wait for an answer, and for a server that is away.
        compressed: whether bodies are compressed.
        must_exist: whether to refuse a database without the schema.
        migrates: whether to bring an older schema up to date.
    """

    schema: str
    max_connections: int
    statement_cache_size: int | None
    lock_timeout_seconds: float
    server_timeout_seconds: float
    compressed: bool
    must_exist: bool
    migrates: bool

    @property
    def lock_timeout_ms(self) -> int:
        """What the server is told; for it 0 is for ever."""
        return max(1, min(int(self.lock_timeout_seconds * 1000), 2**31 - 1))


def checked_options(
    schema: str,
    max_connections: int,
    statement_cache_size: int | None,
    lock_timeout_seconds: float,
    server_timeout_seconds: float,
    *,
    compressed: bool,
    must_exist: bool,
    migrates: bool,
) -> Options:
    """
    Return options after looking at each.

    Raises:
        InvalidArgumentError: one is of the wrong type or out of range.
    """
    given: object = schema
    if not isinstance(given, str) or not _SCHEMA_NAME.fullmatch(given):
        wanted = "at most 63 letters, digits and underscores, no digit first"
        raise InvalidArgumentError("schema", given, wanted)
    require_count("max_connections", max_connections, _FEWEST_CONNECTIONS)
    if statement_cache_size is not None:
        require_count("statement_cache_size", statement_cache_size, 0)
    require_seconds("lock_timeout_seconds", lock_timeout_seconds)
    require_seconds("server_timeout_seconds", server_timeout_seconds)
    require_instance("compressed", compressed, bool)
    require_instance("must_exist", must_exist, bool)
    return Options(
        schema,
        max_connections,
        statement_cache_size,
        float(lock_timeout_seconds),
        float(server_timeout_seconds),
        compressed,
        must_exist,
        migrates,
    )
