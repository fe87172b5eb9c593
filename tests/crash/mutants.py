"""Versions of the library that break a rule of durability, each by a named operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import Durability
from aiocheckpoint._disk.append import Appender
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint._disk.slots import Slots
from aiocheckpoint._engine import apply
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.sync import Touched
from aiocheckpoint._format.log import Removed
from tests.crash.enumeration import POPULATED
from tests.crash.model import Model

Break = Callable[[pytest.MonkeyPatch], None]


class Mutant(NamedTuple):
    """
    A broken version, and calls during which a crash shows it.

    Attributes:
        name: what is wrong.
        break_it: puts the broken operation in the place of the right one.
        calls: names of calls; a crash during or after the last is looked at.
        model: of the crash.
        durability: of the writer.
        base: names of calls made before, closed and durable.
    """

    name: str
    break_it: Break
    calls: Sequence[str]
    model: Model = "posix"
    durability: Durability = "journal"
    base: Sequence[str] = ()


def _nothing(*args: object, **kwargs: object) -> None:
    """Do nothing in the place of an operation."""


def _does_nothing(owner: type, operation: str) -> Break:
    return lambda patch: patch.setattr(owner, operation, _nothing)


def _forget_removals(patch: pytest.MonkeyPatch) -> None:
    right = apply.last_words

    def last_words(entries: Sequence[Any]) -> Any:
        return right([found for found in entries if not isinstance(found.entry, Removed)])

    patch.setattr(apply, "last_words", last_words)


def _flush_first(patch: pytest.MonkeyPatch) -> None:
    flush = Applier._flush

    def publish_then_sync(self: Applier, root: Any, touched: Touched, *rest: Any) -> None:
        sync = touched.sync
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(touched, "sync", _nothing)
            flush(self, root, touched, *rest)
        sync()

    patch.setattr(Applier, "_flush", publish_then_sync)


MUTANTS = (
    Mutant(
        "a commit is acknowledged before it is synced",
        _does_nothing(Slots, "sync"),
        ("save-existing",),
        base=POPULATED[:1],
    ),
    Mutant(
        "a new slot is not synced into its directory",
        _does_nothing(LocalFiles, "sync_directory"),
        ("save-new",),
    ),
    Mutant(
        "the files of a flush are not synced",
        _does_nothing(Touched, "sync"),
        ("save-existing", "flush"),
    ),
    Mutant(
        "what is flushed is shared before it is synced",
        _flush_first,
        ("save-existing", "flush"),
    ),
    Mutant(
        "removals are not applied",
        _forget_removals,
        ("delete-latest", "flush"),
        base=POPULATED[:2],
    ),
    Mutant(
        "the log that a save rests on is not synced with durability file",
        _does_nothing(Appender, "_sync_slot"),
        ("save-existing",),
        durability="file",
        base=POPULATED[:1],
    ),
)


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """Put a broken operation in the place of the library's."""
    with pytest.MonkeyPatch.context() as patch:
        mutant.break_it(patch)
        yield
