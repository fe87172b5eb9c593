"""
A process that saves until it is interrupted; run by `test_interrupts`.

It writes every acknowledged id to standard output at once, without a buffer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from tests.concurrency.site import Site, Writer, document

_SESSIONS = 8


async def _save_for_ever(writer: Writer, session: int) -> None:
    number = 0
    while True:
        name = await writer.save(document(f"s{session}", number))
        os.write(1, f"s{session} {name}\n".encode())
        number += 1


async def _main(site: Site, *, closes: bool) -> None:
    writer = site.writer()
    try:
        async with asyncio.TaskGroup() as group:
            for session in range(_SESSIONS):
                group.create_task(_save_for_ever(writer, session))
    finally:
        if closes:
            await writer.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("durability")
    parser.add_argument("--closes", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    asyncio.run(
        _main(Site(arguments.root, durability=arguments.durability), closes=arguments.closes)
    )
