"""Moving transcripts here from the files of the framework's program, each compared afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from claude_agent_sdk import SessionKey, SessionStoreEntry

from aiocheckpoint.adapters._moving import (
    ADVICE,
    Copied,
    Move,
    Progress,
    RefusedError,
    is_same_json,
)
from aiocheckpoint.adapters._sources import parsed_object, reading_source
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
    what is missing is added. A session of which anything else is there is refused before anything
    of it is written, since somebody may have gone on with it; all others are copied. The oldest is
    copied first, so that the newest stays it. Nobody may write to the directory meanwhile; it is
    not changed.

    Args:
        projects: the directory, which has one of each project.
        storage: as of `SessionStore`.
        progress: called after each session.

    Returns:
        how many transcripts, and entries of them, were copied, or were there.

    Raises:
        CopyMismatchError: once all else is copied: of some sessions a line is no JSON object, there
            are other entries or subagents already, a file cannot be read or an entry stored, or it
            reads differently afterwards.
        FileNotFoundError: there is no such directory.
        CheckpointError: what `append` and `load` raise, as of a full disk.

    Cost: a session at a time in memory; one update for each 500 entries, and two full reads.
    """
    async with SessionStore(storage) as store:
        with Move(progress) as move:
            for files in await asyncio.to_thread(_sessions, Path(projects)):
                with move.part(
                    f"{files[-1].place.project_key}/{files[-1].place.session_id}"
                ) as part:
                    counts = await _copy(store, files)
                    part.sessions, part.entries = len(counts), sum(counts)
    return move.copied


async def _copy(store: SessionStore, files: list[_File]) -> list[int]:
    """Copy the transcripts of a session, and return how many entries those have that have any."""
    with reading_source("it", OSError):
        transcripts = [(file.place, await asyncio.to_thread(file.entries)) for file in files]
    transcripts = [(place, entries) for place, entries in transcripts if entries]
    counts = [await _count_there(store, place, entries) for place, entries in transcripts]
    for (place, entries), count in zip(transcripts, counts, strict=True):
        key = _key(place)
        for start in range(count, len(entries), _BATCH):
            await store.append(key, entries[start : start + _BATCH])
        if not is_same_json(await store.load(key), entries):
            raise RefusedError(f"{_named(place)} is not the same after the copy")
    return [len(entries) for _, entries in transcripts]


async def _count_there(store: SessionStore, place: Place, entries: list[SessionStoreEntry]) -> int:
    """Return how many of the entries are there already, which must be the first, and no others."""
    found = await store.load(_key(place)) or []
    if not is_same_json(found, entries[: len(found)]):
        raise RefusedError(f"{_named(place)} has other entries there already; {ADVICE}")
    return len(found)


def _key(place: Place) -> SessionKey:
    return cast("SessionKey", {k: part for k, part in place._asdict().items() if part is not None})


def _named(place: Place) -> str:
    return "it" if place.subpath is None else place.subpath


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
                    yield _entry(line, f"line {number} of {self.path}")

    def _metadata(self) -> list[Any]:
        """Return what is beside the transcript of a subagent, as the framework would append it."""
        path = self.path.with_suffix(".meta.json")
        if not path.exists():
            return []
        return [{**parsed_object(path.read_bytes(), str(path)), "type": "agent_metadata"}]


def _entry(line: bytes, what: str) -> dict[str, Any]:
    entry = parsed_object(line, what)
    if not isinstance(entry.get("uuid"), str | None):
        raise RefusedError(f"the uuid in {what} is no text; mend or delete it")
    return entry


def _time(path: Path) -> tuple[float, str]:
    """Return what sorts a file; one that cannot be read is refused when its turn comes."""
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name


def _sessions(projects: Path) -> list[list[_File]]:
    """Return the transcripts of each session, its own last; the one that was changed last, last."""
    found: list[list[_File]] = []
    sessions = [
        path
        for project in projects.iterdir()
        if project.is_dir()
        for path in project.glob("*.jsonl")
    ]
    for path in sorted(sessions, key=_time):
        place = Place(path.parent.name, path.stem)
        own = path.with_suffix("")
        files = [_File(path, place)]
        for agent in sorted(own.glob("subagents/**/*.jsonl"), reverse=True):
            subpath = agent.relative_to(own).with_suffix("").as_posix()
            files.append(_File(agent, place._replace(subpath=subpath)))
        found.append(files[::-1])
    return found
