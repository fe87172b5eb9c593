"""The store's thread: any loop may call, and it ends however its store ends."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest

from aiocheckpoint import CheckpointData, InvalidArgumentError
from aiocheckpoint.stores.s3 import S3Store
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3

pytestmark = pytest.mark.servers

Store = S3Store[CheckpointData]


def _threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "aiocheckpoint-s3"}


@pytest.mark.blocking
def test_every_loop_may_call(fake: FakeS3) -> None:
    """One after the other, and at the same time from several threads."""
    store: Store = S3Store("s3://bucket", endpoint_url=fake.url)

    async def save(number: int) -> None:
        await asyncio.gather(
            *(
                store.save(CheckpointData(session_id="s", checkpoint_id=f"{number}-{each}"))
                for each in range(10)
            )
        )

    asyncio.run(save(0))
    threads = [threading.Thread(target=asyncio.run, args=(save(each),)) for each in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asyncio.run(store.ids("s"))) == 40
    asyncio.run(store.aclose())


@pytest.mark.blocking
def test_a_store_that_is_dropped_leaves_nothing(fake: FakeS3) -> None:
    """Neither the thread nor a connection, and no warning."""
    gc.collect()
    before = _threads()

    async def use() -> None:
        store: Store = S3Store("s3://bucket", endpoint_url=fake.url)
        await store.save(CheckpointData(session_id="s"))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(use())
        gc.collect()
        for thread in _threads() - before:
            thread.join(60)
        gc.collect()
    assert _threads() <= before


@pytest.mark.blocking
@pytest.mark.parametrize("end", ["await store.aclose()", "pass", "globals().update(store=store)"])
@pytest.mark.some(1)
def test_an_interpreter_ends_in_peace(fake: FakeS3, end: str) -> None:
    """With a store that was closed, dropped at the last moment, or kept."""
    program = f"""
        import asyncio
        from aiocheckpoint import CheckpointData
        from aiocheckpoint.stores.s3 import S3Store

        async def main():
            store = S3Store("s3://bucket", endpoint_url={fake.url!r})
            saves = (store.save(CheckpointData(session_id=str(n))) for n in range(10))
            await asyncio.gather(*saves)
            {end}

        asyncio.run(main())
    """
    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert len(fake.keys("sessions/")) == 10


@pytest.mark.blocking
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_is_refused_by_name_or_works(fake: FakeS3) -> None:
    """A store that was used belongs to the parent; one that was not works in the child."""
    program = f"""
        import asyncio, os, sys
        from aiocheckpoint import CheckpointData, WriterClosedError
        from aiocheckpoint.stores.s3 import S3Store

        used, unused = (S3Store("s3://bucket", endpoint_url={fake.url!r}) for _ in range(2))
        asyncio.run(used.save(CheckpointData(session_id="parent")))
        if not (child := os.fork()):
            try:
                asyncio.run(used.load("parent"))
            except WriterClosedError:
                asyncio.run(unused.save(CheckpointData(session_id="child")))
                asyncio.run(unused.aclose())
                asyncio.run(used.aclose())
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        asyncio.run(used.aclose())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=True)
    assert len(fake.keys("sessions/")) == 2


async def test_a_call_of_a_busy_store_is_finished_when_it_closes(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """What was called before `aclose` is stored."""
    store: Store = make_store()
    saves = [asyncio.create_task(store.save(CheckpointData(session_id="s"))) for _ in range(20)]
    await asyncio.sleep(0)
    await store.aclose()
    await asyncio.gather(*saves)
    assert len(await make_store().ids("s")) == 20


@pytest.mark.parametrize(
    "url",
    [
        "s3://", "s3:///x", "http://bucket", "bucket", "s3://key:secret@bucket/x", "s3://b?x=1",
        "s3://bucket/a//b", "s3://bucket/../x", "s3://bucket/x#y", "s3://Buck et", 7,
    ],
)  # fmt: skip
def test_a_url_of_something_else_is_refused(url: str) -> None:
    """By name, and without telling a secret that is in it."""
    with pytest.raises(InvalidArgumentError) as refused:
        S3Store(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["s3://x/y", "s3://ab", "s3://Buck et"])
def test_a_name_of_no_bucket_is_told_as_that(url: str) -> None:
    """Who gives a name that no bucket has is told what names they have."""
    with pytest.raises(InvalidArgumentError, match="name of a bucket, 3 to 63"):
        S3Store(url)
