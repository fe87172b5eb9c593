"""The very same programs on a directory, on PostgreSQL and in a bucket: only a location differs."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient
from langchain_core.messages import HumanMessage

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    DurabilityUnknownError,
    StorageError,
)
from aiocheckpoint.adapters.langgraph import CheckpointSaver, records, session_of
from aiocheckpoint.testing import Fault, FaultyFiles, MemoryStore
from tests.langgraph import places, programs
from tests.test_docs import REPOSITORY, fenced
from tests.test_examples import EXAMPLES, output_of

pytestmark = pytest.mark.blocking

_EXAMPLE = "langgraph_resume.py"
_WAITING = "waiting: Refund 40 euros?"
_ANSWER = "Your 40 euros are on their way."
_SERVICE = REPOSITORY / "docs" / "how-to" / "fastapi.md"


@pytest.fixture(name="location", params=["directory", *places.SERVERS])
def _location(
    request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Give a location of each kind, and nothing else that a program would have to know."""
    match request.param:
        case "directory":
            yield str(root)
        case "bucket":
            with places.fake_bucket(monkeypatch) as place:
                yield str(place.url)
        case "ceph":
            yield str(places.bucket(request.getfixturevalue("ceph_url"), monkeypatch).url)
        case _:
            yield request.getfixturevalue("postgres_url")


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for the annotations of its classes
    spec.loader.exec_module(module)
    return module


def _killed_at(line_start: str, location: str) -> None:
    status, lines, _ = programs.run(EXAMPLES / _EXAMPLE, location, killed_at=line_start)
    assert status == -signal.SIGKILL, lines


def _output_on(location: str) -> list[str]:
    status, lines, errors = programs.run(EXAMPLES / _EXAMPLE, location)
    assert (status, errors) == (0, "")
    return lines


@pytest.mark.timeout(240)  # five processes
async def test_a_graph_goes_on_anywhere(location: str) -> None:
    """Killed in two steps and approved in another process, then forked: no step is repeated."""
    _killed_at("look_up: order 7", location)
    resumed = _output_on(location)
    assert resumed in (
        ["look_up: order 7: a broken lamp", "the model thinks, step 2", _WAITING],
        ["the model thinks, step 2", _WAITING],
    )
    _killed_at("refund: refunded", location)
    ended = _output_on(location)
    # What the kill came before is done again; the model's first step never is.
    assert ended in (
        ["approved by Ann", "refund: refunded, as Ann said", "the model thinks, step 3", _ANSWER],
        ["refund: refunded, as Ann said", "the model thinks, step 3", _ANSWER],
        ["the model thinks, step 3", _ANSWER],
    )
    assert _output_on(location) == [_ANSWER]  # it has ended, and prints what is stored

    example = _module("langgraph_resume", REPOSITORY / "examples" / _EXAMPLE)
    async with CheckpointSaver(location) as saver:
        graph: Any = example.build().compile(checkpointer=saver)
        history = [state async for state in graph.aget_state_history(example.THREAD)]
        assert history[0].next == ()
        asked = next(state for state in history if state.next == ("tools",))
        fork = await graph.aupdate_state(
            asked.config, {"messages": [HumanMessage("I changed my mind.")]}, as_node="tools"
        )
        forked = await graph.aget_state(fork)
        assert forked.next == ("model",)
        assert forked.values["messages"][-1].content == "I changed my mind."
        kept = await graph.aget_state(history[0].config)
        assert [m.content for m in kept.values["messages"]][-1] == _ANSWER
        assert len([state async for state in graph.aget_state_history(example.THREAD)]) == (
            len(history) + 1
        )


@pytest.mark.long
async def test_a_graph_with_an_empty_next_goes_on(root: Path) -> None:
    """Killed when a step's writes were stored and its checkpoint was not, the example goes on."""
    assert output_of(_EXAMPLE, root)[-1] == _WAITING  # as a user starts it
    example = _module("langgraph_resume", REPOSITORY / "examples" / _EXAMPLE)
    async with CheckpointSaver(root) as saver:
        graph: Any = example.build().compile(checkpointer=saver)
        newest = (await graph.aget_state(example.THREAD)).config["configurable"]
        key = records.key_of(newest["checkpoint_id"])
        session_id = session_of(newest["thread_id"])
        assert await saver._store.delete(session_id, records.state_id(key))
        state = await graph.aget_state(example.THREAD)
        assert (state.next, len(state.tasks)) == ((), 1)
    assert _output_on(str(root)) == [_WAITING]


def _service(directory: Path) -> ModuleType:
    page = [block.text for block in fenced(_SERVICE) if block.language == "python"]
    path = directory / "service.py"
    path.write_text(page[0], encoding="utf-8")
    return _module("service", path)


def test_the_service_answers_anywhere(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers of the service on FastAPI's page share one session, also after a restart."""
    monkeypatch.setenv("STATE", location)
    make_app = _service(tmp_path).make_app

    def answered(client: TestClient, text: str) -> Any:
        answer = client.post("/sessions/ann/messages", json={"text": text})
        assert answer.status_code == 200, answer.text
        return answer.json()["turn"]

    with TestClient(make_app()) as one, TestClient(make_app()) as two:
        assert [answered(client, "hello") for client in (one, two, one)] == [1, 2, 3]
        assert one.get("/health").json() == {"saves": "are durable"}
    with TestClient(make_app()) as later:
        assert answered(later, "and now?") == 4


def test_the_service_is_not_healthy_where_files_cannot_be_written(
    root: Path, tmp_path: Path
) -> None:
    """Turns go on, as the journal has them; health says that this comes to an end."""
    disk = FaultyFiles()
    writer = AsyncCheckpointWriter(root, files=disk)
    with TestClient(_service(tmp_path).make_app(lambda: writer)) as client:
        assert client.get("/health").status_code == 200
        disk.arm(Fault(errno.ENOSPC, "rename", for_ever=True))
        assert client.post("/sessions/ann/messages", json={"text": "hello"}).is_success
        with pytest.raises(StorageError):
            asyncio.run(writer.flush())
        assert client.get("/health").status_code == 503
        disk.arm(None)
        asyncio.run(writer.flush())
        assert client.get("/health").status_code == 200


def test_the_service_is_not_healthy_where_a_conversation_finds_no_room(tmp_path: Path) -> None:
    """A few bytes would find some, but health asks for as much as a conversation needs."""
    make_app = _service(tmp_path).make_app
    for max_bytes, expected in ((200_000, 503), (1_000_000, 200)):
        with TestClient(make_app(partial(MemoryStore, max_bytes=max_bytes))) as client:
            assert client.post("/sessions/ann/messages", json={"text": "hello"}).is_success
            assert client.get("/health").status_code == expected


def test_the_service_names_no_file_of_a_conversation_that_is_full(
    root: Path, tmp_path: Path
) -> None:
    """A deploy with a lower bound than before answers by its words, not by those of the error."""
    make_app = _service(tmp_path).make_app
    for max_bytes, status in ((100_000, 200), (4_000, 413)):
        opened = partial(AsyncCheckpointWriter, root, max_bytes=max_bytes)
        with TestClient(make_app(opened)) as client:
            answer = client.post("/sessions/ann/messages", json={"text": "x" * 5_000})
        assert answer.status_code == status
        assert str(root) not in answer.text


def test_the_service_says_that_its_disk_is_not_there(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has run before begins no conversation anew, and makes nothing."""
    monkeypatch.setenv("STATE", str(root))
    monkeypatch.setenv("STATE_EXISTS", "yes")
    with TestClient(_service(tmp_path).make_app()) as client:
        assert client.get("/health").status_code == 503
        answer = client.post("/sessions/ann/messages", json={"text": "hello"})
    assert answer.status_code == 503
    assert str(root) not in answer.text
    assert not root.exists()


@pytest.mark.parametrize("value", ["true", "YES", "1", "yes ", "n"])
def test_the_service_does_not_start_on_a_mistyped_protection(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """What is neither yes nor no is refused by name, and nothing is made."""
    monkeypatch.setenv("STATE", str(root))
    monkeypatch.setenv("STATE_EXISTS", value)
    app = _service(tmp_path).make_app()
    with pytest.raises(ValueError, match="STATE_EXISTS is yes or no"), TestClient(app):
        pass
    assert not root.exists()


@pytest.mark.parametrize("value", ["", "no"])
def test_the_service_makes_a_store_where_none_must_be(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """No, and an empty text, are the same as nothing."""
    monkeypatch.setenv("STATE", str(root))
    monkeypatch.setenv("STATE_EXISTS", value)
    with TestClient(_service(tmp_path).make_app()) as client:
        assert client.post("/sessions/ann/messages", json={"text": "hello"}).is_success


def test_the_service_knows_names_that_are_no_text_as_one(root: Path, tmp_path: Path) -> None:
    """Whatever bytes in a path are no UTF-8, the route is given U+FFFD."""
    make_app = _service(tmp_path).make_app
    with TestClient(make_app(partial(AsyncCheckpointWriter, root))) as client:
        for turn, name in enumerate(("%ff", "%fe", "%EF%BF%BD"), 1):
            answer = client.post(f"/sessions/{name}/messages", json={"text": "hello"})
            assert answer.json()["turn"] == turn


def test_the_service_logs_damage_and_tells_clients_no_path(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which file is damaged is for who runs the service; another session is answered as before."""
    monkeypatch.setenv("STATE", str(root))
    make_app = _service(tmp_path).make_app
    with TestClient(make_app()) as client:
        assert client.post("/sessions/ann/messages", json={"text": "hello"}).is_success
    [damaged] = root.glob("chat-ann/checkpoints/cp_*.json")
    damaged.write_bytes(b"{}")

    with TestClient(make_app()) as client:
        answer = client.post("/sessions/ann/messages", json={"text": "hello"})
        assert client.post("/sessions/bob/messages", json={"text": "hello"}).is_success

    assert answer.status_code == 500
    assert str(root) not in answer.text
    assert f"{damaged} is damaged" in caplog.text


def test_the_service_says_that_a_message_may_be_saved(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where the outcome is not known a client hears that its message may be saved."""

    class Unsure(MemoryStore[CheckpointData]):
        kind = StorageError

        async def save(self, *_: Any, **__: Any) -> str:
            raise self.kind("write", str(root), None, "the disk is broken")

    answers = []
    with TestClient(_service(tmp_path).make_app(Unsure)) as client:
        for kind in (DurabilityUnknownError, StorageError):
            monkeypatch.setattr(Unsure, "kind", kind)
            answers.append(client.post("/sessions/ann/messages", json={"text": "hello"}))

    assert [answer.status_code for answer in answers] == [503, 503]
    assert ["may be saved" in answer.text for answer in answers] == [True, False]
