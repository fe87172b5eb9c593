"""
A process that saves checkpoints of one workflow: `python -m ... STORAGE NAME`; it prints their ids.

Each follows the one before, and its state has a text more, of the name and a number.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

from aiocheckpoint.adapters.agent_framework import CheckpointStorage
from tests.adapters.agent_framework.checkpoints import checkpoint

SHARED = "shared"


def texts(name: str, count: int) -> list[str]:
    """Return the texts of a state."""
    return [f"{name} {number} " + "x" * 500 for number in range(count)]


async def main(storage_place: str, name: str) -> None:
    """Save checkpoints until the process is killed."""
    async with CheckpointStorage(storage_place) as storage:
        last: Any = None
        for count in itertools.count(1):
            last = checkpoint(
                {"texts": texts(name, count)},
                last,
                workflow_name=SHARED,
                checkpoint_id=f"{name}-{count}",
            )
            await storage.save(last)
            sys.stdout.write(f"{last.checkpoint_id}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
