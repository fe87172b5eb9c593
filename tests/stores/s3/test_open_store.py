"""`open_store` and `copy_store` with a bucket, and nothing but its URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData, InvalidArgumentError, RawRecord, copy_store, open_store
from aiocheckpoint.testing import MemoryStore
from tests.stores.locations import begun_only_by_another
from tests.stores.s3.fake_s3 import FakeS3
from tests.stores.test_copying import copied_by_command, filled, raw, state


async def test_a_url_is_enough(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and endpoint are the environment's; handles share, and the last one closes."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    data = CheckpointData(session_id="s")
    one, two = (open_store("s3://bucket/prefix") for _ in range(2))
    await one.save(data)
    assert await two.load("s") == data
    await one.aclose()
    assert await two.ids("s") == (data.checkpoint_id,)
    await two.aclose()


async def test_there_and_back_nothing_has_changed(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions of several types with blobs pass through a bucket as they are."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    source, back = raw(await filled()), MemoryStore(RawRecord)
    async with open_store("s3://bucket/copy", record_type=RawRecord) as bucket:
        totals = await copy_store(source, bucket)
        assert (totals.checkpoints, totals.skipped) == (15, 0)
        assert (await copy_store(source, bucket)).skipped == 15
        await copy_store(bucket, back)
    assert await state(back) == await state(source)


async def test_the_command_copies_there_and_back(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a directory to a bucket and back, verified; the bucket to itself is refused."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    await copied_by_command("s3://bucket/by-command", tmp_path)


async def test_one_that_must_exist_is_not_begun(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call names the place, and makes nothing, until somebody else has begun."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    url = "s3://bucket/must-exist"
    await begun_only_by_another(url, url)


def test_a_parameter_is_refused_by_its_name() -> None:
    """A bucket's URL has none; the error says where an endpoint goes, and repeats no secret."""
    with pytest.raises(InvalidArgumentError) as refused:
        open_store("s3://bucket/prefix?endpoint_url=http://geheim&region=x")
    assert refused.value.name == "location"
    assert "?endpoint_url=...&region=..." in str(refused.value)
    assert "AWS_ENDPOINT_URL" in str(refused.value)
    assert "geheim" not in str(refused.value)
