"""What Rust would misread is refused at save; and Rust would indeed misread it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointEncodeError,
)
from aiocheckpoint._format.json_values import MAX_DEPTH
from tests.interop.comparison import document_of
from tests.interop.driver import Rust, RustError
from tests.interop.flat import flatten

pytestmark = pytest.mark.interop

Writer = AsyncCheckpointWriter[CheckpointData]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class _Misread(NamedTuple):
    """
    A value, the bytes that a file would hold for it, and what Rust says of such a file.

    Attributes:
        value: for Python, at `messages[1].content.x`.
        text: for the file, in the same place.
        says: Rust's error; None where it reads another value and finds the checksum wrong.
        path: where the refusal says it is.
    """

    value: Any
    text: bytes
    says: str | None
    path: str = "messages[1].content.x"


_MISREAD = {
    "2**64": _Misread(2**64, b"18446744073709551616", None),
    "-2**63 - 1": _Misread(-(2**63) - 1, b"-9223372036854775809", None),
    "10**400": _Misread(10**400, b"1" + b"0" * 400, "number out of range"),
    "NaN": _Misread(math.nan, b"NaN", "expected value"),
    "Infinity": _Misread(math.inf, b"Infinity", "expected value"),
    "-Infinity": _Misread(-math.inf, b"-Infinity", "invalid number"),
    "Infinity as 1e999": _Misread(math.inf, b"1e999", "number out of range"),
    "an escaped surrogate": _Misread("\ud800", rb'"\ud800"', "hex escape"),
    "a raw surrogate": _Misread("\udfff", b'"\xed\xbf\xbf"', "UTF-8"),
    "a surrogate in a key": _Misread({"\udcff": 1}, rb'{"\udcff":1}', "surrogate"),
    "128 levels": _Misread(
        _nested(MAX_DEPTH - 3),
        json.dumps(_nested(MAX_DEPTH - 3)).encode(),
        "recursion limit exceeded",
        "messages[1].content.x" + "[0]" * (MAX_DEPTH - 4),
    ),
}

_each_misread = pytest.mark.parametrize("misread", _MISREAD.values(), ids=_MISREAD.keys())


def _file_with(text: bytes) -> bytes:
    """Return a checkpoint file, checksum and all, with `text` at `messages[1].content.x`."""
    record = CheckpointData(session_id="s", messages=[0, {"content": {"x": "here"}}])
    document = json.dumps(document_of(record), sort_keys=True, separators=(",", ":"))
    canonical = document.encode().replace(b'"here"', text)
    checksum = hashlib.sha256(canonical).hexdigest()
    return f'{{"_checksum":"{checksum}","_version":"1.0",'.encode() + canonical[1:]


async def _stored(root: Path, body: bytes) -> Path:
    path = root / "s" / "checkpoints" / "cp_20260511_041200_x.json"
    await asyncio.to_thread(path.parent.mkdir, parents=True)
    await asyncio.to_thread(path.write_bytes, body)
    return path


class TestWhatRustMisreads:
    @_each_misread
    async def test_is_refused_with_its_path(self, writer: Writer, misread: _Misread) -> None:
        """Save names the place of what Rust would misread, and writes nothing."""
        messages = [0, {"content": {"x": misread.value}}]
        with pytest.raises(CheckpointEncodeError) as refused:
            await writer.save(CheckpointData(session_id="s", messages=messages))

        assert refused.value.path == misread.path[:200]
        assert await writer.list("s") == ()

    @_each_misread
    async def test_is_misread_by_rust(self, root: Path, rust: Rust, misread: _Misread) -> None:
        """Rust takes a file that holds it for damaged, or refuses to parse it."""
        path = await _stored(root, _file_with(misread.text))

        if misread.says is None:
            assert not await rust.verify(path)
            assert flatten(await rust.read(misread.text.decode())) != flatten(misread.value)
        else:
            with pytest.raises(RustError, match=misread.says):
                await rust.verify(path)
        with pytest.raises(RustError):
            await rust.load(root, "s")
        assert await rust.listing(root, "s") == []

    async def test_is_all_that_keeps_rust_from_reading(self, root: Path, rust: Rust) -> None:
        """Files as in the test above are right in all else: Rust loads one of a harmless value."""
        path = await _stored(root, _file_with(b"18446744073709551615"))

        loaded = await rust.load(root, "s")

        assert await rust.verify(path)
        assert loaded is not None
        assert loaded["messages"] == [0, {"content": {"x": 2**64 - 1}}]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("iteration", 2**31),
            ("iteration", -(2**31) - 1),
            ("tokens_used", 2**63),
            ("tokens_used", -(2**63) - 1),
        ],
    )
    async def test_out_of_range_fields(
        self, writer: Writer, root: Path, rust: Rust, field: str, value: int
    ) -> None:
        """Numbers beyond Rust's i32 and i64 fields are refused by name; Rust refuses them too."""
        record = CheckpointData(session_id="s")
        with pytest.raises(CheckpointEncodeError) as refused:
            await writer.save(msgspec.structs.replace(record, **{field: value}))
        with pytest.raises(RustError, match=r"invalid value|beyond 64 bits"):
            await rust.save(root, document_of(record) | {field: value})

        assert refused.value.path == field


@pytest.mark.damages_store
class TestWhatRustWritesAndCannotRead:
    async def test_too_deep(self, writer: Writer, root: Path, rust: Rust) -> None:
        """Rust saves 128 levels and cannot load them; we say why, and leave the file alone."""
        document = document_of(CheckpointData(session_id="s")) | {"messages": [_nested(126)]}
        await rust.save(root, document)

        with pytest.raises(RustError, match="recursion limit"):
            await rust.load(root, "s")
        with pytest.raises(CheckpointCorruptError, match="deeper than 127"):
            await writer.load("s")
        assert [finding.kind for finding in await writer.check()] == ["damaged"]
