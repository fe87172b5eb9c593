"""Pickled messages, compressed against the list that has them as JSON."""

from __future__ import annotations

import base64
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from agent_framework import Message

from aiocheckpoint.adapters.agent_framework import CheckpointStorage, StoredCheckpoint
from aiocheckpoint.adapters.agent_framework.packing import end_of, packed, unpacked
from aiocheckpoint.testing import MemoryStore
from tests.adapters.agent_framework.checkpoints import checkpoint

# What was stored once is read by all later versions.
_STORED = bytes.fromhex(
    "78bb80eafddb9b7c4430ba1a98ad0a3293b3815e06e7ac23120d2c537961f983135e284ed13b228b"
    "9a07934a33734a32f38aad8a4b8a80860100b2c418be"
)
_TEXT = b'[{"__pickled__":"gASVDQAAAAAAAACMCWdvb2QgZGF5IZQu","__type__":"builtins:str"}]'

_pickles = st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode())
_values = st.recursive(
    st.text(max_size=8) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["__pickled__", "__type__", "a"]), inner, max_size=3)
        | st.fixed_dictionaries({"__pickled__": _pickles | st.text(max_size=8)})
        | st.sampled_from([{"__pickled__": "QR=="}, {"__pickled__": "="}, '"__pickled__":"QQ=="'])
    ),
)


@given(_values, st.binary())
def test_any_json_comes_back(value: object, page: bytes) -> None:
    """To the letter, also where an application has its own use for the framework's keys."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    known = end_of([page])
    assert unpacked(packed(text, known), known) == text


def test_what_was_stored_is_read() -> None:
    """What packs and unpacks does not change."""
    assert unpacked(_STORED, end_of([b'[{"text":"good day!"}]'])) == _TEXT


@pytest.mark.parametrize("known", [b"", end_of([b"other"])])
def test_what_is_known_has_to_be_the_same(known: bytes) -> None:
    """Another text is an error, never another message."""
    with pytest.raises(ValueError, match="Error"):
        unpacked(_STORED, known)


def test_pages_are_one_list() -> None:
    """What is known is the same however a list is cut into pages."""
    items = [b'"%d"' % (number * 10**50) for number in range(2000)]
    whole = [b"[%b]" % b",".join(items)]
    for size in (1, 7, 500, 1999):
        cut = [items[start : start + size] for start in range(0, len(items), size)]
        assert end_of([b"[%b]" % b",".join(page) for page in cut]) == end_of(whole)
    assert end_of([b"[1]", b"[2,3]"]) == end_of([b"[1,2,3]"])


async def test_a_message_costs_once() -> None:
    """A pickled message that the state has as JSON, too, costs a few hundred bytes more."""
    store: MemoryStore[StoredCheckpoint] = MemoryStore(StoredCheckpoint)
    storage = CheckpointStorage(store)
    words = [random.Random(number).randbytes(500).hex() for number in range(40)]
    messages = [{"role": "user", "text": text} for text in words]
    pickled = [Message(it["role"], [it["text"]]) for it in messages[-3:]]
    saved = checkpoint({"session": {"messages": messages}, "conversation": pickled})
    await storage.save(saved)

    found = await CheckpointStorage(store).load(saved.checkpoint_id)
    assert [it.to_dict() for it in found.state["conversation"]] == [it.to_dict() for it in pickled]
    assert found.state["session"] == saved.state["session"]
    (record,) = await store.load_many("agent_framework.w", [saved.checkpoint_id])
    blobs = await store.load_blobs("agent_framework.w", record.blob_digests)
    packed_sizes = [len(blob) for blob in blobs.values() if blob.startswith(b"x")]
    assert len(packed_sizes) == 1
    assert packed_sizes[0] < 600, "compressed alone they have 1,700"
