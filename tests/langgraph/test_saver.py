"""The saver among loops, threads, cancellations, serializers and other writers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import importlib
import math
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict, cast
from uuid import UUID

import pydantic
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph

from aiocheckpoint import InvalidArgumentError
from aiocheckpoint.adapters.langgraph import (
    CheckpointSaver,
    ThreadRecord,
    copy_threads,
    drafts,
    records,
    session_of,
)
from aiocheckpoint.adapters.langgraph import saver as saver_module
from aiocheckpoint.adapters.langgraph.__main__ import main as migrate
from aiocheckpoint.adapters.langgraph.migration import Copied, CopyMismatchError
from aiocheckpoint.adapters.langgraph.removal import Removal
from aiocheckpoint.testing import FaultyFiles, MemoryStore
from tests.adapters import damages
from tests.faults import Hold
from tests.langgraph import graphs
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import chat, thread
from tests.langgraph.promises import checkpoint, got, listed, metadata, put
from tests.promises.places import files_with
from tests.trees import remove

PACKAGE = "aiocheckpoint.adapters.langgraph"


class TestLoopsAndThreads:
    async def test_nothing_blocks_the_loop(self, make: MakeSaver) -> None:
        """A whole conversation, listed, pruned and deleted, blocks the loop nowhere."""
        async with make() as saver:
            await chat(saver, thread("t"), 2)
            assert len(await listed(saver, thread("t"))) == 6
            await saver.acopy_thread("t", "u")
            await saver.aprune(["t"])
            await saver.adelete_for_runs(["r"])
            await saver.adelete_thread("u")

    async def test_synchronous_methods_in_a_plain_thread(self, make: MakeSaver) -> None:
        """A graph runs synchronously in threads, side by side, on a saver of this loop."""
        saver = make()
        graph = graphs.chat_graph().compile(checkpointer=saver)

        def run(number: int) -> list[Any]:
            config = thread(number)
            graph.invoke(cast("Any", {"messages": [HumanMessage("hello")]}), config)
            found = [*saver.list(config, limit=2)]
            assert saver.get_tuple(config) == found[0]
            assert saver.get(config) == found[0].checkpoint
            saver.copy_thread(str(number), f"{number} again")
            saver.prune([str(number)])
            saver.delete_for_runs(["r"])
            assert saver.get_delta_channel_history(config=config, channels=["x"]) == {
                "x": {"writes": []}
            }
            saver.delete_thread(f"{number} again")
            return graph.get_state(config).values["messages"]  # type: ignore[no-any-return]

        answers = await asyncio.gather(*(asyncio.to_thread(run, number) for number in range(8)))

        assert [len(messages) for messages in answers] == [2] * 8
        assert len(await listed(saver, None)) == 8

    @pytest.mark.blocking  # that is what synchronous calls do
    async def test_synchronous_methods_in_a_running_loop(self, make: MakeSaver) -> None:
        """Called on the loop itself, with other calls on their way, they come back."""
        saver = make()
        going_on = [asyncio.create_task(put(saver, thread("t"), step=n)) for n in range(20)]
        await asyncio.sleep(0)
        stored = saver.put(thread("t", checkpoint_ns=""), checkpoint({"x": 1}), metadata(99), {})
        saver.put_writes(stored, [("x", 1)], "task")
        found = saver.get_tuple(stored)
        await asyncio.gather(*going_on)
        assert found is not None
        assert found.pending_writes == [("task", "x", 1)]
        assert len([*saver.list(thread("t"))]) == 21

    @pytest.mark.blocking
    def test_several_loops_share_one_saver(self, root: Path) -> None:
        """One saver made outside of any loop works in one loop after another."""
        with CheckpointSaver(root) as saver:
            for number in range(3):
                state = asyncio.run(chat(saver, thread("t"), 1))
                assert len(state["messages"]) == 2 * (number + 1)
            graph = graphs.chat_graph().compile(checkpointer=saver)
            ended = graph.invoke(cast("Any", {"messages": [HumanMessage("hi")]}), thread("t"))
            assert len(ended["messages"]) == 8

    async def test_a_list_may_be_left_by_a_thread(self, make: MakeSaver) -> None:
        """A synchronous list that is not read to its end leaves nothing behind."""
        saver = make()
        config = thread("t")
        for step in range(3):
            config = await put(saver, config, step=step)

        def first() -> Any:
            items: Iterator[Any] = saver.list(thread("t"))
            return next(items).metadata["step"]

        assert await asyncio.to_thread(first) == 2


class TestCancellation:
    @pytest.mark.parametrize(
        ("failpoint", "durability"),
        [
            ("before_sync_log", "journal"),
            ("before_publish", "none"),
            ("after_blobs", "file"),
            ("before_rename", "file"),
            ("after_rename", "file"),
            ("before_flush", "file"),
        ],
    )
    async def test_a_cancelled_put_is_whole_or_not_there(
        self, make: MakeSaver, failpoint: str, durability: str, root: Path
    ) -> None:
        """Cancelled at any moment, a put leaves a whole checkpoint or none, and no litter."""
        disk = FaultyFiles()
        saver = make(files=disk, durability=durability)
        config = await put(saver, thread("t"), step=1)
        hold = Hold()
        disk.at(failpoint, hold)
        saving = asyncio.create_task(put(saver, config, {"x": "y" * 9000}, step=2))
        await asyncio.to_thread(hold.wait_arrived)
        saving.cancel()
        await asyncio.sleep(0)
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await saving
        found = await got(saver, thread("t"))
        assert found.metadata["step"] in (1, 2)
        await saver.aclose()
        assert (await got(make(), thread("t"))).metadata["step"] == found.metadata["step"]
        names = await asyncio.to_thread(lambda: [path.name for path in root.rglob("*")])
        assert not [name for name in names if name.startswith(".tmp")]

    async def test_a_run_that_is_cancelled_can_go_on(self, make: MakeSaver) -> None:
        """A run cut off in sync durability goes on from a checkpoint that it had stored."""
        saver = make()
        graph: Any = graphs.chain_graph(5).compile(checkpointer=saver)
        running = asyncio.create_task(
            graph.ainvoke({"numbers": []}, thread("t"), durability="sync")
        )
        while not await saver.aget_tuple(thread("t")):
            await asyncio.sleep(0)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        ended = await graph.ainvoke(None, thread("t"))
        assert ended["numbers"] == [0, 1, 2, 3, 4]


@dataclasses.dataclass
class Place:
    """A value of a type of the application's own."""

    x: int


class TestSerializers:
    async def test_encrypted_values_stay_encrypted(self, make: MakeSaver, root: Path) -> None:
        """With an EncryptedSerializer no value stands in any file, and all come back."""
        key = b"0123456789abcdef"
        serde = await asyncio.to_thread(EncryptedSerializer.from_pycryptodome_aes, key=key)
        await asyncio.to_thread(serde.dumps_typed, "first")  # loads a library
        saver = make(serde=serde)
        state = await chat(saver, thread("t"), 2)
        config = await put(saver, thread("u"), {"large": "question " * 2000})
        await saver.aput_writes(config, [("x", "question 9")], "task")
        found = await got(saver, thread("t"))
        assert found.checkpoint["channel_values"]["messages"] == state["messages"]
        assert (await got(saver, config)).checkpoint["channel_values"] == {
            "large": "question " * 2000
        }
        await saver.aclose()

        def contents() -> list[bytes]:
            return [path.read_bytes() for path in root.rglob("*") if path.is_file()]

        stored = b"".join(await asyncio.to_thread(contents))
        assert b"question" not in stored
        assert b"+aes" in stored

    async def test_strict_clones_share_everything(self, make: MakeSaver) -> None:
        """A clone with an allowlist reads and writes the same threads, and closes with it."""
        strict = JsonPlusSerializer(allowed_msgpack_modules=None)
        saver = make(serde=strict)
        clone = saver.with_allowlist([(Place.__module__, Place.__qualname__)])
        assert isinstance(clone, CheckpointSaver)
        assert clone is not saver
        first = await put(saver, thread("t"), {"place": Place(1)})
        second = await put(clone, first, {"place": Place(2)})
        assert await got(clone, first) is not None
        found = await got(clone, second)
        assert found.checkpoint["channel_values"] == {"place": Place(2)}
        assert len(await listed(saver, thread("t"))) == 2


def _earlier(each: Any, *, hours: int) -> Any:
    """Return a checkpoint whose id was made so many hours ago."""
    ticks = hours * 3600 * 10**7 >> 12 << 80  # of 100 ns, of which the id begins with 48 bits
    return {**each, "id": str(UUID(int=UUID(each["id"]).int - ticks))}


async def _put_writes(saver: CheckpointSaver, before: Any) -> None:
    """Store what a task wrote after a checkpoint that is not there."""
    place = thread("t", checkpoint_ns="", checkpoint_id=before["id"])
    await saver.aput_writes(place, [("x", 1)], "task")


async def _hours_ago(saver: CheckpointSaver) -> list[int]:
    """Return when the checkpoints were made of which there are writes, the last stored first."""
    now = datetime.now(UTC)
    ids = await saver._store.read(session_of("t"), lambda reader: reader.saved_ids(prefix="p"))
    times = [records.made_at(found) for found in ids]
    return [round((now - time) / timedelta(hours=1)) for time in times if time]


class TestRetention:
    async def test_a_deleted_thread_leaves_no_byte(self, make: MakeSaver, root: Path) -> None:
        """After a thread was deleted, and a flush, none of its text is anywhere on the disk."""
        saver = make()
        await put(saver, thread("t"), note="the-secret-4711")
        assert await asyncio.to_thread(files_with, root, "the-secret-4711")
        await saver.adelete_thread("t")
        await saver.aflush()
        assert await asyncio.to_thread(files_with, root, "the-secret-4711") == []

    async def test_the_last_few_are_kept(self, make: MakeSaver) -> None:
        """With keep_last a long conversation keeps a bounded number of checkpoints and writes."""
        saver = make(keep_last=4)
        state = await chat(saver, thread("t"), 10)
        found = await listed(saver, thread("t"))
        assert 4 <= len(found) <= 5
        assert found[0].checkpoint["channel_values"]["messages"] == state["messages"]
        names = await saver._store.ids(session_of("t"))
        assert len(names) <= 5 * 3

    async def test_two_savers_keep_no_more(self, make: MakeSaver) -> None:
        """Savers that take turns on a thread keep as few as one does."""
        savers = (make(keep_last=4), make(keep_last=4))
        for number in range(20):
            saver = savers[number % 3 % 2]
            found = await saver.aget_tuple(thread("t"))
            await put(saver, thread("t") if found is None else found.config, step=number)
            assert len(await listed(saver, thread("t"))) <= 5

    async def test_old_ones_are_removed(self, make: MakeSaver) -> None:
        """Pruning by age or number keeps the newest whatever its age."""
        saver = make()
        config = thread("t")
        for step in range(6):
            config = await put(saver, config, step=step)
        await saver.aprune(["t"], older_than=timedelta(hours=1))
        assert len(await listed(saver, thread("t"))) == 6
        await saver.aprune(["t"], keep_last=4)
        assert [f.metadata["step"] for f in await listed(saver, thread("t"))] == [5, 4, 3, 2]
        await saver.aprune(["t"], keep_last=3, older_than=timedelta(hours=1))
        assert len(await listed(saver, thread("t"))) == 4
        await saver.aprune(["t"], older_than=timedelta(0))
        assert [f.metadata["step"] for f in await listed(saver, thread("t"))] == [5]
        await saver.aprune(["t"], strategy="delete")
        assert await listed(saver, thread("t")) == []

    async def test_age_is_told_by_the_store(
        self, make: MakeSaver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pruning by age goes by when a checkpoint was stored, not by the clock of who made it."""

        def made_long_ago(*args: Any) -> Any:
            made = drafts.state_draft(*args)
            made.record.created_at = datetime(2000, 1, 1, tzinfo=UTC)
            return made

        monkeypatch.setattr(saver_module, "state_draft", made_long_ago)
        saver = make()
        config = thread("t")
        for step in range(3):
            config = await put(saver, config, step=step)
        await saver.aprune(["t"], older_than=timedelta(hours=1))
        assert len(await listed(saver, thread("t"))) == 3

    async def test_writes_without_a_checkpoint_are_collected(self, make: MakeSaver) -> None:
        """Writes whose checkpoint never came go when all that stay were made a day later."""
        saver = make()
        await _put_writes(saver, _earlier(checkpoint(), hours=30))
        await _put_writes(saver, _earlier(checkpoint(), hours=20))
        config = await put(saver, thread("t"))
        await _put_writes(saver, _earlier(checkpoint(), hours=40))  # its saver's clock is behind
        assert await _hours_ago(saver) == [40, 20, 30]
        await saver.aprune(["t"])
        assert await _hours_ago(saver) == [40, 20]
        await put(saver, config)
        await saver.aprune(["t"])
        assert await _hours_ago(saver) == [20]

    async def test_writes_of_odd_ids_without_a_checkpoint_stay(self, make: MakeSaver) -> None:
        """Where ids do not tell when they were made, nothing says that a checkpoint is lost."""
        saver = make()
        for odd in ("odd", "00000000-0000-4000-8000-000000000000"):
            await _put_writes(saver, checkpoint(id=odd))
        await put(saver, thread("t"))
        await saver.aprune(["t"])
        assert len(await saver._store.ids(session_of("t"), prefix="p")) == 2

    async def test_writes_go_with_the_last_checkpoint(self, make: MakeSaver) -> None:
        """With all checkpoints of a thread go what writes were stored before, and none since."""
        saver = make()
        await _put_writes(saver, checkpoint())
        await put(saver, thread("t"), run_id="over")
        await _put_writes(saver, _earlier(checkpoint(), hours=5))
        await saver.adelete_for_runs(["over"])
        assert await _hours_ago(saver) == [5]

    async def test_writes_go_with_their_checkpoint_alone(self, make: MakeSaver) -> None:
        """Of checkpoints with ids that begin alike each one's writes go with it, and only they."""
        saver = make()
        config: Any = thread("t", checkpoint_ns="")
        for number in range(3):
            each = checkpoint(id=f"00000000-0000-0000-0000-{number:012}")
            config = await saver.aput(config, each, metadata(number, run_id=f"r{number}"), {})
            await saver.aput_writes(config, [("x", number)], "task")
        await saver.adelete_for_runs(["r0"])
        left = [found.pending_writes for found in await listed(saver, thread("t"))]
        assert left == [[("task", "x", 2)], [("task", "x", 1)]]
        assert len(await saver._store.ids(session_of("t"), prefix="p")) == 2
        await saver.aprune(["t"])
        assert len(await saver._store.ids(session_of("t"), prefix="p")) == 1

    async def test_what_comes_while_pruning_stays(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A checkpoint that is stored while older ones are being pruned is not pruned."""
        needed = Removal._needed

        async def put_and_look(removal: Removal, *args: Any) -> set[str]:
            await put(saver, config, step=3)
            return await needed(removal, *args)

        monkeypatch.setattr(Removal, "_needed", put_and_look)
        async with CheckpointSaver(root) as saver:
            config: Any = thread("t")
            for step in range(3):
                config = await put(saver, config, step=step)
            await saver.aprune(["t"])
            assert [f.metadata["step"] for f in await listed(saver, thread("t"))] == [3, 2]

    def test_the_option_of_the_writer_is_refused(self, make: MakeSaver) -> None:
        """The writer's own limit would count writes as well, and says what to give instead."""
        with pytest.raises(InvalidArgumentError, match="give `keep_last` instead"):
            make(max_checkpoints=9)

    @pytest.mark.parametrize("storage", ["threads", "postgresql:///app", MemoryStore])
    def test_an_option_that_there_is_not_is_told_of_the_saver(self, storage: Any) -> None:
        """Whoever mistypes an option reads the name that was called, whatever the storage."""
        given = storage if isinstance(storage, str) else storage(record_type=ThreadRecord)
        with pytest.raises(TypeError, match=r"^CheckpointSaver\(\) got .* 'durabilty'$"):
            CheckpointSaver(given, durabilty="none")

    async def test_values_that_nothing_needs_go_from_the_disk(
        self, make: MakeSaver, root: Path
    ) -> None:
        """A pruned thread has only the blobs of what is left, a deleted one none."""
        saver = make()
        config = thread("t")
        for step in range(3):
            config = await put(saver, config, {"x": [step] * 20_000}, step=step)

        def blobs() -> int:
            return len([*root.glob("*/blobs/*")])

        await saver.aflush()
        before = await asyncio.to_thread(blobs)
        await saver.aprune(["t"])
        await saver.aflush()
        after = await asyncio.to_thread(blobs)
        assert 0 < after < before
        found = await got(saver, thread("t"))
        assert found.checkpoint["channel_values"]["x"] == [2] * 20_000
        await saver.adelete_thread("t")
        await saver.aflush()
        assert await asyncio.to_thread(blobs) == 0


class TestStorage:
    async def test_a_growing_list_is_stored_once(self, make: MakeSaver, root: Path) -> None:
        """Forty checkpoints of a growing list take little more than their last one."""
        saver = make()
        config = thread("t")
        messages: list[HumanMessage] = []
        for number in range(40):
            messages.append(HumanMessage(f"{number} " * 1000, id=str(number)))
            config = await put(saver, config, {"messages": messages, "same": "s" * 50_000})
        await saver.aclose()

        def size() -> int:
            return sum(p.stat().st_size for p in root.glob("*/blobs/*"))

        _, data = JsonPlusSerializer().dumps_typed(messages)
        assert await asyncio.to_thread(size) < 2.5 * len(data)

    @pytest.mark.parametrize("length", [4159, 4161, 70_000, 1_100_000, 1_200_000, 2_200_000])
    async def test_values_of_every_size_come_back(
        self, make: MakeSaver, root: Path, length: int
    ) -> None:
        """However many blobs they take; the record names one, and a copy has all."""
        value = ("0123456789" * (length // 10 + 1))[:length].encode()
        saver = make()
        stored = await put(saver, thread("t"), {"x": value, "other": "o", "y": value})
        await saver.aput_writes(stored, [("x", value + b"!")], "task")
        await saver.acopy_thread("t", "u")
        await saver.aclose()
        for thread_id in ("t", "u"):
            found = await got(make(), thread(thread_id))
            assert found.checkpoint["channel_values"] == {"x": value, "other": "o", "y": value}
            assert found.pending_writes == [("task", "x", value + b"!")]

        def record_sizes() -> list[int]:
            return [path.stat().st_size for path in root.glob("*/checkpoints/cp_*.json")]

        assert max(await asyncio.to_thread(record_sizes)) < 13_000

    async def test_a_value_that_stays_is_named_by_one_digest(
        self, make: MakeSaver, root: Path
    ) -> None:
        """Checkpoints that have the same long value share all of it, its ends too."""
        saver = make()
        config = thread("t")
        for step in range(5):
            config = await put(saver, config, {"same": "s" * 30_000, "step": step}, step=step)
        await saver.aclose()

        def blobs() -> int:
            return len([*root.glob("*/blobs/*")])

        assert await asyncio.to_thread(blobs) <= 30_000 // 4096 + 2

    async def test_a_flush_leaves_everything_in_files(self, make: MakeSaver, root: Path) -> None:
        """After a flush, from either kind of code, a copy of the files alone has everything."""
        saver = make()
        stored = await put(saver, thread("t"), {"x": [*range(5000)]})
        await saver.aflush()
        await saver.aput_writes(stored, [("x", 1)], "task")
        await asyncio.to_thread(saver.flush)

        def copy() -> Path:
            ignore = shutil.ignore_patterns(".aiocheckpoint")
            return shutil.copytree(root, root.with_name("copy"), symlinks=True, ignore=ignore)

        copied = make(await asyncio.to_thread(copy))
        assert await got(copied, stored) == await got(saver, stored)

    async def test_unknown_blobs_are_read_from_another_process(self, make: MakeSaver) -> None:
        """A saver that goes on where another began writes no blob a second time."""
        values = {"x": [*range(30_000)]}
        first = make()
        config = await put(first, thread("t"), values)
        await first.aclose()
        disk = FaultyFiles()
        second = make(files=disk)
        await put(second, config, values)
        await second.aclose()
        assert not [c for c in disk.calls if c.operation == "create" and "/blobs/" in c.path]

    async def test_a_directory_that_was_brought_back_is_read(
        self, make: MakeSaver, root: Path
    ) -> None:
        """A copy in the place of the directory is read, by a saver that had the old one open."""
        saver = make()
        stored = await put(saver, thread("t"), {"x": 1})

        def bring_back() -> None:
            copy = root.with_name("copy")
            shutil.copytree(root, copy, symlinks=True)
            remove(root)
            copy.rename(root)

        for look in (got, listed):
            await saver.aflush()
            await asyncio.to_thread(bring_back)
            found: Any = await look(saver, stored)
            assert found
        await put(saver, stored, {"x": 2})


class _Kind(enum.Enum):
    LARGE = "large"


class _Form(pydantic.BaseModel):
    number: int


class _Scores(TypedDict):
    scores: dict[str, list[float]]


class TestMigration:
    async def test_a_database_comes_over_whole(self, make: MakeSaver, tmp_path: Path) -> None:
        """Threads, namespaces, checkpoints, writes and delta states are the same afterwards."""
        steps: list[Copied] = []
        database = str(tmp_path / "old.db")
        async with AsyncSqliteSaver.from_conn_string(database) as old:
            await chat(old, thread("chat"), 3)
            delta: Any = graphs.delta_graph(6).compile(checkpointer=old)
            await delta.ainvoke({"numbers": [7]}, thread("delta"))
            asking: Any = graphs.asking_graph().compile(checkpointer=old)
            await asking.ainvoke({"messages": [HumanMessage("hello")]}, thread("asks"))
            saver = make()
            copied = await copy_threads(old, saver, progress=steps.append)
            for thread_id in ("chat", "delta", "asks"):
                before = [found async for found in old.alist(thread(thread_id))]
                assert await listed(saver, thread(thread_id)) == before
            state = (await delta.aget_state(thread("delta"))).values
        assert copied == steps[-1]
        assert copied.threads == 3
        new_delta = graphs.delta_graph(6).compile(checkpointer=saver)
        assert (await new_delta.aget_state(thread("delta"))).values == state
        await new_delta.ainvoke({"numbers": [8]}, thread("delta"))

    async def test_the_command_copies_a_file(
        self, tmp_path: Path, root: Path, make: MakeSaver, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The documented command copies a database and says how much it was."""
        database = str(tmp_path / "old.db")
        async with AsyncSqliteSaver.from_conn_string(database) as old:
            await chat(old, thread("chat"), 2)
        await asyncio.to_thread(migrate, [database, str(root)])
        assert capsys.readouterr().out == (
            "1 threads, 6 checkpoints, 6 writes copied and compared\n"
        )
        assert len(await listed(make(), thread("chat"))) == 6
        with pytest.raises(SystemExit, match="1"):  # a file in the place of the directory
            await asyncio.to_thread(migrate, [database, database])
        assert database in capsys.readouterr().err

    @pytest.mark.blocking
    @pytest.mark.parametrize("what", ["older", "killed"])
    async def test_the_command_does_not_change_the_file(
        self, tmp_path: Path, root: Path, what: str
    ) -> None:
        """A database of an older saver, or with a log that a killed process left, stays so."""
        database = tmp_path / "old.db"
        async with AsyncSqliteSaver.from_conn_string(str(database)) as old:
            await chat(old, thread("chat"), 2)
        if what == "older":
            with contextlib.closing(sqlite3.connect(database)) as connection:
                connection.execute("ALTER TABLE writes DROP COLUMN task_path")
        else:
            database = damages.as_killed(database)
        before = damages.digests(database)

        await asyncio.to_thread(migrate, [str(database), str(root)])

        assert damages.digests(database) == before

    @pytest.mark.blocking
    def test_wrong_arguments_are_told_and_change_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A path at which there is no database of a saver is an error, and stays as it is."""
        text, foreign = (tmp_path / name for name in ("text.db", "foreign.db"))
        text.write_text("hello")
        with contextlib.closing(sqlite3.connect(foreign)) as connection:
            connection.execute("CREATE TABLE users (name)")
        for path in (tmp_path / "none.db", tmp_path, text, foreign):
            before = path.read_bytes() if path.is_file() else None
            with pytest.raises(SystemExit, match="2"):
                migrate([str(path), str(tmp_path / "threads")])
            assert f"{path} is no database of a SqliteSaver" in capsys.readouterr().err
            assert (path.read_bytes() if path.is_file() else None) == before
        assert {path.name for path in tmp_path.iterdir()} == {"text.db", "foreign.db"}

    @pytest.mark.blocking
    def test_without_the_reader_of_databases_it_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Help is there without `langgraph-checkpoint-sqlite`; a copy names the missing package."""
        monkeypatch.setitem(sys.modules, "langgraph.checkpoint.sqlite.aio", None)
        with pytest.raises(SystemExit, match="0"):
            migrate(["--help"])
        assert "database" in capsys.readouterr().out
        database = tmp_path / "old.db"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.executescript("CREATE TABLE checkpoints (a); CREATE TABLE writes (a)")
        with pytest.raises(SystemExit, match="2"):
            migrate([str(database), str(tmp_path / "threads")])
        assert "-m pip install langgraph-checkpoint-sqlite" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["old.db"]

    def test_without_langgraph_the_import_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An import of the saver where LangGraph is missing names it, and how to get it."""
        for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "langgraph.checkpoint.base", None)
        with pytest.raises(ModuleNotFoundError, match="-m pip install langgraph") as refused:
            importlib.import_module(PACKAGE)
        assert refused.value.name == "langgraph.checkpoint.base"

    @pytest.mark.blocking  # a cipher's module looks for itself
    @pytest.mark.parametrize("kind", ["sqlite", "memory", "encrypted"])
    async def test_classes_are_not_needed(self, make: MakeSaver, tmp_path: Path, kind: str) -> None:
        """Who must not import the application's classes copies their values, none as dicts."""
        strict = JsonPlusSerializer(allowed_msgpack_modules=None)
        knowing = JsonPlusSerializer(allowed_msgpack_modules=[Place, _Kind, _Form])
        values = {"places": [Place(1)], "kind": _Kind.LARGE, "form": _Form(number=7)}
        serdes: list[Any] = [strict, knowing]
        if kind == "encrypted":
            key = {"key": b"0" * 16}
            serdes = [EncryptedSerializer.from_pycryptodome_aes(each, **key) for each in serdes]
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "old.db")) as sqlite:
            old: Any = InMemorySaver() if kind == "memory" else sqlite
            old.serde = serdes[1]
            config: Any = thread("t", checkpoint_ns="")
            saved = checkpoint(values)
            stored = await old.aput(config, saved, metadata(), saved["channel_versions"])
            await old.aput_writes(stored, [("form", _Form(number=8))], "task")
            old.serde = serdes[0]
            assert (await old.aget_tuple(config)).checkpoint["channel_values"] != values
            await copy_threads(old, make(serde=serdes[0]))
            assert old.serde is serdes[0]
        found = await got(make(serde=serdes[1]), thread("t"))
        assert found.checkpoint["channel_values"] == values
        assert found.pending_writes == [("task", "form", _Form(number=8))]

    async def test_metadata_are_as_readable_as_before(self, make: MakeSaver) -> None:
        """Metadata that are read here, as those that pruning needs, are not copied undecoded."""
        memory = InMemorySaver()
        saved, counters = checkpoint({"x": 1}), {"numbers": (1, 2)}
        odd: Any = metadata(counters_since_delta_snapshot=counters, tags={"a"}, score=math.nan)
        await memory.aput(thread("t", checkpoint_ns=""), saved, odd, saved["channel_versions"])
        saver = make()
        await copy_threads(memory, saver)
        found: Any = (await got(saver, thread("t"))).metadata
        assert found["counters_since_delta_snapshot"] == {"numbers": [1, 2]}
        assert found["tags"] == {"a"}
        assert math.isnan(found["score"])

    async def test_nan_is_the_same(self, make: MakeSaver) -> None:
        """A value that is not equal to itself is no difference, wherever it is."""
        memory = InMemorySaver()
        builder = StateGraph(_Scores)
        builder.add_node("score", lambda _: {"scores": {"one": [0.5, math.nan]}})
        builder.add_edge(START, "score")
        await builder.compile(checkpointer=memory).ainvoke({"scores": {}}, thread("t"))
        copied = await copy_threads(memory, make())
        assert copied.checkpoints == 3

    @pytest.mark.blocking
    async def test_values_of_another_serializer_are_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the command cannot read it names, says what to do, and makes no store."""
        database = tmp_path / "old.db"
        async with AsyncSqliteSaver.from_conn_string(str(database)) as old:
            old.serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 16)
            await chat(old, thread("secret"), 1)
        with pytest.raises(SystemExit, match="2"):
            await asyncio.to_thread(migrate, [str(database), str(tmp_path / "threads")])
        told = capsys.readouterr().err
        assert "'msgpack+aes'" in told
        assert "`copy_threads`" in told
        assert not (tmp_path / "threads").exists()

    @pytest.mark.blocking
    @pytest.mark.parametrize(
        ("kind", "written", "told"),
        [
            ("msgpack", b"\xc1", "cannot be read"),
            ("json", b'{"lc": 2, "type": "constructor", "id": ["nowhere", "Order"]}', "JSON"),
        ],
    )
    async def test_what_cannot_be_read_is_named(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        kind: str,
        written: bytes,
        told: str,
    ) -> None:
        """A damaged value, or one of a class that an old LangGraph names, ends the command."""
        database = tmp_path / "old.db"
        async with AsyncSqliteSaver.from_conn_string(str(database)) as old:
            await chat(old, thread("t"), 1)
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE writes SET type = ?, value = ?", (kind, written))
        with pytest.raises(SystemExit, match="1"):
            await asyncio.to_thread(migrate, [str(database), str(tmp_path / "threads")])
        assert told in capsys.readouterr().err

    async def test_all_others_are_copied(self, root: Path) -> None:
        """One that differs holds up nobody; each is named at the end."""

        class Forgetful(CheckpointSaver):
            async def aput(self, config: Any, saved: Any, *args: Any) -> Any:
                """Store other values of some threads."""
                if config["configurable"]["thread_id"] in ("a", "c"):
                    saved = {**saved, "channel_values": {"x": 2}}
                return await super().aput(config, saved, *args)

        memory = InMemorySaver()
        for name in "abcd":
            saved = checkpoint({"x": 1})
            config = thread(name, checkpoint_ns="")
            await memory.aput(config, saved, metadata(), saved["channel_versions"])
        async with Forgetful(root) as target:
            with pytest.raises(CopyMismatchError, match=r"checkpoint .*not the same") as refused:
                await copy_threads(memory, target)
            names = [c["configurable"]["thread_id"] for c, _ in refused.value.failures]
            assert sorted(names) == ["a", "c"]
            assert len(str(refused.value).splitlines()) == 2
            assert len(await listed(target, None)) == 4

    async def test_a_difference_is_an_error(self, root: Path) -> None:
        """A checkpoint that the target gives back changed is reported by its part."""

        class Forgetful(CheckpointSaver):
            async def aput_writes(self, *_: Any, **__: Any) -> None:
                """Store nothing."""

        memory = InMemorySaver()
        await chat(memory, thread("t"), 1)
        async with Forgetful(root) as target:
            with pytest.raises(CopyMismatchError, match="pending_writes"):
                await copy_threads(memory, target)


class TestDeltaHistory:
    """The eight checks of the kit's newer version."""

    @pytest.fixture(name="chain")
    async def _chain(self, make: MakeSaver) -> tuple[CheckpointSaver, list[Any]]:
        saver = make()
        configs: list[Any] = []
        config: Any = thread("t", checkpoint_ns="")
        for step in range(4):
            values = {"a": "seed"} if step == 1 else {}
            config = await put(saver, config, values, step=step)
            configs.append(config)
            writes = [("a", f"a{step}"), ("b", f"b{step}")]
            await saver.aput_writes(config, writes, "task", "~1")
        return saver, configs

    @staticmethod
    async def _history(saver: CheckpointSaver, config: Any, *channels: str) -> Mapping[str, Any]:
        found = await saver.aget_delta_channel_history(config=config, channels=channels)
        usual = await BaseCheckpointSaver.aget_delta_channel_history(
            saver, config=config, channels=channels
        )
        assert found == usual
        return found

    async def test_no_channels_give_nothing(self, chain: Any) -> None:
        """Of no channel there is no history."""
        assert await self._history(chain[0], chain[1][3]) == {}

    async def test_writes_are_those_of_ancestors_oldest_first(self, chain: Any) -> None:
        """A channel without a stored value has all ancestors' writes, not the target's own."""
        found = await self._history(chain[0], chain[1][3], "b")
        assert found == {"b": {"writes": [("task", "b", f"b{n}") for n in range(3)]}}

    async def test_the_nearest_value_is_the_seed(self, chain: Any) -> None:
        """The nearest ancestor's value ends the search; its own writes come after it."""
        found = await self._history(chain[0], chain[1][3], "a")
        assert found["a"] == {"seed": "seed", "writes": [("task", "a", "a1"), ("task", "a", "a2")]}

    async def test_channels_are_searched_each_for_itself(self, chain: Any) -> None:
        """One channel's seed does not end the search for another."""
        found = await self._history(chain[0], chain[1][3], "a", "b", "unknown")
        assert [len(found[name]["writes"]) for name in ("a", "b", "unknown")] == [2, 3, 0]

    async def test_the_root_has_no_history(self, chain: Any) -> None:
        """A checkpoint without a parent, or none at all, has no writes and no seed."""
        assert await self._history(chain[0], chain[1][0], "a") == {"a": {"writes": []}}
        assert await self._history(chain[0], thread("u"), "a") == {"a": {"writes": []}}

    async def test_without_an_id_the_newest_is_meant(self, chain: Any) -> None:
        """The config of a thread stands for its newest checkpoint."""
        newest = await self._history(chain[0], thread("t"), "a", "b")
        assert newest == await self._history(chain[0], chain[1][3], "a", "b")

    async def test_forks_do_not_mix(self, chain: Any) -> None:
        """Only ancestors count, not what else was stored before."""
        saver, configs = chain
        fork = await put(saver, configs[1], step=9)
        found = await self._history(saver, fork, "b")
        assert found["b"]["writes"] == [("task", "b", "b0"), ("task", "b", "b1")]

    async def test_writes_of_one_step_are_in_order(self, chain: Any) -> None:
        """Within a checkpoint the order is that of task paths, whatever came first."""
        saver, configs = chain
        last = await put(saver, configs[3], step=9)
        for path in ("~3", "~2", "~4"):
            await saver.aput_writes(last, [("b", path)], f"task{path}", path)
        target = await put(saver, last, step=10)
        found = await self._history(saver, target, "b")
        assert [value for _, _, value in found["b"]["writes"][-3:]] == ["~2", "~3", "~4"]


def test_the_empty_checkpoint_is_known() -> None:
    """What the kit's checkpoints are made of has the keys that these tests fill."""
    assert {"v", "id", "ts", "channel_values", "channel_versions"} <= empty_checkpoint().keys()
