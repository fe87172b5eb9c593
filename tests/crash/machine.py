"""Let processes die on a store, and see what the next one makes of what they left."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

import aiocheckpoint
from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint._format import names as layout
from tests.crash.checker import Writer, perform, require, require_allowed, see_all
from tests.crash.ledger import Ledger
from tests.crash.oracle import Call, Delete, Save, Seen, Version
from tests.crash.victim import Began, Ended, Failed, Line, Order, Returned, call_of

_SERIALS_OF_A_LIFE = 1000
_SOURCE = Path(aiocheckpoint.__file__).parent
_REACHED = re.compile(r'reached\("(\w+)"\)')
_MARK = re.compile(rb" (\d+) (?=(\w+) (\w+) \1 )")  # from the space on: zeroes take no time
_OF_BLOBS = "after_blobs"
_ONLY_LITTER = ("leftover",)


def failpoints() -> list[str]:
    """Return the names of all failpoints in the source but that of blobs, see `test_blobs`."""
    texts = (path.read_text() for path in _SOURCE.rglob("*.py"))
    return sorted({name for text in texts for name in _REACHED.findall(text)} - {_OF_BLOBS})


class Machine:
    """
    A store, the processes that die on it and what they had acknowledged.

    Args:
        process: a running `victim`.
        root: of the store.
        durability: of all writers.
        seed: of all choices.

    Attributes:
        ledger: what was acknowledged.
        deaths: how many processes died as ordered.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], root: Path, durability: Durability, seed: int = 0
    ) -> None:
        self.ledger = Ledger()
        self.deaths = 0
        self._process = process
        self._root = root
        self._durability = durability
        self._dice = random.Random(f"{durability} {seed}")
        self._lives = 0

    def live(self, failpoint: str = "", visit: int = 0, **fields: object) -> bool:
        """
        Let a process work until it dies.

        Args:
            failpoint: where it dies; `""` for any system call.
            visit: at which of its visits; 0 to let it live.
            fields: further ones of the order.

        Returns:
            whether it died; it lives if it does not come that far.
        """
        self._lives += 1
        fields = {
            "root": str(self._root),
            "durability": self._durability,
            "seed": self._dice.randrange(1 << 32),
            "serial": self._lives * _SERIALS_OF_A_LIFE,
            "failpoint": failpoint,
            "visit": visit,
            **fields,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(Order(**fields)) + b"\n")  # type: ignore[arg-type] # the fields are checked at the other end
        self._process.stdin.flush()
        code = self._follow()
        self.ledger.crashed()
        assert code in (0, -signal.SIGKILL), f"the process ended with {code}"
        self.deaths += code != 0
        return code != 0

    def _follow(self) -> int:
        assert self._process.stdout is not None
        failure = ""
        for text in self._process.stdout:
            match msgspec.json.decode(text, type=Line):
                case Began() as began:
                    self.ledger.began(began.task, call_of(began))
                case Returned(task):
                    self.ledger.returned(task)
                case Failed(traceback):
                    failure = traceback
                case Ended(code):
                    assert not failure, f"the process failed:\n{failure}"
                    return code
        raise AssertionError("the process that forks is gone")

    async def inspect(self) -> None:
        """
        Open the store and see that every promise was kept.

        Raises:
            BrokenPromiseError: one was not.
        """
        before = _names(self._root)
        async with self._writer() as writer:
            views = await see_all(writer)
            require_allowed(views, self.ledger.allowed)
        async with self._writer() as writer:
            again = await see_all(writer)
            require(again == views, "opening again shows", again, "in place of", views)
        require(_names(self._root) == before, "looking changes what is there")
        self.ledger.saw(views)
        await self._flush(views)
        await self._go_on(views)

    def _writer(self) -> Writer:
        return AsyncCheckpointWriter(self._root, durability=self._durability)

    async def _flush(self, views: dict[str, Seen]) -> None:
        """Write all that was acknowledged to files, which are then as they were saved."""
        async with self._writer() as writer:
            await writer.flush()
            flushed = await see_all(writer, _ONLY_LITTER, is_flushed=True)
            require(flushed == views, "a flush shows", flushed, "in place of", views)

    async def _go_on(self, views: dict[str, Seen]) -> None:
        """Save once more in each session: then nothing may be left of the crash."""
        self._lives += 1
        serial = self._lives * _SERIALS_OF_A_LIFE
        directories = {path.name for path in self._root.glob("*")} - {layout.PRIVATE_DIRECTORY}
        async with self._writer() as writer:
            for session_id in sorted({*directories, *views}):
                await self._make(writer, Save(session_id, Version("exercise", serial, session_id)))
            await self._make(writer, Save("x", Version("removed", serial, "x")))
            await self._make(writer, Delete("x", "removed"))
            await writer.flush()
            views = await see_all(writer, (), is_flushed=True)
            require_allowed(views, self.ledger.allowed)
        litter = [name for name in _names(self._root) if "tmp" in name]
        require(not litter, "the next save leaves litter:", litter)
        self._require_erased({version for kept in views.values() for version in kept})

    async def _make(self, writer: Writer, call: Call) -> None:
        self.ledger.began(0, call)
        await perform(writer, call)
        self.ledger.returned(0)

    def _require_erased(self, alive: set[Version]) -> None:
        """See that no file holds what was deleted or replaced before a delete was flushed."""
        found = {
            Version(checkpoint_id.decode(), int(serial), origin.decode())
            for path in self._root.rglob("*")
            if path.is_file() and not path.is_symlink()
            for serial, origin, checkpoint_id in _MARK.findall(path.read_bytes())
        }
        left = (found & self.ledger.saved) - alive
        require(not left, "a file still holds", left)


def _names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@contextmanager
def running_victim() -> Iterator[subprocess.Popen[bytes]]:
    """Start the process that forks, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.victim"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
