"""What is stored of a session of the OpenAI Agents SDK."""

from __future__ import annotations

from typing import Final, TypeAlias

from aiocheckpoint import CheckpointRecord, JsonValue
from aiocheckpoint.adapters._storage import Names
from aiocheckpoint.history import HistoryRecord

NAMES: Final = Names("openai_agents")
CONVERSATION_ID: Final = "conversation"
RUN_ID: Final = "run"
ADDED_PREFIX: Final = "added-"


class Conversation(HistoryRecord, tag="openai_agents.Conversation"):
    """
    The items of a session but for the newest, in shared history; its id is `conversation`.

    Values that JSON lacks are there as `exact` writes them.

    Attributes:
        last_number: of the newest call of `add_items` whose items are in it.
    """

    last_number: int


class AddedItems(CheckpointRecord, tag="openai_agents.AddedItems"):
    """
    What one call of `add_items` added; its id is `added-` and the number of the call.

    Attributes:
        items: as in `Conversation`, without those that were popped.
    """

    items: list[JsonValue]


class PausedRun(CheckpointRecord, tag="openai_agents.PausedRun"):
    """
    A run that waits, as for an approval; its id is `run`.

    Attributes:
        state: what `RunState.to_json` returned.
    """

    state: JsonValue


SessionRecord: TypeAlias = Conversation | AddedItems | PausedRun
"""What an open store must be able to store: `open_store(url, record_type=SessionRecord)`."""


def id_of(number: int) -> str:
    """Return the id of what a call of `add_items` added."""
    return f"{ADDED_PREFIX}{number:012}"


def added_items(session_id: str, number: int, items: list[JsonValue]) -> AddedItems:
    """Return the record of a call of `add_items`."""
    return AddedItems(session_id=session_id, checkpoint_id=id_of(number), items=items)


def number_of(checkpoint_id: str) -> int:
    """Return the number of the call of `add_items` that a record is of."""
    return int(checkpoint_id.removeprefix(ADDED_PREFIX))
