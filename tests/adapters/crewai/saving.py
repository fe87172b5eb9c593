"""
A process that saves states of one flow: `python -m ... STORAGE`; it prints what is stored.

Each line is the number of a state that was saved.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from aiocheckpoint.adapters.crewai import FlowPersistence


def state(number: int) -> dict[str, Any]:
    """Return the state of a number."""
    return {"id": "f", "number": number, "messages": [f"{n} " + "word " * 300 for n in range(30)]}


def main(storage: str) -> None:
    """Save until the process is killed."""
    with FlowPersistence(storage) as persistence:
        for number in itertools.count():
            persistence.save_state("f", "step", state(number))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
