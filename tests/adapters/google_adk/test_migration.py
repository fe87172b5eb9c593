"""Moving sessions here from the framework's own services."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("google.adk", reason="needs the extra google-adk: .ci/adapter google-adk")

from google.adk import sessions
from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService, InMemorySessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from aiocheckpoint.adapters.google_adk import (
    AdkRecord,
    Copied,
    CopyMismatchError,
    SessionService,
    copy_database,
    copy_sessions,
)
from aiocheckpoint.adapters.google_adk.__main__ import main
from aiocheckpoint.testing import MemoryStore
from tests.adapters.damages import Place, cells, loosened
from tests.adapters.moving import MoverContract

pytestmark = pytest.mark.blocking

SESSIONS = (("shop", "ann", "1", 3), ("shop", "bob", "1", 40), ("wiki", "ann", "é/../x", 0))


async def fill(service: BaseSessionService, most: int = 40) -> None:
    """Make sessions whose events change the state of session, user and app in turn."""
    for app, user, name, count in SESSIONS:
        session = await service.create_session(
            app_name=app, user_id=user, session_id=name, state={"kept": [1, 2], "user:plan": "free"}
        )
        for number in range(min(count, most)):
            delta = {"step": number, "user:step": number, "app:newest": f"{user} {number}"}
            event = Event(
                author="user",
                invocation_id=f"i{number}",
                timestamp=1_700_000_000.5 + number,
                content=types.UserContent(f"question {number}"),
                actions=EventActions(state_delta=delta),
            )
            await service.append_event(session, event)


async def all_of(service: BaseSessionService) -> list[Any]:
    """Return all sessions, with their states and events."""
    found = [
        await service.get_session(app_name=app, user_id=user, session_id=name)
        for app, user, name, _ in SESSIONS
    ]
    return [session and session.model_dump() for session in found]


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> Path:
    path = tmp_path / "old data.db"
    service = SqliteSessionService(str(path))
    await fill(service)
    await service.close()
    return path


async def test_all_sessions_come_and_may_come_again(database: Path) -> None:
    """Events, times and each state are as they were; a second copy changes nothing."""
    store: MemoryStore[Any] = MemoryStore(AdkRecord)
    told: list[Copied] = []

    assert await copy_database(database, store, progress=told.append) == Copied(3, 43)
    assert await copy_database(database, store) == Copied(3, 43)

    assert told[-1] == Copied(3, 43)
    assert len(told) == 3
    assert await SessionService(store).get_app_state(app_name="shop") == {"newest": "bob 39"}
    before = await all_of(SqliteSessionService(str(database)))
    assert await all_of(SessionService(store)) == before
    assert before[0]["state"]["app:newest"] == "bob 39"


async def test_states_without_a_session_come_along(database: Path) -> None:
    """Of users and apps whose sessions were deleted the state comes; another one there stays."""
    service = SqliteSessionService(str(database))
    gone = (("shop", "eve"), ("shop", "kim"), ("bank", "ann"))
    for app, user in gone:
        names: dict[str, Any] = {"app_name": app, "user_id": user}
        state = {"user:plan": f"{app} {user}", "app:open": True}
        session = await service.create_session(**names, state=state)
        await service.delete_session(**names, session_id=session.id)
    await service.close()
    store: MemoryStore[Any] = MemoryStore(AdkRecord)
    target = SessionService(store)
    await target.import_user_state(app_name="shop", user_id="kim", state={"plan": "mine"})

    for _ in range(2):
        with pytest.raises(CopyMismatchError, match="the state of 'shop/kim': another") as raised:
            await copy_database(database, store)
        assert raised.value.copied == Copied(3, 43)

    for app, user, plan in (("shop", "eve", "shop eve"), ("bank", "ann", "bank ann")):
        assert await target.get_user_state(app_name=app, user_id=user) == {"plan": plan}
    assert await target.get_user_state(app_name="shop", user_id="kim") == {"plan": "mine"}
    assert await target.get_app_state(app_name="bank") == {"open": True}
    assert await target.get_app_state(app_name="shop") == {"newest": "bob 39", "open": True}


async def test_a_copied_session_goes_on() -> None:
    """Its next event is added to those that came with it."""
    source = InMemorySessionService()
    await fill(source)
    store: MemoryStore[Any] = MemoryStore(AdkRecord)
    service = SessionService(store)

    assert await copy_sessions(source, ["shop", "wiki"], store) == Copied(3, 43)

    names: dict[str, Any] = {"app_name": "shop", "user_id": "ann", "session_id": "1"}
    session = await service.get_session(**names)
    assert session is not None
    await service.append_event(session, Event(author="helper", invocation_id="next"))
    found = await service.get_session(**names)
    assert found is not None
    assert [event.invocation_id for event in found.events] == ["i0", "i1", "i2", "next"]


async def test_nothing_there_is_replaced(database: Path) -> None:
    """A session of the same name is refused, and stays."""
    store: MemoryStore[Any] = MemoryStore(AdkRecord)
    service = SessionService(store)
    names: dict[str, Any] = {"app_name": "shop", "user_id": "ann"}
    await service.create_session(**names, session_id="1", state={"mine": True})

    with pytest.raises(CopyMismatchError, match="session 'shop/ann/1': another one is there"):
        await copy_database(database, store)

    found = await service.get_session(**names, session_id="1")
    assert found is not None
    assert found.state["mine"] is True
    assert found.events == []


@pytest.mark.parametrize("key", ["user:step", "app:newest"])
async def test_a_newer_state_of_a_user_or_an_app_is_not_set_back(key: str) -> None:
    """A session that lacks is refused where others have gone on with what it shares with them."""
    source = InMemorySessionService()
    await fill(source)
    store: MemoryStore[Any] = MemoryStore(AdkRecord)
    await copy_sessions(source, ["shop"], store)
    service = SessionService(store)
    names: dict[str, Any] = {"app_name": "shop", "user_id": "ann"}
    session = await service.get_session(**names, session_id="1")
    assert session is not None
    actions = EventActions(state_delta={key: "newer"})
    await service.append_event(session, Event(author="user", actions=actions))
    await service.delete_session(app_name="shop", user_id="bob", session_id="1")
    old = {"user:plan": "free", "user:step": 2, "app:newest": "bob 39"}
    alone = InMemorySessionService()
    await alone.create_session(**names, session_id="2", state=old)

    with pytest.raises(CopyMismatchError, match="session 'shop/ann/2': the state of its user"):
        await copy_sessions(alone, ["shop"], store)

    found = await service.get_session(**names, session_id="1")
    assert found is not None
    assert found.state[key] == "newer"
    assert await service.get_session(**names, session_id="2") is None


@pytest.mark.parametrize("key", ["user:step", "app:newest"])
async def test_a_session_is_not_said_to_differ_where_what_it_shares_does(key: str) -> None:
    """Of one whose user or app has gone on alone the reason is their state; its own is told."""
    source = InMemorySessionService()
    names: dict[str, Any] = {"app_name": "shop", "user_id": "ann"}
    for session_id in ("1", "2"):
        await source.create_session(**names, session_id=session_id, state={key: "older"})
    store: MemoryStore[Any] = MemoryStore(AdkRecord)
    assert await copy_sessions(source, ["shop"], store) == Copied(2, 0)
    session = await source.get_session(**names, session_id="1")
    assert session is not None
    actions = EventActions(state_delta={key: "newer"})
    await source.append_event(session, Event(author="user", actions=actions))

    with pytest.raises(CopyMismatchError) as raised:
        await copy_sessions(source, ["shop"], store)

    reasons = {failure.session_id: failure.reason for failure in raised.value.failures}
    assert reasons["shop/ann/1"].startswith("another one is there already")
    assert reasons["shop/ann/2"].startswith("the state of its user, or of its app, is another one")


async def test_database_of_an_older_schema_is_named(tmp_path: Path) -> None:
    """One that has to be converted is told by its own name, with how the framework does it."""
    database = tmp_path / "old.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE sessions (app_name)")
        connection.execute("CREATE TABLE events (actions)")

    with pytest.raises(RuntimeError, match=f"--source_db_path {database} --dest_db_path"):
        await copy_database(database, MemoryStore[Any](AdkRecord))


def test_command_on_a_url(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a URL the apps are named."""
    pytest.importorskip("sqlalchemy", reason="needs google-adk[db]")
    url = f"sqlite+aiosqlite:///{tmp_path / 'sessions.db'}"

    async def filled() -> None:
        async with sessions.DatabaseSessionService(url) as service:
            await fill(service)

    asyncio.run(filled())
    main([url, str(root), "--app", "shop", "--app", "wiki"])
    assert capsys.readouterr().out == "3 sessions, 43 events copied and compared\n"


def test_command(database: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says how much it has copied, and refuses what is no database."""
    main([str(database), str(root)])
    assert capsys.readouterr().out == "3 sessions, 43 events copied and compared\n"

    async def gone_on() -> None:
        async with SessionService(str(root)) as service:
            session = await service.get_session(app_name="shop", user_id="ann", session_id="1")
            assert session is not None
            await service.append_event(session, Event(author="user"))

    asyncio.run(gone_on())
    with pytest.raises(SystemExit) as refused:
        main([str(database), str(root)])
    assert refused.value.code == 1
    told = capsys.readouterr().err
    assert "session 'shop/ann/1': another one is there already" in told
    assert "is no database" not in told

    for wrong in (
        [str(root / "missing.db"), str(root)],
        [__file__, str(root)],
        ["nonsense://host/db", str(root), "--app", "shop"],
        ["postgresql://host/db", str(root)],
    ):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2


class TestMover(MoverContract):
    record_type = AdkRecord
    main = main
    refused = "shop/ann/1"
    units: ClassVar = {
        "shop/ann/1": 1,
        "shop/bob/1": 1,
        "wiki/ann/é/../x": 1,
        **dict.fromkeys(("shop", "wiki", "bank", "shop/ann", "shop/eve", "bank/ann"), 0),
    }

    @pytest.fixture(name="source")
    async def _source(self, tmp_path: Path) -> Path:
        database = tmp_path / "old data.db"
        service = SqliteSessionService(str(database))
        await fill(service, most=2)
        await service.close()
        with closing(sqlite3.connect(database)) as connection, connection:
            for app, user in (("shop", "eve"), ("bank", "ann")):
                values = (app, user, '{"plan": "free"}')
                connection.execute("INSERT INTO user_states VALUES (?, ?, ?, 1)", values)
            connection.execute("INSERT INTO app_states VALUES ('bank', '{\"open\": true}', 1)")
        return loosened(database)

    def places(self, source: Any) -> Iterator[Place]:
        ann, shop = "app_name = 'shop' AND user_id = 'ann'", "app_name = 'shop'"
        of_shop = ("shop/ann/1", "shop/bob/1", "shop")
        names = "app_name user_id session_id"
        yield from cells(source, "sessions", ann, "shop/ann/1")
        yield from cells(source, "events", ann, "shop/ann/1", but=names)
        yield from cells(source, "user_states", ann, "shop/ann/1", "shop/ann")
        yield from cells(source, "user_states", "user_id = 'eve'", "shop/eve")
        yield from cells(source, "app_states", shop, *of_shop)
        yield from cells(source, "app_states", "app_name = 'bank'", "bank")

    async def copy(self, source: Any, storage: Any) -> Copied:
        return await copy_database(source, storage)

    async def add_nan(self, source: Any) -> None:
        service = SqliteSessionService(str(source))
        names = {"app_name": "shop", "user_id": "nan", "session_id": "1"}
        await service.create_session(**names, state={"score": float("nan")})
        await service.close()

    async def go_on(self, storage: Any) -> None:
        await SessionService(storage).create_session(app_name="shop", user_id="ann", session_id="1")
