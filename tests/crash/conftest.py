"""What the crash tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import disks
from tests.crash.machine import running_victim


@pytest.fixture(name="victim", scope="session")
def _victim() -> Iterator[subprocess.Popen[bytes]]:
    with running_victim() as process:
        yield process


@pytest.fixture(name="why_no_disks", scope="session")
def _why_no_disks(tmp_path_factory: pytest.TempPathFactory) -> str:
    return disks.why_no_disks(tmp_path_factory.mktemp("probe"))


@pytest.fixture(name="disk_directory")
def _disk_directory(tmp_path: Path, why_no_disks: str) -> Path:
    """Return an empty directory for a disk; skip where none can be mounted."""
    if why_no_disks:
        pytest.skip(why_no_disks)
    return tmp_path


@pytest.fixture(autouse=True)
def _nobody_else_writes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a check wait for nobody to write files, where none is alive."""
    if "victim" in request.fixturenames:
        monkeypatch.setattr("aiocheckpoint._engine.check_journal._MOMENTS_SECONDS", 0.0)
