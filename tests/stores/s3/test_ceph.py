"""The same on a real server, Ceph's gateway; run by `AIOCHECKPOINT_CEPH=yes`, as `.ci/run` does."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from aiocheckpoint import CheckpointData, CheckpointError, UnsuitableStoreError
from aiocheckpoint.stores.s3 import S3Store
from tests.stores.s3.ceph import Ceph, missing_programs
from tests.stores.s3.contract import Server, ServerContract, ServerMachine

if os.environ.get("AIOCHECKPOINT_CEPH") != "yes":
    pytest.skip("set AIOCHECKPOINT_CEPH=yes, as .ci/run does", allow_module_level=True)
if _missing := missing_programs():
    pytest.skip(f"not installed: {' '.join(_missing)}", allow_module_level=True)

pytestmark = [pytest.mark.blocking, pytest.mark.usefixtures("whole_probe")]


@pytest.fixture(name="ceph", scope="module")
def _ceph() -> Iterator[Ceph]:
    ceph = Ceph().start()
    yield ceph
    ceph.stop()


class TestCeph(ServerContract):
    """All parts of the contract."""

    @pytest.fixture(name="server")
    def _server(self, ceph: Ceph) -> Server:
        return ceph


class TestAnyOrder(ServerMachine.TestCase):  # type: ignore[misc, valid-type]
    """Any calls in any order are answered as the model does."""

    settings: Any = settings(max_examples=5, stateful_step_count=15)

    @pytest.fixture(autouse=True)
    def _server(self, ceph: Ceph) -> None:
        ServerMachine.server = ceph


async def test_versions_that_are_switched_on_at_work_lose_nothing(ceph: Ceph) -> None:
    """It lets several create an object there: all are refused, until versioning is suspended."""
    name = f"versions-{secrets.token_hex(4)}"
    await asyncio.to_thread(ceph.make_bucket, name)

    def store() -> S3Store[CheckpointData]:
        return S3Store(f"s3://{name}/prefix", endpoint_url=ceph.url)

    def data(name: str) -> CheckpointData:
        return CheckpointData(session_id="s", checkpoint_id=name)

    async with store() as one, store() as other:
        await one.save(data("a"))
        await other.save(data("b"))
        await other.save(data("c"))
        await asyncio.to_thread(ceph.keep_versions, name, "Enabled")
        for client in (one, other, one):
            with pytest.raises(UnsuitableStoreError, match="keeps versions"):
                await client.save(data("d"))
        async with store() as third:
            assert await third.ids("s") == ("c", "b", "a")
        await asyncio.to_thread(ceph.keep_versions, name, "Suspended")
        await asyncio.gather(*(client.save(data(f"e{client is one}")) for client in (one, other)))
        await one.delete("s", "a")
        assert set(await other.ids("s")) == {"eTrue", "eFalse", "c", "b"}


@pytest.mark.timeout(240)
async def test_what_was_acknowledged_survives_a_kill() -> None:
    """The server is killed under load and started again: nothing is lost, nothing is doubled."""
    ceph = await asyncio.to_thread(Ceph("bluestore").start)
    try:
        await _kill_under_load(ceph)
    finally:
        await asyncio.to_thread(ceph.stop)


async def _kill_under_load(ceph: Ceph) -> None:
    url = f"s3://bucket/{secrets.token_hex(4)}"
    acknowledged: dict[str, list[int]] = {}
    is_over = False

    async def live(store: S3Store[CheckpointData], session_id: str) -> None:
        told = acknowledged.setdefault(session_id, [])
        iteration = 0
        while not is_over:
            iteration += 1
            data = CheckpointData(
                session_id=session_id, iteration=iteration, checkpoint_id=f"{iteration:06}"
            )
            try:
                await store.save(data)
            except CheckpointError:
                await asyncio.sleep(0.1)
            else:
                told.append(iteration)

    def count() -> int:
        return sum(map(len, acknowledged.values()))

    async def wait_for_more(number: int) -> None:
        enough = count() + number
        while count() < enough:
            await asyncio.sleep(0.05)

    async with (
        S3Store(url, endpoint_url=ceph.url, request_timeout_seconds=5.0) as store,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(4):
            tasks.create_task(live(store, f"s{number}"))
        for _ in range(2):
            await wait_for_more(60)
            await asyncio.to_thread(ceph.kill)
            await asyncio.to_thread(ceph.start_again)
        await wait_for_more(20)
        is_over = True
    async with S3Store(url, endpoint_url=ceph.url) as store:
        for session_id, told in acknowledged.items():
            listed = [meta.iteration for meta in await store.list(session_id)][::-1]
            assert listed == sorted(set(listed))
            assert {*told} <= {*listed}
        assert await store.check() == ()
