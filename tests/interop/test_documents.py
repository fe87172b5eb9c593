"""Every document one side writes, the other reads with equal values."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from tests.conftest import MakeWriter
from tests.interop.comparison import as_rust_reads, comparable, document_of, is_readable_as_printed
from tests.interop.driver import Rust
from tests.interop.random_documents import random_checkpoint
from tests.on_disk import path_of

pytestmark = pytest.mark.interop

Writer = AsyncCheckpointWriter[CheckpointData]

_DOCUMENTS = 1_000
_SESSIONS = 20


async def _saved(writer: Writer, seed: int, count: int = _DOCUMENTS) -> list[CheckpointData]:
    source = random.Random(seed)
    checkpoints = [
        random_checkpoint(source, f"session-{number % _SESSIONS}") for number in range(count)
    ]
    await asyncio.gather(*map(writer.save, checkpoints))
    return checkpoints


class TestWhatPythonWrites:
    async def test_rust_reads_equal_values(self, writer: Writer, root: Path, rust: Rust) -> None:
        """Rust loads by id, lists and verifies 1,000 random checkpoints, with equal values."""
        saved = await _saved(writer, seed=1)
        for session_id in {checkpoint.session_id for checkpoint in saved}:
            ours = {meta.checkpoint_id: meta for meta in await writer.list(session_id)}
            metas = await rust.listing(root, session_id)

            assert {meta["checkpoint_id"] for meta in metas} == ours.keys()
            for theirs in metas:
                meta = ours[theirs["checkpoint_id"]]
                assert theirs == {
                    "checkpoint_id": meta.checkpoint_id,
                    "session_id": meta.session_id,
                    "created_at": f"{meta.created_at:%FT%T.%fZ}",
                    "trigger": meta.trigger,
                    "iteration": meta.iteration,
                    "_checksum": meta.checksum,
                }
                assert await rust.verify(path_of(meta))
        for checkpoint in saved:
            loaded = await rust.load(root, checkpoint.session_id, checkpoint.checkpoint_id)

            assert loaded is not None
            assert comparable(loaded) == as_rust_reads(document_of(checkpoint))

    async def test_rust_would_write_the_same_bytes(
        self, writer: Writer, root: Path, rust: Rust, tmp_path: Path
    ) -> None:
        """A file of ours is Rust's file of the same record, byte for byte, but for floats."""
        same = 0
        for saved in await _saved(writer, seed=3, count=200):
            document = document_of(saved)
            await rust.save(tmp_path / "rust", document)
            ours = await asyncio.to_thread(_file_of, root, saved)
            theirs = await asyncio.to_thread(_file_of, tmp_path / "rust", saved)
            readable = is_readable_as_printed(document)

            assert (ours == theirs) is readable
            same += readable
        assert 50 < same < 200


def _file_of(root: Path, saved: CheckpointData) -> bytes:
    (path,) = (root / saved.session_id / "checkpoints").glob(f"cp_*_{saved.checkpoint_id}.json")
    return path.read_bytes()


class TestWhatRustWrites:
    async def test_python_loads_equal_values(self, writer: Writer, root: Path, rust: Rust) -> None:
        """1,000 random checkpoints of Rust's load by id, list and verify with equal values."""
        readable_count = 0
        for number in range(_SESSIONS):
            session_id = f"session-{number}"
            count = _DOCUMENTS // _SESSIONS
            saved = await rust.values(root, session_id, seed=number, count=count)
            metas = {meta.checkpoint_id: meta for meta in await writer.list(session_id)}

            assert len(metas) == count
            for document in saved:
                loaded = await writer.load(session_id, document["checkpoint_id"])
                meta = metas[document["checkpoint_id"]]
                readable = is_readable_as_printed(document)

                assert loaded is not None
                assert comparable(document_of(loaded)) == comparable(document)
                assert (meta.trigger, meta.iteration) == (
                    document["trigger"],
                    document["iteration"],
                )
                assert await writer.verify(path_of(meta))
                assert await rust.verify(path_of(meta)) is readable
                readable_count += readable
        assert 0.2 < readable_count / _DOCUMENTS < 0.9

    async def test_python_loads_the_newest(
        self, make_writer: MakeWriter, root: Path, rust: Rust
    ) -> None:
        """Load without an id returns Rust's last save, also to a writer that saw an earlier one."""
        writer = make_writer()
        await rust.values(root, "s", seed=7, count=3)
        first = await writer.load("s")
        (last,) = await rust.values(root, "s", seed=8, count=1)

        loaded = await writer.load("s")

        assert first is not None
        assert first.checkpoint_id == "00070002"
        assert loaded is not None
        assert comparable(document_of(loaded)) == comparable(last)
