"""`open_store` and `copy_store` with a database, and nothing but its URL."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import asyncpg
import pytest

from aiocheckpoint import (
    CheckpointData,
    CheckpointRecord,
    InvalidArgumentError,
    MissingStoreError,
    RawRecord,
    ReplacedStoreError,
    copy_store,
    open_store,
)
from aiocheckpoint.adapters._storage import Opened
from aiocheckpoint.cli import main
from aiocheckpoint.stores.postgres import PostgresStore
from aiocheckpoint.testing import MemoryStore
from tests.promises.tasks import list_sessions
from tests.stores.calls import CALLS, Call
from tests.stores.locations import begun_only_by_another
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.server import PostgresServer
from tests.stores.test_copying import copied_by_command, filled, raw, state

pytestmark = pytest.mark.servers


async def test_a_url_is_enough(server: PostgresServer) -> None:
    """Handles of one URL share, and the last one closes."""
    data = CheckpointData(session_id="of a URL")
    one, two = (open_store(server.dsn()) for _ in range(2))
    await one.save(data)
    assert await two.load(data.session_id) == data
    await one.aclose()
    assert await two.delete_session(data.session_id)
    await two.aclose()


async def test_there_and_back_nothing_has_changed(make_store: MakeStore) -> None:
    """Sessions of several types with blobs pass through a database as they are."""
    source, back = raw(await filled()), MemoryStore(RawRecord)
    database = make_store(record_type=RawRecord)
    totals = await copy_store(source, database)
    assert (totals.checkpoints, totals.skipped) == (15, 0)
    assert (await copy_store(source, database)).skipped == 15
    await copy_store(database, back)
    assert await state(back) == await state(source)


async def test_a_url_may_name_the_schema(server: PostgresServer) -> None:
    """As errors and listings print it: what is stored there is not in another schema."""
    data = CheckpointData(session_id="of a schema")
    moved, usual = open_store(server.dsn(schema="moved")), open_store(server.dsn())
    async with moved, usual:
        await moved.save(data)
        assert await usual.load(data.session_id) is None
        (meta,) = await moved.list(data.session_id)
    assert "schema=moved" in meta.location
    async with PostgresStore(server.dsn(), schema="moved") as named:
        assert await named.delete_session(data.session_id)


def test_a_url_that_names_no_schema_is_refused() -> None:
    """As a bad `schema` is; the argument goes before the URL."""
    for name in ("", "a-b", "1a"):
        with pytest.raises(InvalidArgumentError, match="schema"):
            PostgresStore(f"postgresql://localhost/agents?schema={name}&user=x")
    store = PostgresStore("postgresql://localhost/agents?schema=one&user=x", schema="two")
    assert "schema=two" in repr(store)


async def test_a_parameter_that_the_server_does_not_know_is_named(
    server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing says to try again later; the value, which may be a secret, is not repeated."""
    wrong = {
        "shcema": "geheim", "connect_timeout": "10", "statement_timeout": "soon",
        "sslmode": "maybe", "max_connections": "7", "options": "-c wrong=1",
    }  # fmt: skip
    for name, value in wrong.items():
        async with open_store(server.dsn(**{name: value})) as store:
            with pytest.raises(InvalidArgumentError) as refused:
                await store.load("s")
            with pytest.raises(InvalidArgumentError):
                await store.update("s", lambda session: session.load())
        assert refused.value.value == f"...?{name}=..."
        assert "geheim" not in str(refused.value)
    async with open_store(server.dsn(application_name="known", statement_timeout="60s")) as store:
        assert await store.load("s") is None
    status = await asyncio.to_thread(main, ["list", server.dsn(shcema="geheim"), "s"])
    shown = capsys.readouterr().err
    assert status == 2
    assert "shcema" in shown
    assert "parameters are schema, migrate, host" in shown
    assert not {"geheim", "later"} & {*re.split(r"\W", shown)}


@pytest.mark.parametrize("url", ["postgresql://h/d?schema", "postgresql://h/d?port=many&user=x"])
def test_a_parameter_that_cannot_be_is_refused_at_once(url: str) -> None:
    """Before anything is opened, as the argument of whoever was given the URL."""
    with pytest.raises(InvalidArgumentError) as refused:
        open_store(url)
    assert refused.value.name == "location"
    with pytest.raises(InvalidArgumentError) as of_adapter:
        Opened(url, CheckpointRecord)
    assert of_adapter.value.name == "storage"


async def test_what_a_url_leaves_out_is_in_the_environment(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Server, user and database are those that `psql` would take."""
    parts = urlsplit(server.dsn())
    options = dict(parse_qsl(parts.query))
    monkeypatch.setenv("PGHOST", options.get("host") or parts.hostname or "")
    monkeypatch.setenv("PGPORT", options.get("port") or str(parts.port or 5432))
    monkeypatch.setenv("PGUSER", options.get("user") or parts.username or "")
    monkeypatch.setenv("PGDATABASE", parts.path.strip("/"))
    data = CheckpointData(session_id="of the environment")
    async with open_store("postgresql://") as store:
        await store.save(data)
    async with PostgresStore(server.dsn()) as named:
        assert await named.load(data.session_id) == data
        assert await named.delete_session(data.session_id)


async def test_the_command_copies_there_and_back(server: PostgresServer, tmp_path: Path) -> None:
    """From a directory to a database and back, verified; the database to itself is refused."""
    await copied_by_command(server.dsn(schema="by_command"), tmp_path)


async def test_one_that_must_exist_is_not_begun(server: PostgresServer) -> None:
    """Every call names the place, and makes nothing, until somebody else has begun."""
    url = server.dsn(schema=f"not_begun_{uuid4().hex}")
    await begun_only_by_another(url, repr(PostgresStore(url)).split()[1])


async def _own(store: Any) -> None:
    async with store.own("s"):
        pass


_CALLS: dict[str, Call] = {
    **CALLS,
    "own": _own,
    "delete": lambda store: store.delete("s", "x"),
    "delete_session": lambda store: store.delete_session("s"),
}


async def _run(server: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("is_made_anew", [True, False])
@pytest.mark.parametrize("has_saved", [True, False])
@pytest.mark.some(2)
async def test_one_that_is_dropped_under_a_store_at_work_is_not_gone_on_without(
    server: PostgresServer, make_store: MakeStore, schema: str, *, has_saved: bool,
    is_made_anew: bool,
) -> None:  # fmt: skip
    """Every call is refused, and makes nothing, until it is back; another one is named."""
    data = CheckpointData(session_id="s", checkpoint_id="x")
    await make_store().save(data)
    stores = {call: make_store(must_exist=True) for call in _CALLS}  # so each call is a first one
    for store in stores.values():
        assert await store.load("s") is not None
        if has_saved:
            await store.save(data.next())
    await _run(server, f"alter schema {schema} rename to {schema}_moved")
    if is_made_anew:
        await make_store().save(CheckpointData(session_id="elsewhere"))
    error = ReplacedStoreError if is_made_anew else MissingStoreError
    for call, store in stores.items():
        for _ in range(2):
            with pytest.raises(MissingStoreError) as told:
                await _CALLS[call](store)
            assert type(told.value) is error, call
        assert await store.exists() is False, call
    later = make_store()
    assert await list_sessions(later) == (["elsewhere"] if is_made_anew else [])
    if is_made_anew:
        await _run(server, f"drop schema {schema} cascade")
    assert await later.exists() is False
    await _run(server, f"alter schema {schema}_moved rename to {schema}")
    for count, store in enumerate(stores.values(), 2 + has_saved * len(stores)):
        await store.save(data.next())
        assert len(await store.list("s")) == count


async def test_what_must_exist_is_told_from_another_on_every_loop(
    server: PostgresServer, make_store: MakeStore, schema: str
) -> None:
    """A loop that comes later does not take what is there then for what the first one found."""
    await make_store().save(CheckpointData(session_id="s"))
    store = make_store(must_exist=True)
    assert await store.load("s") is not None
    await _run(server, f"drop schema {schema} cascade")
    await make_store().save(CheckpointData(session_id="elsewhere"))

    def elsewhere() -> None:
        with pytest.raises(ReplacedStoreError):
            asyncio.run(store.load("s"))

    await asyncio.to_thread(elsewhere)
