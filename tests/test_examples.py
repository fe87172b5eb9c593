"""Every example runs as a user runs it, is stopped on the way, and goes on where it was."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.killing import killed_at

EXAMPLES = Path(__file__).parent.parent / "examples"
TESTED = {
    "plain_agent.py",
    "own_record.py",
    "orchestrator.py",
    "anyio_service.py",
    "langgraph_resume.py",  # by tests/langgraph
    "claude_agent_model.py",  # by tests/adapters/claude_agent, as the next one
    "claude_agent_resume.py",
    "agent_framework_resume.py",  # by tests/adapters/agent_framework
    "crewai_resume.py",  # by tests/adapters/crewai
    "google_adk_resume.py",  # by tests/adapters/google_adk
    "openai_agents_resume.py",  # by tests/adapters/openai_agents
    "pydantic_ai_resume.py",  # by tests/adapters/pydantic_ai
    "pydantic_harness_resume.py",  # by tests/adapters/pydantic_harness
    "strands_resume.py",  # by tests/adapters/strands
}

pytestmark = pytest.mark.blocking


def output_of(example: str, directory: Path | str, status: int = 0) -> list[str]:
    """Run an example to its end and return the lines it printed."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / example, directory],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert (done.returncode, done.stderr) == (status, "")
    return done.stdout.splitlines()


@contextmanager
def started(example: str, directory: Path | str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, EXAMPLES / example, directory], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_every_example_is_tested() -> None:
    """No example is left out here."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED


def test_plain_agent_goes_on_after_a_kill(root: Path) -> None:
    """Killed after step 3 it never starts before it again, and then finishes once and for all."""
    killed_at("step 3 is safe", EXAMPLES / "plain_agent.py", root)

    first, *steps = output_of("plain_agent.py", root)

    assert first == "agent-1 goes on after step 3"
    assert steps[-1].startswith("step 10 is safe")
    assert output_of("plain_agent.py", root) == ["agent-1 goes on after step 10"]


def test_own_record_continues_each_day(root: Path) -> None:
    """The typed record comes back as it was saved, day after day."""
    days = [output_of("own_record.py", root) for _ in range(3)]

    assert days == [
        ["2026-07-01: base camp at 4200 m, 60 kg of food left"],
        ["2026-07-02: camp 1 at 4600 m, 55.5 kg of food left"],
        ["2026-07-03: camp 2 at 5000 m, 51.0 kg of food left"],
    ]


@pytest.mark.long
def test_orchestrator_goes_on_after_a_kill(root: Path) -> None:
    """A thousand sessions killed in mid-work are completed, none twice, a damaged one named."""
    killed_at("500 steps are safe", EXAMPLES / "orchestrator.py", root)

    def counts(lines: list[str]) -> tuple[int, int]:
        match = re.match(r"(\d+) steps found done, (\d+) more saved", lines[-1])
        assert match is not None
        return int(match[1]), int(match[2])

    found, saved = counts(output_of("orchestrator.py", root))

    assert found >= 500
    assert found + saved == 2000
    [*_, newest] = sorted(root.glob("research-0007/checkpoints/cp_*.json"))
    newest.write_bytes(b"")
    lines = output_of("orchestrator.py", root, status=1)
    assert counts(lines) == (1998, 0)
    assert [line for line in lines if line.startswith("research-0007 failed: ")] == lines[:-1]


def test_anyio_service_finishes_its_turn_and_remembers(root: Path) -> None:
    """Told to stop in mid-turn it still answers, ends well, and remembers after a restart."""
    with started("anyio_service.py", root) as service:
        with connected(service) as client:
            client.sendall(b"alice\nhello\n")
            assert client.recv(100) == b"1: HELLO\n"
            client.sendall(b"are you there?\n")
            assert service.stdout is not None
            next(line for line in service.stdout if line == "alice: turn 2\n")
            service.send_signal(signal.SIGTERM)
            assert client.recv(100) == b"2: ARE YOU THERE?\n"
            assert client.recv(100) == b""
        assert service.wait(timeout=30) == 0

    with started("anyio_service.py", root) as service, connected(service) as client:
        client.sendall(b"alice\nagain\n")
        assert client.recv(100) == b"3: AGAIN\n"
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=30) == 0


def connected(service: subprocess.Popen[str]) -> socket.socket:
    assert service.stdout is not None
    port = int(service.stdout.readline().rsplit(maxsplit=1)[1])
    return socket.create_connection(("127.0.0.1", port), timeout=30)
