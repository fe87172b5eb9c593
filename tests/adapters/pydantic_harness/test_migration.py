"""Moving runs here from the framework's own stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip(
    "pydantic_ai_harness", reason="needs the extra pydantic-harness: .ci/adapter pydantic-harness"
)

from pydantic_ai import BinaryContent, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    FileStepStore,
    InMemoryStepStore,
    SqliteStepStore,
)

from aiocheckpoint.adapters.pydantic_harness import (
    Copied,
    CopyMismatchError,
    HarnessRecord,
    StepStore,
    copy_runs,
)
from aiocheckpoint.adapters.pydantic_harness.__main__ import main
from aiocheckpoint.testing import MemoryStore
from tests.adapters.damages import Place, cells, digests, file, line, loosened
from tests.adapters.moving import MoverContract
from tests.adapters.pydantic_harness.steps import effect, event, run, snapshot

pytestmark = pytest.mark.blocking


@pytest.fixture(name="path", params=["files", "steps.db"])
async def _path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path: Path = tmp_path / request.param
    store = source_at(path)
    for number in range(2):
        run_id = f"r{number}"
        await store.register_run(run(number, conversation_id="c", metadata={"a": "b"}))
        for step in range(4):
            key = f"{step}:" if number else None
            call = f"call-{step}"
            await store.append_event(
                event(step, run_id=run_id, idempotency_key=key, tool_call_id=call)
            )
            state = "interrupted" if step == 3 else "complete"
            await store.save_snapshot(
                snapshot(step, run_id=run_id, idempotency_key=key, state=state)
            )
            status = "started" if step == 3 else "completed"
            await store.record_tool_effect(effect(call, status, run_id=run_id))
    return path


def source_at(path: Path) -> Any:
    return FileStepStore(path) if path.name == "files" else SqliteStepStore(database=path)


def nan_snapshot() -> ContinuableSnapshot:
    part = ToolReturnPart("rate", {"score": float("nan")}, tool_call_id="c")
    return snapshot(0, run_id="r9", messages=[ModelRequest([part])])


async def test_a_nan_in_memory_is_the_same_after_the_copy() -> None:
    """A snapshot with a value that does not equal itself, which files lack, may come again."""
    source = InMemoryStepStore()
    await source.register_run(run(9))
    await source.save_snapshot(nan_snapshot())
    checkpoints: MemoryStore[Any] = MemoryStore(HarnessRecord)
    for _ in range(2):
        assert await copy_runs(source, checkpoints) == Copied(1, 1)


async def test_all_runs_come_and_may_come_again(path: Path) -> None:
    """Everything of all runs is there, in order; a second copy changes nothing."""
    checkpoints: MemoryStore[Any] = MemoryStore(HarnessRecord)
    source = source_at(path)
    told: list[Copied] = []

    assert await copy_runs(source, checkpoints, progress=told.append) == Copied(2, 16)
    assert await copy_runs(source, checkpoints) == Copied(2, 16)

    assert told == [Copied(1, 8), Copied(2, 16)]
    target = StepStore(checkpoints)
    assert await target.list_runs() == await source.list_runs()
    for run_id in ("r0", "r1"):
        assert await target.list_events(run_id=run_id) == await source.list_events(run_id=run_id)
        unresolved = await target.list_unresolved_tool_effects(run_id=run_id)
        assert [found.tool_call_id for found in unresolved] == ["call-3"]
        newest = await target.latest_snapshot(run_id=run_id)
        assert newest == await source.latest_snapshot(run_id=run_id)


async def test_copy_goes_on_where_it_was(path: Path) -> None:
    """A copy that was interrupted amid a run adds what is missing; other steps are refused."""
    checkpoints: MemoryStore[Any] = MemoryStore(HarnessRecord)
    source = source_at(path)
    target = StepStore(checkpoints)
    await target.register_run((await source.list_runs())[0])
    for found in (await source.list_events(run_id="r0"))[:2]:
        await target.append_event(found)

    assert await copy_runs(source, checkpoints) == Copied(2, 16)

    await target.append_event(event(9, run_id="r1"))
    with pytest.raises(CopyMismatchError, match="'r1'"):
        await copy_runs(source, checkpoints)


@pytest.mark.damages_store
async def test_damaged_one_is_named_and_stops_no_other(root: Path) -> None:
    """Of a source that lists what it cannot read, that is refused by name, and all else copied."""
    async with StepStore(root) as source:
        for number in range(3):
            await source.register_run(run(number))
            await source.append_event(event(0, run_id=f"r{number}"))
    (path,) = (root / "pydantic_harness.r1").glob("checkpoints/cp_*_run.json")
    path.write_bytes(path.read_bytes().replace(b"totals", b"totbls"))
    checkpoints: MemoryStore[Any] = MemoryStore(HarnessRecord)

    async with StepStore(root) as source:
        with pytest.raises(CopyMismatchError, match=r"'r1': .*is damaged") as raised:
            await copy_runs(source, checkpoints)

    assert raised.value.copied == Copied(2, 2)
    assert [it.run_id for it in await StepStore(checkpoints).list_runs()] == ["r0", "r2"]


async def test_tool_that_has_ended_since_is_not_set_back(path: Path) -> None:
    """A run of which only a tool went on there is refused, and the tool's outcome stays."""
    checkpoints: MemoryStore[Any] = MemoryStore(HarnessRecord)
    source = source_at(path)
    await copy_runs(source, checkpoints)
    target = StepStore(checkpoints)
    await target.record_tool_effect(effect("call-3", "completed", run_id="r0"))

    with pytest.raises(CopyMismatchError, match="'r0': it has other steps"):
        await copy_runs(source, checkpoints)

    found = await target.get_tool_effect(run_id="r0", tool_call_id="call-3")
    assert found is not None
    assert found.status == "completed"


async def test_other_run_of_an_id_is_refused(path: Path) -> None:
    """A run that is there and another one is refused by its id, and stays."""
    checkpoints: MemoryStore[Any] = MemoryStore(HarnessRecord)
    target = StepStore(checkpoints)
    await target.register_run(run(1, agent_name="mine"))

    with pytest.raises(CopyMismatchError, match="'r1'"):
        await copy_runs(source_at(path), checkpoints)

    assert await target.get_run(run_id="r1") == run(1, agent_name="mine")


async def test_snapshot_that_is_left_out_is_told(tmp_path: Path) -> None:
    """A snapshot that the framework cannot read, and leaves out with a warning, is refused."""
    source = FileStepStore(tmp_path / "files")
    await source.register_run(run(1))
    for step in range(2):
        await source.save_snapshot(snapshot(step, run_id="r1"))
    damaged = tmp_path / "files" / "r1" / "snapshots" / "1.json"
    damaged.write_text(damaged.read_text()[:-20])

    with pytest.raises(CopyMismatchError, match="unparsable snapshot"):
        await copy_runs(source, MemoryStore[Any](HarnessRecord))


def test_command(path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command copies a directory or a database; what is none is told."""
    main([str(path), str(root)])

    assert capsys.readouterr().out == "2 runs, 16 events and snapshots copied and compared\n"
    (root.parent / "text").write_text("no database" * 100)
    for name in ("nothing", "text"):
        with pytest.raises(SystemExit) as caught:
            main([str(root.parent / name), str(root)])
        assert caught.value.code == 2


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_database_of_an_older_format_stays_so(tmp_path: Path, is_open: bool) -> None:
    """One that the framework would bring to its format of today is read, and not changed."""
    database = tmp_path / "steps.db"
    source = SqliteStepStore(database=database, media_threshold_bytes=10)
    image = BinaryContent(b"image" * 100, media_type="image/png")
    await source.register_run(run(1))
    asked = ModelRequest([UserPromptPart([image])])
    await source.save_snapshot(snapshot(0, run_id="r1", messages=[asked]))
    stored = await source.latest_snapshot(run_id="r1")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN registration_id")
        connection.execute("PRAGMA journal_mode=DELETE")
    before = digests(database)
    checkpoints: MemoryStore[Any] = MemoryStore(HarnessRecord)

    with closing(sqlite3.connect(database, check_same_thread=False)) as connection:
        older = SqliteStepStore(
            database=None if is_open else database, connection=connection if is_open else None
        )
        assert await copy_runs(older, checkpoints) == Copied(1, 1)

    assert digests(database) == before
    assert await StepStore(checkpoints).latest_snapshot(run_id="r1") == stored


class TestMover(MoverContract):
    record_type = HarnessRecord
    main = main
    refused = "r0"
    unit = "run"
    units: ClassVar = {"r0": 1, "r1": 1}

    @pytest.fixture(name="source")
    def _source(self, path: Path) -> Path:
        return path if path.is_dir() else loosened(path)

    def places(self, source: Any) -> Iterator[Place]:
        if source.is_dir():
            yield file(source / "r0" / "run.json", "r0")
            yield line(source / "r0" / "events.jsonl", 1, "r0")
            yield line(source / "r0" / "tool_effects.jsonl", 1, "r0")
            yield file(source / "r0" / "snapshots" / "2.json", "r0")
        else:
            yield from cells(source, "runs", "run_id = 'r0'", "r0")
            for table in ("events", "snapshots", "tool_effects"):
                yield from cells(source, table, "run_id = 'r0'", "r0", but="seq run_id")

    async def copy(self, source: Any, storage: Any) -> Copied:
        return await copy_runs(source_at(source), storage)

    async def add_nan(self, source: Any) -> None:
        store = source_at(source)
        await store.register_run(run(9))
        await store.save_snapshot(nan_snapshot())

    async def go_on(self, storage: Any) -> None:
        await StepStore(storage).append_event(event(9, run_id="r0"))
