"""No crash, at any moment of any short sequence of calls, breaks a promise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint._format import names as layout
from tests.crash import oracle
from tests.crash.checker import read_after_crash, recover_after_crash, scratch_directory
from tests.crash.enumeration import (
    POPULATED,
    SMALL_SLOT_BYTES,
    Enumerator,
    Tally,
    record,
    same_each_time,
    sequences,
)
from tests.crash.model import LONG, MODELS, NESTED, QUICK, SECOND, Caps, Model
from tests.crash.operations import File
from tests.crash.recorder import RecordingFiles

pytestmark = pytest.mark.blocking

_CAMPAIGN = [pytest.mark.campaign, pytest.mark.timeout(7200)]
DURABILITIES = ("journal", "file")
TINY_SLOT_BYTES = 16 * 1024
_RARE_CALLS = ("copy-session", "apply", "update", "save-owned")
_BESIDE_FLUSH = tuple(kind for kind in oracle.TOGETHER if kind != "burst")
_LOOKS_EVERY = 480
"""Of the states of a default slice; the campaigns look at all."""
_SOME = {"looks_every": _LOOKS_EVERY, "kills_every": 40, "recovers_every": 16}
_ALL = {"recovers_every": 4}
_slices = pytest.mark.parametrize(
    "part", [pytest.param(_SOME, id="some"), pytest.param(_ALL, id="all", marks=_CAMPAIGN)]
)

BASES = {"empty": (), "populated": POPULATED}
RecordProperty = Callable[[str, object], None]


async def _examined(
    record_property: RecordProperty,
    kinds: Iterable[Sequence[str]],
    base: Sequence[str],
    options: dict[str, Any],
    caps: Caps = QUICK,
    nested_caps: Caps | None = None,
    models: Sequence[Model] = MODELS,
    **more: int,
) -> Tally:
    enumerator = Enumerator(options, caps, nested_caps, **more)
    for sequence in kinds:
        await enumerator.run(sequence, base, models)
        if enumerator.is_done:
            break
    print(options, "/".join(base) or "empty", "+", enumerator.tally)
    record_property("examined", enumerator.tally.states.total() + enumerator.tally.nested)
    return enumerator.tally


@_slices
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.few(1)
async def test_one_call(
    durability: str, base: str, record_property: RecordProperty, part: dict[str, Any]
) -> None:
    """Wherever one call is cut off, what was acknowledged loads and nothing else does."""
    kinds = [*sequences(1), *((kind,) for kind in _RARE_CALLS)]

    tally = await _examined(
        record_property,
        kinds,
        BASES[base],
        {"durability": durability},
        LONG,
        **part,
    )

    assert tally.violations == []


@_slices
async def test_saves_that_fail(record_property: RecordProperty, part: dict[str, Any]) -> None:
    """A save whose sync failed takes nothing with it, and never comes back."""
    kinds = [
        ("save-refused",),
        ("replace-refused", "save-existing"),
        ("replace-refused", "flush"),
        ("save-refused", "save-refused"),
    ]

    tally = await _examined(
        record_property,
        kinds,
        POPULATED[:2],
        {"durability": "journal"},
        LONG,
        **part,
    )

    assert tally.violations == []


@_slices
@pytest.mark.parametrize("max_checkpoints", [None, 2])
@pytest.mark.parametrize(
    "models", [("killed", "ext4"), pytest.param(("posix",), marks=pytest.mark.campaign)]
)
async def test_saves_that_share_a_commit(
    record_property: RecordProperty,
    max_checkpoints: int | None,
    models: Sequence[Model],
    part: dict[str, Any],
) -> None:
    """Of saves of several sessions that share a commit, each acknowledged one is there."""
    options = {"durability": "journal", "max_checkpoints": max_checkpoints}

    tally = await _examined(
        record_property,
        [("burst",)],
        POPULATED[:2],
        options,
        SECOND,
        models=models,
        **part,
    )

    assert tally.violations == []


@_slices
@pytest.mark.parametrize("kind", _BESIDE_FLUSH)
@pytest.mark.parametrize(
    "models", [("killed", "ext4"), pytest.param(("posix",), marks=pytest.mark.campaign)]
)
@pytest.mark.some(2)
async def test_changes_beside_a_flush(
    kind: str, models: Sequence[Model], record_property: RecordProperty, part: dict[str, Any]
) -> None:
    """What is saved, replaced, deleted while files are being written is not lost, nor back."""
    kinds = [("save-existing", "delete", kind)]
    options = {"durability": "journal"}

    tally = await _examined(
        record_property,
        kinds,
        POPULATED[:2],
        options,
        LONG,
        models=models,
        **part,
    )

    assert tally.violations == []


@_slices
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.few(1)
async def test_segments_that_are_used_again(
    durability: str, record_property: RecordProperty, part: dict[str, Any]
) -> None:
    """Where each save needs another segment, what old ones hold comes neither back nor between."""
    again = ("save-existing", "flush", "replace-newest", "delete", "flush")
    kinds = [again[:length] for length in (1, 3, 5)] + [(*again, *again[:n]) for n in (1, 3)]
    options = {"durability": durability}

    tally = await _examined(
        record_property,
        kinds,
        POPULATED,
        options,
        LONG,
        **part,
        slot_bytes=TINY_SLOT_BYTES,
    )

    assert tally.violations == []


class TestSecondCrash:
    @pytest.mark.long
    async def test_recovery_can_be_cut_off(self, record_property: RecordProperty) -> None:
        """A crash during the recovery from a crash changes nothing of what is seen."""
        tally = await _examined(
            record_property,
            [("save-existing", "replace-newest")],
            (),
            {"durability": "journal"},
            NESTED,
            SECOND,
            looks_every=8,
            recovers_every=4,
            nested_every=24,
        )

        assert tally.violations == []
        assert tally.nested > 0

    async def test_a_torn_backup_that_outlives_its_file_is_replaced(self) -> None:
        """A torn file that is written anew, and the backup that is its second name, are whole."""
        options = {"durability": "journal"}
        recording = await record(("save-existing", "save-existing", "flush"), options)
        tree = recording.tree_after(2)
        control = next(node for path, node in tree.walk() if path.endswith("control"))
        tree.contents[control].truncate(0)  # so that nobody knows that it was flushed
        ((directory, name),) = (
            (directory, name)
            for directory, names in tree.entries.items()
            for name in names
            if name.endswith(layout.BACKUP_SUFFIX)
        )
        torn = max(tree.kinds) + 1
        tree.know(torn, File())
        tree.contents[torn].truncate(100)
        tree.entries[directory][name] = torn
        tree.entries[directory][name.removesuffix(layout.BACKUP_SUFFIX)] = torn

        with scratch_directory() as outer, same_each_time(3):
            views = await read_after_crash(tree, outer, options)
            files = await recover_after_crash(tree, outer, views, options)

        assert [version.serial for version in views["a"]] == [2, 1]
        mended = files.tree.contents[files.tree.entries[directory][name]]
        assert mended.size > 100


@pytest.mark.few(2)
class TestDeletesStay:
    async def test_a_deleted_checkpoint_does_not_return_as_it_was_before_it_was_replaced(
        self,
        record_property: RecordProperty,
    ) -> None:
        """After an acknowledged delete neither the last nor any earlier content of an id loads."""
        sequence = ("delete", "replace-newest", "delete-latest")

        tally = await _examined(
            record_property,
            [sequence],
            POPULATED,
            {"durability": "file"},
            looks_every=_LOOKS_EVERY,
            recovers_every=4,
        )

        assert tally.violations == []

    async def test_a_pruned_checkpoint_does_not_return_as_the_newest(
        self, record_property: RecordProperty
    ) -> None:
        """What was pruned is not loaded again when everything newer has been deleted."""
        sequence = ("save-existing", "delete-latest", "delete-latest")
        options = {"durability": "journal", "max_checkpoints": 2}

        tally = await _examined(
            record_property,
            [sequence],
            POPULATED,
            options,
            looks_every=_LOOKS_EVERY,
            recovers_every=4,
        )

        assert tally.violations == []

    async def test_pruning_checkpoints_and_backups_together(
        self, record_property: RecordProperty
    ) -> None:
        """A save that prunes a checkpoint and, with it, the oldest backup succeeds."""
        options = {"durability": "file", "max_checkpoints": 2, "max_backups": 1}

        tally = await _examined(
            record_property,
            [("save-existing",)],
            POPULATED,
            options,
            looks_every=_LOOKS_EVERY,
            recovers_every=4,
        )

        assert tally.violations == []


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", oracle.CALLS)
@pytest.mark.parametrize("durability", DURABILITIES)
class TestSequences:
    @pytest.mark.parametrize("base", BASES)
    async def test_two_calls_and_a_second_crash(
        self, durability: str, base: str, first: str, record_property: RecordProperty
    ) -> None:
        """All sequences of two calls survive a crash, and a second one during the recovery."""
        kinds = itertools.product([first], (*oracle.CALLS, *_RARE_CALLS))
        options = {"durability": durability}

        tally = await _examined(
            record_property,
            kinds,
            BASES[base],
            options,
            QUICK,
            NESTED,
            recovers_every=4,
            nested_every=100,
        )

        assert tally.violations == []

    @pytest.mark.parametrize("slot_bytes", [SMALL_SLOT_BYTES, TINY_SLOT_BYTES])
    async def test_three_calls(
        self, durability: str, first: str, slot_bytes: int, record_property: RecordProperty
    ) -> None:
        """All sequences of three calls survive a crash, also where each needs another segment."""
        kinds = itertools.product([first], oracle.CALLS, oracle.CALLS)

        tally = await _examined(
            record_property,
            kinds,
            (),
            {"durability": durability},
            LONG,
            recovers_every=4,
            slot_bytes=slot_bytes,
        )

        assert tally.violations == []


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", oracle.CALLS)
async def test_two_calls_with_a_limit(first: str, record_property: RecordProperty) -> None:
    """All sequences of two calls survive a crash where saves drop what is over a limit."""
    kinds = itertools.product([first], oracle.CALLS)
    options = {"durability": "journal", "max_checkpoints": 2, "max_backups": 1}

    tally = await _examined(record_property, kinds, POPULATED, options, LONG, recovers_every=4)

    assert tally.violations == []


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", ["save-refused", "replace-refused"])
async def test_a_save_that_fails_and_then_two_calls(
    first: str, record_property: RecordProperty
) -> None:
    """After a save that failed all sequences of two calls survive a crash."""
    kinds = itertools.product([first], oracle.CALLS, oracle.CALLS)

    tally = await _examined(
        record_property, kinds, POPULATED[:1], {"durability": "journal"}, LONG, recovers_every=4
    )

    assert tally.violations == []


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", _BESIDE_FLUSH)
@pytest.mark.parametrize("before", oracle.CALLS)
async def test_a_call_and_changes_beside_a_flush(
    before: str, kind: str, record_property: RecordProperty
) -> None:
    """After any call, and before any, changes that are made beside a flush survive a crash."""
    kinds = [(before, kind), *itertools.product([before], [kind], oracle.CALLS)]

    tally = await _examined(
        record_property, kinds, POPULATED, {"durability": "journal"}, LONG, recovers_every=4
    )

    assert tally.violations == []


@pytest.mark.parametrize(
    ("durability", "kinds"),
    [
        ("journal", ("burst", "save-new", *_BESIDE_FLUSH)),
        ("file", ("save-existing", "copy-session", "delete", "replace", "flush")),
    ],
)
async def test_a_run_is_the_same_each_time(durability: str, kinds: Sequence[str]) -> None:
    """Whoever finds a violation by its name finds it again."""
    options = {"durability": durability}

    assert await record(kinds, options, POPULATED) == await record(kinds, options, POPULATED)


def test_the_recorder_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    """A system call that the recorder cannot record is an error, not a gap."""
    files = RecordingFiles(tmp_path)

    with pytest.raises(KeyError):
        files.call("chmod", "x", _chmod, 1)


def _chmod(mode: int) -> None:
    """A function no recorder knows."""
