"""What the tests of all adapters share: places of every kind to keep sessions in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores import locations

pytest.register_assert_rewrite(
    "tests.adapters.contract",
    "tests.adapters.lists",
    "tests.adapters.odd",
    "tests.adapters.rough",
)


@pytest.fixture(name="bucket_url")
def _bucket_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URL of a place in an empty bucket."""
    with locations.fake_bucket(monkeypatch) as url:
        yield url
