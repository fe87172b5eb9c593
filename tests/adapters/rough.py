"""What happens to adapters in programs: closed, dropped, forked, shared, and put on odd stores."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointError,
    NestedCallError,
    WriterClosedError,
    open_store,
)
from aiocheckpoint.testing import MemoryStore
from tests.adapters.case import AdapterCase
from tests.children import run_in_child

_SECONDS = 20.0


class RoughHandling(AdapterCase):
    """Nothing is lost, nothing hangs, and what does not work says so by name."""

    async def test_use_after_close(self, storage: Any) -> None:
        """Each call is refused by name, also where the store was given and stays open."""
        async with self.opened(storage) as adapter:
            await self.add(adapter, "s", "text")
        with pytest.raises(WriterClosedError):
            await self.add(adapter, "s", "more")
        with pytest.raises(WriterClosedError):
            await self.texts(adapter, "s")
        if type(self).listed is not AdapterCase.listed:
            with pytest.raises(WriterClosedError):
                await self.listed(adapter)
        await adapter.aclose()
        with pytest.raises(WriterClosedError):
            async with adapter:
                await self.texts(adapter, "s")
        async with self.opened(storage) as after:
            assert await self.texts(after, "s") == ["text"]

    @pytest.mark.blocking
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is told
    @pytest.mark.parametrize("kind", ["directory", "postgresql"])
    def test_dropped_without_close(self, location: Any, kind: str) -> None:
        """Who forgets to close one leaves no thread and no descriptor behind."""

        async def use(text: str) -> None:
            adapter = await self.opened(location).__aenter__()
            await self.add(adapter, "s", text)

        asyncio.run(use("0"))
        before = _left()
        for number in range(1, 4):
            asyncio.run(use(str(number)))
        assert _left(at_most=before) <= before

    @pytest.mark.blocking
    @pytest.mark.parametrize("kind", ["directory", "open store", "memory", "postgresql"])
    def test_fork(self, location: Any, kind: str) -> None:
        """A child has all of it, or is refused by name where its parent has opened the store."""
        storage: Any = location
        if kind == "open store":
            storage = AsyncCheckpointWriter(location, record_type=self.record_type)
        if kind == "memory":
            storage = MemoryStore(self.record_type)
        adapter = asyncio.run(self._entered(storage, "one"))

        async def in_child(held: Any) -> list[str]:
            async with asyncio.timeout(_SECONDS):
                await self.add(held, "s", "two")
                found = await self.texts(held, "s")
                await held.aclose()
                return found

        def child() -> object:
            try:
                return asyncio.run(in_child(adapter))
            except CheckpointError as error:
                return type(error).__name__

        answer = run_in_child(child)
        if kind == "open store":
            assert answer == "WriterClosedError"
            asyncio.run(storage.aclose())
            return
        assert answer == "['one', 'two']"
        after = asyncio.run(self._texts_and_close(adapter))
        assert after == (["one"] if kind == "memory" else ["one", "two"])

    async def _entered(self, storage: Any, text: str) -> Any:
        adapter = await self.opened(storage).__aenter__()
        await self.add(adapter, "s", text)
        return adapter

    async def _texts_and_close(self, adapter: Any) -> list[str]:
        texts = await self.texts(adapter, "s")
        await adapter.aclose()
        return texts

    @pytest.mark.blocking
    @pytest.mark.parametrize("kind", ["directory", "memory", "postgresql"])
    def test_one_object_in_many_loops(self, location: Any, kind: str) -> None:
        """Threads with loops of their own use one object at once, each a session and all one."""
        adapter: Any = self.opened(MemoryStore(self.record_type) if kind == "memory" else location)
        failures: list[BaseException] = []

        async def add(name: str) -> None:
            for number in range(8):
                await self.add(adapter, name, f"{name} {number}")
                assert len(await self.texts(adapter, name)) == number + 1
                await self.texts(adapter, "one")

        def run(name: str) -> None:
            try:
                asyncio.run(add(name))
            except BaseException as error:  # noqa: BLE001 - told below
                failures.append(error)

        threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        for name in ("one", "two", "three"):
            texts = [f"{name} {number}" for number in range(8)]
            assert asyncio.run(self.texts(adapter, name)) == texts
        asyncio.run(adapter.aclose())

    @pytest.mark.parametrize("kind", ["directory", "memory"])
    async def test_call_within_an_update_of_its_store(self, location: Any, kind: str) -> None:
        """Work of an update may not call an adapter on the same store; it does not hang."""
        store: BlobStore[Any] = (
            MemoryStore(self.record_type)
            if kind == "memory"
            else open_store(location, record_type=self.record_type)
        )
        async with store, self.opened(store) as adapter:
            await self.add(adapter, "s", "one")

            async def work(_: object) -> None:
                await self.add(adapter, "s", "nested")

            with pytest.raises(NestedCallError):
                await store.update("another", work)
            assert await self.texts(adapter, "s") == ["one"]
            await self.add(adapter, "s", "two")
            assert await self.texts(adapter, "s") == ["one", "two"]

    @pytest.mark.parametrize("kind", ["directory", "shared", "memory"])
    @pytest.mark.parametrize("keep", [1, 3])
    async def test_store_that_keeps_few(self, root: Path, kind: str, keep: int) -> None:
        """A store with `max_checkpoints` is refused by name, or has each session whole."""
        makers: dict[str, Any] = {
            "directory": partial(AsyncCheckpointWriter, root),
            "shared": partial(open_store, root),
            "memory": MemoryStore,
        }
        store = makers[kind](record_type=self.record_type, max_checkpoints=keep)
        texts = [f"text {number}" for number in range(40)]
        async with store:
            if not self.allows_retention:
                with pytest.raises(self.refusals, match="opened without `max_checkpoints`"):
                    async with self.opened(store) as adapter:
                        await self.add(adapter, "s", "text")
                assert [session async for session in store.sessions()] == []
                return
            async with self.opened(store) as adapter:
                for number, text in enumerate(texts, 1):
                    await self.add(adapter, "s", text)
                    assert await self.texts(adapter, "s") == texts[:number]

    @pytest.mark.damages_store
    @pytest.mark.blocking
    async def test_foreign_files(self, root: Path) -> None:
        """Files of somebody else in its directories change nothing, or are refused by name."""
        await self._fill(root, "s", 40)
        await self._fill(root, "t", 40)
        whole = {name: await self._texts_in(root, name) for name in ("s", "t")}
        files = sorted(root.rglob("cp_*.json"))
        for directory in sorted({path.parent for path in files}):
            others = (path for path in reversed(files) if path.parent != directory)
            other = next(others, files[-1])
            kept = sorted(directory.iterdir())
            for foreign in _foreign(directory, other):
                for name, texts in whole.items():
                    with contextlib.suppress(CheckpointError):
                        assert await self._texts_in(root, name) == texts, foreign
                assert sorted(directory.iterdir()) != kept
                _remove(foreign)
        assert {name: await self._texts_in(root, name) for name in ("s", "t")} == whole

    async def _fill(self, root: Path, session: str, count: int) -> None:
        async with self.opened(root) as adapter:
            for number in range(count):
                await self.add(adapter, session, f"{session} {number}")

    async def _texts_in(self, root: Path, session: str) -> list[str]:
        async with self.opened(root) as adapter:
            return await self.texts(adapter, session)

    @pytest.mark.blocking
    async def test_clock_that_goes_back(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The newest is what was stored last, also by a process whose clock is a day behind."""
        await self._fill(root, "s", 3)
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() - 86_400 * 10**9)
        async with self.opened(root) as behind:
            await self.add(behind, "s", "behind")
            assert (await self.texts(behind, "s"))[-1] == "behind"
        monkeypatch.undo()
        async with self.opened(root) as again:
            await self.add(again, "s", "again")
            assert await self.texts(again, "s") == ["s 0", "s 1", "s 2", "behind", "again"]

    async def test_cancelled_at_every_step(self) -> None:
        """Wherever in its course a call is cancelled, it took place as a whole or not at all."""
        async with self.opened(MemoryStore(self.record_type)) as adapter:
            await self.add(adapter, "s", "first")
            texts = ["first"]
            for suspensions in range(1000):
                task = asyncio.ensure_future(self.add(adapter, "s", f"at {suspensions}"))
                for _ in range(suspensions):
                    await asyncio.sleep(0)
                is_over = task.done()
                task.cancel()
                await asyncio.wait([task])
                found = await self.texts(adapter, "s")
                assert found in (texts, [*texts, f"at {suspensions}"])
                if not task.cancelled():
                    assert task.exception() is None
                    assert found != texts
                texts = found
                if is_over:
                    break
            assert is_over


def _left(at_most: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return how many threads and descriptors there are, once what was dropped has gone."""
    until = time.monotonic() + _SECONDS
    while True:
        gc.collect()
        left = threading.active_count(), len(os.listdir("/proc/self/fd"))
        if time.monotonic() > until or (left[0] <= at_most[0] and left[1] <= at_most[1]):
            return left
        if at_most == (0, 0) and time.monotonic() > until - _SECONDS + 0.5:
            return left
        time.sleep(0.01)


def _foreign(directory: Path, other: Path) -> Any:
    """Put foreign things into a directory, one after the other."""
    for name, content in (
        ("notes.txt", b"mine"),
        ("cp_20990101_000000_000000_x.json", b"{}"),
        ("cp_20990101_000000_000000_x.json", b""),
        ("cp_20990101_000000_000000_x.json", b"\0" * 100),
        ("cp_20990101_000000_000000_x.json.tmp", b"{}"),
        (other.name, other.read_bytes()),
    ):
        path = directory / name
        if not path.exists():
            path.write_bytes(content)
            yield path
    path = directory / "cp_20990101_000000_000000_d.json"
    path.mkdir()
    yield path
    path = directory / "cp_20990101_000000_000000_l.json"
    path.symlink_to(other)
    yield path
    path = directory / "cp_20990101_000000_000000_p.json"
    os.mkfifo(path)
    yield path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
