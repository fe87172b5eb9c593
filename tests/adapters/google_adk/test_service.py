"""What a session service promises beyond what the framework documents."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.adk", reason="needs the extra google-adk: .ci/adapter google-adk")

from google.adk.agents import LlmAgent
from google.adk.errors import StaleSessionError
from google.adk.events import Event, EventActions
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import Session
from google.genai import types
from pydantic import BaseModel

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    InvalidArgumentError,
)
from aiocheckpoint.adapters.google_adk import (
    AdkRecord,
    SessionHead,
    SessionService,
    UnreadableSession,
)
from aiocheckpoint.adapters.google_adk.records import Place, key
from aiocheckpoint.history import History
from aiocheckpoint.kit import encode_id
from tests.adapters.google_adk.test_semantics import ANN, got, setting


def said(text: str, **options: Any) -> Event:
    """Return an event of a text."""
    content = types.Content(role="user", parts=[types.Part(text=text)])
    return Event(author="user", content=content, **options)


def texts(session: Session) -> list[str]:
    """Return the texts of a session."""
    parts = [
        part for event in session.events if event.content for part in event.content.parts or []
    ]
    return [part.text for part in parts if part.text]


class TestStale:
    async def test_of_racing_writers_one_is_told(self, storage: Any) -> None:
        """Of two that have read the same, one adds its event, the other is told."""
        async with SessionService(storage) as one, SessionService(storage) as two:
            for number in range(10):
                session = await one.create_session(**ANN, session_id=str(number))
                copies = [await got(one, session), await got(two, session)]
                told = await asyncio.gather(
                    one.append_event(copies[0], setting(by="one", app_by="one")),
                    two.append_event(copies[1], setting(by="two", app_by="two")),
                    return_exceptions=True,
                )

                (error,) = (found for found in told if isinstance(found, BaseException))
                assert isinstance(error, StaleSessionError)
                assert "modified in storage" in str(error)
                winner = "two" if error is told[0] else "one"
                stored = await got(one, session)
                assert stored.state == {"by": winner, "app:by": winner}
                assert len(stored.events) == 1
                assert [len(copy.events) for copy in copies] == [
                    int(winner == "one"),
                    int(winner == "two"),
                ]

    async def test_stale_writer_goes_on_after_reading_again(self, service: SessionService) -> None:
        """What was refused changed nothing, and is stored with what is read anew."""
        stale = await service.create_session(**ANN)
        await service.append_event(await got(service, stale), said("first"))
        with pytest.raises(StaleSessionError):
            await service.append_event(stale, said("second"))

        fresh = await got(service, stale)
        await service.append_event(fresh, said("second"))

        assert texts(await got(service, stale)) == ["first", "second"] == texts(fresh)
        assert stale.events == []

    async def test_writer_of_a_remade_session_is_refused(self, service: SessionService) -> None:
        """Who holds a session that was deleted and made anew is refused, at equal times too."""
        old = await service.create_session(**ANN, session_id="s")
        await service.append_event(old, said("old", timestamp=5.0))
        await service.delete_session(**ANN, session_id="s")
        new = await service.create_session(**ANN, session_id="s")
        await service.append_event(new, said("new", timestamp=5.0))

        with pytest.raises(StaleSessionError, match="modified in storage"):
            await service.append_event(old, said("again"))

        assert texts(await got(service, new)) == ["new"]

    async def test_copies_go_on(self, service: SessionService) -> None:
        """A copy that has lost the framework's marker goes on while it is current."""
        session = await service.create_session(**ANN)
        await service.append_event(session, said("one"))
        copy = Session.model_validate(session.model_dump())
        stale = Session.model_validate(session.model_dump())
        await service.append_event(copy, said("two"))
        await service.append_event(copy, said("three"))

        with pytest.raises(StaleSessionError):
            await service.append_event(stale, said("four"))
        assert texts(await got(service, session)) == ["one", "two", "three"]

    async def test_parallel_agents_share_a_session(self, service: SessionService) -> None:
        """Events added at once by those that share the object are all there, in call order."""
        session = await service.create_session(**ANN)
        events = [said(str(number)) for number in range(50)]

        await asyncio.gather(*(service.append_event(session, event) for event in events))

        assert texts(session) == [str(number) for number in range(50)]
        assert await got(service, session) == session


class TestSharedState:
    async def test_keys_of_many_sessions_are_all_there(self, service: SessionService) -> None:
        """Sessions that set keys of the app and the user at once lose none of them."""
        sessions = [await service.create_session(**ANN) for _ in range(20)]

        await asyncio.gather(
            *(
                service.append_event(session, setting(**{f"app_{at}": at, f"user_{at}": -at}))
                for at, session in enumerate(sessions)
            )
        )

        state = (await got(service, sessions[0])).state
        assert state == {f"app:{at}": at for at in range(20)} | {
            f"user:{at}": -at for at in range(20)
        }

    async def test_refused_event_shares_nothing(self, service: SessionService) -> None:
        """A stale writer changes no state of app or user."""
        stale = await service.create_session(**ANN)
        await service.append_event(await got(service, stale), said("first"))

        with pytest.raises(StaleSessionError):
            await service.append_event(stale, setting(app_key=1, user_key=1))

        assert (await got(service, stale)).state == {}


@dataclasses.dataclass
class Point:
    x: int


class Size(Enum):
    LARGE = "large"


class Order(BaseModel):
    number: int
    tea: str | None = None


class TestValues:
    async def test_values_that_json_lacks(self, service: SessionService) -> None:
        """State comes back as it was, types included, wherever it is kept."""
        values = {
            "big": 10**20,
            "tuple": (1, ("two", None)),
            "bytes": b"\xff\x00",
            "time": datetime(2026, 1, 2, 3, tzinfo=UTC),
            "set": {1, 2},
            "infinite": -math.inf,
            "surrogate": "\ud800",
            "escape": {"!tuple": [1]},
        }
        state = {
            scope + name: value for scope in ("", "app:", "user:") for name, value in values.items()
        }
        session = await service.create_session(**ANN, state=state)
        event = Event(author="user", actions=EventActions(state_delta=state))
        await service.append_event(session, event)

        found = await got(service, session)

        assert found.state == state
        assert found.events[0].actions.state_delta == state
        assert await service.get_user_state(**ANN) == values

    async def test_models_become_dicts(self, service: SessionService) -> None:
        """Models, data classes and enums are stored as the framework stores them."""
        state = {"model": Order(number=7), "list": [Point(1)], "enum": types.FinishReason.STOP}
        session = await service.create_session(**ANN)
        await service.append_event(
            session, Event(author="user", actions=EventActions(state_delta=state))
        )

        found = await got(service, session)

        assert found.state == {"model": {"number": 7}, "list": [{"x": 1}], "enum": "STOP"}

    async def test_keys_that_would_be_one_are_refused(self, service: SessionService) -> None:
        """Two keys of which one would become the other are refused by their path, not merged."""
        session = await service.create_session(**ANN)
        both = {Size.LARGE: 1, "large": 2}

        with pytest.raises(CheckpointEncodeError, match=r"state\.key"):
            await service.append_event(session, setting(key=[both]))

        assert (await got(service, session)).state == {}

    async def test_what_cannot_be_stored_is_refused(self, service: SessionService) -> None:
        """A value that would not come back is refused by its path, and nothing is changed."""
        session = await service.create_session(**ANN)

        with pytest.raises(CheckpointEncodeError, match=r"state\.key"):
            await service.append_event(session, setting(key=[print], app_other=1))
        with pytest.raises(CheckpointEncodeError, match=r"state\.key"):
            await service.create_session(**ANN, session_id="new", state={"key": object()})

        assert session.events == []
        assert (await got(service, session)).state == {}
        assert await service.get_session(**ANN, session_id="new") is None

    async def test_large_parts(self, service: SessionService) -> None:
        """Parts of 4 MB are stored, and events after them go on."""
        session = await service.create_session(**ANN)
        data = os.urandom(4 << 20)
        part = types.Part.from_bytes(data=data, mime_type="video/mp4")
        for _ in range(2):
            content = types.Content(role="user", parts=[part])
            await service.append_event(session, Event(author="user", content=content))
            await service.append_event(session, said("and now?"))

        assert await got(service, session) == session
        assert texts(await got(service, session, num_recent_events=1)) == ["and now?"]

    async def test_later_changes_by_the_caller_are_not_stored(
        self, service: SessionService
    ) -> None:
        """What is stored is what was given at the call; what is returned is the caller's own."""
        state: dict[str, Any] = {"list": [1]}
        session = await service.create_session(**ANN, state=state)
        event = setting(more=[1])
        adding = asyncio.ensure_future(service.append_event(session, event))
        await asyncio.sleep(0)
        event.actions.state_delta["more"].append(2)
        await adding
        state["list"].append(2)
        session.state["list"].append(3)

        assert (await got(service, session)).state == {"list": [1], "more": [1]}


class TestCalls:
    @pytest.mark.parametrize("suspensions", range(0, 14, 2))
    async def test_cancelled_append_has_an_outcome(
        self, service: SessionService, suspensions: int
    ) -> None:
        """Wherever it is cancelled, event and shared state are both there, or none of them."""
        session = await service.create_session(**ANN)
        task = asyncio.ensure_future(
            service.append_event(session, setting(key=1, app_key=1, user_key=1))
        )
        for _ in range(suspensions):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

        found = await got(service, session)
        apart = "apart" in repr(service).lower()
        if found.events:
            assert found.state == {"key": 1, "app:key": 1, "user:key": 1}
        else:
            assert task.cancelled()
            assert found.state == {} or apart
        await service.append_event(found, said("on"))
        assert texts(await got(service, session)) == ["on"]

    @pytest.mark.blocking
    def test_loops_and_threads(self, root: Path) -> None:
        """One service is used by several loops in turn, and beside another of the same place."""

        async def add(service: SessionService, text: str) -> int:
            session = await service.get_session(**ANN, session_id="s")
            if session is None:
                session = await service.create_session(**ANN, session_id="s")
            await service.append_event(session, said(text))
            return len((await got(service, session)).events)

        one, two = SessionService(root), SessionService(root)
        counts = [asyncio.run(add(service, "hello")) for service in (one, two, one)]
        asyncio.run(one.aclose())
        assert asyncio.run(add(two, "hello")) == 4
        asyncio.run(two.aclose())

        assert counts == [1, 2, 3]


class Echo(BaseLlm):
    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        parts = [part for content in llm_request.contents for part in content.parts or []]
        yield LlmResponse(content=types.ModelContent(f"read {[part.text for part in parts]}"))


def echo_runner(service: SessionService) -> Runner:
    agent = LlmAgent(name="echo", model=Echo(model="echo"), output_key="said")
    return Runner(app_name="app", agent=agent, session_service=service)


async def turn(service: SessionService, session: Session, text: str) -> list[Event]:
    """Run a turn with the framework's real runner."""
    run = echo_runner(service).run_async(
        user_id=session.user_id, session_id=session.id, new_message=types.UserContent(text)
    )
    return [event async for event in run]


class TestRunner:
    async def test_rewind(self, service: SessionService) -> None:
        """After a rewind the model does not read what was taken back; the state is as before."""
        session = await service.create_session(**ANN)
        await turn(service, session, "one")
        kept = (await got(service, session)).state
        events = await turn(service, session, "two")
        await echo_runner(service).rewind_async(
            user_id="ann",
            session_id=session.id,
            rewind_before_invocation_id=events[0].invocation_id,
        )

        assert (await got(service, session)).state == kept
        await turn(service, session, "three")
        found = await got(service, session)
        assert "two" in str(texts(found))
        assert "two" not in texts(found)[-1]
        assert "three" in texts(found)[-1]

    async def test_two_sessions_at_once(self, service: SessionService) -> None:
        """Runs of two sessions at once keep apart."""
        sessions = [await service.create_session(**ANN, session_id=name) for name in "ab"]

        await asyncio.gather(*(turn(service, session, session.id) for session in sessions))

        for session in sessions:
            assert texts(await got(service, session)) == [session.id, f"read ['{session.id}']"]


class TestManySessions:
    async def test_list_of_150(self, root: Path) -> None:
        """150 sessions with 10 events each are listed without one read of a history."""
        async with SessionService(root) as service:
            for number in range(150):
                session = await service.create_session(**ANN, session_id=f"{number:03}")
                await service.append_event(session, said("x", timestamp=float(number)))

            found = (await service.list_sessions(**ANN)).sessions

            assert [session.id for session in found] == [f"{number:03}" for number in range(150)]


@pytest.mark.damages_store
@pytest.mark.blocking
class TestDamage:
    async def test_event_of_another_version_is_told(self, root: Path) -> None:
        """What is intact and no event of this version of the framework is told by name."""
        async with SessionService(root) as service:
            session = await service.create_session(**ANN, session_id="s")
            async with AsyncCheckpointWriter[Any](root, record_type=AdkRecord) as writer:
                head = await writer.load('google_adk.["app","ann","s"]')
                assert isinstance(head, SessionHead)
                history = History(partial(writer.load_blobs, head.session_id)).append(
                    {"actions": 5}
                )
                await writer.save(history.into(head), blobs=history.new_blobs)

            with pytest.raises(CheckpointDecodeError, match="actions"):
                await got(service, session)

    async def test_session_in_a_list_that_cannot_be_read(self, root: Path) -> None:
        """What a list has in its place is neither imported nor gone on with as an empty one."""
        async with SessionService(root) as service:
            for name in "ab":
                session = await service.create_session(**ANN, session_id=name)
                await service.append_event(session, said("x", timestamp=float(ord(name))))
        _damage(root, "ann", "a")

        async with SessionService(root) as service:
            intact, odd = (await service.list_sessions(**ANN)).sessions  # stored just now, last
            assert (intact.id, odd.id, odd.state) == ("b", "a", {})
            assert isinstance(odd, UnreadableSession)
            assert "is damaged" in odd.problem
            assert "problem" not in odd.model_dump()  # so that JSON of it is a `Session`
            with pytest.raises(CheckpointCorruptError):
                await service.append_event(odd, said("more"))
            with pytest.raises(InvalidArgumentError, match="is damaged"):
                await service.import_session(odd)
            await service.delete_session(**ANN, session_id="a")
            assert (await service.list_sessions(**ANN)).sessions == [intact]

    async def test_state_of_a_user_that_cannot_be_read(self, root: Path) -> None:
        """No session of that user can be opened, as the list says; those of others can."""
        async with SessionService(root) as service:
            for number, name in enumerate(["ann", "bob"]):
                session = await service.create_session(app_name="app", user_id=name, session_id="s")
                changes = setting(user_key=name)
                changes.timestamp = float(number)
                await service.append_event(session, changes)
        _damage(root, "ann")

        async with SessionService(root) as service:
            ann, bob = (await service.list_sessions(app_name="app")).sessions
            assert (ann.user_id, bob.user_id) == ("ann", "bob")
            assert isinstance(ann, UnreadableSession)
            assert bob.state == {"user:key": "bob"}
            with pytest.raises(CheckpointCorruptError):
                await got(service, ann)
            with pytest.raises(StaleSessionError):
                await service.append_event(ann, said("more"))


def _damage(root: Path, *parts: str) -> None:
    """Damage the record of a session of `app`, or of a user's state."""
    name = encode_id(Place.of("app", *parts).session if len(parts) > 1 else key("app", *parts), "")
    (path,) = (root / name).glob("checkpoints/cp_*.json")
    path.write_bytes(path.read_bytes().replace(b"google_adk", b"google_adq"))
