"""Documents in pieces: what comes back, and what a write costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aiocheckpoint import BlobStore
from aiocheckpoint.adapters._documents import DocumentRecord, Documents
from aiocheckpoint.testing import MemoryStore

_edits = st.tuples(st.sampled_from(["head", "front", "end", "whole"]), st.binary(max_size=20_000))


def _record() -> DocumentRecord:
    return DocumentRecord(session_id="s", checkpoint_id="d")


def _edited(document: bytes, place: str, data: bytes) -> bytes:
    match place:
        case "head":
            return data[:50] + document
        case "front":
            return document[:2000] + data + document[2000:]
        case "end":
            return document + data
        case _:
            return data


async def _write(store: BlobStore[Any], documents: Documents, document: bytes) -> None:
    pieces = documents.cut("s", document)
    record = pieces.into(_record())

    async def save(blobs: Mapping[str, bytes]) -> str:
        return await store.save(record, blobs=blobs)

    await pieces.saved(save)
    documents.keep("s", pieces)


@given(st.lists(_edits, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_every_document_comes_back(edits: list[tuple[str, bytes]]) -> None:
    """Whatever bytes are written one after the other, each reads as it was, for anybody."""

    async def main() -> None:
        async with MemoryStore[Any](record_type=DocumentRecord) as store:
            documents, document = Documents(), b'{"at": 1, "list": [' + b'{"a": "bcd"}, ' * 2000
            for place, data in edits:
                document = _edited(document, place, data)
                await _write(store, documents, document)
                for reader in (documents, Documents()):
                    found = await reader.load_from(store, "s", "d")
                    assert found is not None
                    assert found[1] == document

    asyncio.run(main())


def test_what_changes_at_the_front_costs_no_piece() -> None:
    """A time or a number before the first list may change in each write: no blob is new for it."""
    documents = Documents()
    known: frozenset[str] = frozenset()
    for number in (9, 10, 11_000):
        head = {"created_at": f"2026-11-26T{number}", "turn": number}
        document = json.dumps(head | {"messages": [{"n": n, "text": "a" * 600} for n in range(99)]})
        pieces = documents.cut("s", document.encode())
        documents.keep("s", pieces)
        assert len(pieces.whole.names) > 4
        assert pieces.whole.names - pieces.known == (pieces.whole.names if number == 9 else set())
        known |= pieces.whole.names
    assert known == pieces.whole.names
