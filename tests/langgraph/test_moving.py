"""Copies made again: what somebody has gone on with in the target is refused, never hidden."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from aiocheckpoint import InvalidArgumentError
from aiocheckpoint.adapters.langgraph import (
    CheckpointSaver,
    Copied,
    CopyMismatchError,
    ThreadRecord,
    copy_threads,
    records,
    session_of,
)
from aiocheckpoint.adapters.langgraph.__main__ import main as migrate
from aiocheckpoint.testing import MemoryStore
from tests.adapters import damages
from tests.langgraph import graphs
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import chat, thread
from tests.langgraph.promises import listed, put

DAMAGES = [
    "checkpoints: checkpoint = substr(checkpoint, 1, 40)",
    "checkpoints: checkpoint = x'ff00ff'",
    "checkpoints: checkpoint = x'80'",
    "checkpoints: checkpoint = NULL",
    "checkpoints: checkpoint = (SELECT checkpoint FROM checkpoints WHERE thread_id = 'ann')",
    "checkpoints: type = NULL",
    "checkpoints: type = 'no type'",
    "checkpoints: metadata = x'7b22'",
    "checkpoints: metadata = '[]'",
    "checkpoints: metadata = x'ff'",
    "checkpoints: parent_checkpoint_id = CAST(x'ff' AS TEXT)",
    "writes: value = substr(value, 1, length(value) - 3)",
    "writes: type = NULL",
    "writes: channel = CAST(x'ff' AS TEXT)",
]
"""What is changed in the newest row of a thread, after the name of the table."""


class TestMoving:
    async def test_a_second_copy_changes_nothing(self, make: MakeSaver) -> None:
        """What is there and the same is left as it is, in its order, and nothing is stored."""
        memory = InMemorySaver()
        await chat(memory, thread("t"), 2)
        saver = make()
        copied = await copy_threads(memory, saver)
        before = await listed(saver, thread("t"))
        saves = saver.stats().changes
        assert await copy_threads(memory, saver) == copied
        assert saver.stats().changes == saves
        assert await listed(saver, thread("t")) == before

    async def test_forks_come_along(self, make: MakeSaver) -> None:
        """A thread in which somebody went back is copied, also by a saver that has looked at it."""
        memory = InMemorySaver()
        await chat(memory, thread("t"), 2)
        *_, oldest = [found async for found in memory.alist(thread("t"))]
        await chat(memory, oldest.config, 1)
        saver = make()
        assert await saver.aget_tuple(thread("t")) is None
        await copy_threads(memory, saver)
        before = [found async for found in memory.alist(thread("t"))]
        assert await listed(saver, thread("t")) == before

    async def test_forks_come_along_behind_a_part(self, root: Path) -> None:
        """A copy that is made again adds also what has forked from within what is there."""
        memory = InMemorySaver()
        await chat(memory, thread("t"), 2)
        async with CheckpointSaver(root) as saver:
            await copy_threads(memory, saver)
        *_, oldest = [found async for found in memory.alist(thread("t"))]
        await chat(memory, oldest.config, 1)
        async with CheckpointSaver(root) as saver:
            await copy_threads(memory, saver)
            whole = [found async for found in memory.alist(thread("t"))]
            assert await listed(saver, thread("t")) == whole

    @pytest.mark.parametrize("part", ["the middle", "a task", "after the last"])
    async def test_a_copy_that_was_cut_off_goes_on(self, root: Path, part: str) -> None:
        """Wherever a copy ended, the next one adds what lacks, behind what is there."""
        memory = InMemorySaver()
        delta: Any = graphs.delta_graph(6).compile(checkpointer=memory)
        await delta.ainvoke({"numbers": [7]}, thread("t"))
        whole = [found async for found in memory.alist(thread("t"))]

        class CutOff(CheckpointSaver):
            """Fails at some call."""

            left = {"the middle": 3, "a task": 99, "after the last": len(whole)}[part]

            async def aput(
                self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any
            ) -> Any:
                """Store a few checkpoints."""
                if not self.left:
                    raise KeyboardInterrupt
                type(self).left -= 1
                return await super().aput(config, checkpoint, metadata, new_versions)

            async def aput_writes(self, *args: Any, **options: Any) -> None:
                """Store no writes, or what was asked for."""
                if part == "a task":
                    raise KeyboardInterrupt
                await super().aput_writes(*args, **options)

        async with CutOff(root) as target:
            with contextlib.suppress(KeyboardInterrupt):
                await copy_threads(memory, target)
        async with CheckpointSaver(root) as second:
            there = await listed(second, thread("t"))
            assert (len(there) < len(whole)) == (part != "after the last")
            assert (await copy_threads(memory, second)).checkpoints == len(whole)
            assert await listed(second, thread("t")) == whole
            newest = await second.aget_tuple(thread("t"))
            assert newest == whole[0]

    @pytest.mark.parametrize("how", ["went on", "wrote", "began", "within", "replaced", "older"])
    async def test_what_the_source_has_not_is_never_hidden(self, make: MakeSaver, how: str) -> None:
        """A thread with which somebody went on in the target is refused whole, others are not."""
        memory, saver = InMemorySaver(), make()
        await chat(memory, thread("t"), 1)
        if how != "began":
            await copy_threads(memory, saver)
        there = await listed(saver, thread("t"))
        match how:
            case "went on" | "began":
                await chat(saver, thread("t"), 1)
            case "wrote":
                await saver.aput_writes(there[0].config, [("x", 1)], "another task")
            case "within":
                await put(saver, thread("t", checkpoint_ns="child:1"), {"x": 1})
            case "replaced":
                changed: Any = {**there[0].checkpoint, "channel_values": {"x": 1}}
                await saver.aput(there[0].parent_config or {}, changed, there[0].metadata, {})
            case _:
                oldest = records.key_of(there[-1].checkpoint["id"])
                record = records.state_id(oldest)
                await saver._store.delete(session_of("t"), record)
        await chat(memory, thread("t"), 1)
        await chat(memory, thread("new"), 1)
        before = await listed(saver, thread("t"))

        with pytest.raises(CopyMismatchError, match=r"'t'.*nothing of the thread.*newer") as told:
            await copy_threads(memory, saver)

        assert len(told.value.failures) == 1
        assert await listed(saver, thread("t")) == before
        assert len(await listed(saver, thread("new"))) == 3

    async def test_who_goes_on_while_it_is_copied_is_not_hidden(self, root: Path) -> None:
        """A thread to which another saver comes between two checkpoints is not copied further."""
        memory = InMemorySaver()
        await chat(memory, thread("t"), 1)
        async with CheckpointSaver(root) as target, CheckpointSaver(root) as other:
            tasks: list[asyncio.Task[Any]] = []

            def between(copied: Copied) -> None:
                if copied.checkpoints == 1:
                    tasks.append(asyncio.create_task(put(other, thread("t"), {"x": 1})))

            class Waiting(InMemorySaver):
                """Gives the other one its turn."""

                async def aget_tuple(self, config: Any) -> Any:
                    """Read when the other one has stored."""
                    await asyncio.gather(*tasks)
                    return await memory.aget_tuple(config)

                async def alist(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
                    """List what is there."""
                    async for found in memory.alist(*args, **options):
                        yield found

            with pytest.raises(
                CopyMismatchError, match=r"thread 't'.*was not copied with its thread"
            ):
                await copy_threads(Waiting(), target, progress=between)
            newest = await target.aget_tuple(thread("t"))
            assert newest is not None
            assert newest.checkpoint["channel_values"] == {"x": 1}

    @pytest.mark.damages_store
    async def test_a_damaged_thread_stops_no_other(self) -> None:
        """One that is damaged in the target is refused by name, and all others are copied."""
        memory, store = InMemorySaver(), MemoryStore(ThreadRecord)
        for name in ("a", "b", "c"):
            await chat(memory, thread(name), 1)
        await copy_threads(memory, CheckpointSaver(store))
        for checkpoint_id in await store.ids(session_of("b")):
            store.damage(session_of("b"), checkpoint_id)
        await chat(memory, thread("c"), 1)

        with pytest.raises(CopyMismatchError, match=r"^thread 'b'.*damaged") as told:
            await copy_threads(memory, CheckpointSaver(store))

        assert len(told.value.failures) == 1
        copied = await listed(CheckpointSaver(store), thread("c"))
        assert len(copied) == len([found async for found in memory.alist(thread("c"))])

    @pytest.mark.blocking
    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.some(5)
    @pytest.mark.few(2)
    async def test_a_damaged_value_in_the_source_stops_no_other(
        self, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], damage: str
    ) -> None:
        """A thread of which one value cannot be read is named, and not begun; all others come."""
        database = str(tmp_path / "old.db")
        async with AsyncSqliteSaver.from_conn_string(database) as old:
            for name in ("ann", "bob", "eve"):
                await chat(old, thread(name), 2)
            newest = await anext(old.alist(thread("bob")))
        with contextlib.closing(sqlite3.connect(database)) as connection:
            table, _, change = damage.partition(": ")
            newest_row = f"(SELECT max(rowid) FROM {table} WHERE thread_id = 'bob')"
            connection.execute(f"UPDATE {table} SET {change} WHERE rowid = {newest_row}")
            connection.commit()

        for _ in range(2):
            with pytest.raises(SystemExit) as ended:
                await asyncio.to_thread(migrate, [database, str(root)])
            assert ended.value.code == 1
            first, last = capsys.readouterr().err.splitlines()
            assert first.startswith("thread 'bob': checkpoint '")
            assert (newest.checkpoint["id"] in first) == (table == "checkpoints")
            assert "cannot be read in the source, so nothing of the thread was copied" in first
            assert last == "all others were copied and compared"
            async with CheckpointSaver(root) as target:
                counts = [len(await listed(target, thread(it))) for it in ("ann", "bob", "eve")]
            assert counts == [6, 0, 6]

    @pytest.mark.blocking
    @pytest.mark.parametrize("damage", damages.DAMAGES)
    @pytest.mark.some(6)
    @pytest.mark.few(2)
    async def test_damage_to_any_column_stops_no_other(self, tmp_path: Path, damage: str) -> None:
        """What cannot be read is refused by its thread, and comes once it is mended."""
        path = tmp_path / "old.db"
        async with AsyncSqliteSaver.from_conn_string(str(path)) as old:
            for name in ("ann", "bob"):
                await chat(old, thread(name), 1)
        damages.loosened(path)
        ids = "thread_id checkpoint_ns checkpoint_id task_id"
        newest = "thread_id = 'bob' ORDER BY rowid DESC"
        places = [
            *damages.cells(path, "checkpoints", newest, "bob"),
            *damages.cells(path, "writes", newest, "bob", but=ids),
        ]
        for place in places:
            for damaged in place.damaged(damage):
                target = CheckpointSaver(MemoryStore(ThreadRecord))
                with damaged:
                    refused = await self._refused(path, target)
                about = f"{place.name}: {refused}"[:1000]
                assert "ann" not in refused, about
                assert len(await listed(target, thread("ann"))) == 3, about
                if "bob" in refused:
                    assert not await listed(target, thread("bob")), about
                    assert "mend or delete" in refused["bob"], about
                    assert not await self._refused(path, target), about

    async def _refused(self, path: Path, target: CheckpointSaver) -> dict[object, str]:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as old:
            try:
                await copy_threads(old, target)
            except CopyMismatchError as error:
                return {
                    config["configurable"]["thread_id"]: reason for config, reason in error.failures
                }
            return {}

    async def test_what_another_serializer_wrote_is_not_called_damaged(
        self, tmp_path: Path
    ) -> None:
        """The advice names `copy_threads` with that serializer before anything is deleted."""
        path = tmp_path / "pickled.db"
        async with AsyncSqliteSaver.from_conn_string(str(path)) as old:
            await chat(old, thread("ann"), 1)
            await old.conn.execute("UPDATE checkpoints SET type = 'pickle'")
            await old.conn.commit()

        refused = await self._refused(path, CheckpointSaver(MemoryStore(ThreadRecord)))

        assert "call copy_threads with two savers" in refused["ann"]
        assert refused["ann"].index("copy_threads") < refused["ann"].index("delete")

    async def test_a_new_database_has_nothing_to_copy(self, make: MakeSaver) -> None:
        """A saver that nobody has used, and so has no tables yet, is empty."""
        async with AsyncSqliteSaver.from_conn_string(":memory:") as old:
            assert await copy_threads(old, make()) == Copied()

    async def test_a_damaged_value_of_what_is_there_in_part_is_told(self, tmp_path: Path) -> None:
        """What is there of the thread stays as it is, and nothing is added to it."""
        saver = CheckpointSaver(MemoryStore(ThreadRecord))
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "old.db")) as old:
            await chat(old, thread("bob"), 1)
            await copy_threads(old, saver)
            before = await listed(saver, thread("bob"))
            await chat(old, thread("bob"), 1)
            await old.conn.execute(
                "UPDATE checkpoints SET checkpoint = x'ff00ff' "
                "WHERE rowid = (SELECT max(rowid) FROM checkpoints)"
            )

            with pytest.raises(CopyMismatchError, match=r"^thread 'bob'.*cannot be read") as told:
                await copy_threads(old, saver)

        assert len(told.value.failures) == 1
        assert await listed(saver, thread("bob")) == before

    @pytest.mark.blocking
    async def test_the_command_refuses_a_thread_by_name(
        self, tmp_path: Path, root: Path, make: MakeSaver, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Run again after a thread has gone on, the command names it and ends with 1."""
        database = str(tmp_path / "old.db")
        async with AsyncSqliteSaver.from_conn_string(database) as old:
            await chat(old, thread("ann"), 1)
        await asyncio.to_thread(migrate, [database, str(root)])
        async with make() as saver:
            await chat(saver, thread("ann"), 1)
            before = await listed(saver, thread("ann"))
        with pytest.raises(SystemExit, match="1"):
            await asyncio.to_thread(migrate, [database, str(root)])
        assert "thread 'ann'" in capsys.readouterr().err
        assert await listed(make(), thread("ann")) == before


class TestCopying:
    @pytest.mark.parametrize("how", ["went on", "wrote", "within", "replaced", "other"])
    async def test_who_went_on_with_a_copy_is_not_rolled_back(
        self, make: MakeSaver, how: str
    ) -> None:
        """A target that has anything of its own is refused by name, and stays as it is."""
        saver = make()
        await chat(saver, thread("a"), 2)
        if how != "other":
            await saver.acopy_thread("a", "b")
        there = await listed(saver, thread("b"))
        match how:
            case "went on" | "other":
                await chat(saver, thread("b"), 1)
            case "wrote":
                await saver.aput_writes(there[0].config, [("x", 1)], "another task")
            case "within":
                await put(saver, thread("b", checkpoint_ns="child:1"), {"x": 1})
            case _:
                changed: Any = {**there[0].checkpoint, "channel_values": {"x": 1}}
                await saver.aput(there[0].parent_config or {}, changed, there[0].metadata, {})
        await chat(saver, thread("a"), 1)
        before = await listed(saver, thread("b"))

        with pytest.raises(InvalidArgumentError, match="target_thread_id must not be 'b'"):
            await saver.acopy_thread("a", "b")

        assert await listed(saver, thread("b")) == before

    async def test_a_copy_that_was_cut_off_goes_on(self, make: MakeSaver) -> None:
        """A second copy adds what lacks, behind what is there; a third changes nothing."""
        saver = make()
        await chat(saver, thread("a"), 1)
        await saver.acopy_thread("a", "b")
        state = (await chat(saver, thread("a"), 1))["messages"]
        await put(saver, thread("a", checkpoint_ns="child:1"), {"x": 1})

        await saver.acopy_thread("a", "b")
        changes = saver.stats().changes
        await saver.acopy_thread("a", "b")

        assert saver.stats().changes == changes
        there, wanted = [await listed(saver, thread(name)) for name in "ba"]
        assert [f.checkpoint for f in there] == [f.checkpoint for f in wanted]
        assert [f.pending_writes for f in there] == [f.pending_writes for f in wanted]
        newest = await saver.aget_tuple(thread("b"))
        assert newest is not None
        assert newest.checkpoint["channel_values"]["messages"] == state

    async def test_an_unknown_thread_changes_nothing(self, make: MakeSaver) -> None:
        """Of a thread that is not there nothing comes, whatever the target has."""
        saver = make()
        await chat(saver, thread("b"), 1)
        before = await listed(saver, None)
        await saver.acopy_thread("nobody", "b")
        assert await listed(saver, None) == before
