"""One place under two names: a copy of it to itself is refused, and so never "verified"."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointData,
    InvalidArgumentError,
    RawRecord,
    copy_store,
    open_store,
)
from aiocheckpoint.cli import main
from aiocheckpoint.stores.postgres import PostgresStore
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import MemoryStore
from tests.stores.locations import SERVERS, fake_bucket
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.blocking  # the driver of PostgreSQL looks for password files

_Raw = BlobStore[RawRecord]


async def _refused(source: _Raw, target: _Raw) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await copy_store(source, target)
    assert refused.value.name == "target"


async def _require_one_place(names: list[_Raw], others: list[_Raw]) -> None:
    """Copy each of the names to each, and all of it to the other places, from there and back."""
    for source in names:
        for target in names:
            await _refused(source, target)
    for other in others:
        assert (await copy_store(names[0], other)).checkpoints == 2
        assert (await copy_store(names[0], other)).skipped == 2
        assert (await copy_store(other, names[-1])).skipped == 2
    for source in others:
        for target in others:
            if source is not target:
                assert (await copy_store(source, target)).skipped == 2
    for store in (*names, *others):
        assert [key async for key in store.sessions()] == ["s"]
        assert await store.check() == ()
        await store.aclose()


async def _fill(store: BlobStore[CheckpointData]) -> None:
    async with store:
        for key in "ab":
            await store.save(CheckpointData(session_id="s", checkpoint_id=key))


class TestStores:
    async def test_in_memory(self) -> None:
        """Clients of one store in memory are one place, and another store is another."""
        store = MemoryStore()
        names: list[_Raw] = [MemoryStore(RawRecord, beside=store) for _ in range(2)]
        await _fill(store)
        await _require_one_place(names, [MemoryStore(RawRecord), MemoryStore(RawRecord)])

    async def test_a_directory(self, tmp_path: Path) -> None:
        """By a link, a relative path or a URL it is the same; a copy of the files is another."""
        root, link = tmp_path / "root", tmp_path / "link"
        await _fill(AsyncCheckpointWriter(root))
        link.symlink_to(root)
        names: list[_Raw] = [
            AsyncCheckpointWriter(link, record_type=RawRecord),
            AsyncCheckpointWriter(os.path.relpath(root), record_type=RawRecord),
            open_store(root.as_uri(), record_type=RawRecord),
        ]
        others: list[_Raw] = [
            AsyncCheckpointWriter(tmp_path / name, record_type=RawRecord) for name in "xy"
        ]
        await _require_one_place(names, [*others, MemoryStore(RawRecord)])

    @pytest.mark.servers
    async def test_a_bucket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the endpoint is called; another prefix is another place, also within it."""
        with fake_bucket(monkeypatch) as url:
            endpoint = os.environ["AWS_ENDPOINT_URL_S3"]
            await _fill(open_store(url))
            names: list[_Raw] = [
                open_store(url, record_type=RawRecord),
                S3Store(f"{url}/", record_type=RawRecord),
                S3Store(
                    url,
                    record_type=RawRecord,
                    endpoint_url=endpoint.replace("127.0.0.1", "localhost") + "/",
                ),
            ]
            others: list[_Raw] = [
                open_store(f"{url}{rest}", record_type=RawRecord) for rest in ("2", "/within")
            ]
            await _require_one_place(names, [*others, MemoryStore(RawRecord)])

    @pytest.mark.servers
    @pytest.mark.parametrize("part", ["sessions", "sessions/x", "blobs", "index", "owners/a/b"])
    async def test_a_part_of_a_bucket(self, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
        """What would be among the sessions of the other is refused, from there and to there."""
        with fake_bucket(monkeypatch) as url:
            inner = f"{url}/{part}"
            await _fill(open_store(url))
            outer_store: _Raw = open_store(url, record_type=RawRecord)
            inner_store: _Raw = open_store(inner, record_type=RawRecord)
            async with outer_store, inner_store:
                await _refused(outer_store, inner_store)
                assert [key async for key in outer_store.sessions()] == ["s"]
                assert await outer_store.check() == ()
                assert not await inner_store.exists()
            assert await asyncio.to_thread(main, ["copy", url, inner]) == 2
            await _fill(open_store(f"{url}-2/{part}"))  # alone it is as good as any
            inner_store = open_store(f"{url}-2/{part}", record_type=RawRecord)
            outer_store = open_store(f"{url}-2", record_type=RawRecord)
            async with outer_store, inner_store:
                await _refused(inner_store, outer_store)

    async def test_a_directory_within_another(self, tmp_path: Path) -> None:
        """It would be a session of the other; also by a link, and before it is there."""
        root = tmp_path / "root"
        await _fill(AsyncCheckpointWriter(root))
        (tmp_path / "link").symlink_to(root / "s")
        (tmp_path / "root2").mkdir()
        outer = AsyncCheckpointWriter(root, record_type=RawRecord)
        async with outer:
            for path in (root / "s", root / "new" / "place", tmp_path / "link", tmp_path):
                other = AsyncCheckpointWriter(path, record_type=RawRecord)
                async with other:
                    await _refused(outer, other)
            assert not (root / "new").exists()
            assert await outer.check() == ()
            beside = AsyncCheckpointWriter(tmp_path / "root2", record_type=RawRecord)
            async with beside:
                assert (await copy_store(outer, beside)).checkpoints == 2
        await _fill(AsyncCheckpointWriter(tmp_path / "new" / "inner"))
        inner = AsyncCheckpointWriter(tmp_path / "new" / "inner", record_type=RawRecord)
        around = AsyncCheckpointWriter(tmp_path / "new", record_type=RawRecord)
        async with inner, around:
            await _refused(inner, around)

    @pytest.mark.servers
    async def test_a_database(self, postgres_server: PostgresServer, tmp_path: Path) -> None:
        """By any user, socket, option or pool; another schema or database is another place."""
        schema, other_schema = (postgres_server.new_schema() for _ in range(2))
        directory = str(postgres_server.directory)
        (tmp_path / "sockets").symlink_to(directory)
        plain = postgres_server.dsn(schema=schema)
        await _fill(PostgresStore(plain))
        connection = await asyncpg.connect(postgres_server.dsn())
        await connection.execute(f"create role {schema}_other superuser login")
        await connection.execute(f"create database {schema}_other")
        await connection.close()
        pool = await asyncpg.create_pool(postgres_server.dsn(), min_size=0)
        urls = [
            plain,
            plain.replace("postgresql:", "postgres:"),
            f"{plain}&application_name=x",
            postgres_server.dsn(user=f"{schema}_other", schema=schema),
            f"postgresql://postgres@{quote(directory, safe='')}:5432/postgres?schema={schema}",
            f"postgresql:///?host={tmp_path}/sockets&user=postgres&dbname=postgres&schema={schema}",
        ]
        names: list[_Raw] = [open_store(url, record_type=RawRecord) for url in urls]
        names.append(PostgresStore(pool, schema=schema, record_type=RawRecord))
        others: list[_Raw] = [
            open_store(postgres_server.dsn(schema=other_schema), record_type=RawRecord),
            open_store(
                postgres_server.dsn(f"{schema}_other", schema=schema), record_type=RawRecord
            ),
        ]
        await _require_one_place(names, [*others, MemoryStore(RawRecord)])
        await pool.close()


@pytest.fixture(name="names", params=["directory", *SERVERS])
def _names(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Give names of one place with a session in it; the last is that of another one."""
    with contextlib.ExitStack() as stack:
        if request.param == "bucket":
            url = stack.enter_context(fake_bucket(monkeypatch))
            names = [url, f"{url}/", f"{url}-other"]
        elif request.param == "postgresql":
            url = request.getfixturevalue("postgres_url")
            names = [url, f"{url}&application_name=x", f"{url}_other"]
        else:
            (tmp_path / "link").symlink_to(tmp_path / "root")
            names = [str(tmp_path / name) for name in ("root", "link", "other")]
        asyncio.run(_fill(open_store(names[0])))
        yield names


def test_the_command(names: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """It exits with 2 and one line, and copies to another place all the same."""
    for source in names[:-1]:
        for target in names[:-1]:
            assert main(["copy", source, target]) == 2
            output, errors = capfd.readouterr()
            assert (output, errors.count("\n")) == ("", 1)
            assert "to itself" in errors
            assert "give another target" in errors
    assert main(["copy", names[1], names[-1]]) == 0
    assert "1 session, 2 checkpoints copied" in capfd.readouterr().out
    assert main(["verify", names[0]]) == 0
