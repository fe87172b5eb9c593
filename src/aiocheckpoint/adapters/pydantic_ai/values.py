"""Records and entries of the framework as JSON, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

from pydantic import TypeAdapter
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord

from aiocheckpoint import JsonValue
from aiocheckpoint.adapters import _pydantic
from aiocheckpoint.adapters._given import listed
from aiocheckpoint.adapters.pydantic_ai.records import ConversationHead, tips_of

_RECORD = TypeAdapter(ConversationRecord)
_ENTRIES = TypeAdapter(list[ConversationEntry])
_PARENT = "parent_id"  # in a history it is the entry before, so it is not stored

Item = dict[str, JsonValue]


class Draft(NamedTuple):
    """
    What is to be stored of a conversation; the caller's objects may change.

    Attributes:
        record: the conversation, as JSON.
        items: entries that may be new, by id, each with the entry before it.
    """

    record: dict[str, JsonValue]
    items: dict[str, tuple[str | None, Item]]

    @classmethod
    def of(cls, record: ConversationRecord, entries: Sequence[ConversationEntry]) -> Self:
        """
        Return what is to be stored.

        Raises:
            CheckpointEncodeError: a value that would not come back as it is; names its path.
        """
        json = _pydantic.to_json(_RECORD, record, "record")
        return cls(json, {}).beside(entries)

    def beside(self, entries: Sequence[ConversationEntry]) -> Self:
        """Return the same with more entries."""
        found = _pydantic.to_json(_ENTRIES, [*listed("new_entries", entries)], "entries")
        items = {item["id"]: (item.pop(_PARENT), item) for item in found}
        return self._replace(items=self.items | items)

    @property
    def conversation_id(self) -> str:
        """The conversation."""
        return str(self.record["conversation_id"])

    @property
    def tips(self) -> list[str]:
        """The entries at which its histories end."""
        return tips_of(self.record)

    def line(self, tip: str) -> tuple[str | None, list[Item]]:
        """Return the entries up to a tip, and the one before them, which is not among them."""
        left = {**self.items}
        found: list[Item] = []
        entry_id: str | None = tip
        while entry_id is not None and entry_id in left:
            entry_id, item = left.pop(entry_id)
            found.append(item)
        return entry_id, found[::-1]


def record_of(head: ConversationHead) -> ConversationRecord:
    """
    Return the conversation of a head.

    Raises:
        CheckpointDecodeError: this version of the framework does not know such a record.
    """
    return _pydantic.from_json(_RECORD, head.record, head.checkpoint_id)


def entries_of(
    items: Iterable[dict[str, Any]], location: str, before: str | None = None
) -> list[ConversationEntry]:
    """
    Return the entries of a history.

    Args:
        items: entries that follow one another, as `exact` gives them back.
        location: where they are stored, for errors.
        before: the entry before the first of them.

    Raises:
        CheckpointDecodeError: this version of the framework does not know such an entry.
    """
    whole = []
    for item in items:
        whole.append({**item, _PARENT: before})
        before = item["id"]
    return _pydantic.validated(_ENTRIES, whole, location)
