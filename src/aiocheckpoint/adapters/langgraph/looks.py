"""What somebody was shown who is no run that is known: `aupdate_state` looks, and then puts."""

from __future__ import annotations

from contextvars import ContextVar

from langchain_core.runnables import RunnableConfig

from aiocheckpoint import SessionId
from aiocheckpoint.adapters.langgraph.arguments import Place, place_of

_newest: ContextVar[tuple[SessionId, str | None] | None] = ContextVar("newest", default=None)


def note_shown(asked: RunnableConfig, shown: RunnableConfig | None) -> None:
    """
    Note what this context was shown, last of all.

    Args:
        asked: with a `checkpoint_id` where that one was meant.
        shown: of what was found.
    """
    place = place_of(asked)
    found = None if shown is None else place_of(shown).checkpoint
    is_newest = found is not None and place.checkpoint is None
    _newest.set((place.session_id, found) if is_newest else None)


def follows_newest(place: Place) -> bool:
    """Tell whether what a config names was the newest that this context was shown."""
    return _newest.get() == (place.session_id, place.checkpoint)
