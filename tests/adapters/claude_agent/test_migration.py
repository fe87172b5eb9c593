"""Moving transcripts here from the files of the framework's program."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip(
    "claude_agent_sdk", reason="needs the extra claude-agent: .ci/adapter claude-agent"
)

from claude_agent_sdk import InMemorySessionStore, import_session_to_store

from aiocheckpoint.adapters.claude_agent import (
    ClaudeRecord,
    Copied,
    CopyMismatchError,
    SessionStore,
    copy_sessions,
)
from aiocheckpoint.adapters.claude_agent.__main__ import main
from aiocheckpoint.testing import MemoryStore
from tests.adapters.damages import Place, file, line
from tests.adapters.moving import MoverContract

pytestmark = pytest.mark.blocking

SESSIONS = [str(uuid.UUID(int=number)) for number in range(3)]


def _write(path: Path, entries: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def _entries(count: int, name: str) -> list[Any]:
    text = "one\u2028line \ud83d"
    entries: list[Any] = [
        {"type": "user", "uuid": f"{name}-{number}", "message": {"content": text * (number % 9)}}
        for number in range(count)
    ]
    return [{"type": "mode"}, *entries, {"type": "mode"}]


@pytest.fixture(name="projects")
def _projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a user with two projects, the oldest session with subagents."""
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    projects = tmp_path / "claude" / "projects"
    for number, (project, count) in enumerate((("-a", 1200), ("-a", 3), ("-b", 10))):
        path = projects / project / f"{SESSIONS[number]}.jsonl"
        _write(path, _entries(count, f"s{number}"))
        os.utime(path, (1_700_000_000 - number, 1_700_000_000 - number))
    agents = projects / "-a" / SESSIONS[0] / "subagents"
    _write(agents / "agent-1.jsonl", _entries(5, "a1"))
    _write(agents / "workflows" / "run-1" / "agent-2.jsonl", _entries(2, "a2"))
    (agents / "agent-1.meta.json").write_text('{"agentType": "helper"}')
    return projects


async def test_all_come_and_may_come_again(projects: Path) -> None:
    """All entries are there, as the framework's own import has them, and once."""
    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
    told: list[Copied] = []

    whole = Copied(5, 1200 + 3 + 10 + 5 + 2 + 5 * 2 + 1)
    assert await copy_sessions(projects, memory, progress=told.append) == whole
    assert await copy_sessions(projects, memory) == whole

    assert told[-1] == whole
    assert [copied.sessions for copied in told] == [1, 2, 5]
    ours, theirs = SessionStore(memory), InMemorySessionStore()
    for session in SESSIONS:
        await import_session_to_store(session, theirs)
    for project, session in (("-a", SESSIONS[0]), ("-a", SESSIONS[1]), ("-b", SESSIONS[2])):
        key: Any = {"project_key": project, "session_id": session}
        subpaths = await theirs.list_subkeys(key)
        assert sorted(await ours.list_subkeys(key)) == sorted(subpaths)
        for found in (key, *({**key, "subpath": subpath} for subpath in subpaths)):
            assert await ours.load(found) == await theirs.load(found)
    newest = max(await ours.list_sessions("-a"), key=lambda listed: listed["mtime"])
    assert newest["session_id"] == SESSIONS[0]


async def test_a_copy_that_was_broken_off_goes_on(projects: Path) -> None:
    """What is there of a session stays, and the rest is added."""
    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
    key: Any = {"project_key": "-a", "session_id": SESSIONS[0]}
    await SessionStore(memory).append(key, _entries(1200, "s0")[:500])

    await copy_sessions(projects, memory)

    assert await SessionStore(memory).load(key) == _entries(1200, "s0")


async def test_an_entry_that_is_there_twice_comes_once(projects: Path) -> None:
    """Of lines with the same uuid the first one counts, as with any append."""
    path = projects / "-b" / f"{SESSIONS[2]}.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[3] + "\n")
    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)

    await copy_sessions(projects, memory)

    key: Any = {"project_key": "-b", "session_id": SESSIONS[2]}
    assert await SessionStore(memory).load(key) == _entries(10, "s2")


async def test_nothing_there_is_replaced(projects: Path) -> None:
    """A session that has other entries is refused by name, and keeps them."""
    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
    key: Any = {"project_key": "-a", "session_id": SESSIONS[1]}
    other: list[Any] = [{"type": "user", "text": "mine"}]
    await SessionStore(memory).append(key, other)

    with pytest.raises(CopyMismatchError, match=SESSIONS[1]):
        await copy_sessions(projects, memory)

    assert await SessionStore(memory).load(key) == other


def _of_agent(name: str = "agent-1") -> Any:
    return {"project_key": "-a", "session_id": SESSIONS[0], "subpath": f"subagents/{name}"}


async def test_what_a_subagent_added_is_added(projects: Path) -> None:
    """Lines and metadata that have grown come, metadata once, as with the framework's import."""
    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
    theirs = InMemorySessionStore()
    key: Any = {"project_key": "-a", "session_id": SESSIONS[0]}
    session = projects / "-a" / f"{SESSIONS[0]}.jsonl"
    agent = projects / "-a" / SESSIONS[0] / "subagents" / "agent-1.jsonl"
    for number in range(4):
        if number in (1, 3):
            for path in (session, agent):
                added = {"type": "user", "uuid": f"{path.stem}-later-{number}"}
                path.write_text(f"{path.read_text()}{json.dumps(added)}\n")
        if number in (2, 3):
            agent.with_suffix(".meta.json").write_text(json.dumps({"agentType": number}))
        await copy_sessions(projects, memory)

    ours = SessionStore(memory)
    await import_session_to_store(SESSIONS[0], theirs)
    assert await ours.load(key) == await theirs.load(key)
    found, expected = await ours.load(_of_agent()), await theirs.load(_of_agent())
    assert found is not None
    assert expected is not None
    metadata: list[Any] = [entry for entry in found if entry["type"] == "agent_metadata"]
    assert [entry["agentType"] for entry in metadata] == ["helper", 2, 3]
    lines = [entry for entry in found if entry["type"] != "agent_metadata"]
    assert [*lines, metadata[-1]] == expected


@pytest.mark.parametrize("how", ["line", "metadata", "set back", "only there"])
async def test_a_subagent_that_went_on_is_refused(projects: Path, how: str) -> None:
    """A line or metadata that only the storage has is no older, and refuses the session."""
    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
    await copy_sessions(projects, memory)
    agent = projects / "-a" / SESSIONS[0] / "subagents" / "agent-1.jsonl"
    added: Any = {"type": "user" if how == "line" else "agent_metadata", "agentType": "other"}
    name = "workflows/run-1/agent-2" if how == "only there" else "agent-1"
    await SessionStore(memory).append(_of_agent(name), [added])
    if how == "set back":
        agent.write_text(agent.read_text() + '{"type": "user", "uuid": "more"}\n')
    before = await SessionStore(memory).load(_of_agent(name))

    with pytest.raises(CopyMismatchError, match="has other entries there already"):
        await copy_sessions(projects, memory)

    assert await SessionStore(memory).load(_of_agent(name)) == before


def _request(kind: str) -> Any:
    return {"type": kind, "requestId": "r"}


async def test_what_the_framework_stored_itself_is_there(
    projects: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines about requests, which it hands to no store, are counted apart, and refuse nothing."""
    path = projects / "-b" / f"{SESSIONS[2]}.jsonl"
    stored = _entries(10, "s2")
    requests = [*map(_request, ("api-request-shape", "api-request-blob", "api-request"))]
    _write(path, [*stored[:3], *requests, *stored[3:], _request("api-request")])
    agent = projects / "-a" / SESSIONS[0] / "subagents" / "agent-1.jsonl"
    _write(agent, [requests[0], *_entries(5, "a1")])
    key: Any = {"project_key": "-b", "session_id": SESSIONS[2]}
    live: Any = [{"agentType": "helper", "type": "agent_metadata"}, *_entries(5, "a1")]
    async with SessionStore(root) as store:
        await store.append(key, stored)
        await store.append(_of_agent(), live)

    for _ in range(2):
        await asyncio.to_thread(main, [str(projects), str(root)])
        assert capsys.readouterr().out == (
            "5 transcripts, 1231 entries copied and compared; 5 more left out, which the framework "
            "hands to no store\n"
        )

    async with SessionStore(root) as store:
        assert await store.load(key) == stored
        assert await store.load(_of_agent()) == live


@pytest.mark.parametrize("has_other", [False, True])
async def test_a_part_of_a_session_is_told_as_such(projects: Path, has_other: bool) -> None:
    """Where lines are missing before those that are there, it says so, and what to do."""
    stored = _entries(10, "s2")
    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
    key: Any = {"project_key": "-b", "session_id": SESSIONS[2]}
    target = SessionStore(memory)
    await target.append(key, stored[2:6])
    if has_other:
        other: Any = {**key, "subpath": "subagents/x"}
        await target.append(other, stored[:1])

    with pytest.raises(CopyMismatchError) as refused:
        await copy_sessions(projects, memory)

    (failure,) = refused.value.failures
    assert failure.session_id == f"-b/{SESSIONS[2]}"
    assert "of the 12 lines of it 8 are not there (6 user, 2 mode)" in failure.reason
    assert "nothing there is newer" in failure.reason
    assert "find out" not in failure.reason
    assert ("delete nothing there" in failure.reason) == has_other
    assert await target.load(key) == stored[2:6]
    if not has_other:
        await target.delete(key)
        assert await copy_sessions(projects, memory) == Copied(5, 1231)


@pytest.mark.parametrize("line", ["{", "[1]", '{"type": "us'])
async def test_damaged_line_is_told(projects: Path, line: str) -> None:
    """A line that is no entry, as of a torn end, is refused by its number and file."""
    path = projects / "-b" / f"{SESSIONS[2]}.jsonl"
    path.write_text(path.read_text() + line)

    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
    with pytest.raises(CopyMismatchError, match=f"line 13 of .*{SESSIONS[2]}"):
        await copy_sessions(projects, memory)


async def test_a_link_to_nowhere_is_told(projects: Path) -> None:
    """A transcript that is gone is refused by its name, and all others come."""
    (projects / "-b" / "gone.jsonl").symlink_to(projects / "nowhere")

    with pytest.raises(CopyMismatchError, match="-b/gone': it cannot be read") as raised:
        await copy_sessions(projects, MemoryStore[Any](ClaudeRecord))

    assert raised.value.copied.sessions == 5


def test_command(projects: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says how much it has copied, and refuses what is no directory."""
    main([str(projects), str(root)])
    assert capsys.readouterr().out == "5 transcripts, 1231 entries copied and compared\n"

    for wrong in (projects / "missing", Path(__file__)):
        with pytest.raises(SystemExit) as ended:
            main([str(wrong), str(root)])
        assert ended.value.code == 2
        assert "is no directory of projects" in capsys.readouterr().err


class TestMover(MoverContract):
    record_type = ClaudeRecord
    main = main
    refused = f"-a/{SESSIONS[0]}"
    refused_sessions = 3
    shares = True
    units: ClassVar = {f"-a/{SESSIONS[0]}": 3, f"-a/{SESSIONS[1]}": 1, f"-b/{SESSIONS[2]}": 1}

    @pytest.fixture(name="source")
    def _source(self, projects: Path) -> Path:
        path = projects / "-a" / f"{SESSIONS[0]}.jsonl"
        os.utime(path, (1, 1))  # the oldest, which is copied first
        return projects

    async def copy(self, source: Any, storage: Any) -> Copied:
        return await copy_sessions(source, storage)

    def places(self, source: Any) -> Iterator[Place]:
        own = source / "-a" / SESSIONS[0]
        yield file(source / "-a" / f"{SESSIONS[1]}.jsonl", f"-a/{SESSIONS[1]}")
        yield line(source / "-a" / f"{SESSIONS[1]}.jsonl", 2, f"-a/{SESSIONS[1]}")
        yield line(own / "subagents" / "agent-1.jsonl", 1, f"-a/{SESSIONS[0]}")
        yield file(own / "subagents" / "agent-1.meta.json", f"-a/{SESSIONS[0]}")

    async def add_nan(self, source: Any) -> None:
        entry = {"type": "user", "uuid": "nan", "toolUseResult": {"score": float("nan")}}
        _write(source / "-b" / f"{uuid.UUID(int=9)}.jsonl", [entry])

    async def go_on(self, storage: Any) -> None:
        key: Any = {"project_key": "-a", "session_id": SESSIONS[0]}
        await SessionStore(storage).append(
            key, [*_entries(1200, "s0"), {"type": "user", "uuid": "x"}]
        )
        for name, count, agent in (("agent-1", 5, "a1"), ("workflows/run-1/agent-2", 2, "a2")):
            subkey: Any = {**key, "subpath": f"subagents/{name}"}
            await SessionStore(storage).append(subkey, _entries(count, agent))
