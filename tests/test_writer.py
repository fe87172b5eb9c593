"""What the docstrings of `AsyncCheckpointWriter` promise to somebody who only reads those."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import fcntl
import gc
import math
import os
import stat
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointEncodeError,
    CheckpointMeta,
    CheckpointRecord,
    CheckpointStore,
    CheckpointTooLargeError,
    DurabilityUnknownError,
    InvalidArgumentError,
    InvalidIdError,
    NotACheckpointError,
    RecordTypeError,
    StorageError,
    StoreBusyError,
    WriterClosedError,
)
from aiocheckpoint.portal import Portal
from aiocheckpoint.testing import MemoryStore
from tests.children import run_in_child
from tests.conftest import MakeWriter
from tests.durabilities import DURABILITIES, journal_by_default, writers_of_each_durability
from tests.faults import Fault, FaultyFiles, Hold
from tests.on_disk import on_disk, path_of
from tests.test_damaged_files import document, sealed
from tests.trees import checkpoint_files, session_directory, snapshot

Writer = AsyncCheckpointWriter[CheckpointData]
Method = Callable[[Writer], Awaitable[object]]


durability, make_writer = journal_by_default, writers_of_each_durability
in_each_durability = pytest.mark.parametrize("durability", DURABILITIES, indirect=True)


def step(iteration: int, **fields: Any) -> CheckpointData:
    """Return a checkpoint of session `s` that its id and content tell apart."""
    defaults = {"session_id": "s", "checkpoint_id": f"step-{iteration}"}
    return CheckpointData(**(defaults | fields), iteration=iteration)


async def save_steps(writer: Writer, count: int, **fields: Any) -> list[CheckpointData]:
    """Save so many checkpoints one after the other, and return them oldest first."""
    steps = [step(iteration, **fields) for iteration in range(count)]
    for data in steps:
        await writer.save(data)
    return steps


def ids(metas: tuple[CheckpointMeta, ...]) -> list[str]:
    return [meta.checkpoint_id for meta in metas]


async def verify_anything(writer: Writer) -> bool:
    return await writer.verify("anything.json")


async def iterate_sessions(writer: Writer) -> list[str]:
    return [session_id async for session_id in writer.sessions()]


EVERY_METHOD: dict[str, Method] = {
    "save": lambda writer: writer.save(step(1)),
    "load": lambda writer: writer.load("s"),
    "load_id": lambda writer: writer.load("s", "step-1"),
    "list": lambda writer: writer.list("s"),
    "delete": lambda writer: writer.delete("s", "step-1"),
    "verify": verify_anything,
    "sessions": iterate_sessions,
    "delete_session": lambda writer: writer.delete_session("s"),
    "copy_session": lambda writer: writer.copy_session("s", "t"),
    "recover": lambda writer: writer.recover("s"),
    "check": lambda writer: writer.check(),
    "flush": lambda writer: writer.flush(),
    "ids": lambda writer: writer.ids("s"),
    "load_many": lambda writer: writer.load_many("s", ["step-1"]),
    "delete_many": lambda writer: writer.delete_many("s", ["step-1"]),
    "load_blobs": lambda writer: writer.load_blobs("s", []),
    "read": lambda writer: writer.read("s", lambda reader: reader.saved_ids(limit=1)),
}
every_method = pytest.mark.parametrize("method", EVERY_METHOD.values(), ids=EVERY_METHOD.keys())


class TestConstructing:
    def test_does_no_file_work(self, tmp_path: Path) -> None:
        """Making a writer makes no directory and asks for no file operation."""
        files = FaultyFiles()

        AsyncCheckpointWriter(tmp_path / "state", files=files)

        assert files.calls == []
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_backups", -1),
            ("max_backups", "3"),
            ("max_backups", True),
            ("max_bytes", 0),
            ("max_bytes", 1.5),
            ("max_checkpoints", 0),
            ("lock_timeout_seconds", -0.1),
            ("lock_timeout_seconds", math.nan),
            ("lock_timeout_seconds", "1"),
            ("lock_timeout_seconds", True),
            ("lock_timeout_seconds", 10**400),
            ("max_journal_bytes", 0),
            ("durability", "always"),
            ("storage_path", ""),
            ("storage_path", b"state"),
            ("storage_path", None),
            ("files", 3),
        ],
    )
    def test_option_that_makes_no_sense_is_named(
        self, tmp_path: Path, name: str, value: object
    ) -> None:
        """An option of the wrong type or out of range is refused at once, by its name."""
        options: dict[str, Any] = {"storage_path": tmp_path, name: value}

        with pytest.raises(InvalidArgumentError) as refused:
            AsyncCheckpointWriter(**options)

        assert refused.value.name == name
        assert refused.value.value is value

    @in_each_durability
    async def test_argument_that_makes_no_sense_is_named(self, writer: Writer) -> None:
        """A str where a list of them is meant, or no str at all, is refused and changes nothing."""
        await writer.save(step(1, checkpoint_id="x"))
        of_any: Any = writer

        async def says_no(_: object) -> bool:
            return False

        digest = "0" * 64
        calls: dict[str, list[Callable[[], Any]]] = {
            "checkpoint_ids": [
                lambda: of_any.delete_many("s", "x"),
                lambda: of_any.load_many("s", "x"),
                lambda: of_any.load_many("s", None),
                lambda: of_any.read("s", lambda reader: reader.load_many("x")),
            ],
            "digests": [lambda: of_any.load_blobs("s", digest)],
            "prefix": [
                lambda: of_any.ids("s", prefix=None),
                lambda: of_any.read("s", lambda reader: reader.ids(prefix=None)),
                lambda: anext(of_any.sessions(prefix=3)),
            ],
            "limit": [lambda: of_any.ids("s", limit=-1), lambda: of_any.ids("s", limit="1")],
            "path": [lambda: of_any.verify(None)],
            "blobs": [
                partial(of_any.save, step(2), blobs=blobs) for blobs in (3, None, {digest: b""})
            ],
            "work": [lambda: of_any.read("s", None), lambda: of_any.read("s", lambda _: False)],
            "expected": [
                partial(of_any.save, step(2), expected=expected)
                for expected in (says_no, lambda _: False, False, 3)
            ],
        }
        for name, of_name in calls.items():
            for call in of_name:
                with pytest.raises(InvalidArgumentError) as refused:
                    await call()
                assert refused.value.name == name
        for call in (
            lambda: of_any.load_blobs("s", ["zz"]),
            lambda: of_any.ids("s", before=3),
            lambda: of_any.delete_many("s", [1]),
        ):
            with pytest.raises(InvalidIdError):
                await call()
        assert await writer.load("s", "x") is not None

    async def test_path_may_be_str_or_path(self, make_writer: MakeWriter, root: Path) -> None:
        """A str and a Path name the same store."""
        await make_writer(Path(root)).save(step(1))

        assert await make_writer(Path(str(root))).load("s") is not None
        async with AsyncCheckpointWriter(str(root)) as writer:
            assert await writer.load("s") is not None

    async def test_missing_parents_are_made(self, make_writer: MakeWriter, root: Path) -> None:
        """The directory may be any number of missing levels deep."""
        writer = make_writer(root / "a" / "b" / "c")

        await writer.save(step(1))

        assert await writer.load("s") is not None
        await writer.delete_session("s")

    async def test_relative_path_is_resolved_once(
        self, make_writer: MakeWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative path is resolved by the first call; a later chdir changes nothing."""
        first, second = tmp_path / "first", tmp_path / "second"
        for directory in (first, second):
            await asyncio.to_thread(directory.mkdir)
        writer = make_writer(Path("state"))
        await asyncio.to_thread(monkeypatch.chdir, first)
        await writer.save(step(1))
        await asyncio.to_thread(monkeypatch.chdir, second)

        await writer.save(step(2))

        (newest, oldest) = await writer.list("s")
        assert (
            path_of(newest).parent
            == path_of(oldest).parent
            == session_directory(first / "state", "s")
        )
        assert await asyncio.to_thread(snapshot, second) == {}

    async def test_repr_tells_directory_and_state(self, writer: Writer, root: Path) -> None:
        """The repr names the directory and whether the writer is closed."""
        assert repr(writer) == f"<AsyncCheckpointWriter {str(root)!r} open>"

        await writer.aclose()

        assert repr(writer) == f"<AsyncCheckpointWriter {str(root)!r} closed>"

    async def test_is_a_checkpoint_store(self, writer: Writer) -> None:
        """The writer stands wherever a `CheckpointStore` is asked for."""
        store: CheckpointStore[CheckpointData] = writer

        assert await store.list("s") == ()


class TestSave:
    async def test_load_returns_what_was_saved(self, writer: Writer) -> None:
        """A loaded checkpoint equals the saved one in every field."""
        data = CheckpointData(
            session_id="s",
            trigger="tool_result",
            iteration=-(2**31),
            messages=[{"role": "user", "content": None, "é": [1.5, -0.0, 2**64 - 1, True]}, "x"],
            tool_calls_pending=[{"id": "1", "args": {}}],
            tool_results={"1": ["\x00\x1f\u2028\U0001f600"]},
            tokens_used=2**63 - 1,
            cost_estimate=1e16,
            resume_hint="go on",
        )

        await writer.save(data)

        assert await writer.load("s") == data

    async def test_returns_the_id(self, writer: Writer) -> None:
        """The answer is the checkpoint's id, generated or given."""
        generated = CheckpointData(session_id="s")

        assert await writer.save(step(1)) == "step-1"
        assert await writer.save(generated) == generated.checkpoint_id

    async def test_survives_the_process(self, make_writer: MakeWriter) -> None:
        """Another writer, made later, finds what was saved."""
        first = make_writer()
        data = step(1)
        await first.save(data)
        await first.aclose()

        assert await make_writer().load("s") == data

    async def test_later_mutation_does_not_leak_in(self, writer: Writer) -> None:
        """What is stored is the record as it was when the call began."""
        data = step(1, messages=["before"])
        saving = asyncio.ensure_future(writer.save(data))
        await asyncio.sleep(0)
        data.messages.append("after")
        data.session_id = "other"

        await saving

        loaded = await writer.load("s")
        assert loaded is not None
        assert loaded.messages == ["before"]

    async def test_calls_take_effect_in_their_order(self, writer: Writer) -> None:
        """Fifty saves of a session at once are listed in the order they were called."""
        await asyncio.gather(*(writer.save(step(iteration)) for iteration in range(50)))

        assert [meta.iteration for meta in await writer.list("s")] == list(range(49, -1, -1))

    async def test_order_does_not_follow_created_at(self, writer: Writer) -> None:
        """The checkpoint saved last is the newest, whatever time it bears."""
        await writer.save(step(1, created_at=datetime(2030, 1, 1, tzinfo=UTC)))
        await writer.save(step(2, created_at=datetime(1999, 1, 1, tzinfo=UTC)))

        newest = await writer.load("s")
        assert newest is not None
        assert newest.iteration == 2

    @pytest.mark.parametrize(
        "created_at",
        [
            datetime(2026, 11, 23, 10, 15, 0, 123456, tzinfo=UTC),
            datetime(2026, 11, 23, 10, 15, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ],
    )
    async def test_created_at_is_kept(self, writer: Writer, created_at: datetime) -> None:
        """The record's own time comes back to the microsecond, from load and from list."""
        await writer.save(step(1, created_at=created_at))

        loaded = await writer.load("s")
        (meta,) = await writer.list("s")
        assert loaded is not None
        assert loaded.created_at == meta.created_at == created_at

    async def test_largest_size_is_allowed(self, make_writer: MakeWriter) -> None:
        """A file of exactly `max_bytes` is written and read, one byte more is refused."""
        saver = make_writer()
        await saver.save(step(1))
        await on_disk(saver)
        (meta,) = await saver.list("s")
        size = (await asyncio.to_thread(path_of(meta).stat)).st_size
        exact = make_writer(max_bytes=size)
        await exact.save(step(2))
        await on_disk(exact)

        with pytest.raises(CheckpointTooLargeError) as refused:
            await exact.save(step(2, resume_hint="12345"))

        assert refused.value.size_bytes > refused.value.max_bytes == size
        assert "step-2" in refused.value.subject
        assert await exact.load("s") == step(2, created_at=(await exact.list("s"))[0].created_at)

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"messages": [{"content": {"x": math.nan}}]}, "messages[0].content.x"),
            ({"messages": [1, [-math.inf]]}, "messages[1][0]"),
            ({"messages": [2**64]}, "messages[0]"),
            ({"messages": [{1: "one"}]}, "messages[0]"),
            ({"messages": [b"bytes"]}, "messages[0]"),
            ({"messages": [{"a": {1, 2}}]}, "messages[0].a"),
            ({"tool_results": "\ud800"}, "tool_results"),
            ({"tool_results": {"\udc00": 1}}, "tool_results"),
            ({"cost_estimate": math.nan}, "cost_estimate"),
            ({"tokens_used": 2**63}, "tokens_used"),
            ({"trigger": None}, "trigger"),
            ({"messages": "not a list"}, "messages"),
            ({"created_at": datetime(2026, 1, 1)}, "created_at"),  # noqa: DTZ001
        ],
    )
    async def test_what_would_change_is_refused(
        self, writer: Writer, root: Path, fields: dict[str, Any], path: str
    ) -> None:
        """A value JSON cannot give back is refused by its path, before any file work."""
        data = CheckpointData(session_id="s")
        for name, value in fields.items():
            setattr(data, name, value)

        with pytest.raises(CheckpointEncodeError) as refused:
            await writer.save(data)

        assert refused.value.path == path
        assert not await asyncio.to_thread(root.exists)

    async def test_too_deep_nesting_is_refused(self, writer: Writer) -> None:
        """A document nested deeper than Rust reads is refused, and so is one without end."""
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        endless: list[Any] = []
        endless.append(endless)

        for value in (deep, endless):
            with pytest.raises(CheckpointEncodeError, match="nested"):
                await writer.save(step(1, tool_results=value))

        while deep:  # freeing it in one go would overflow the C stack
            deep = deep[0]

    @pytest.mark.parametrize(
        "record", [None, {"session_id": "s"}, CheckpointRecord(session_id="s")]
    )
    async def test_other_types_are_refused(self, writer: Writer, record: Any) -> None:
        """Only records of the writer's type can be saved."""
        with pytest.raises(RecordTypeError, match="CheckpointData"):
            await writer.save(record)

    async def test_leaves_nothing_but_checkpoints(self, writer: Writer, root: Path) -> None:
        """After saves there are the checkpoints, `latest.json` and the backups, nothing else."""
        await save_steps(writer, 6)
        await on_disk(writer)

        tree = await asyncio.to_thread(snapshot, session_directory(root, "s"))
        names = sorted(tree)
        checkpoints = [name for name in names if name.endswith(".json") and name != "latest.json"]
        backups = [f"{name}.backup" for name in checkpoints[2:5]]
        assert len(checkpoints) == 6
        assert names == sorted([*checkpoints, *backups, "latest.json"])
        assert tree["latest.json"] == ("symlink", checkpoints[-1].encode())


class TestReplacing:
    async def test_replaced_id_is_the_newest(self, writer: Writer) -> None:
        """Saving an id again moves it to the front and keeps one entry of it."""
        await save_steps(writer, 3)

        await writer.save(step(9, checkpoint_id="step-0"))

        metas = await writer.list("s")
        assert ids(metas) == ["step-0", "step-2", "step-1"]
        assert metas[0].iteration == 9
        assert await writer.load("s") == await writer.load("s", "step-0")

    async def test_one_file_is_left(self, writer: Writer, root: Path) -> None:
        """The old file and its backup are gone."""
        await save_steps(writer, 2)
        await on_disk(writer)
        old = (await asyncio.to_thread(checkpoint_files, root, "s"))[0]

        await writer.save(step(9, checkpoint_id="step-0"))
        await on_disk(writer)

        left = [path.name for path in await asyncio.to_thread(checkpoint_files, root, "s")]
        assert len(left) == 2
        assert old.name not in left
        names = await asyncio.to_thread(snapshot, root)
        assert not any(name.endswith(f"{old.name}.backup") for name in names)

    async def test_every_reader_gets_the_new_one(self, make_writer: MakeWriter) -> None:
        """A writer that knew the old one, and one that did not, load the new one by id."""
        writer, other = make_writer(), make_writer()
        await save_steps(writer, 2)
        await other.load("s", "step-0")

        await writer.save(step(9, checkpoint_id="step-0"))

        for reader in (writer, other, make_writer()):
            loaded = await reader.load("s", "step-0")
            assert loaded is not None
            assert loaded.iteration == 9

    async def test_same_id_in_other_sessions_stays(self, writer: Writer) -> None:
        """An id belongs to its session; another session's is not touched."""
        await writer.save(step(1, session_id="other"))
        await writer.save(step(1))

        await writer.save(step(1, resume_hint="again"))

        untouched = await writer.load("other", "step-1")
        assert untouched is not None
        assert untouched.resume_hint is None

    async def test_many_times_leaves_one(self, writer: Writer, root: Path) -> None:
        """Saving one id fifty times leaves one file and no backup."""
        for iteration in range(50):
            await writer.save(step(iteration, checkpoint_id="same"))
        await on_disk(writer)

        tree = await asyncio.to_thread(snapshot, session_directory(root, "s"))
        assert len(tree) == 2
        assert ids(await writer.list("s")) == ["same"]


class TestLoad:
    async def test_nothing_is_none(self, writer: Writer) -> None:
        """An unknown session, and an unknown id of a known one, are None."""
        assert await writer.load("unknown") is None
        assert await writer.load("unknown", "step-1") is None
        await writer.save(step(1))
        assert await writer.load("s", "step-2") is None

    async def test_by_id(self, writer: Writer) -> None:
        """Every checkpoint of a session loads by its id."""
        steps = await save_steps(writer, 5)

        for data in steps:
            assert await writer.load("s", data.checkpoint_id) == data

    async def test_two_loads_share_nothing(self, writer: Writer) -> None:
        """Changing a loaded record does not change what is loaded next."""
        await writer.save(step(1, messages=[{"n": 1}]))
        first = await writer.load("s")
        assert first is not None
        first.messages[0]["n"] = 2

        second = await writer.load("s")
        assert second is not None
        assert second.messages == [{"n": 1}]

    async def test_sees_what_another_writer_did(self, make_writer: MakeWriter) -> None:
        """Saves, replacements and deletes of another writer are seen by the next call."""
        ours, theirs = make_writer(), make_writer()
        for iteration in range(5):
            await (ours, theirs)[iteration % 2].save(step(iteration))
            for reader in (ours, theirs):
                newest = await reader.load("s")
                assert newest is not None
                assert newest.iteration == iteration
        await theirs.delete("s", "step-4")
        newest = await ours.load("s")
        assert newest is not None
        assert newest.iteration == 3
        assert await ours.load("s", "step-4") is None
        assert ids(await ours.list("s")) == ["step-3", "step-2", "step-1", "step-0"]

    async def test_over_the_limit_is_an_error(self, make_writer: MakeWriter) -> None:
        """A file over the reader's `max_bytes` is refused by load and recover, and list says so."""
        saver = make_writer()
        await saver.save(step(1, resume_hint="x" * 5000))
        await on_disk(saver)
        small = make_writer(max_bytes=1000)

        for call in (small.load("s"), small.load("s", "step-1"), small.recover("s")):
            with pytest.raises(CheckpointTooLargeError) as refused:
                await call
            assert refused.value.max_bytes == 1000
        [meta] = await small.list("s")
        assert (meta.checkpoint_id, meta.iteration) == ("step-1", 1)
        assert "max_bytes" in str(meta.problem)
        assert [finding.kind for finding in await small.check()] == ["unreadable"]


class TestList:
    async def test_is_newest_first(self, writer: Writer) -> None:
        """The checkpoint saved last stands first."""
        await save_steps(writer, 5)

        assert [meta.iteration for meta in await writer.list("s")] == [4, 3, 2, 1, 0]

    async def test_unknown_session_is_empty(self, writer: Writer) -> None:
        """A session without checkpoints has an empty list."""
        assert await writer.list("unknown") == ()

    @pytest.mark.parametrize("size", [0, 3_000, 5_000, 9_000, 100_000])
    async def test_tells_what_the_file_says(
        self, make_writer: MakeWriter, root: Path, size: int
    ) -> None:
        """Every field of an entry is that of the checkpoint and its file, of any size."""
        data = step(3, trigger="tool_result", messages=['  "iteration": 7,\n' * (size // 20)])
        saver = make_writer()
        await saver.save(data)
        before = await saver.list("s")
        await on_disk(saver)
        (path,) = await asyncio.to_thread(checkpoint_files, root, "s")
        checksum = await asyncio.to_thread(path.read_text, encoding="utf-8")

        (meta,) = await make_writer().list("s")

        assert meta == CheckpointMeta(
            checkpoint_id="step-3",
            session_id="s",
            created_at=data.created_at,
            saved_at=meta.saved_at,
            trigger="tool_result",
            iteration=3,
            checksum=checksum.split('"')[3],
            location=path.as_uri(),
            path=path,
        )
        assert before == await saver.list("s") == (meta,)

    async def test_first_steps_anybody_takes(self, writer: Writer) -> None:
        """Each step by `next` is a checkpoint; a record that is saved as it is replaces itself."""
        for iteration in range(1, 6):
            state = await writer.load("s") or CheckpointData(session_id="s")
            await writer.save(state.next(iteration=iteration))
        assert [meta.iteration for meta in await writer.list("s")] == [5, 4, 3, 2, 1]

        newest = await writer.load("s")
        assert newest is not None
        newest.iteration = 6
        await writer.save(newest)
        assert [meta.iteration for meta in await writer.list("s")] == [6, 4, 3, 2, 1]

    async def test_saved_at_is_when_it_was_saved(
        self, writer: Writer, make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is the clock's time at the commit, never before an earlier one, and stays."""
        moment = datetime(2030, 1, 1, tzinfo=UTC)
        clock = iter([0, 0, -3600, 5, 4, 7200])

        def now() -> int:
            at = moment + timedelta(seconds=next(clock))
            return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

        monkeypatch.setattr("aiocheckpoint._engine.plan.now_microseconds", now)
        long_ago = datetime(1999, 1, 1, tzinfo=UTC)
        for iteration in range(6):
            await writer.save(step(iteration, created_at=long_ago))

        before = await writer.list("s")
        times = [meta.saved_at for meta in reversed(before)]
        assert times == sorted(set(times))
        seconds = [(time - moment).total_seconds() for time in times]
        assert seconds == pytest.approx([0, 0, 0, 5, 5, 7200], abs=0.01)
        await on_disk(writer)
        assert await writer.list("s") == await make_writer().list("s") == before

    @pytest.mark.damages_store
    async def test_saved_at_of_rusts_files_never_goes_back(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Files of Rust count as saved at the end of their second, or when the one before was."""
        directory = root / "s" / "checkpoints"

        def as_rust_does() -> None:
            directory.mkdir(parents=True)
            for number, name in enumerate(
                (
                    "cp_20260101_000000_a.json",
                    "cp_20260101_000001_000000_b.json",
                    "cp_20260101_000000_c.json",
                )
            ):
                path = directory / name
                path.write_bytes(sealed(document(checkpoint_id=name[-6])))
                os.utime(path, (1_767_225_600 + number / 10,) * 2)

        await asyncio.to_thread(as_rust_does)

        metas = await make_writer().list("s")

        assert [meta.checkpoint_id for meta in metas] == ["c", "b", "a"]
        first = datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC)
        second = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
        assert [meta.saved_at for meta in metas] == [second, second, first]

    async def test_follows_changes(self, writer: Writer) -> None:
        """A list after a save, a replacement and a delete is as if made anew."""
        await save_steps(writer, 3)
        await writer.list("s")
        await writer.save(step(8, checkpoint_id="step-1"))
        await writer.delete("s", "step-2")

        metas = await writer.list("s")

        assert [(meta.checkpoint_id, meta.iteration) for meta in metas] == [
            ("step-1", 8),
            ("step-0", 0),
        ]


class TestDelete:
    async def test_tells_whether_there_was_one(self, writer: Writer) -> None:
        """The answer is True once and False before and after."""
        assert await writer.delete("s", "step-0") is False
        await save_steps(writer, 2)

        assert await writer.delete("s", "step-5") is False
        assert await writer.delete("s", "step-0") is True
        assert await writer.delete("s", "step-0") is False
        assert ids(await writer.list("s")) == ["step-1"]

    async def test_newest_gives_way_to_the_one_before(self, writer: Writer, root: Path) -> None:
        """After a delete of the newest, `load` and `latest.json` mean the one before."""
        steps = await save_steps(writer, 3)
        await on_disk(writer)

        await writer.delete("s", "step-2")

        assert await writer.load("s") == steps[1]
        await on_disk(writer)
        tree = await asyncio.to_thread(snapshot, session_directory(root, "s"))
        (kept, newest) = (p.name for p in await asyncio.to_thread(checkpoint_files, root, "s"))
        assert tree["latest.json"] == ("symlink", newest.encode())
        assert sorted(tree) == sorted(
            [kept, newest, f"{kept}.backup", f"{newest}.backup", "latest.json"]
        )

    async def test_last_one_leaves_nothing(self, writer: Writer, root: Path) -> None:
        """A session whose last checkpoint was deleted has no file left, and no pointer."""
        await save_steps(writer, 1)
        await on_disk(writer)

        await writer.delete("s", "step-0")

        assert await writer.load("s") is None
        await on_disk(writer)
        assert await asyncio.to_thread(snapshot, session_directory(root, "s")) == {}
        assert [session async for session in writer.sessions()] == []

    async def test_takes_the_backup_along(self, writer: Writer, root: Path) -> None:
        """The backup of a deleted checkpoint is gone too."""
        await save_steps(writer, 4)
        await on_disk(writer)
        (oldest, *_) = await asyncio.to_thread(checkpoint_files, root, "s")

        await writer.delete("s", "step-0")
        await on_disk(writer)

        names = await asyncio.to_thread(snapshot, session_directory(root, "s"))
        assert not any(name.startswith(oldest.name) for name in names)

    async def test_of_an_unknown_session_makes_no_directory(
        self, writer: Writer, root: Path
    ) -> None:
        """Asking to remove what is not there leaves no directory behind."""
        await writer.save(step(1))

        await writer.delete("unknown", "step-1")
        await writer.delete_session("unknown")
        await writer.recover("unknown")
        await on_disk(writer)

        names = await asyncio.to_thread(lambda: {path.name for path in root.iterdir()})
        assert names - {".aiocheckpoint"} == {"s"}


class TestVerify:
    async def test_intact_file_backup_and_pointer(self, writer: Writer, root: Path) -> None:
        """A checkpoint, its backup and `latest.json` verify, given as str or as Path."""
        await save_steps(writer, 2)
        await on_disk(writer)
        (older, newest) = await asyncio.to_thread(checkpoint_files, root, "s")

        for path in (older, newest, newest.with_name("latest.json"), Path(f"{older}.backup")):
            assert await writer.verify(path) is True
            assert await writer.verify(str(path)) is True

    async def test_file_that_is_not_there_yet(
        self, make_writer: MakeWriter, no_flushing: None
    ) -> None:
        """The path of a checkpoint verifies as soon as that is saved, for every writer."""
        writer = make_writer(durability="journal")
        await save_steps(writer, 1)
        (meta,) = await writer.list("s")
        assert not await asyncio.to_thread(path_of(meta).exists)

        for each in (writer, make_writer()):
            assert await each.verify(path_of(meta)) is True
            assert await each.verify(path_of(meta).with_name("cp_20260101_000000_x.json")) is False

    async def test_file_anywhere(self, writer: Writer, root: Path, tmp_path: Path) -> None:
        """A copy outside the store verifies as well."""
        await save_steps(writer, 1)
        await on_disk(writer)
        (path,) = await asyncio.to_thread(checkpoint_files, root, "s")
        copy = tmp_path / "evidence.txt"
        await asyncio.to_thread(lambda: copy.write_bytes(path.read_bytes()))

        assert await writer.verify(copy) is True

    async def test_damaged_foreign_and_missing_are_false(
        self, writer: Writer, root: Path, tmp_path: Path
    ) -> None:
        """Whatever is not an intact checkpoint is False, as is what is not there."""
        await save_steps(writer, 1)
        await on_disk(writer)
        (path,) = await asyncio.to_thread(checkpoint_files, root, "s")
        content = await asyncio.to_thread(path.read_bytes)
        for number, bad in enumerate(
            (b"", b"{}", b"[]", b"null", b'"x"', content[:-1], content + b"}", content * 2)
        ):
            file = tmp_path / f"bad-{number}.json"
            await asyncio.to_thread(file.write_bytes, bad)
            assert await writer.verify(file) is False, bad

        for missing in (tmp_path / "none.json", tmp_path / "no" / "none.json", path / "x", ""):
            assert await writer.verify(missing) is False

    async def test_relative_path(
        self, writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative path means the present directory."""
        await save_steps(writer, 1)
        await on_disk(writer)
        (meta,) = await writer.list("s")
        await asyncio.to_thread(monkeypatch.chdir, path_of(meta).parent)

        assert await writer.verify(path_of(meta).name) is True
        assert await writer.verify("latest.json") is True

    async def test_what_cannot_be_a_file_is_an_error(self, writer: Writer, tmp_path: Path) -> None:
        """A directory, a FIFO, a device and a symlink are refused by name, at once."""

        def prepare() -> None:
            (tmp_path / "directory").mkdir()
            os.mkfifo(tmp_path / "fifo")
            (tmp_path / "link").symlink_to(tmp_path / "directory")
            (tmp_path / "away").symlink_to("/etc/passwd")

        await asyncio.to_thread(prepare)
        for path in ("directory", "fifo", "link", "away", "directory/..", "/dev/null"):
            with pytest.raises(NotACheckpointError) as refused:
                await writer.verify(tmp_path / path)
            assert refused.value.path == str(tmp_path / path)

    async def test_over_the_limit_is_an_error(
        self, make_writer: MakeWriter, tmp_path: Path
    ) -> None:
        """A file over `max_bytes` is neither True nor False."""
        path = tmp_path / "big"
        await asyncio.to_thread(path.write_bytes, b" " * 101)

        with pytest.raises(CheckpointTooLargeError):
            await make_writer(max_bytes=100).verify(path)


class TestSessions:
    async def test_in_the_order_of_directories(self, writer: Writer) -> None:
        """All sessions come once, in the order of their directories' names, over many hops."""
        names = [f"session-{number:03}" for number in range(150)]
        await asyncio.gather(*(writer.save(step(1, session_id=name)) for name in reversed(names)))

        assert [session async for session in writer.sessions()] == names

    async def test_empty_store(self, writer: Writer) -> None:
        """A new store has no sessions."""
        assert [session async for session in writer.sessions()] == []

    async def test_may_be_left_early_and_changed_meanwhile(self, writer: Writer) -> None:
        """Deleting each session as it comes, and stopping in between, harms nothing."""
        for number in range(70):
            await writer.save(step(1, session_id=f"s{number:02}"))
        async for session in writer.sessions():
            await writer.delete_session(session)
            if session == "s65":
                break

        assert [session async for session in writer.sessions()] == ["s66", "s67", "s68", "s69"]

    async def test_foreign_entries_are_no_sessions(self, writer: Writer, root: Path) -> None:
        """Files, empty directories and the store's own directory are left out."""
        await writer.save(step(1))

        def prepare() -> None:
            (root / "notes.txt").write_text("x")
            (root / "empty").mkdir()
            (root / "empty-session" / "checkpoints").mkdir(parents=True)
            (root / "link").symlink_to(root / "notes.txt")
            (root / ".git").mkdir()

        await asyncio.to_thread(prepare)

        assert [session async for session in writer.sessions()] == ["s"]


class TestDeleteSession:
    async def test_removes_all_of_it(self, writer: Writer, root: Path) -> None:
        """All checkpoints, backups, the pointer and the directory go; other sessions stay."""
        await save_steps(writer, 5)
        await save_steps(writer, 2, session_id="other")
        await on_disk(writer)
        before = await asyncio.to_thread(snapshot, root / "other")

        assert await writer.delete_session("s") is True

        assert await writer.load("s") is None
        await on_disk(writer)
        assert not await asyncio.to_thread((root / "s").exists)
        assert await asyncio.to_thread(snapshot, root / "other") == before
        assert await writer.delete_session("s") is False

    @pytest.mark.parametrize("place", ["", "checkpoints"])
    async def test_leaves_foreign_files(self, writer: Writer, root: Path, place: str) -> None:
        """Files of others, beside or among the checkpoints, stay byte for byte."""
        await save_steps(writer, 3)
        await on_disk(writer)
        directory = root / "s" / place

        def prepare() -> None:
            (directory / "session_meta.json").write_text('{"owner": "rust"}')
            (directory / "notes").mkdir()
            (directory / "notes" / "cp_20260101_000000_x.json").write_text("{}")

        await asyncio.to_thread(prepare)

        assert await writer.delete_session("s") is True
        await on_disk(writer)

        left = await asyncio.to_thread(snapshot, directory)
        assert sorted(left) == ["notes", "notes/cp_20260101_000000_x.json", "session_meta.json"]
        assert left["session_meta.json"] == ("file", b'{"owner": "rust"}')
        assert await writer.delete_session("s") is False
        assert [session async for session in writer.sessions()] == []

    async def test_removes_the_directory_of_an_empty_one(self, writer: Writer, root: Path) -> None:
        """A session whose checkpoints were deleted one by one leaves no directory either."""
        await save_steps(writer, 2)
        await on_disk(writer)
        await writer.delete_many("s", ["step-0", "step-1"])

        assert await writer.delete_session("s") is False

        await on_disk(writer)
        assert not await asyncio.to_thread((root / "s").exists)

    async def test_session_can_be_saved_again(self, make_writer: MakeWriter) -> None:
        """After a removal the session starts anew, for the same and for other writers."""
        writer, other = make_writer(), make_writer()
        await save_steps(writer, 3)
        await other.load("s")

        await writer.delete_session("s")
        await other.save(step(7))

        assert ids(await writer.list("s")) == ids(await other.list("s")) == ["step-7"]


class TestCopySession:
    async def test_keeps_ids_times_and_order(self, writer: Writer) -> None:
        """A copy holds the same checkpoints under the other session's id; the source stays."""
        steps = await save_steps(writer, 4)
        steps = [*steps[1:], step(9, checkpoint_id="step-0")]
        await writer.save(steps[-1])

        assert await writer.copy_session("s", "t") == 4

        assert ids(await writer.list("t")) == ids(await writer.list("s"))
        for data in steps:
            assert await writer.load("s", data.checkpoint_id) == data
            copied = await writer.load("t", data.checkpoint_id)
            data.session_id = "t"
            assert copied == data
        newest = await writer.load("t")
        assert newest is not None
        assert newest.checkpoint_id == "step-0"

    async def test_target_keeps_its_own(self, writer: Writer) -> None:
        """Checkpoints of the target stay below the copies, but for those of the same id."""
        await save_steps(writer, 2)
        await writer.save(step(5, session_id="t"))
        await writer.save(step(6, session_id="t", checkpoint_id="step-1"))

        assert await writer.copy_session("s", "t") == 2

        metas = await writer.list("t")
        assert [(meta.checkpoint_id, meta.iteration) for meta in metas] == [
            ("step-1", 1),
            ("step-0", 0),
            ("step-5", 5),
        ]

    async def test_of_an_id_in_two_files_the_last_content(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Where the replaced file of a save could not be removed, only the new one is copied."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await save_steps(writer, 2)
        await writer.save(step(1, session_id="t"))
        await on_disk(writer)
        files.arm(Fault(errno.EIO, "remove", for_ever=True))
        with contextlib.suppress(DurabilityUnknownError):
            await writer.save(step(1, resume_hint="the last"))
        with pytest.raises(StorageError):
            await on_disk(writer)
        assert len(await asyncio.to_thread(checkpoint_files, root, "s")) == 3
        files.arm(None)

        assert await writer.copy_session("s", "t") == 2

        assert ids(await writer.list("t")) == ids(await writer.list("s"))
        copied = await writer.load("t", "step-1")
        assert copied is not None
        assert copied.resume_hint == "the last"

    async def test_unknown_source_copies_nothing(self, writer: Writer, root: Path) -> None:
        """An unknown source gives 0 and makes no directory."""
        assert await writer.copy_session("unknown", "t") == 0

        assert await asyncio.to_thread(snapshot, root) == {}

    async def test_to_itself_changes_nothing(self, writer: Writer, root: Path) -> None:
        """A copy onto itself leaves every file as it is."""
        await save_steps(writer, 3)
        await on_disk(writer)
        before = await asyncio.to_thread(snapshot, root / "s")

        assert await writer.copy_session("s", "s") == 3

        await on_disk(writer)
        assert await asyncio.to_thread(snapshot, root / "s") == before

    async def test_source_is_left_alone(self, writer: Writer, root: Path) -> None:
        """The source's directory is byte for byte what it was."""
        await save_steps(writer, 3)
        await on_disk(writer)
        before = await asyncio.to_thread(snapshot, root / "s")

        await writer.copy_session("s", "t")

        await on_disk(writer)
        assert await asyncio.to_thread(snapshot, root / "s") == before

    async def test_any_record_type_is_copied_whole(self, make_writer: MakeWriter) -> None:
        """A writer of the base record copies what it does not know the fields of."""
        data = step(1, messages=[{"x": 1e16}], tokens_used=7)
        await make_writer().save(data)

        await make_writer(record_type=CheckpointRecord).copy_session("s", "t")

        copied = await make_writer().load("t")
        data.session_id = "t"
        assert copied == data

    async def test_damaged_source_copies_nothing(self, make_writer: MakeWriter, root: Path) -> None:
        """Where one of the source is damaged the target is not touched."""
        writer = make_writer()
        await save_steps(writer, 3)
        await on_disk(writer)
        (_, middle, _) = await asyncio.to_thread(checkpoint_files, root, "s")
        content = await asyncio.to_thread(middle.read_bytes)
        await asyncio.to_thread(middle.write_bytes, content[:-9])

        with pytest.raises(CheckpointCorruptError) as refused:
            await writer.copy_session("s", "t")

        assert refused.value.path == str(middle)
        assert await writer.load("t") is None
        await asyncio.to_thread(middle.write_bytes, content)


class TestRecoverAndCheckOfAHealthyStore:
    async def test_recover_changes_nothing(self, writer: Writer, root: Path) -> None:
        """There is nothing to move, and every file stays as it is."""
        await save_steps(writer, 3)
        await on_disk(writer)
        before = await asyncio.to_thread(snapshot, root / "s")

        report = await writer.recover("s")

        assert (report.session_id, report.newest_valid_id, report.quarantined) == (
            "s",
            "step-2",
            (),
        )
        assert await asyncio.to_thread(snapshot, root / "s") == before

    async def test_recover_of_an_unknown_session(self, writer: Writer) -> None:
        """An unknown session recovers to nothing."""
        report = await writer.recover("unknown")

        assert (report.newest_valid_id, report.quarantined) == (None, ())

    async def test_check_finds_nothing(self, writer: Writer) -> None:
        """A healthy store, and an empty one, have no findings."""
        assert await writer.check() == ()
        await save_steps(writer, 3)
        await save_steps(writer, 3, session_id="t/u")
        await writer.delete("s", "step-2")

        assert await writer.check() == ()


class TestBackups:
    @pytest.mark.parametrize("max_backups", [0, 1, 3])
    async def test_keeps_so_many_superseded_files(
        self, make_writer: MakeWriter, root: Path, max_backups: int
    ) -> None:
        """The files superseded last have a second name, `max_backups` of them, intact."""
        writer = make_writer(max_backups=max_backups)
        await save_steps(writer, 6)
        await on_disk(writer)

        files = await asyncio.to_thread(checkpoint_files, root, "s")
        superseded = files[:-1][len(files) - 1 - max_backups :]
        backups = await asyncio.to_thread(lambda: sorted(files[0].parent.glob("*.backup")))
        assert backups == [Path(f"{path}.backup") for path in superseded]
        for path, backup in zip(superseded, backups, strict=False):
            content = await asyncio.to_thread(path.read_bytes)
            assert await asyncio.to_thread(backup.read_bytes) == content
            assert await writer.verify(backup) is True

    async def test_default_is_three(self, writer: Writer, root: Path) -> None:
        """Without a choice three backups are kept."""
        await save_steps(writer, 6)
        await on_disk(writer)

        names = await asyncio.to_thread(snapshot, session_directory(root, "s"))
        assert sum(name.endswith(".backup") for name in names) == 3

    async def test_limit_holds_over_restarts(self, make_writer: MakeWriter, root: Path) -> None:
        """Writers that come one after the other keep no more than one of them would."""
        for iteration in range(6):
            writer = make_writer(max_backups=2)
            await writer.save(step(iteration))
            await writer.aclose()

        files = await asyncio.to_thread(checkpoint_files, root, "s")
        backups = await asyncio.to_thread(lambda: sorted(files[0].parent.glob("*.backup")))
        assert backups == [Path(f"{path}.backup") for path in files[3:5]]

    async def test_outlives_a_removal(self, make_writer: MakeWriter, root: Path) -> None:
        """Given its first name back, the backup of a removed file loads."""
        writer = make_writer()
        steps = await save_steps(writer, 2)
        await on_disk(writer)
        (path, _) = await asyncio.to_thread(checkpoint_files, root, "s")
        await asyncio.to_thread(path.unlink)
        assert await writer.load("s", "step-0") is None

        await asyncio.to_thread(Path(f"{path}.backup").rename, path)

        assert await writer.load("s", "step-0") == steps[0]


class TestMaxCheckpoints:
    @pytest.mark.parametrize("max_checkpoints", [1, 2, 5])
    async def test_keeps_the_newest(
        self, make_writer: MakeWriter, root: Path, max_checkpoints: int
    ) -> None:
        """The newest so many are kept; the others and their backups are gone."""
        writer = make_writer(max_checkpoints=max_checkpoints)

        await save_steps(writer, 7)

        expected = [f"step-{iteration}" for iteration in range(6, 6 - max_checkpoints, -1)]
        assert ids(await writer.list("s")) == expected
        await on_disk(writer)
        tree = await asyncio.to_thread(snapshot, session_directory(root, "s"))
        backups = min(3, max_checkpoints - 1)
        assert len(tree) == max_checkpoints + backups + 1

    @pytest.mark.parametrize("max_checkpoints", [1, 2, 3])
    async def test_replacing_counts_ids_not_files(
        self, make_writer: MakeWriter, max_checkpoints: int
    ) -> None:
        """Saving an id again pushes out nothing else, and works at the limit."""
        writer = make_writer(max_checkpoints=max_checkpoints)
        await save_steps(writer, max_checkpoints)
        kept = [f"step-{iteration}" for iteration in range(max_checkpoints)]

        for again in kept:
            await writer.save(step(9, checkpoint_id=again))
            assert sorted(ids(await writer.list("s"))) == kept

    async def test_replacing_the_newest_at_the_limit(self, make_writer: MakeWriter) -> None:
        """The newest can be saved again and again without pushing out the one before."""
        writer = make_writer(max_checkpoints=2)
        await save_steps(writer, 2)

        for iteration in range(3):
            await writer.save(step(iteration, checkpoint_id="step-1"))

        assert ids(await writer.list("s")) == ["step-1", "step-0"]

    async def test_lowered_limit_takes_effect_with_the_next_save(
        self, make_writer: MakeWriter
    ) -> None:
        """A session over the limit is cut down by the next save, not by a read."""
        await save_steps(make_writer(), 5)
        writer = make_writer(max_checkpoints=2)
        assert len(await writer.list("s")) == 5

        await writer.save(step(5))

        assert ids(await writer.list("s")) == ["step-5", "step-4"]

    async def test_none_keeps_all(self, make_writer: MakeWriter) -> None:
        """Without a limit nothing is removed."""
        writer = make_writer(max_checkpoints=None)
        await save_steps(writer, 20)

        assert len(await writer.list("s")) == 20

    async def test_holds_for_copies(self, make_writer: MakeWriter) -> None:
        """A copy keeps the newest so many in the target."""
        await save_steps(make_writer(), 5)
        writer = make_writer(max_checkpoints=2)

        await writer.copy_session("s", "t")

        assert ids(await writer.list("t")) == ["step-4", "step-3"]


class TestClosing:
    @every_method
    async def test_closed_writer_refuses(self, writer: Writer, method: Method) -> None:
        """Every method of a closed writer says that it is closed."""
        await writer.save(step(1))
        await writer.aclose()

        with pytest.raises(WriterClosedError, match="closed"):
            await method(writer)

    async def test_context_manager_closes(self, make_writer: MakeWriter) -> None:
        """Leaving the blob closes, and gives the writer itself at its begin."""
        writer = make_writer()
        async with writer as entered:
            assert entered is writer
            await writer.save(step(1))

        with pytest.raises(WriterClosedError):
            await writer.load("s")

    async def test_a_closed_one_is_not_entered(self, make_writer: MakeWriter) -> None:
        """`async with` on a closed writer refuses at its begin, not at a later save."""
        unused, used = make_writer(), make_writer()
        await used.save(step(1))
        for writer in (unused, used):
            await writer.aclose()
            with pytest.raises(WriterClosedError, match="closed"):
                async with writer:
                    pytest.fail("it was entered")

    async def test_may_be_repeated(self, make_writer: MakeWriter) -> None:
        """Closing twice, before any use and after, does nothing more."""
        unused, used = make_writer(), make_writer()
        await used.save(step(1))

        for writer in (unused, used):
            await writer.aclose()
            await writer.aclose()

    async def test_saves_in_flight_are_finished(self, make_writer: MakeWriter) -> None:
        """What was called before the close is stored."""
        writer = make_writer()
        saves = [asyncio.ensure_future(writer.save(step(iteration))) for iteration in range(20)]
        await asyncio.sleep(0)

        await writer.aclose()

        assert await asyncio.gather(*saves) == [f"step-{iteration}" for iteration in range(20)]
        assert len(await make_writer().list("s")) == 20

    async def test_two_at_once(self, make_writer: MakeWriter) -> None:
        """Two tasks that close at once, with work in flight, both return."""
        files, hold = FaultyFiles(), Hold()
        files.at("create", hold)
        writer = make_writer(files=files)
        saving = asyncio.ensure_future(writer.save(step(1)))
        await asyncio.to_thread(hold.wait_arrived)
        closing = [asyncio.ensure_future(writer.aclose()) for _ in range(2)]
        await asyncio.sleep(0)
        hold.release()

        assert await asyncio.gather(*closing) == [None, None]
        assert await saving == "step-1"

    async def test_cancelled_close_can_be_repeated(
        self, root: Path, durability: dict[str, Any]
    ) -> None:
        """After a close that was cancelled, the next one finishes the work."""
        files, hold = FaultyFiles(), Hold()
        files.at("create", hold)
        writer = AsyncCheckpointWriter(root, files=files, **durability)
        saving = asyncio.ensure_future(writer.save(step(1)))
        await asyncio.to_thread(hold.wait_arrived)
        closing = asyncio.ensure_future(writer.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await closing

        await writer.aclose()

        assert await saving == "step-1"

    @pytest.mark.parametrize(
        "method",
        [
            "load",
            "list",
            "verify",
        ],
    )
    async def test_reads_in_flight_are_finished(self, make_writer: MakeWriter, method: str) -> None:
        """A read that was called before the close gives its answer."""
        data = step(1)
        saver = make_writer()
        await saver.save(data)
        await on_disk(saver)
        (meta,) = await saver.list("s")
        files, hold = FaultyFiles(), Hold()
        writer = make_writer(files=files)
        assert await writer.load("unknown") is None
        files.at("open directory", hold)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "load": lambda: writer.load("s"),
            "list": lambda: writer.list("s"),
            "verify": lambda: writer.verify(path_of(meta)),
        }
        expected = {"load": data, "list": (meta,), "verify": True}
        reading = asyncio.ensure_future(calls[method]())
        await asyncio.to_thread(hold.wait_arrived)
        closing = asyncio.ensure_future(writer.aclose())
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.to_thread(wait_for_closed_directories, files)
        hold.release()

        assert await reading == expected[method]
        await closing

    async def test_releases_threads_and_descriptors(self, make_writer: MakeWriter) -> None:
        """Closing leaves no thread of the writer and no open file."""
        before = await asyncio.to_thread(open_descriptors)
        threads = set(threading.enumerate())
        writer = make_writer()
        await asyncio.gather(
            *(writer.save(step(1, session_id=f"s{number}")) for number in range(40))
        )

        await writer.aclose()
        await asyncio.to_thread(join_writer_threads_besides, threads)

        assert await asyncio.to_thread(open_descriptors) <= before

    async def test_forgotten_writer_warns(self, tmp_path: Path) -> None:
        """A writer that was used and not closed says so when it is collected."""
        with pytest.warns(ResourceWarning, match="state.*was not closed"):
            await use_and_forget(tmp_path / "state")

    async def test_unused_writer_does_not_warn(self, tmp_path: Path) -> None:
        """A writer that was never used holds nothing, and may be dropped."""
        with warnings.catch_warnings(record=True) as caught:
            AsyncCheckpointWriter(tmp_path / "state")
            gc.collect()

        assert [warning.message for warning in caught] == []


async def use_and_forget(root: Path) -> None:
    writer = AsyncCheckpointWriter(root)
    await writer.save(step(1))
    del writer
    gc.collect()


def wait_for_closed_directories(files: FaultyFiles) -> None:
    """Give a close that does not wait for reads the time to show."""
    closed = threading.Event()
    files.at("close directory", closed.set)
    closed.wait(0.1)


def open_descriptors() -> set[str]:
    """Return the descriptors of this process that stand for files and directories of a store."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if "/state" in target:
            found.add(target)
    return found


def join_writer_threads_besides(threads: set[threading.Thread]) -> None:
    """Wait for the threads that closed writers leave to end by themselves."""
    for thread in set(threading.enumerate()) - threads:
        if thread.name.startswith("aiocheckpoint"):
            thread.join(timeout=30)
            assert not thread.is_alive()


FORK = """
    import asyncio, os, sys, warnings
    from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, WriterClosedError

    warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads
    root = sys.argv[1]
    writer = AsyncCheckpointWriter(root)
    asyncio.run(writer.save(CheckpointData(session_id="s", checkpoint_id="parent")))
    child = os.fork()

    async def refuses():
        async def sessions():
            async for _ in writer.sessions():
                pass
        calls = [
            lambda: writer.save(CheckpointData(session_id="s")), lambda: writer.load("s"),
            lambda: writer.list("s"), lambda: writer.delete("s", "parent"),
            lambda: writer.verify("x"), sessions, lambda: writer.delete_session("s"),
            lambda: writer.copy_session("s", "t"), lambda: writer.recover("s"),
            lambda: writer.check(),
        ]
        for call in calls:
            try:
                await call()
            except WriterClosedError as error:
                assert "fork" in str(error), error
            else:
                raise AssertionError("a forked writer was used")
        await writer.aclose()
        async with AsyncCheckpointWriter(root) as own:
            await own.save(CheckpointData(session_id="s", checkpoint_id="child"))

    async def goes_on():
        await writer.save(CheckpointData(session_id="s", checkpoint_id="after"))
        metas = await writer.list("s")
        print(*sorted(meta.checkpoint_id for meta in metas))
        await writer.aclose()

    if child == 0:
        status = 1
        try:
            asyncio.run(refuses())
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    asyncio.run(goes_on())
"""


async def _waits_for_long() -> None:
    async with asyncio.timeout(600):
        await asyncio.Event().wait()


WAITS: dict[str, Callable[[], Awaitable[object]]] = {
    "sleep": lambda: asyncio.sleep(600),
    "to_thread": lambda: asyncio.to_thread(int),
    "event": lambda: asyncio.Event().wait(),
    "queue": lambda: asyncio.Queue[int]().get(),
    "time limit": _waits_for_long,
    "future": lambda: asyncio.wrap_future(Future[int]()),
}
"""What needs a running event loop."""


class TestRead:
    @in_each_durability
    async def test_context_of_the_caller(self, writer: Writer) -> None:
        """What is given to `read` sees the context variables of whoever called it."""
        trace = contextvars.ContextVar("trace", default="lost")

        async def read(name: str) -> str:
            trace.set(name)

            async def work(_: object) -> str:
                return trace.get()

            return await writer.read("s", work)

        await writer.save(step(1))
        names = [f"trace-{number}" for number in range(12)]
        assert await asyncio.gather(*map(read, names)) == names
        assert trace.get() == "lost"

    async def test_context_of_a_caller_without_a_loop(self, writer: Writer) -> None:
        """What is given to `read_blocking` sees them, too."""
        trace = contextvars.ContextVar("trace", default="lost")

        async def work(_: object) -> str:
            return trace.get()

        def read() -> str:
            trace.set("found")
            return writer.read_blocking("s", work)

        await writer.save(step(1))
        assert await asyncio.to_thread(read) == "found"

    async def test_awaits_nothing_else(self, writer: Writer) -> None:
        """Work that would wait for anything but its reads is refused by name, in a thread."""

        async def waits(_: object) -> None:
            await asyncio.sleep(0)

        for store in (writer, MemoryStore()):
            for work in (waits, lambda _: 7):
                with pytest.raises(InvalidArgumentError, match="async function"):
                    await store.read("s", work)  # type: ignore[arg-type]

    @pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
    async def test_awaits_nothing_that_needs_a_loop(
        self, writer: Writer, wait: Callable[[], Awaitable[object]]
    ) -> None:
        """What asks for the running event loop is refused alike by all reads of all stores."""

        async def work(_: object) -> object:
            return await wait()

        def by_portal() -> object:
            with Portal() as portal:
                return portal.read(writer, lambda store: wait())

        await writer.save(step(1))
        reads: list[Callable[[], Awaitable[object]]] = [
            lambda: MemoryStore().read("s", work),
            lambda: writer.read("s", work),
            lambda: writer.find(work),
            lambda: asyncio.to_thread(writer.read_blocking, "s", work),
            lambda: asyncio.to_thread(writer.read_blocking, "s", lambda _: wait()),
            lambda: asyncio.to_thread(by_portal),
        ]
        for read in reads:
            with pytest.raises(InvalidArgumentError, match="reads it is given, and nothing else"):
                await read()

    async def test_a_lock_that_others_wait_for(self, writer: Writer) -> None:
        """One that belongs to the caller's loop by now is refused by name, too."""
        lock = asyncio.Lock()
        await lock.acquire()
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)

        async def work(_: object) -> None:
            await lock.acquire()

        for store in (writer, MemoryStore()):
            with pytest.raises(InvalidArgumentError, match="reads it is given, and nothing else"):
                await store.read("s", work)
        lock.release()
        await waiting

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("the cache is closed"),
            AttributeError("title"),
            NotImplementedError("later"),
        ],
        ids=repr,
    )
    async def test_errors_of_its_own_pass(self, writer: Writer, error: Exception) -> None:
        """What work raises of its own is the caller's, of the classes too that asyncio raises."""

        async def work(_: object) -> None:
            raise error

        for store in (writer, MemoryStore()):
            with pytest.raises(type(error)) as caught:
                await store.read("s", work)
            assert caught.value is error
        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'title'"):
            await writer.read("s", lambda _: getattr(None, "title"))  # noqa: B009


class TestForking:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_child_is_refused_and_parent_goes_on(self, root: Path) -> None:
        """A writer used before a fork refuses the child by name and still serves the parent."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(FORK), str(root)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

        assert (done.returncode, done.stdout) == (0, "after child parent\n"), done.stderr
        assert "ResourceWarning" not in done.stderr

    @pytest.mark.blocking
    def test_unused_writer_belongs_to_who_uses_it_first(self, root: Path) -> None:
        """A writer that was made and not used before forks works in each child, and the parent."""
        writer = AsyncCheckpointWriter(root)

        async def use(number: int) -> list[str]:
            await writer.save(step(number))
            found = [meta.checkpoint_id for meta in await writer.list("s")]
            await writer.aclose()
            return found

        assert run_in_child(lambda: asyncio.run(use(1))) == "['step-1']"
        assert run_in_child(lambda: asyncio.run(use(2))) == "['step-2', 'step-1']"
        assert asyncio.run(use(3)) == ["step-3", "step-2", "step-1"]

    @pytest.mark.blocking
    def test_unused_writer_may_be_closed_in_the_child(self, root: Path) -> None:
        """A child may close, or drop, what it never used; the parent's goes on."""
        writer = AsyncCheckpointWriter(root)
        assert run_in_child(lambda: asyncio.run(writer.aclose())) == "None"
        assert asyncio.run(writer.save(step(1))) == "step-1"
        asyncio.run(writer.aclose())


@pytest.fixture(name="set_umask")
def _set_umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)

    def change(mask: int) -> None:
        os.umask(mask)

    yield change
    os.umask(before)


def modes_below(root: Path) -> set[tuple[str, int]]:
    """Return the kinds and permissions of a directory and all in it, symlinks left out."""
    found = set()
    for path in (root, *root.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            found.add(("directory" if stat.S_ISDIR(mode) else "file", stat.S_IMODE(mode)))
    return found


class TestPermissions:
    @pytest.mark.parametrize(
        "umask",
        [0o000, 0o022, 0o077, 0o177],
    )
    @in_each_durability
    async def test_for_the_owner_alone(
        self, make_writer: MakeWriter, root: Path, umask: int, set_umask: Callable[[int], None]
    ) -> None:
        """Files are 0600 and directories 0700 whatever the umask, also after damage and repair."""
        set_umask(umask)
        writer = make_writer(root / "inner")
        await save_steps(writer, 3)
        await writer.copy_session("s", "t")
        await on_disk(writer)
        (path, *_) = await asyncio.to_thread(checkpoint_files, root / "inner", "t")
        await asyncio.to_thread(path.write_bytes, b"damaged")
        await writer.recover("t")
        await writer.aclose()

        modes = await asyncio.to_thread(modes_below, root)

        assert modes == {("file", 0o600), ("directory", 0o700)}


FOREIGN = {
    "session_meta.json": b'{"owner": "rust"}',
    "checkpoints/README": b"x",
    "checkpoints/cp_notes.json": b"not ours",
    "checkpoints/cp_20260101_000000_x.json.bak": b"an editor's",
    "checkpoints/.cp_20260101_000000_x.json.swp": b"an editor's",
}


class _ForeignSave(FaultyFiles):
    """Lets another program, which takes no lock, put a checkpoint there amid a save of ours."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._path = directory / "cp_20260511_041200_foreign.json"

    def put(self) -> None:
        self._path.write_bytes(sealed(document(session_id="s", checkpoint_id="foreign")))


class TestForeignSaves:
    @pytest.mark.parametrize("call", ["list", "load", "delete", "delete-session", "copy"])
    async def test_amid_a_save_of_ours_is_found(
        self, make_writer: MakeWriter, root: Path, call: str
    ) -> None:
        """What appears in the directory during a save of ours is found as if it had before."""
        files = _ForeignSave(session_directory(root, "s"))
        writer = make_writer(files=files)
        await writer.save(step(0))
        await on_disk(writer)
        files.at("before_rename", files.put)
        await writer.save(step(1))
        await on_disk(writer)
        files.at("before_rename", lambda: None)

        match call:
            case "list":
                ids = [meta.checkpoint_id for meta in await writer.list("s")]
                assert ids == ["step-1", "step-0", "foreign"]
            case "load":
                assert await writer.load("s", "foreign") is not None
            case "delete":
                assert await writer.delete("s", "foreign") is True
            case "delete-session":
                assert await writer.delete_session("s") is True
                await on_disk(writer)
                assert await asyncio.to_thread(checkpoint_files, root, "s") == []
            case "copy":
                assert await writer.copy_session("s", "t") == 3


class TestForeignFiles:
    @every_method
    @pytest.mark.some(12)
    async def test_are_left_alone(self, writer: Writer, root: Path, method: Method) -> None:
        """No method touches what is not ours in a session's directory."""
        await save_steps(writer, 3)
        await on_disk(writer)

        def foreign() -> dict[str, bytes]:
            return {name: (root / "s" / name).read_bytes() for name in FOREIGN}

        def prepare() -> None:
            for name, content in FOREIGN.items():
                (root / "s" / name).write_bytes(content)

        await asyncio.to_thread(prepare)

        await method(writer)
        await writer.save(step(9))
        await on_disk(writer)

        assert await asyncio.to_thread(foreign) == FOREIGN
        assert await writer.check() == ()


class TestLocking:
    async def test_busy_store_is_an_error_in_time(self, make_writer: MakeWriter) -> None:
        """Where another writer keeps the store locked, changes are refused and reads work."""
        files, hold = FaultyFiles(), Hold()
        slow, quick = make_writer(files=files), make_writer(lock_timeout_seconds=0)
        await quick.save(step(0, session_id="other"))  # while nobody else writes files
        await slow.save(step(0))
        files.at("before_sync_log", hold)
        saving = asyncio.ensure_future(slow.save(step(1)))
        await asyncio.to_thread(hold.wait_arrived)

        for method in ("save", "delete", "delete_session"):
            with pytest.raises(StoreBusyError) as refused:
                await EVERY_METHOD[method](quick)
            assert refused.value.timeout_seconds == 0
            assert Path(refused.value.path).name == "lock"
        with pytest.raises(StoreBusyError):
            await quick.copy_session("other", "t")
        newest = await quick.load("s")
        listed = await quick.list("s")
        hold.release()

        assert newest == await quick.load("s", "step-0")
        assert ids(listed) == ["step-0"]
        assert await saving == "step-1"
        assert ids(await quick.list("s")) == ["step-1", "step-0"]

    @pytest.mark.blocking  # the test itself takes the lock
    async def test_who_writes_no_files_holds_up_no_save(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """While another process that is to write the files is stopped, saves go on."""
        writer = make_writer(durability="journal", lock_timeout_seconds=0.2)
        await writer.save(step(0))
        await on_disk(writer)
        applier = os.open(root / ".aiocheckpoint" / "applier", os.O_RDONLY)
        try:
            fcntl.flock(applier, fcntl.LOCK_EX)
            await writer.save(step(1))
            with pytest.raises(StoreBusyError) as refused:
                await writer.flush()
            assert Path(refused.value.path).name == "applier"
            await writer.save(step(2))
            assert [meta.iteration for meta in await writer.list("s")] == [2, 1, 0]
            assert len(await asyncio.to_thread(checkpoint_files, root, "s")) == 1
        finally:
            os.close(applier)
        await on_disk(writer)
        assert len(await asyncio.to_thread(checkpoint_files, root, "s")) == 3

    async def test_flush_holds_up_no_save(self, make_writer: MakeWriter) -> None:
        """While files are being synced, saves and reads go on."""
        files, hold = FaultyFiles(), Hold()
        writer = make_writer(files=files, durability="journal")
        await writer.save(step(0))
        files.at("before_flush", hold)
        flushing = asyncio.ensure_future(writer.flush())
        await asyncio.to_thread(hold.wait_arrived)

        assert await asyncio.wait_for(writer.save(step(1)), 30) == "step-1"
        assert ids(await writer.list("s")) == ["step-1", "step-0"]
        assert not flushing.done()
        hold.release()
        await flushing


class TestIds:
    @pytest.mark.parametrize("bad", [5, None, b"s", 1.5, ["s"], Path("s")])
    async def test_only_str(self, writer: Writer, root: Path, bad: Any) -> None:
        """An id that is not a str is refused by name, before any file work."""
        calls = [
            writer.load(bad), writer.list(bad), writer.delete(bad, "x"), writer.delete("s", bad),
            writer.delete_session(bad), writer.copy_session(bad, "t"),
            writer.copy_session("s", bad), writer.recover(bad),
        ]  # fmt: skip
        if bad is not None:
            calls.append(writer.load("s", bad))

        for call in calls:
            with pytest.raises(InvalidIdError):
                await call
        assert not await asyncio.to_thread(root.exists)
