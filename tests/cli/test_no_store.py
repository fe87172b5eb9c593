"""A place where no store is, as one that is mistyped: told by the command line, and left so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData, open_store
from tests.cli.conftest import Tool
from tests.stores.locations import SERVERS, fake_bucket

pytestmark = pytest.mark.blocking  # the driver of PostgreSQL looks for password files

_VERBS = [
    ("sessions", "--json"), ("list", "s"), ("show", "s", "a"),
    ("verify",), ("recover", "s"), ("flush",),
]  # fmt: skip


@pytest.fixture(name="place", params=["directory", *SERVERS])
def _place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "bucket":
        with fake_bucket(monkeypatch) as url:
            yield url
    elif request.param == "postgresql":
        yield request.getfixturevalue("postgres_url")
    else:
        (tmp_path / "mistyped").mkdir()
        yield str(tmp_path / "mistyped")


def _exists(place: str) -> bool:
    async def look() -> bool:
        async with open_store(place) as store:
            assert await store.load("s") is None
            return await store.exists()

    return asyncio.run(look())


def _save_and_delete(place: str) -> None:
    async def change() -> None:
        async with open_store(place) as store:
            await store.save(CheckpointData(session_id="s"))
            await store.delete_session("s")

    asyncio.run(change())


def test_it_is_told_by_every_verb_and_stays_none(place: str, tool: Tool, tmp_path: Path) -> None:
    """One line names the place and what to look at, with status 2, and no store is made."""
    what = {"p": "schema in ?schema=", "s": "bucket and the prefix"}.get(place[0], "give the dir")
    for verb, *rest in _VERBS:
        if verb == "flush" and "://" in place:
            continue
        done = tool(verb, place, *rest)
        assert (done.status, done.output, done.errors.count("\n")) == (2, "", 1), verb
        assert f"no store at {place.partition('?')[0].partition('@')[0][:8]}" in done.errors
        assert what in done.errors
        assert place.partition("schema=")[2] in done.errors
    done = tool("copy", place, tmp_path / "target")
    assert (done.status, done.output) == (2, "")
    assert "no store at" in done.errors
    assert not (tmp_path / "target").exists()
    assert not _exists(place)


def test_an_emptied_store_is_one(place: str, tool: Tool) -> None:
    """It has no sessions, which is no error; what wants one says so."""
    _save_and_delete(place)
    assert _exists(place)
    done = tool("sessions", place)
    assert (done.status, done.errors) == (0, "")
    assert done.output.startswith("no sessions in ")
    assert tool("sessions", place, "--json").output == "[]\n"
    for verb, *rest in (("list", "s"), ("show", "s"), ("recover", "s")):
        done = tool(verb, place, *rest)
        assert done.status == 2
        assert "no checkpoints of session 's'" in done.errors
    done = tool("verify", place)
    assert (done.status, done.output) == (2, "")
    assert "no sessions in" in done.errors
    done = tool("copy", place, f"{place}-other" if "://" not in place else "elsewhere")
    assert done.status == 2
    assert "no sessions in" in done.errors
    assert not Path("elsewhere").exists()
