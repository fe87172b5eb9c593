"""Odd session and checkpoint ids: each works and stays inside the root, or is refused by name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointData,
    InvalidIdError,
)
from tests.conftest import MakeWriter
from tests.durabilities import SYNCED_FILES, journal_by_default, writers_of_each_durability
from tests.on_disk import on_disk, path_of
from tests.trees import Tree, snapshot

Writer = AsyncCheckpointWriter[CheckpointData]

ODD_IDS = {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "parent": "../x",
    "absolute": "/etc/x",
    "slash": "a/b",
    "backslash": "a\\b",
    "drive": "C:\\x",
    "star": "*",
    "question": "?",
    "class": "[a]",
    "nul": "a\0b",
    "newline": "a\nb",
    "trailing-newline": "a\n",
    "control": "\x01\x1b\x7f",
    "5000": "x" * 5000,
    "5000-wide": "\U0001f600" * 5000,
    "128": "x" * 128,
    "129": "x" * 129,
    "200": "y" * 200,
    "256": "y" * 256,
    "device": "CON",
    "device-low": "con",
    "device-suffix": "aux.txt",
    "trailing-dot": "a.",
    "trailing-space": "a ",
    "leading-space": " a",
    "upper": "A",
    "lower": "a",
    "emoji": "\U0001f9d1\u200d\U0001f680",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "right-to-left": "\u202e\u05e9\u05dc\u05d5\u05dd\u202c",
    "private": ".aiocheckpoint",
    "latest": "latest.json",
    "directory": "checkpoints",
    "file-name": "cp_20260101_000000_x",
    "backup-name": "cp_20260101_000000_000001_x.json.backup",
    "temporary": ".tmp_cp_0123456789abcdef",
    "rust-temporary": ".tmp_checkpoint_x",
    "rust-meta": "session_meta.json",
    "percent": "a%2fb",
    "percent-upper": "%2E%2E",
    "tilde": "~",
    "tilde-encoded": "~%2e%2e",
    "hash-name": "~sha256-" + "0" * 64,
    "option": "-rf",
    "underscore": "_",
    "fraction": "123456_x",
    "plain": "x",
    "json": "x.json",
    "byte-order-mark": "\ufeff",
    "not-a-character": "\uffff",
}
odd_id = pytest.mark.parametrize("odd", ODD_IDS.values(), ids=ODD_IDS.keys())

INVALID_IDS: dict[str, Any] = {
    "lone-surrogate": "a\ud800b",
    "swapped-surrogates": "\udc00\ud800",
    "int": 5,
    "none": None,
    "bytes": b"a",
    "float": 1.5,
    "list": ["a"],
    "path": Path("a"),
}
invalid_id = pytest.mark.parametrize("bad", INVALID_IDS.values(), ids=INVALID_IDS.keys())


durability, make_writer = journal_by_default, writers_of_each_durability


def step(session_id: str, checkpoint_id: str, **fields: Any) -> CheckpointData:
    return CheckpointData(session_id=session_id, checkpoint_id=checkpoint_id, **fields)


def visible(tree: Tree) -> Tree:
    """Leave out the store's own directory, whose journal changes with every save."""
    return {name: entry for name, entry in tree.items() if ".aiocheckpoint" not in name}


class Canary:
    """
    A session that no call is about; nothing may change in it, nor beside the root.

    Attributes:
        names: the canary's directory, and what else may stand in the root.
    """

    names = frozenset({"canary", ".aiocheckpoint"})

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before: Tree = {}

    async def place(self, writer: Writer) -> None:
        for name in ("bird-1", "bird-2"):
            await writer.save(step("canary", name))
        await on_disk(writer)
        self._before = await asyncio.to_thread(snapshot, self._root / "canary")

    async def others(self) -> set[str]:
        """Check that it is unharmed, and return the other names in the root."""
        assert await asyncio.to_thread(snapshot, self._root / "canary") == self._before
        assert await asyncio.to_thread(os.listdir, self._root.parent) == [self._root.name]
        return set(await asyncio.to_thread(os.listdir, self._root)) - self.names


@pytest.fixture(name="canary")
async def _canary(make_writer: MakeWriter, root: Path) -> AsyncIterator[Canary]:
    canary = Canary(root)
    async with make_writer() as writer:
        await canary.place(writer)
    yield canary
    assert await canary.others() == set()


@pytest.mark.few(20)
class TestEachOddSessionId:
    """With the default durability."""

    @pytest.fixture(name="durability")
    def _durability(self) -> dict[str, Any]:
        return {}

    @odd_id
    @pytest.mark.some(14)
    async def test_every_method_works(
        self, make_writer: MakeWriter, canary: Canary, odd: str
    ) -> None:
        """Every method takes the id, keeps to one directory in the root, and leaves none behind."""
        writer = make_writer()
        first, second = step(odd, "one"), step(odd, "two")
        assert await writer.load(odd) is None
        assert await writer.list(odd) == ()
        assert await writer.delete(odd, "one") is False
        assert await writer.delete_session(odd) is False
        assert await writer.copy_session(odd, "elsewhere") == 0
        assert (await writer.recover(odd)).quarantined == ()
        assert await canary.others() == set()

        await writer.save(first)
        await writer.save(second)
        await on_disk(writer)
        assert len(await canary.others()) == 1
        assert await make_writer().load(odd) == second
        assert await writer.load(odd, "one") == first
        (newest, _) = await writer.list(odd)
        assert newest.session_id == odd
        assert await writer.verify(path_of(newest)) is True
        assert odd in [session async for session in writer.sessions()]
        assert await writer.check() == ()
        assert (await writer.recover(odd)).newest_valid_id == "two"

        assert await writer.copy_session(odd, "elsewhere") == 2
        assert await writer.copy_session("elsewhere", odd) == 2
        assert await writer.delete_session("elsewhere") is True
        assert await writer.delete(odd, "one") is True
        assert await writer.load(odd, "two") == second
        assert await writer.delete_session(odd) is True
        assert await writer.load(odd) is None
        await on_disk(writer)
        assert await canary.others() == set()
        assert "canary" in [session async for session in writer.sessions()]


class TestAllOddSessionIds:
    async def test_all_at_once_do_not_meet(self, make_writer: MakeWriter, canary: Canary) -> None:
        """Each of all these ids has a session of its own, and each deletion is of its own."""
        writer = make_writer()
        for number, odd in enumerate(ODD_IDS.values()):
            await writer.save(step(odd, "one", iteration=number))
        await on_disk(writer)
        assert len(await canary.others()) == len(ODD_IDS)

        reader = make_writer()
        for number, odd in enumerate(ODD_IDS.values()):
            loaded = await reader.load(odd)
            assert loaded is not None
            assert (loaded.session_id, loaded.iteration) == (odd, number)
        found = [session async for session in reader.sessions()]
        assert sorted(found) == sorted([*ODD_IDS.values(), "canary"])
        assert await reader.check() == ()

        remaining = list(ODD_IDS.values())
        while remaining:
            assert await writer.delete_session(remaining.pop()) is True
            await on_disk(writer)
            assert len(await canary.others()) == len(remaining)

    async def test_damage_is_told_and_repaired(self, make_writer: MakeWriter, root: Path) -> None:
        """A damaged file of a session with an odd id is reported and quarantined as any other."""
        writer = make_writer()
        for odd in ODD_IDS.values():
            for name in ("one", "two"):
                await writer.save(step(odd, name))
            await on_disk(writer)
            (newest, _) = await writer.list(odd)
            await asyncio.to_thread(path_of(newest).write_bytes, b"{}")

            with pytest.raises(CheckpointCorruptError) as refused:
                await writer.load(odd)
            assert refused.value.newest_valid_id == "one"
            report = await writer.recover(odd)
            (aside,) = report.quarantined
            assert report.newest_valid_id == "one"
            assert Path(aside).is_relative_to(root / ".aiocheckpoint" / "quarantine")
        assert await writer.check() == ()


@pytest.mark.few(10)
class TestEachOddCheckpointId:
    """With files that are synced on their own."""

    @pytest.fixture(name="durability")
    def _durability(self) -> dict[str, Any]:
        return SYNCED_FILES

    @odd_id
    @pytest.mark.some(14)
    async def test_every_method_works(
        self, make_writer: MakeWriter, canary: Canary, root: Path, odd: str
    ) -> None:
        """Every method takes the id and touches no other checkpoint of the session."""
        writer = make_writer(max_backups=0)
        for name in ("b", "c*", "123456_y", "y"):
            await writer.save(step("s", name))
        await on_disk(writer)
        before = visible(await asyncio.to_thread(snapshot, root / "s"))
        assert await writer.load("s", odd) is None
        assert await writer.delete("s", odd) is False

        data = step("s", odd, iteration=1)
        assert await writer.save(data) == odd
        replaced = step("s", odd, iteration=2)
        assert await writer.save(replaced) == odd
        assert await make_writer().load("s", odd) == replaced
        assert await writer.load("s") == replaced
        assert [meta.checkpoint_id for meta in await writer.list("s")] == [
            odd, "y", "123456_y", "c*", "b",
        ]  # fmt: skip
        (newest, *_) = await writer.list("s")
        assert path_of(newest).parent == root / "s" / "checkpoints"
        assert await writer.verify(path_of(newest)) is True
        assert await writer.check() == ()
        assert (await writer.recover("s")).newest_valid_id == odd
        assert await writer.copy_session("s", "t") == 5
        assert await writer.delete("t", odd) is True
        assert await writer.load("t", odd) is None
        assert await writer.delete("s", odd) is True

        assert await writer.load("s", odd) is None
        await on_disk(writer)
        assert await asyncio.to_thread(snapshot, root / "s") == before
        for session_id in ("s", "t"):
            assert await writer.delete_session(session_id) is True


class TestAllOddCheckpointIds:
    async def test_all_at_once_do_not_meet(self, make_writer: MakeWriter, canary: Canary) -> None:
        """Each of all these ids is a checkpoint of its own in one session."""
        writer = make_writer()
        names = list(ODD_IDS.values())
        for number, odd in enumerate(names):
            await writer.save(step("s", odd, iteration=number))

        reader = make_writer()
        assert [meta.checkpoint_id for meta in await reader.list("s")] == names[::-1]
        for number, odd in enumerate(names):
            loaded = await reader.load("s", odd)
            assert loaded is not None
            assert (loaded.checkpoint_id, loaded.iteration) == (odd, number)
        for number, odd in enumerate(names):
            assert await writer.delete("s", odd) is True
            assert len(await reader.list("s")) == len(names) - number - 1
        await writer.delete_session("s")
        await on_disk(writer)

    async def test_name_that_fits_two_ids(self, make_writer: MakeWriter, root: Path) -> None:
        """Where a file's name may mean two ids, the body decides, for load and for delete."""
        writer = make_writer(max_backups=0)
        await writer.save(step("s", "x"))
        (meta,) = await writer.list("s")
        other_id = "_".join(path_of(meta).stem.split("_")[3:])
        assert other_id.endswith("_x")

        assert await writer.load("s", other_id) is None
        assert await writer.delete("s", other_id) is False
        await writer.save(step("s", other_id, iteration=1))
        loaded = await writer.load("s", "x")
        assert loaded is not None
        assert loaded.iteration == 0
        assert await writer.delete("s", other_id) is True
        assert await writer.load("s", "x") is not None


class TestInvalidIds:
    @invalid_id
    async def test_every_method_refuses_it_by_name(
        self, make_writer: MakeWriter, canary: Canary, bad: Any
    ) -> None:
        """What is not text that UTF-8 can hold is refused by every method that takes an id."""
        writer = make_writer()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: writer.load(bad),
            lambda: writer.list(bad),
            lambda: writer.delete(bad, "one"),
            lambda: writer.delete("canary", bad),
            lambda: writer.delete_session(bad),
            lambda: writer.copy_session(bad, "t"),
            lambda: writer.copy_session("canary", bad),
            lambda: writer.recover(bad),
        ]
        if bad is not None:  # which means the newest
            calls.append(lambda: writer.load("canary", bad))
            calls.append(lambda: writer.load(bad, bad))
        for call in calls:
            with pytest.raises(InvalidIdError) as refused:
                await call()
            assert refused.value.value is bad
            assert refused.value.kind in ("session id", "checkpoint id")

    @pytest.mark.parametrize("field", ["session_id", "checkpoint_id"])
    async def test_save_refuses_it_by_name(
        self, make_writer: MakeWriter, canary: Canary, field: str
    ) -> None:
        """A record with such an id is refused as `InvalidIdError`, as `save` says."""
        for bad in INVALID_IDS.values():
            data = step("canary", "new")
            setattr(data, field, bad)
            with pytest.raises(InvalidIdError):
                await make_writer().save(data)

    async def test_text_of_the_error_is_short_and_printable(self, make_writer: MakeWriter) -> None:
        """The error of a long or unprintable id can be logged anywhere."""
        with pytest.raises(InvalidIdError) as refused:
            await make_writer().load("\ud800\x1b" + "x" * 100_000)

        text = str(refused.value)
        assert text.isascii()
        assert text.isprintable()
        assert len(text) < 200


class TestRustsNames:
    @pytest.mark.parametrize("name", ["café", "a b", "x" * 150, "A=B,c", "#1", "~x", "a%b"])
    async def test_raw_id_in_a_file_name_is_found(
        self, make_writer: MakeWriter, root: Path, name: str
    ) -> None:
        """A file named by its id as Rust does is found, listed and deleted by that id."""
        writer = make_writer(max_backups=0)
        data = step("s", name)
        await writer.save(data)
        await on_disk(writer)
        (meta,) = await writer.list("s")
        path = path_of(meta).with_name(f"cp_20260101_000000_{name}.json")
        await asyncio.to_thread(path_of(meta).rename, path)
        reader = make_writer()

        assert await reader.load("s", name) == data
        assert await reader.load("s") == data
        assert await reader.delete("s", name) is True
        await on_disk(reader)
        assert not await asyncio.to_thread(path.exists)
