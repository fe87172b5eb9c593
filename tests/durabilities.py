"""The ways of saving that the same promises hold for."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter

_HAS_CHOICE = "durability" in inspect.signature(AsyncCheckpointWriter.__init__).parameters

SYNCED_FILES: dict[str, Any] = {"durability": "file"} if _HAS_CHOICE else {}
"""Options of a writer that syncs each file on its own."""

DURABILITIES = (
    [pytest.param({"durability": name}, id=name) for name in ("journal", "file")]
    if _HAS_CHOICE
    else [pytest.param({}, id="file")]
)
"""Options of writers that keep every promise about power cuts."""
