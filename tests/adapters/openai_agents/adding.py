"""
A process that adds batches to one session: `python -m ... STORAGE NAME`; it prints what is stored.

A batch is five items of its name and number. Each line is the number of a batch that was added.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

from aiocheckpoint.adapters.openai_agents import Session


def batch(name: str, number: int) -> list[Any]:
    """Return the items of a batch."""
    return [{"role": "user", "content": f"{name} {number} {part}"} for part in range(5)]


async def main(storage: str, name: str) -> None:
    """Add batches until the process is killed."""
    async with Session("shared", storage) as session:
        for number in itertools.count():
            await session.add_items(batch(name, number))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
