"""What the crash tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.crash.machine import running_victim


@pytest.fixture(name="victim", scope="session")
def _victim() -> Iterator[subprocess.Popen[bytes]]:
    with running_victim() as process:
        yield process
