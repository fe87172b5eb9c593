"""
A process that stores steps in one run: `python -m ... STORAGE NAME`.

Each line that it prints is the number of a step that was stored: an event, a tool that has begun
and a snapshot of one message more, in this order.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from aiocheckpoint.adapters.pydantic_harness import StepStore
from tests.adapters.pydantic_harness.steps import effect, event, snapshot


async def main(storage: str, name: str) -> None:
    """Store steps until the process is killed."""
    async with StepStore(storage, max_snapshots_per_run=2) as store:
        for number in itertools.count():
            await store.append_event(event(number, agent_name=name))
            await store.record_tool_effect(effect(f"{name} {number}", "started"))
            await store.save_snapshot(
                snapshot(number, agent_name=name, idempotency_key=f"{name} {number}")
            )
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
