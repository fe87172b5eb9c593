"""List 6: a session is listed while another process replaces one of its checkpoints for ever."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointError
from aiocheckpoint._disk.files import Directory, LocalFiles
from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine import listing
from tests.conftest import MakeWriter
from tests.engine.disk import Disk
from tests.engine.files import Call, DiskFiles
from tests.engine.kernel import WouldWaitError
from tests.engine.nodes import EVERYTHING, Image
from tests.engine.process import Process, make_record

Sight = Literal["neither", "both"]
_SIGHTS: tuple[Sight, ...] = ("neither", "both")
_OTHERS = tuple(f"other{number}" for number in range(4))
_LARGE = 9_000
_STEP = 13
"""Of the moments of a default slice; the campaign looks at all."""


class SplitFiles(DiskFiles):
    """
    A disk whose listings are not atomic.

    Attributes:
        sight: what a listing shows of a file that is made while another is removed: `"neither"`,
            where one is made where it has been and the other removed where it has not; or
            `"both"`.
        between: called amid a listing.
    """

    sight: Sight = "neither"
    between: Callable[[], None] = staticmethod(lambda: None)

    def scan(self, directory: Directory) -> list[str]:
        first = super().scan(directory)
        self.between()
        second = super().scan(directory)
        if self.sight == "both":
            return [*dict.fromkeys([*first, *second])]
        return [name for name in first if name in second]


class Scene:
    """
    One process replaces a checkpoint whenever it is told to; another reads and replaces it.

    Args:
        disk: they are on, with what `populate` made.
        sight: what a listing shows of what changes meanwhile.
        act: how the first replaces it.
        is_known: whether the second has listed the session before.
    """

    def __init__(
        self, disk: Disk, sight: Sight, act: Callable[[Scene], None], *, is_known: bool
    ) -> None:
        self.serials = itertools.count(1)
        self.one, self.two = Process(disk), Process(disk)
        self._act = act
        files = SplitFiles(disk)
        files.sight = sight
        files.between = self.act
        self.two.files = files
        self._is_acting = True  # not yet
        self.two.to_write()
        self.two.reader().look()
        if is_known:
            self.two.seen("s")
            self.one.save("s", "x", next(self.serials))
            self.one.tenure()
        self._is_acting = False
        self.acts = 0

    def act(self) -> None:
        """Let the first process replace it, if it need not wait for the second."""
        if not self._is_acting:
            self._is_acting = True
            try:
                self._act(self)
                self.acts += 1
            except WouldWaitError:
                pass
            finally:
                self._is_acting = False

    def act_at(self, which: Callable[[int], bool]) -> None:
        """Let the first process act before some of the second's calls."""
        numbers = itertools.count()

        def before(call: Call) -> None:
            if not self._is_acting and which(next(numbers)):
                self.act()

        self.two.files.before = before

    def check(self, ids: list[str]) -> None:
        """See that it is there once, and so are the others."""
        assert sorted(ids) == sorted((*_OTHERS, "x")), ids


def populate(disk: Disk) -> Image:
    """Return a session's checkpoints, all of them in files, the last of which is replaced."""
    process = Process(disk)
    for key in (*_OTHERS, "x"):
        process.save("s", key)
    process.flush()
    return disk.image(EVERYTHING)


# What the first process does


def _commit(scene: Scene) -> None:
    scene.one.save("s", "x", next(scene.serials))


def _apply(scene: Scene) -> None:
    scene.one.save("s", "x", next(scene.serials))
    scene.one.tenure()


def _replace_twice(scene: Scene) -> None:
    for _ in range(2):
        scene.one.save("s", "x", next(scene.serials))
        scene.one.tenure()


def _drop_segments(scene: Scene) -> None:
    for _ in range(2):
        scene.one.save("t", "y", next(scene.serials), size=_LARGE)
        scene.one.save("s", "x", next(scene.serials))
        scene.one.tenure()


_ACTS = (_commit, _apply, _replace_twice, _drop_segments)


# What the second does


def _load(scene: Scene) -> None:
    record = scene.two.reader().load("s", "x")
    assert record is not None
    assert record.checkpoint_id == "x"


def _load_newest(scene: Scene) -> None:
    record = scene.two.reader().load("s", None)
    assert record is not None
    assert record.checkpoint_id == "x"


def _list(scene: Scene) -> None:
    scene.check(
        [meta.checkpoint_id for meta in listing.listed(scene.two.reader(), "s", None, None)]
    )


def _ids(scene: Scene) -> None:
    scene.check([*listing.ids(scene.two.reader(), "s", "", None, None)])


def _replace(scene: Scene) -> None:
    scene.two.save("s", "x", next(scene.serials))


_READS = (_load, _load_newest, _list, _ids, _replace)


def _scenes(
    disk: Disk,
    work: Callable[[Scene], None],
    whiches: Sequence[Callable[[int], bool]],
    acts: Sequence[Callable[[Scene], None]],
) -> Iterator[Scene]:
    """Yield what is left of each scene when the work is done, for each time and way to act."""
    image = populate(disk)
    for act, sight, is_known in itertools.product(acts, _SIGHTS, (False, True)):
        for number, which in enumerate(whiches):
            disk.install(image)
            scene = Scene(disk, sight, act, is_known=is_known)
            scene.act_at(which)
            try:
                work(scene)
                scene.two.files.before = None
                scene.two.files.between = lambda: None  # type: ignore[attr-defined]
                yield scene
            except BaseException as error:
                place = f"time {number}, {act.__name__}, {sight}, known: {is_known}"
                error.add_note(place)
                raise
            if scene.acts == 0:
                break


def _at(number: int) -> Callable[[int], bool]:
    return lambda found: found == number


def _each(step: int) -> Callable[[int], bool]:
    return lambda found: found % step == 0


def _is_there_once(
    disk: Disk,
    work: Callable[[Scene], None],
    acts: Sequence[Callable[[Scene], None]],
    step: int = 1,
) -> None:
    count = 0
    for scene in _scenes(disk, work, [*map(_at, range(-1, 80, step))], acts):
        count += 1
        _list(scene)
        newest = [process.reader().load("s", "x") for process in (scene.one, scene.two)]
        assert newest[0] == newest[1]
    assert count > 4


@pytest.mark.blocking
@pytest.mark.parametrize("work", _READS)
@pytest.mark.few(1)
def test_at_each_moment(disk: Disk, work: Callable[[Scene], None]) -> None:
    """Whenever another replaces it, it is there once for who reads, and nothing is raised."""
    _is_there_once(disk, work, [_apply], step=_STEP)


@pytest.mark.blocking
@pytest.mark.parametrize("work", [_load, _list, _replace])
@pytest.mark.few(1)
def test_while_segments_are_dropped(disk: Disk, work: Callable[[Scene], None]) -> None:
    """It holds when what the journal held is dropped meanwhile."""
    _is_there_once(disk, work, [_drop_segments], step=2 * _STEP)


@pytest.mark.campaign
@pytest.mark.blocking
@pytest.mark.parametrize("work", _READS)
def test_each_act_at_each_moment(disk: Disk, work: Callable[[Scene], None]) -> None:
    """It holds however it is replaced."""
    _is_there_once(disk, work, _ACTS)


@pytest.mark.blocking
@pytest.mark.parametrize("work", _READS)
@pytest.mark.few(1)
def test_all_the_time(disk: Disk, work: Callable[[Scene], None]) -> None:
    """It holds while it is replaced again and again, and what the journal held is dropped."""
    often = _scenes(disk, work, [_each(17)], (_commit, _apply, _replace_twice))
    seldom = _scenes(disk, work, [_each(60)], (_drop_segments,))
    for scene in itertools.chain(often, seldom):
        assert scene.acts > 0
        assert scene.one.seen("s") == scene.two.seen("s")


def _catch_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a listing follow the log before it begins, and not after it."""
    listed = View.listed

    def listed_after_one_look(view: View, name: str) -> SessionIndex:
        view.follow()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(view, "follow", lambda: None)
            return listed(view, name)

    monkeypatch.setattr(View, "listed", listed_after_one_look)


@pytest.mark.campaign
@pytest.mark.blocking
@pytest.mark.parametrize("work", _READS)
def test_all_the_time_and_at_other_times(disk: Disk, work: Callable[[Scene], None]) -> None:
    """It holds when it is replaced more often, or less."""
    for scene in _scenes(disk, work, [_each(5), _each(11)], (_commit, _apply, _replace_twice)):
        assert scene.acts > 0
        assert scene.one.seen("s") == scene.two.seen("s")


@pytest.mark.blocking
def test_mutant_is_noticed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without catching up after the listing it is not there, or twice."""
    _catch_up_once(monkeypatch)
    with pytest.raises((AssertionError, CheckpointError)):
        _is_there_once(disk, _list, [_apply], step=_STEP)


# With threads


async def _replace_for_ever(
    writer: AsyncCheckpointWriter[CheckpointData], ending: asyncio.Event
) -> int:
    for serial in itertools.count(1):
        if ending.is_set():
            return serial
        await writer.save(make_record("s", "x", serial))
        if serial % 5 == 0:
            await writer.flush()
    return 0


@pytest.mark.long
async def test_many(make_writer: MakeWriter, root: Path) -> None:
    """Among 1,500 checkpoints the one that is replaced all the time is there once, for others."""
    one, two = make_writer(max_journal_bytes=1 << 20), make_writer()
    async with asyncio.TaskGroup() as group:
        for number in range(1500):
            group.create_task(one.save(make_record("s", f"c{number:04}", 0)))
    await one.save(make_record("s", "x", 0))
    await one.flush()
    ending = asyncio.Event()
    replacing = asyncio.create_task(_replace_for_ever(one, ending))
    try:
        for serial in range(8):
            assert await two.load("s", "x") is not None
            ids = [meta.checkpoint_id for meta in await two.list("s")]
            assert ids.count("x") == 1
            assert len(ids) == 1501
            await two.save(make_record("s", "x", -serial))
            other = make_writer()
            found = await other.load("s", "x")
            assert found is not None
            await other.aclose()
    finally:
        ending.set()
        assert await replacing > 4


async def test_what_is_flushed_beside_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a listing keeps of the journal counts as unflushed no longer than that goes on."""
    async with AsyncCheckpointWriter(tmp_path) as writer:
        await writer.save(CheckpointData(session_id="listed"))
    loop, scan = asyncio.get_running_loop(), LocalFiles.scan
    has_begun, may_end = asyncio.Event(), threading.Event()

    def held(files: LocalFiles, directory: Directory) -> list[str]:
        if "listed" in directory.path and not has_begun.is_set():
            loop.call_soon_threadsafe(has_begun.set)
            may_end.wait(60)
        return scan(files, directory)

    monkeypatch.setattr(LocalFiles, "scan", held)
    async with AsyncCheckpointWriter(tmp_path) as writer:
        await writer.save(CheckpointData(session_id="saved"))
        listing = asyncio.create_task(writer.list("listed"))
        await has_begun.wait()
        await writer.flush()
        may_end.set()
        await listing
        assert writer.stats().unflushed_changes == 0
