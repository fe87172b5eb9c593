"""Sessions that an adapter keeps for its framework, and how errors tell of them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_OF_STORE = "remove it by `delete_session` of a writer or store"


class Framework(NamedTuple):
    """
    A framework whose sessions are several records, or one that is all there is of a session.

    None can go on without what is damaged, so `recover` of a store is no way back for them. Not
    among them are LangGraph and the workflows of Agent Framework: each of their checkpoints is a
    whole state, but for delta channels of LangGraph, and an earlier one can be gone on from.

    Attributes:
        name: of the framework.
        removal: what can be done where there is no backup, in the framework's own words.
    """

    name: str
    removal: str

    @property
    def advice(self) -> str:
        """What to do about damage in one of its sessions."""
        return (
            f"a session of {self.name} is of use as a whole alone: restore it from a backup, or "
            f"{self.removal}"
        )


_FRAMEWORKS: Final = {
    "agent_framework_history": Framework("Microsoft Agent Framework", _OF_STORE),
    "claude_agent": Framework("the Claude Agent SDK", "remove it by `SessionStore.delete`"),
    "crewai": Framework("CrewAI", _OF_STORE),
    "google_adk": Framework("Google ADK", "remove it by `SessionService.delete_session`"),
    "openai_agents": Framework("the OpenAI Agents SDK", "remove it by `Session.clear_session`"),
    "pydantic_ai": Framework(
        "Pydantic AI", "give up what is damaged, and no fork of it, by recover(session_id)"
    ),
    "pydantic_harness": Framework("the Pydantic AI harness", _OF_STORE),
    "strands": Framework(
        "Strands Agents",
        "remove it by `SessionManager.delete_session`, or give up a damaged value by "
        "recover(session_id)",
    ),
}
_ADAPTER = "|".join(_FRAMEWORKS)
_IN_ID: Final = re.compile(rf"({_ADAPTER})\.")
# A name behind `~` has its dot escaped. Behind it stand a file and its directory at most.
_IN_PLACE: Final = re.compile(rf"(?:^|[/#]~?)({_ADAPTER})(?:\.|%2[eE])[^/]*(?:/[^/]+){{0,2}}$")


def framework_of(session_id: str) -> Framework | None:
    """
    Return the framework whose adapter names its sessions so, where it needs all of a session.

    Args:
        session_id: of the store, as `openai_agents.support-42`.

    Returns:
        the framework; None of a session of the application, and of one that can go on from an
        earlier state.
    """
    found = _IN_ID.match(session_id)
    return found and _FRAMEWORKS[found[1]]


def advice_at(session_id: str | None, place: str, otherwise: str) -> str:
    """
    Return what to do about damage.

    Args:
        session_id: of what is damaged; None where only its place is known.
        place: a path, or a URL.
        otherwise: what to do where that is in no session of a framework.
    """
    found = _IN_PLACE.search(place) if session_id is None else _IN_ID.match(session_id)
    return otherwise if found is None else _FRAMEWORKS[found[1]].advice


def named_at(session_id: str | None, checkpoint_id: str | None, about: str | None) -> str:
    """
    Return what is put behind a place, so that whoever reads it knows whose that is.

    Args:
        session_id: None where it is not known.
        checkpoint_id: of the session; None likewise.
        about: what a framework calls it; None where no adapter has told.
    """
    what = "" if checkpoint_id is None else f"checkpoint {checkpoint_id!r} of "
    session = None if session_id is None else f"{what}session {session_id!r}"
    named = ", ".join(filter(None, (session, about)))
    return f" ({named})" if named else ""
