"""What the interoperability tests need: the real crate, or a visible skip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.driver import Rust, unavailable_reason


@pytest.fixture(name="rust")
def _rust(blockbuster: object) -> Iterator[Rust]:
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    with Rust() as rust:
        yield rust
