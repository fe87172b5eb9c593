"""Moving transcripts here from the files of the framework's program, each compared afterwards."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
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
_METADATA = "agent_metadata"
_HANDED_TO_NO_STORE = frozenset(
    {"api-request", "api-request-blob", "api-request-resumed", "api-request-shape"}
)
"""Types of what the program notes of its requests to the model; no part of a conversation."""


async def copy_sessions(
    projects: str | Path, storage: Storage[ClaudeRecord], *, progress: Progress | None = None
) -> Copied:
    """
    Copy all transcripts of a directory, as `~/.claude/projects`, each read back and compared.

    Subagents are copied with their sessions. It may be run again: what is there already stays, and
    what is missing behind it is added, as is metadata of a subagent that has changed. A session of
    which anything else is there is refused before anything of it is written, since somebody may
    have gone on with it; all others are copied. One that the framework has stored itself is as a
    rule left as it is, and counted: of the program's lines about requests to the model, which it
    hands to no store, all may be missing. Where others are missing before what is there, that is
    refused, too, with what to do. The oldest is copied first, so that the newest stays it. Nobody
    may write to the directory meanwhile; it is not changed.

    Args:
        projects: the directory, which has one of each project.
        storage: as of `SessionStore`.
        progress: called after each session.

    Returns:
        how many transcripts, and entries of them, were copied, or were there; and how many lines
        were left out, as the framework has left them out.

    Raises:
        CopyMismatchError: once all else is copied: of some sessions a line is no JSON object, there
            are other entries or subagents already, or a part of the lines, a file cannot be read or
            an entry stored, or it reads differently afterwards.
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
                    plans = await _copy(store, files)
                    part.sessions = len(plans)
                    part.entries = sum(len(plan.wanted) - len(plan.lacking) for plan in plans)
                    part.left_out = sum(len(plan.lacking) for plan in plans)
    return move.copied


async def _copy(store: SessionStore, files: list[_File]) -> list[_Plan]:
    """Copy the transcripts of a session, and return what became of those that have entries."""
    with reading_source("it", OSError):
        transcripts = [(file.place, await asyncio.to_thread(file.entries)) for file in files]
    plans = [
        _planned(place, wanted, await store.load(_key(place)) or [])
        for place, wanted in transcripts
        if wanted
    ]
    for plan in plans:
        if any(entry.get("type") not in _HANDED_TO_NO_STORE for entry in plan.lacking):
            raise _in_part(plan, await _only_there(store, files))
    for plan in plans:
        for start in range(0, len(plan.adding), _BATCH):
            await store.append(_key(plan.place), plan.adding[start : start + _BATCH])
        _require_same(plan, await store.load(_key(plan.place)) or [])
    return plans


class _Plan(NamedTuple):
    """
    What is to become of a transcript.

    Attributes:
        place: its name.
        wanted: all entries of the source.
        lines: what is to be there, but for metadata.
        adding: what of it is to be added.
        lacking: lines of the source that are not added, since what is there is behind them.
    """

    place: Place
    wanted: list[SessionStoreEntry]
    lines: list[SessionStoreEntry]
    adding: list[SessionStoreEntry]
    lacking: list[SessionStoreEntry]


def _planned(
    place: Place, wanted: list[SessionStoreEntry], found: list[SessionStoreEntry]
) -> _Plan:
    """
    Return what to do with a transcript of which some may be there.

    Raises:
        RefusedError: something is there that the source does not have.
    """
    if not found:
        return _Plan(place, wanted, _parted(place, wanted)[0], wanted, [])
    lines, metadata = _parted(place, wanted)
    lines_there, metadata_there = _parted(place, found)
    remaining, missing = iter(lines), list[SessionStoreEntry]()
    for there in map(_text, lines_there):
        for line in remaining:
            if _text(line) == there:
                break
            missing.append(line)
        else:
            raise _gone_on(place)
    behind = [*remaining]
    changed = _changed(place, metadata, metadata_there)
    if missing:
        return _Plan(place, wanted, lines_there, changed, missing + behind)
    return _Plan(place, wanted, lines, behind + changed, [])


def _changed(
    place: Place, metadata: list[SessionStoreEntry], there: list[SessionStoreEntry]
) -> list[SessionStoreEntry]:
    """Return what is to be put behind, so that the last metadata is that of the source."""
    if not there:
        return metadata
    if metadata and _text(metadata[-1]) == _text(there[-1]):
        return []
    if not metadata or _text(metadata[-1]) in map(_text, there):  # it was changed there since
        raise _gone_on(place)
    return metadata[-1:]


def _require_same(plan: _Plan, found: list[SessionStoreEntry]) -> None:
    lines, metadata = _parted(plan.place, found)
    wanted = _parted(plan.place, plan.wanted)[1]
    if not is_same_json([lines, metadata[-1:]], [plan.lines, wanted[-1:]]):
        raise RefusedError(f"{_named(plan.place)} is not the same after the copy")


def _parted(
    place: Place, entries: list[SessionStoreEntry]
) -> tuple[list[SessionStoreEntry], list[SessionStoreEntry]]:
    """Return the lines of a transcript, and a subagent's metadata, of which the last counts."""
    if place.subpath is None:
        return entries, []
    lines = [entry for entry in entries if entry.get("type") != _METADATA]
    return lines, [entry for entry in entries if entry.get("type") == _METADATA]


def _gone_on(place: Place) -> RefusedError:
    return RefusedError(f"{_named(place)} has other entries there already; {ADVICE}")


def _in_part(plan: _Plan, others: list[str]) -> RefusedError:
    """Return why a session is refused of which a part is there, and nothing else."""
    types = Counter(str(entry.get("type"))[:40] for entry in plan.lacking)
    counted = ", ".join(f"{count} {kind}" for kind, count in types.most_common(5))
    remedy = (
        f"; delete nothing there, where {others[0]} is, which the source does not have; a copy in "
        "an empty storage has all lines"
        if others
        else ", or delete it there by `SessionStore.delete`, and run this again, to have all lines"
    )
    return RefusedError(
        f"of the {len(plan.wanted)} lines of {_named(plan.place)} {len(plan.lacking)} are not "
        f"there ({counted}), and what is there is all in the source, in the same order: nothing "
        "there is newer. The framework hands not every line of its disk to a store, and none when "
        f"it runs without one. It was left as it is: use it so{remedy}"
    )


async def _only_there(store: SessionStore, files: list[_File]) -> list[str]:
    """Return the subagents of a session that the source does not have."""
    subpaths = {file.place.subpath for file in files}
    own: Any = _key(files[-1].place)
    return sorted(set(await store.list_subkeys(own)) - subpaths)


def _text(entry: SessionStoreEntry) -> str:
    return json.dumps(entry, sort_keys=True)


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
        return [{**parsed_object(path.read_bytes(), str(path)), "type": _METADATA}]


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
