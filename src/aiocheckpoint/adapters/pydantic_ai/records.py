"""What is stored of conversations of Pydantic AI, and where."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from aiocheckpoint import CheckpointRecord, JsonValue
from aiocheckpoint.adapters._storage import Names
from aiocheckpoint.history import HistoryRecord

NAMES: Final = Names("pydantic_ai")
CONVERSATION_ID: Final = "conversation"


class ConversationHead(HistoryRecord, tag="pydantic_ai.ConversationHead", kw_only=True):
    """
    A conversation, its entries in shared history.

    Its id is `conversation`, in the session of the conversation's name; that of a fork is random,
    in the session of the conversation whose entries it shares. The history ends at `head_id`; the
    other blobs are the histories that end at `branches`, in their order.

    Attributes:
        record: the framework's `ConversationRecord`. Values that JSON lacks are there as `exact`
            writes them, as in the history.
    """

    record: dict[str, JsonValue]

    @property
    def revision(self) -> str:
        """Another one after each save."""
        return str(self.record["revision"])

    def tips(self) -> dict[str, str]:
        """Return the entries at which its histories end, each with the digest of that history."""
        return dict(zip(tips_of(self.record), self.blob_digests, strict=True))


class ForkedConversation(CheckpointRecord, tag="pydantic_ai.ForkedConversation", kw_only=True):
    """
    Where a fork is; its id is `conversation`, in the session of the fork's name.

    Attributes:
        home: the session whose entries it shares.
        head: the id of its `ConversationHead` there.
    """

    home: str
    head: str


ConversationStoreRecord: TypeAlias = ConversationHead | ForkedConversation
"""What an open store must be able to store; with `open_store`, its `record_type`."""


class Place(NamedTuple):
    """Where the head of a conversation is."""

    session_id: str
    checkpoint_id: str


def tips_of(record: dict[str, JsonValue]) -> list[str]:
    """Return the entries at which a conversation's history and its branches end, none twice."""
    head_id = record["head_id"]
    return [*dict.fromkeys([*([] if head_id is None else [head_id]), *record["branches"]])]
