"""Moving transcripts here from the files of the framework's program."""

from __future__ import annotations

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
