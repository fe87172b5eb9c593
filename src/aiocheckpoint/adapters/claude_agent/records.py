"""What is stored of a transcript, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self, TypeAlias

from aiocheckpoint import CheckpointRecord, InvalidArgumentError, JsonValue
from aiocheckpoint.adapters._storage import Names
from aiocheckpoint.history import HistoryRecord
from aiocheckpoint.kit import require_instance

_NAMES: Final = Names("claude_agent")
START_ID: Final = "start"
TRANSCRIPT_PREFIX: Final = "transcript-"


class SessionStart(CheckpointRecord, tag="claude_agent.SessionStart", kw_only=True):
    """
    That there is a transcript, stored with its first entries; its id is `start`.

    A transcript that something else has removed is told by it from one that never was.

    Attributes:
        incarnation: random; another one when a session is deleted and made anew.
    """

    incarnation: str


class Transcript(HistoryRecord, tag="claude_agent.Transcript", kw_only=True):
    """
    A transcript; its id is `transcript-` and which process has appended to it last.

    There is one at a time. So who finds that it is still the newest knows that nobody else has
    appended meanwhile, and replaces it by one save.

    Attributes:
        incarnation: that of its `SessionStart`.
        lines: the newest entries as JSON, some 15 KB; those before them are in its history.
        is_plain: no entry has values that JSON lacks; or else all are as `exact` writes them.
        mtime: when it was last appended to, in milliseconds since 1970; grows with each append.
        summary: what the framework shows of it in lists; empty for a subagent.
    """

    incarnation: str
    lines: list[str]
    is_plain: bool
    mtime: int
    summary: dict[str, JsonValue]


ClaudeRecord: TypeAlias = Transcript | SessionStart
"""What an open store must be able to store: `open_store(url, record_type=ClaudeRecord)`."""


class Place(NamedTuple):
    """
    A transcript of the framework, and the session of the store that it is kept in.

    A session of the store is named `claude_agent.` and a JSON array: of project, session, and
    for a subagent its subpath.
    """

    project_key: str
    session_id: str
    subpath: str | None = None

    @classmethod
    def of(cls, key: Mapping[str, Any]) -> Self:
        """
        Return the place of a key.

        Raises:
            InvalidArgumentError: a part is missing, or is no text, or is empty.
        """
        require_instance("key", key, Mapping)
        subpath = _text(key, "subpath") if "subpath" in key else None
        return cls(_text(key, "project_key"), _text(key, "session_id"), subpath)

    @classmethod
    def named(cls, name: str) -> Self | None:
        """Return what a session of the store is of; None when it is of something else."""
        parts = _NAMES.parts_in(name)
        return cls(*parts) if len(parts) in (2, 3) else None

    @property
    def name(self) -> str:
        """The session of the store."""
        return _NAMES.of_parts(*(part for part in self if part is not None))


def _text(key: Mapping[str, Any], name: str) -> str:
    part = key.get(name)
    if not isinstance(part, str) or not part:
        raise InvalidArgumentError(f"the {name} of a key", part, "text")
    return part


def prefix(*parts: str) -> str:
    """Return how the names begin that have more parts than these."""
    return _NAMES.prefix_of_parts(*parts)
