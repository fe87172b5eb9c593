"""
A process that appends batches to one session: `python -m ... STORAGE NAME`; it prints what is
stored.

A batch is five entries of its name and number. Each is sent again with the next one, as after a
failure. Each line is the number of a batch that was appended.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import uuid
from typing import Any

from aiocheckpoint.adapters.claude_agent import SessionStore

KEY: Any = {"project_key": "shop", "session_id": "shared"}


def batch(name: str, number: int) -> list[Any]:
    """Return the entries of a batch."""
    texts = [f"{name} {number} {part}" for part in range(5)]
    return [
        {"type": "user", "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, text)), "text": text}
        for text in texts
    ]


async def main(storage: str, name: str) -> None:
    """Append batches until the process is killed."""
    async with SessionStore(storage) as store:
        last: list[Any] = []
        for number in itertools.count():
            new = batch(name, number)
            await store.append(KEY, [*last, *new])
            last = new
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
