"""Damage that a server meets on its own disk."""

from __future__ import annotations

import asyncpg


async def lose_pieces(dsn: str, schema: str) -> None:
    """
    Take away the pieces of all large bodies, as a lost file of the server does.

    The table of the pieces is truncated: a deleted piece can still be read until a vacuum, which
    waits for every transaction on the server, those of other tests too.
    """
    connection = await asyncpg.connect(dsn)
    try:
        pieces = await connection.fetchval(
            "select reltoastrelid::regclass::text from pg_class"
            f" where oid = '{schema}.body'::regclass"
        )
        turned = f"update pg_class set relkind = '{{}}' where oid = '{pieces}'::regclass"
        await connection.execute("set allow_system_table_mods = on")
        await connection.execute(turned.format("r"))  # what may be truncated
        await connection.execute(f"truncate {pieces}")
        await connection.execute(turned.format("t"))
    finally:
        await connection.close()
