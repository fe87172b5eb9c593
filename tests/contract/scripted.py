"""What the comparisons of stores by scripts have in common."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from aiocheckpoint.testing import MemoryStore
from aiocheckpoint.testing.scripts import Script, Scripted, outcomes

SETTINGS = settings(suppress_health_check=[*HealthCheck])
BOUNDS = st.sampled_from((None, None, 2))
"""How many checkpoints a session may have."""


def answers_of_memory(script: Script, max_checkpoints: int | None) -> list[object]:
    """Return what the store in memory answers."""
    store: Any = MemoryStore(Scripted, max_checkpoints=max_checkpoints)
    return asyncio.run(outcomes(store, script))
