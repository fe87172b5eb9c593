"""Moving conversations here from any store of the framework, each compared afterwards."""

from __future__ import annotations

from pydantic_ai import conversation_store as framework
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
)

from aiocheckpoint.adapters._lists import require_read
from aiocheckpoint.adapters._moving import ADVICE, Copied, Move, Progress, RefusedError, is_same
from aiocheckpoint.adapters._sources import listed, reading_source, require_names
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.pydantic_ai.records import ConversationStoreRecord
from aiocheckpoint.adapters.pydantic_ai.store import ConversationStore


async def copy_conversations(
    source: framework.ConversationStore,
    storage: Storage[ConversationStoreRecord],
    *,
    progress: Progress | None = None,
) -> Copied:
    """
    Copy all conversations of another store, with branches and forks, each read back and compared.

    Entries and revisions stay what they are. It may be run again: a conversation that is there
    already, and the same, is left as it is. Another one of its name is refused before anything of
    it is written, since the application may have gone on with it; all others are copied. Nobody may
    use the source meanwhile; it is not changed.

    Args:
        source: any store of the framework's kind, as one of the application's own.
        storage: as of `ConversationStore`.
        progress: called after each conversation.

    Returns:
        how much was copied, or was there; entries that several conversations share count once.

    Raises:
        CopyMismatchError: once all else is copied: of some names another conversation is there, it
            cannot be read or stored, or it reads differently afterwards. Or the source cannot list
            its conversations, and nothing was copied.
        CheckpointError: what else `write_record` raises, as of a full disk.

    Cost: two full reads of the source, one write and one full read here of each conversation.
    """
    known: set[str] = set()
    records = await listed("the list of conversations", source.read_records())
    async with ConversationStore(storage) as target:
        with Move(progress, unit="conversation") as move:
            for record in _sources_first(records):
                with move.part(record.conversation_id) as part:
                    require_names(record.conversation_id)
                    require_read("conversation", record)
                    with reading_source("its history", OSError):
                        lines = await _lines(source, record)
                        _require_linked(record, lines)
                    entries = {entry.id: entry for line in lines for entry in line}
                    new = [entry for entry in entries.values() if entry.id not in known]
                    if await target.read_record(record.conversation_id) is None:
                        await _write(target, record, new)
                    await _require_same(target, record, lines)
                    part.entries = len(new)
                    known |= entries.keys()
    return move.copied


async def _write(
    target: ConversationStore, record: ConversationRecord, new: list[ConversationEntry]
) -> None:
    try:
        await target.write_record(record, new_entries=new, expected_revision=None)
    except ConversationConflict as error:
        raise RefusedError("somebody else uses the storage; try again") from error


async def _require_same(
    target: ConversationStore, record: ConversationRecord, lines: list[list[ConversationEntry]]
) -> None:
    found = await target.read_record(record.conversation_id)
    if found is None or found.revision != record.revision:
        raise RefusedError(f"another one is there already; {ADVICE}")
    if not is_same(found, record) or not is_same(await _lines(target, record), lines):
        raise RefusedError("it is not the same after the copy")


async def _lines(
    store: framework.ConversationStore, record: ConversationRecord
) -> list[list[ConversationEntry]]:
    """Return the history of a conversation and those that it left."""
    return [await store.read_history(tip) for tip in (record.head_id, *record.branches)]


def _require_linked(record: ConversationRecord, lines: list[list[ConversationEntry]]) -> None:
    """
    Refuse histories whose entries do not lead to where they end.

    Raises:
        ValueError: they do not; or TypeError.
    """
    for tip, line in zip((record.head_id, *record.branches), lines, strict=True):
        ids = [entry.id for entry in line]
        "".join(ids).encode()  # all are texts
        parents: list[str | None] = [entry.parent_id for entry in line]
        if ids[-1:] != ([] if tip is None else [tip]) or parents != [None, *ids][: len(ids)]:
            raise ValueError(f"what leads to entry {tip!r} is not linked")


def _sources_first(records: list[ConversationRecord]) -> list[ConversationRecord]:
    """Return conversations in an order in which a fork follows what it was forked from."""
    # One whose name is no text is refused when its turn comes.
    found = [record for record in records if not _is_text(record.conversation_id)]
    waiting = {it.conversation_id: it for it in records if _is_text(it.conversation_id)}
    while waiting:
        line: list[ConversationRecord] = []
        name: str | None = next(iter(waiting))
        while name is not None and _is_text(name) and name in waiting:
            line.append(waiting.pop(name))
            name = line[-1].forked_from
        found += line[::-1]
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str)
