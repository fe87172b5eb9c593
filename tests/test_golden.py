"""Format 1.0 for ever: files that Rust and earlier versions wrote are read, and written alike."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiocheckpoint import CheckpointMeta
from aiocheckpoint._format.names import parse_name
from tests.conftest import MakeWriter
from tests.golden import DIRECTORY, GOLDENS, RECORD_TYPES, Golden, placed
from tests.interop.comparison import comparable
from tests.on_disk import on_disk, path_of

_REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "format.md"

# Where our file of the same record differs from Rust's, and why.
_WRITTEN_OTHERWISE = {
    "rust-floats-misread": "we write digits that Rust reads right",
    "rust-milliseconds": "we write six digits of a second, or none",
    "rust-nanoseconds": "we have no nanoseconds",
    "rust-preserve_order": "we sort the keys",
    "rust-serde_json-1.0.145": "we write 1e+16 as later versions do, not 1e16",
}
# Whose checksum is not over the numbers that stand in the file.
_HASHED_OTHERWISE = {"python-floats-inexact", "rust-serde_json-1.0.145"}

_each_golden = pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden.name)


class TestGoldenFiles:
    def test_are_what_they_were(self) -> None:
        """No golden file was changed, dropped, or added without its sum."""
        lines = (DIRECTORY / "SHA256SUMS").read_text("ascii").splitlines()
        expected = {line[66:]: line[:64] for line in lines}
        found = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in DIRECTORY.iterdir()
            if path.suffix in {".json", ".tokens"}
        }

        assert found == expected
        assert len(GOLDENS) >= 17

    @_each_golden
    async def test_are_read(self, golden: Golden, make_writer: MakeWriter, root: Path) -> None:
        """A golden file is verified, listed and loaded, by id and as the newest, bit for bit."""
        path = await asyncio.to_thread(placed, golden, root)
        document = golden.document
        session_id, checkpoint_id = document["session_id"], document["checkpoint_id"]
        writer = make_writer(record_type=RECORD_TYPES[golden.name])

        assert await writer.verify(path)
        for loaded in (await writer.load(session_id), await writer.load(session_id, checkpoint_id)):
            assert comparable(msgspec.to_builtins(loaded)) == comparable(document)
        assert await writer.list(session_id) == (_expected_meta(path, golden),)
        assert await writer.check() == ()

    @_each_golden
    async def test_are_written_alike(
        self, golden: Golden, make_writer: MakeWriter, root: Path
    ) -> None:
        """For the record of a golden file we write the very same bytes, where the table says so."""
        record_type = RECORD_TYPES[golden.name]
        record = msgspec.convert(golden.document, record_type)
        writer = make_writer(record_type=record_type)
        await writer.save(record)
        await on_disk(writer)
        (meta,) = await writer.list(record.session_id)

        written = await asyncio.to_thread(path_of(meta).read_bytes)

        assert (written == golden.body) is (golden.name not in _WRITTEN_OTHERWISE)


def _claimed(body: bytes) -> str:
    claimed = re.search(rb'"_checksum": "([0-9a-f]{64})"', body)
    assert claimed is not None
    return claimed[1].decode()


def _expected_meta(path: Path, golden: Golden) -> CheckpointMeta:
    document, name = golden.document, parse_name(path.name)
    assert name is not None
    return CheckpointMeta(
        checkpoint_id=document["checkpoint_id"],
        session_id=document["session_id"],
        created_at=comparable(document)[0],
        saved_at=name.saved_at,
        trigger=document.get("trigger", ""),
        iteration=document.get("iteration", 0),
        checksum=_claimed(golden.body),
        location=path.as_uri(),
        path=path,
    )


class TestReference:
    @_each_golden
    def test_example_computes_the_checksum(self, golden: Golden) -> None:
        """The plain Python on the reference page computes the checksum of every golden file."""
        (code,) = re.findall(r"```python\n(.*?)```", _REFERENCE.read_text("utf-8"), re.DOTALL)
        example: dict[str, Any] = {}
        exec(code, example)

        computed = example["checksum"](golden.body)

        assert (computed == _claimed(golden.body)) is (golden.name not in _HASHED_OTHERWISE)

    def test_page_shows_a_golden_file(self) -> None:
        """The file shown on the reference page is a golden one, to the byte."""
        (shown,) = re.findall(r"```json\n(.*?)\n```", _REFERENCE.read_text("utf-8"), re.DOTALL)

        assert shown.encode() == (DIRECTORY / "rust-minimal.json").read_bytes()
