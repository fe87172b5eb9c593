"""What the framework documents of a session service, in words of our own."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("google.adk", reason="needs the extra google-adk: .ci/adapter google-adk")

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

from aiocheckpoint.adapters.google_adk import SessionService

ANN: Any = {"app_name": "app", "user_id": "ann"}


def setting(**options: Any) -> Event:
    """Return an event that changes the state."""
    delta = {name.replace("_", ":", 1): value for name, value in options.items()}
    return Event(author="user", invocation_id="i", actions=EventActions(state_delta=delta))


async def got(service: BaseSessionService, session: Session, **config: Any) -> Session:
    """Return a session as it is stored."""
    found = await service.get_session(
        app_name=session.app_name,
        user_id=session.user_id,
        session_id=session.id,
        config=GetSessionConfig(**config) if config else None,
    )
    assert found is not None
    return found


class TestSessions:
    async def test_what_was_never_made_is_none(self, service: SessionService) -> None:
        """A session that nobody made is None, and its delete is nothing."""
        assert await service.get_session(**ANN, session_id="none") is None
        await service.delete_session(**ANN, session_id="none")
        assert (await service.list_sessions(app_name="app")).sessions == []

    async def test_created_session_is_there(self, service: SessionService) -> None:
        """It is returned as it is stored, with an id of its own; once deleted it is gone."""
        session = await service.create_session(**ANN, state={"key": [1, {"deep": None}]})

        assert session.id
        assert session.state == {"key": [1, {"deep": None}]}
        assert session.last_update_time > 0
        assert await got(service, session) == session
        await service.delete_session(**ANN, session_id=session.id)
        assert await service.get_session(**ANN, session_id=session.id) is None

    async def test_ids_are_of_a_user_of_an_app(self, service: SessionService) -> None:
        """The same id is another session for another user or app, whatever characters they have."""
        places = [("a", "b"), ("a", 'b","c'), ("a,b", "c"), ("", ""), ("ä/..", "\n"), ("a", "")]
        for app_name, user_id in places:
            await service.create_session(
                app_name=app_name,
                user_id=user_id,
                session_id="s",
                state={"at": [app_name, user_id]},
            )

        for app_name, user_id in places:
            listed = await service.list_sessions(app_name=app_name, user_id=user_id)
            assert [session.state for session in listed.sessions] == [{"at": [app_name, user_id]}]
        assert len((await service.list_sessions(app_name="a")).sessions) == 3

    async def test_second_of_an_id_is_refused(self, service: SessionService) -> None:
        """A session of an id that is there is refused, and changes nothing, no shared state."""
        session = await service.create_session(**ANN, session_id="s", state={"key": 1})

        with pytest.raises(AlreadyExistsError, match="s already exists"):
            await service.create_session(**ANN, session_id="s", state={"key": 2, "app:key": 2})

        assert (await got(service, session)).state == {"key": 1}

    async def test_space_around_ids_counts_for_nothing(self, service: SessionService) -> None:
        """An id is found and deleted with the space around it that it was made with."""
        session = await service.create_session(**ANN, session_id="  s \n")

        assert session.id == "s"
        assert await service.get_session(**ANN, session_id=" s ") == session
        await service.delete_session(**ANN, session_id="\ts")
        assert await service.get_session(**ANN, session_id="s") is None
        assert (await service.create_session(**ANN, session_id="  ")).id.strip()

    async def test_list_is_by_update_without_events(self, service: SessionService) -> None:
        """Sessions are listed with their state and without events, updated last, last."""
        for name in ("one", "two", "three"):
            await service.create_session(**ANN, session_id=name, state={"name": name})
        await service.create_session(app_name="app", user_id="bob", session_id="four")
        session = await service.get_session(**ANN, session_id="one")
        assert session is not None
        await service.append_event(session, setting(user_shared=1))

        found = (await service.list_sessions(**ANN)).sessions

        assert [session.id for session in found] == ["two", "three", "one"]
        assert [session.state["name"] for session in found] == ["two", "three", "one"]
        assert all(session.events == [] and session.state["user:shared"] == 1 for session in found)
        everybody = (await service.list_sessions(app_name="app")).sessions
        assert [session.user_id for session in everybody] == ["ann", "ann", "bob", "ann"]
        assert "user:shared" not in everybody[2].state


class TestState:
    async def test_scopes(self, service: SessionService) -> None:
        """State of the app is seen by all, of the user by his sessions, the rest by one."""
        first = await service.create_session(**ANN, state={"app:a": 1, "user:u": 1, "s": 1})
        await service.append_event(first, setting(app_b=2, user_v=2, t=2))

        second = await service.create_session(**ANN)
        other = await service.create_session(app_name="app", user_id="bob")
        apart = await service.create_session(app_name="another", user_id="ann")

        assert (await got(service, first)).state == first.state
        assert first.state == {"app:a": 1, "app:b": 2, "user:u": 1, "user:v": 2, "s": 1, "t": 2}
        assert second.state == {"app:a": 1, "app:b": 2, "user:u": 1, "user:v": 2}
        assert other.state == {"app:a": 1, "app:b": 2}
        assert apart.state == {}

    async def test_user_state_without_a_session(self, service: SessionService) -> None:
        """The state of a user is read without a session, by bare keys, and outlives it."""
        assert await service.get_user_state(**ANN) == {}
        session = await service.create_session(**ANN, state={"user:tea": "green", "s": 1})
        await service.append_event(session, setting(user_cups=2))
        await service.delete_session(**ANN, session_id=session.id)

        assert await service.get_user_state(**ANN) == {"tea": "green", "cups": 2}
        assert await service.get_user_state(app_name="app", user_id="bob") == {}

    async def test_delta_replaces_values(self, service: SessionService) -> None:
        """A dict replaces the one before, None is a value, and booleans stay booleans."""
        session = await service.create_session(**ANN, state={"d": {"a": 1}, "n": 1})
        await service.append_event(session, setting(d={"b": 2}, n=None, yes=True, user_d={}))
        await service.append_event(session, setting(user_d={"c": None}))

        state = (await got(service, session)).state

        assert state == {"d": {"b": 2}, "n": None, "yes": True, "user:d": {"c": None}}
        assert state["yes"] is True

    async def test_temporary_state_is_never_stored(self, service: SessionService) -> None:
        """It is seen in the session in memory, and stored with neither state nor event."""
        session = await service.create_session(**ANN, state={"temp:begin": 1, "kept": 1})
        await service.append_event(session, setting(temp_scratch=1, kept=2))
        await service.append_event(session, setting(more=3))

        found = await got(service, session)

        assert session.state["temp:scratch"] == 1
        assert found.state == {"kept": 2, "more": 3}
        assert [event.actions.state_delta for event in found.events] == [{"kept": 2}, {"more": 3}]


class TestEvents:
    async def test_partial_events_are_not_stored(self, service: SessionService) -> None:
        """A partial event goes neither to memory nor to the store."""
        session = await service.create_session(**ANN)
        await service.append_event(session, Event(author="model", partial=True))

        assert session.events == (await got(service, session)).events == []

    async def test_events_are_as_they_were(self, service: SessionService) -> None:
        """An event with all kinds of fields, bytes and a confirmation comes back equal."""
        session = await service.create_session(**ANN)
        event = Event(
            invocation_id="i",
            author="model",
            content=types.Content(
                role="model",
                parts=[
                    types.Part.from_bytes(data=b"\x00\xff image", mime_type="image/png"),
                    types.Part(text="thought", thought=True, thought_signature=b"\xfe"),
                    types.Part.from_function_call(name="f", args={"n": None, "list": [1.5, {}]}),
                    types.Part.from_function_response(name="f", response={"n": None, "x": []}),
                ],
            ),
            finish_reason=types.FinishReason.STOP,
            turn_complete=True,
            long_running_tool_ids={"one", "two"},
            grounding_metadata=types.GroundingMetadata(
                search_entry_point=types.SearchEntryPoint(sdk_blob=b"\xff")
            ),
            usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=1),
            custom_metadata={"key": {"deep": [None]}},
            actions=EventActions(
                artifact_delta={"file": 1},
                escalate=True,
                agent_state={"step": 3},
                requested_tool_confirmations={
                    "call": ToolConfirmation(hint="sure?", payload={"euros": 40})
                },
            ),
        )
        await service.append_event(session, event)

        found = await got(service, session)

        assert found.events == [event]
        assert found == session

    async def test_time_of_update_is_that_of_the_event(self, service: SessionService) -> None:
        """It is exactly the event's, and may go back."""
        session = await service.create_session(**ANN)
        for timestamp in (4_000_000_000.123456, 1.1):
            await service.append_event(session, Event(author="user", timestamp=timestamp))
            assert session.last_update_time == timestamp
            assert (await got(service, session)).last_update_time == timestamp

    async def test_config_says_which_events(self, service: SessionService) -> None:
        """The newest so many, those from a time on, and both."""
        session = await service.create_session(**ANN)
        for number in range(1, 101):
            await service.append_event(session, Event(author="user", timestamp=float(number)))

        async def times(**config: Any) -> list[float]:
            return [event.timestamp for event in (await got(service, session, **config)).events]

        assert await times() == [float(number) for number in range(1, 101)]
        assert await times(num_recent_events=3) == [98.0, 99.0, 100.0]
        assert await times(num_recent_events=0) == []
        assert await times(num_recent_events=1000) == await times()
        assert await times(after_timestamp=99.0) == [99.0, 100.0]
        assert await times(after_timestamp=101.0) == []
        assert await times(after_timestamp=99.0, num_recent_events=1) == [100.0]

    async def test_append_to_a_deleted_session(self, service: SessionService) -> None:
        """It is refused, stores nothing, and shares nothing."""
        session = await service.create_session(**ANN)
        await service.delete_session(**ANN, session_id=session.id)

        with pytest.raises(SessionNotFoundError, match="not found"):
            await service.append_event(session, setting(key=1, app_key=1))

        assert session.events == []
        assert await service.get_session(**ANN, session_id=session.id) is None
        assert (await service.create_session(**ANN)).state == {}
