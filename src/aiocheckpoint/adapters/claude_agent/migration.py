"""Moving transcripts here from the files of the framework's program, each compared afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from claude_agent_sdk import SessionKey, SessionStoreEntry

from aiocheckpoint.adapters._moving import Copied, CopyMismatchError, Progress
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.claude_agent.records import ClaudeRecord, Place
from aiocheckpoint.adapters.claude_agent.store import SessionStore

_BATCH = 500


async def copy_sessions(
    projects: str | Path, storage: Storage[ClaudeRecord], *, progress: Progress | None = None
) -> Copied:
    """
    Copy all transcripts of a directory, as `~/.claude/projects`, each read back and compared.

    Subagents are copied with their sessions. It may be run again: what is there already stays, and
    what is missing is added. The oldest session is copied first, so that the newest stays it.
    Nobody may write to the directory meanwhile; it is not changed.

    Args:
        projects: the directory, which has one of each project.
        storage: as of `SessionStore`.
        progress: called after each transcript.

    Returns:
        how many transcripts, and entries of them, were copied, or were there.

    Raises:
        CopyMismatchError: a line is no JSON object; the session there has other entries; or it
            reads differently afterwards.
        FileNotFoundError: there is no such directory.
        CheckpointError: what `append` and `load` raise.

    Cost: a transcript at a time in memory; one update for each 500 entries, and two full reads.
    """
    copied = Copied()
    async with SessionStore(storage) as store:
        for file in await asyncio.to_thread(_files, Path(projects)):
            entries = await asyncio.to_thread(file.entries)
            if entries:
                await _copy(store, file.place, entries)
                copied = Copied(copied.sessions + 1, copied.entries + len(entries))
                if progress is not None:
                    progress(copied)
    return copied


async def _copy(store: SessionStore, place: Place, entries: list[SessionStoreEntry]) -> None:
    key = cast("SessionKey", {k: part for k, part in place._asdict().items() if part is not None})
    found = await store.load(key) or []
    if found != entries[: len(found)]:
        reason = "there are other entries already; copy to an empty storage, or delete the session"
        raise CopyMismatchError(place.name, reason)
    for start in range(len(found), len(entries), _BATCH):
        await store.append(key, entries[start : start + _BATCH])
    if await store.load(key) != entries:
        raise CopyMismatchError(place.name, "it is not the same after the copy")


class _File(NamedTuple):
    path: Path
    place: Place

    def entries(self) -> list[SessionStoreEntry]:
        """Return what the framework would append of it, each uuid once."""
        found = [*self._lines()]
        if self.place.subpath is not None:
            found += self._metadata()
        first = {entry.get("uuid"): number for number, entry in [*enumerate(found)][::-1]}
        return [
            entry
            for number, entry in enumerate(found)
            if entry.get("uuid") is None or first[entry["uuid"]] == number
        ]

    def _lines(self) -> Iterator[Any]:
        with self.path.open("rb") as lines:  # since a line of text may also end at U+2028
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield self._decoded(line, f"line {number} of {self.path}")

    def _metadata(self) -> list[Any]:
        """Return what is beside the transcript of a subagent, as the framework would append it."""
        path = self.path.with_suffix(".meta.json")
        if not path.exists():
            return []
        return [{**self._decoded(path.read_bytes(), str(path)), "type": "agent_metadata"}]

    def _decoded(self, text: bytes, where: str) -> dict[str, Any]:
        try:
            entry = json.loads(text)
        except ValueError as error:
            reason = f"{where} is no JSON; mend or delete it"
            raise CopyMismatchError(self.place.name, reason) from error
        if not isinstance(entry, dict):
            raise CopyMismatchError(self.place.name, f"{where} is no object; mend or delete it")
        return entry


def _files(projects: Path) -> list[_File]:
    """Return the transcripts, those of the session that was changed last, last."""
    found: list[_File] = []
    sessions = [
        path
        for project in projects.iterdir()
        if project.is_dir()
        for path in project.glob("*.jsonl")
    ]
    for path in sorted(sessions, key=lambda path: (path.stat().st_mtime, path.name)):
        place = Place(path.parent.name, path.stem)
        own = path.with_suffix("")
        for agent in sorted(own.glob("subagents/**/*.jsonl")):
            subpath = agent.relative_to(own).with_suffix("").as_posix()
            found.append(_File(agent, place._replace(subpath=subpath)))
        found.append(_File(path, place))
    return found
