"""What every test gets: proof that nothing blocks the loop, and a check of every store."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import os
import shutil
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import BlockBuster, BlockBusterFunction
from hypothesis import HealthCheck, settings

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from aiocheckpoint._engine import applier
from tests.clocks import Clock
from tests.some_cases import leave_the_rest

if TYPE_CHECKING:
    from tests.stores.postgres.server import PostgresServer

# The same examples in every run; HYPOTHESIS_PROFILE=thorough searches for new ones. How long one
# takes says nothing of the test: the machine may be busy.
_PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=20, derandomize=True, database=None, **_PATIENT)
settings.register_profile("thorough", max_examples=5_000, print_blob=True, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# By the file, and its functions. The driver of PostgreSQL looks for ~/.pgpass and the like whenever
# it connects, and has no other way; a bucket, and the tests' own server of one, have loops of
# their own.
_MAY_BLOCK = {
    "asyncpg/connect_utils.py": {
        "_parse_connect_dsn_and_args", "_read_password_file", "_read_password_from_pgpass",
        "_parse_tls_version", "_dot_postgresql_path", "_create_ssl_connection",
    },
    "stores/s3/home.py": {"_run"},
    "stores/s3/fake_s3.py": {"_run"},
}  # fmt: skip
_MEMORY = "/dev/shm"
_MEMORY_BYTES = 2 << 30


def pytest_configure() -> None:
    """
    Put the directories of tests into memory, where there is room for them: syncs are quick there.

    What needs a disk mounts one of its own. `pytest --basetemp=DIRECTORY` takes a real one for all.
    Until the tests are collected all that is made stays, so the collector would look in vain.
    Afterwards it looks at more at once: what it has to find tests have it find.
    """
    gc.disable()
    gc.set_threshold(20_000, 10, 10)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process started compiles all anew
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Start half as many again as there are processors: a third of the time is spent waiting."""
    processors = yield
    return processors * 3 // 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what does not run by default, before it is known what is not run."""
    leave_the_rest(items)


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections after each test, which then take no time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _without_leftovers() -> None:
    """
    Keep out of them what earlier modules left, too.

    It was the better part of the time of tests that end with a collection.
    """
    pytest_collection_finish()


@pytest.fixture(autouse=True, scope="module")
def _unguarded() -> Iterator[None]:
    """Take the guard off behind each module: what is made at the begin of the next meets none."""
    yield
    _guard().deactivate()


@pytest.fixture(name="postgres_server", scope="session")
def _postgres_server() -> Iterator[PostgresServer]:
    """Give the one PostgreSQL of this process."""
    from tests.stores import locations  # what it imports few tests need

    with locations.postgres() as server:
        yield server


@pytest.fixture(name="postgres_url")
def _postgres_url(postgres_server: PostgresServer) -> str:
    """Return the URL of a schema that nobody else has used."""
    return postgres_server.dsn(schema=postgres_server.new_schema())


MakeWriter = Callable[..., AsyncCheckpointWriter[Any]]


@functools.cache
def _guard() -> BlockBuster:
    """Return what turns blocking calls into errors: to make one takes longer than to use it."""
    guard = BlockBuster()
    for name in ("open", "fsync", "scandir", "fdatasync", "pwrite"):
        # Under a key of its own, or the guard's function of that name is never taken off again.
        guard.functions[f"os.{name} itself"] = BlockBusterFunction(os, name)
    for function in guard.functions.values():
        for file, functions in _MAY_BLOCK.items():
            function.can_block_in(file, functions)
    return guard


def guarded() -> Iterator[BlockBuster]:
    """Turn blocking calls on an event loop into errors, until the end of the iteration."""
    guard = _guard()
    guard.activate()
    try:
        yield guard
    finally:
        guard.deactivate()


@pytest.fixture(autouse=True)
def blockbuster(request: pytest.FixtureRequest) -> BlockBuster | None:
    """
    Turn a blocking call on the event loop into a test error; opt out by `blocking` mark.

    It stays on between tests of a module: to put it on and off takes longer than to make a loop.
    """
    guard = _guard()
    if request.node.get_closest_marker("blocking"):
        guard.deactivate()
        return None
    guard.activate()
    return guard


@pytest.fixture
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be written only when somebody waits for them, or when the writer is closed."""
    monkeypatch.setattr(applier, "ROUND_SECONDS", 600.0)


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(name="make_writer")
async def _make_writer(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[MakeWriter]:
    """
    Make writers on `root`, close them after the test and then check the store.

    A test that damages its store on purpose is marked `damages_store`.
    """
    made: list[tuple[float, AsyncCheckpointWriter[Any]]] = []

    def make(path: Path = root, **options: Any) -> AsyncCheckpointWriter[Any]:
        writer = AsyncCheckpointWriter(path, **options)
        made.append((options.get("lock_timeout_seconds", math.inf), writer))
        return writer

    yield make
    made.sort(key=lambda each: -each[0])  # then those that have no patience wait for nobody
    for _, writer in made:
        await writer.aclose()
    if await asyncio.to_thread(root.is_dir) and not request.node.get_closest_marker(
        "damages_store"
    ):
        async with AsyncCheckpointWriter(root) as checker:
            assert await checker.check() == ()
    gc.collect()  # an unclosed writer or file of this test is reported here, not in the next
    gc.freeze()  # what this one looked at in vain the next need not


@pytest.fixture(name="writer")
async def _writer(make_writer: MakeWriter) -> AsyncCheckpointWriter[CheckpointData]:
    return make_writer()
