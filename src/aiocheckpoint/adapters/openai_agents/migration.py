"""Moving conversations here from the framework's SQLite sessions, each compared afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

from aiocheckpoint.adapters._moving import (
    ADVICE,
    Copied,
    Move,
    Progress,
    RefusedError,
    is_same_json,
)
from aiocheckpoint.adapters._sources import parsed, reading_source, require_names, sqlite_rows
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.openai_agents.records import SessionRecord
from aiocheckpoint.adapters.openai_agents.session import Session


async def copy_sessions(
    database: str | Path,
    storage: Storage[SessionRecord],
    *,
    sessions_table: str = "agent_sessions",
    messages_table: str = "agent_messages",
    progress: Progress | None = None,
) -> Copied:
    """
    Copy all conversations of a `SQLiteSession` database, each read back and compared.

    It may be run again: a session that is there already, and the same, is left as it is, and what
    is missing at its end is added. One of which anything else is there is refused before anything
    of it is written, since the application may have gone on with it; all others are copied. Nobody
    may use the database meanwhile; it is not changed.

    Args:
        database: the file.
        storage: as of `Session`.
        sessions_table: as was given to `SQLiteSession`.
        messages_table: as was given to `SQLiteSession`.
        progress: called after each session.

    Returns:
        how much was copied, or was there.

    Raises:
        CopyMismatchError: once all else is copied: of some sessions a row cannot be read, which
            `SQLiteSession` would leave out in silence, they have branches of an
            `AdvancedSQLiteSession`, the session there has other items, it cannot be read or stored,
            or it reads differently afterwards.
        sqlite3.Error: it is no such database.
        CheckpointError: what else `add_items` and `get_items` raise, as of a full disk.

    Cost: one read of the database, one update and one full read a session.
    """
    source = _Source(database, sessions_table, messages_table)
    with Move(progress) as move:
        for session_id in await asyncio.to_thread(source.session_ids):
            with move.part(session_id) as part:
                require_names(session_id)
                with reading_source("it"):
                    await asyncio.to_thread(source.require_one_branch, session_id)
                    items = await asyncio.to_thread(source.items, session_id)
                async with Session(session_id, storage) as session:
                    await _copy(session, items)
                part.entries = len(items)
    return move.copied


async def _copy(session: Session, items: list[Any]) -> None:
    found = await session.get_items(-1)
    if not is_same_json(found, items[: len(found)]):
        raise RefusedError(f"there are other items there already; {ADVICE}")
    if len(found) < len(items):
        await session.add_items(items[len(found) :])
        found = await session.get_items(-1)
    if not is_same_json(found, items):
        raise RefusedError("it is not the same after the copy")


class _Source(NamedTuple):
    database: str | Path
    sessions_table: str
    messages_table: str

    def _query(self, sql: str, *values: str) -> list[Any]:
        return sqlite_rows(self.database, sql, *values)

    def session_ids(self) -> list[str]:
        table = _quoted(self.sessions_table)
        return [row[0] for row in self._query(f"SELECT session_id FROM {table} ORDER BY rowid")]  # noqa: S608 - quoted

    def require_one_branch(self, session_id: str) -> None:
        """
        Refuse a session with branches, whose items would become one conversation.

        Raises:
            RefusedError: it has some.
        """
        if not self._query("SELECT 1 FROM sqlite_master WHERE name = 'message_structure'"):
            return  # it is of no `AdvancedSQLiteSession`
        sql = "SELECT DISTINCT branch_id FROM message_structure WHERE session_id = ? ORDER BY 1"
        branches = [branch_id for (branch_id,) in self._query(sql, session_id)]
        if len(branches) > 1:
            raise RefusedError(
                f"it has the branches {', '.join(map(repr, branches))}, of which a session here is "
                "one; copy those that you want yourself, each to a session of its own: "
                "`add_items(await advanced_session.get_items(branch_id=...))`"
            )

    def items(self, session_id: str) -> list[Any]:
        table = _quoted(self.messages_table)
        sql = f"SELECT id, message_data FROM {table} WHERE session_id = ? ORDER BY id"  # noqa: S608 - quoted
        return [
            parsed(text, f"message_data in row {row_id} of {self.messages_table}")
            for row_id, text in self._query(sql, session_id)
        ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
