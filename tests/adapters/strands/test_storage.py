"""What the storage promises beyond the framework's own tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands", reason="needs the extra strands: .ci/adapter strands")

from hypothesis import given, settings
from hypothesis import strategies as st
from strands.storage import Storage as FrameworkStorage

from aiocheckpoint import BlobNode, InvalidArgumentError
from aiocheckpoint.adapters.strands import Storage, StoredValue
from aiocheckpoint.testing import MemoryStore

KEYS = ("", "a", "/", "/a", "a/", "a/b", "a//b", "a/b/", "a/b/c", "a/b/c/d", "//", "a/bc/d", "ab")


@pytest.fixture(name="storage", params=["directory", "memory"])
async def _storage(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Storage]:
    where: Any = root if request.param == "directory" else MemoryStore(StoredValue)
    async with Storage(where) as storage:
        yield storage


class TestKeys:
    async def test_is_what_the_framework_calls_a_storage(self, storage: Storage) -> None:
        """It has what the framework's protocol asks for."""
        assert isinstance(storage, FrameworkStorage)

    async def test_keys_are_apart_and_listed(self, storage: Storage) -> None:
        """Any keys are apart, and a list has all that begin so, in order."""
        for key in KEYS:
            await storage.write(key, key.encode())

        for key in KEYS:
            assert await storage.read(key) == key.encode()
            assert await storage.list(key) == sorted(k for k in KEYS if k.startswith(key))
        for key in KEYS:
            await storage.delete(key)
        assert await storage.list() == []

    async def test_namespaces(self, storage: Storage) -> None:
        """Beneath a prefix there is what is there, by shorter keys."""
        team = storage.namespace("team").namespace("blue/")
        await team.write("a/b/c", b"1")
        await storage.write("team/green/a/b/c", b"2")

        assert await storage.list() == ["team/blue/a/b/c", "team/green/a/b/c"]
        assert await team.list() == await team.list("a/b") == ["a/b/c"]
        await team.delete("a/b/c")
        assert await storage.list("team/") == ["team/green/a/b/c"]

    @pytest.mark.parametrize(("key", "data"), [(7, b""), ("a", "text"), ("a", None)])
    async def test_bad_arguments_are_named(self, storage: Storage, key: Any, data: Any) -> None:
        """What is no key or no bytes is refused by name."""
        with pytest.raises(InvalidArgumentError):
            await storage.write(key, data)


class TestBytes:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff" * 100_000,
            "☃".encode() * 50_000,
            b"}" * 100_000,
            BlobNode(["0" * 64]) * 5,
            b"x" * 8191 + BlobNode(["0" * 64]) + b"y" * 20_000,
        ],
        ids=["none", "no text", "snow", "braces", "a node", "a node within"],
    )
    async def test_any_bytes_come_back(self, storage: Storage, data: bytes) -> None:
        """Whatever bytes they are, for the object that wrote them and for another one."""
        await storage.write("a/b/c", data)

        assert await storage.read("a/b/c") == data
        assert await Storage(storage._opened.store).read("a/b/c") == data

    @settings(max_examples=40)
    @given(st.integers(), st.lists(st.integers(0, 400_000), max_size=8))
    def test_random_edits_of_long_values(self, seed: int, places: list[int]) -> None:
        """Whatever is inserted, removed and replaced of a long value, the newest comes back."""
        asyncio.run(_edit(random.Random(seed), places))


async def _edit(chance: random.Random, places: list[int]) -> None:
    store: Any = MemoryStore(StoredValue)
    one, two = Storage(store), Storage(store)
    data = b"".join(b'{"n": %d, "text": "%s"}, ' % (n, b"w" * (n % 300)) for n in range(1200))
    for place in places:
        edit = chance.choice([b"", b"inserted } here", b"long " * 9_000])
        data = data[:place] + edit + data[place + chance.choice([0, 1, 50_000]) :]
        writer, reader = chance.sample([one, two], 2)
        await writer.write("a/b/c", data)
        assert await reader.read("a/b/c") == data
        assert await Storage(store).read("a/b/c") == data


async def test_write_while_others_replace(storage: Storage) -> None:
    """Objects that replace one value at once leave one of theirs, whole, and read whole ones."""
    store = storage._opened.store
    values = [b"%d " % n * 20_000 for n in range(4)]

    async def run(value: bytes) -> None:
        own = Storage(store)
        for _ in range(10):
            await own.write("a/b/c", value)
            assert await own.read("a/b/c") in values

    await asyncio.gather(*(run(value) for value in values))

    assert await storage.read("a/b/c") in values


async def test_values_of_a_session_share_what_they_have_in_common(root: Path) -> None:
    """200 versions of a growing value, 20 of them kept, take little more than the value twice."""
    value = b""
    async with Storage(root) as storage:
        for number in range(200):
            value += b'{"turn": %d, "text": "%s"}, ' % (number, b"word " * 600)
            await storage.write("session/ann/latest", value)
            if number % 10 == 0:
                await storage.write(f"session/ann/history/{number}", value)

    def size() -> int:
        files = [path for path in root.rglob("*") if ".aiocheckpoint" not in path.parts]
        return sum(path.stat().st_size for path in files if path.is_file())

    assert await asyncio.to_thread(size) < 2.5 * len(value)
