"""What may be on the disk after a crash, given what was asked of it; pure.

Three models, from the strongest promise of the system to the weakest:

`killed`: the process dies, the system lives on. Everything done is there.

`ext4`: power cut; a file system that journals metadata in order. Names and sizes are those of
some moment since the last fsync, all of them together; what was written to a file since its
own sync is there up to some block (or, inside what the file had, in any of its blocks).

`posix`: power cut; nothing is promised but what fsync says. An fsync of a file makes its bytes
durable and not its name; an fsync of a directory its names and nothing else. Of all the rest any
part may be there: each name, each block, in any combination, and a block that was being written
may hold zeros, garbage, or what was elsewhere on the disk before, unless what was written is what
it held: a disk writes whole sectors. A rename within a directory is atomic, one across
directories is two changes. An fdatasync of a file makes durable only the
bytes within a size that an fsync has made durable before: kernels have broken more than that.

All three take a write to leave alone the bytes beside it in its block. In `ext4` an fdatasync
of a file makes its bytes and its size durable, and is not taken to write names too.

States are de-duplicated. Where there are too many, the extreme ones are taken: none, all, each
prefix, each one missing, each one alone, and a seeded sample.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from tests.crash.operations import (
    BLOCK_BYTES,
    DATA_OPERATIONS,
    ENTRY_OPERATIONS,
    MARKS,
    Content,
    DataOperation,
    EntryOperation,
    Linked,
    Made,
    Operation,
    Removed,
    Renamed,
    Synced,
    SyncedAll,
    SyncFailed,
    Tree,
    Truncated,
    Written,
    Zeroed,
    split_at_blocks,
)

Model: TypeAlias = Literal["killed", "ext4", "posix"]
MODELS: tuple[Model, ...] = ("killed", "ext4", "posix")
ItemT = TypeVar("ItemT")

_GARBAGE = b"\xa5\x00\xff\x5a{\n" * 1024
_DAMAGE: tuple[Literal["zeros", "garbage", "stale"], ...] = ("zeros", "garbage", "stale")
Choice: TypeAlias = Literal["absent", "whole", "zeros", "garbage", "stale"]


class Caps(NamedTuple):
    """
    When to enumerate all, and when the extremes.

    Attributes:
        subset_items: of so many operations on names all subsets are taken.
        blocks: likewise of a file's blocks.
        contents: how many combinations of the files' contents are taken with each set of names.
        sample: how many random subsets are taken in place of all.
        block_bytes: in what pieces a write may be torn.
    """

    subset_items: int = 8
    blocks: int = 3
    contents: int = 48
    sample: int = 128
    block_bytes: int = BLOCK_BYTES


QUICK = Caps(subset_items=4, blocks=1, contents=6, sample=8)
LONG = Caps(subset_items=2, blocks=1, contents=3, sample=2)
NESTED = Caps(subset_items=1, blocks=1, contents=2, sample=0)
SECOND = Caps(subset_items=3, blocks=1, contents=3, sample=2)
FULL = Caps()


class CrashState(NamedTuple):
    """
    What a crash may leave.

    Attributes:
        point: how many operations had been asked for.
        tree: what is there.
    """

    point: int
    tree: Tree


_slice: ContextVar[slice] = ContextVar("slice", default=slice(None))


@contextmanager
def one_of(every: int, first: int = 0) -> Iterator[None]:
    """Let `crash_states` yield one of so many states, from one of them on."""
    token = _slice.set(slice(first, None, every))
    try:
        yield
    finally:
        _slice.reset(token)


def crash_states(
    model: Model,
    start: Tree,
    operations: Sequence[Operation],
    first_point: int = 0,
    caps: Caps = FULL,
) -> Iterator[CrashState]:
    """Yield every distinct state that a crash may leave, or one of so many: see `one_of`."""
    states = _all_crash_states(model, start, operations, first_point, caps)
    taken = _slice.get()
    return itertools.islice(states, taken.start, taken.stop, taken.step)


def _all_crash_states(
    model: Model,
    start: Tree,
    operations: Sequence[Operation],
    first_point: int,
    caps: Caps,
) -> Iterator[CrashState]:
    """
    Yield them, at each point from the first on.

    A point where nothing new can be lost is left out: before the next sync, mark or end the
    same states are legal too. So a state is told apart by what was asked and acknowledged.
    """
    states = {"killed": _killed, "ext4": _ext4, "posix": _posix}[model]
    seen: set[object] = set()
    before = 0
    for point in _points(model, operations, first_point):
        if any(isinstance(operation, MARKS) for operation in operations[before:point]):
            seen.clear()  # the same tree, but more is promised of it
        before = point
        for tree in states(start, _in_pieces(operations[:point], caps), caps):
            key = tree.key()
            if key not in seen:
                seen.add(key)
                yield CrashState(point, tree)


def _points(model: Model, operations: Sequence[Operation], first: int) -> list[int]:
    ends = (Synced, SyncedAll, SyncFailed, *MARKS)
    return [
        point
        for point in range(first, len(operations) + 1)
        if model == "killed" or point == len(operations) or isinstance(operations[point], ends)
    ]


def _in_pieces(operations: Iterable[Operation], caps: Caps) -> list[Operation]:
    pieces: list[Operation] = []
    for operation in operations:
        if isinstance(operation, Written):
            pieces += (
                Written(operation.node, offset, data)
                for offset, data in split_at_blocks(
                    operation.offset, operation.data, caps.block_bytes
                )
            )
        else:
            pieces.append(operation)
    return pieces


# Killed


def _killed(start: Tree, operations: Sequence[Operation], caps: Caps) -> Iterator[Tree]:
    tree = start.copy()
    for operation in operations:
        tree.apply(operation)
    yield tree


# What is forced


class _Log(NamedTuple):
    """
    Operations sorted by what a crash may do to them.

    Attributes:
        operations: all.
        forced: which are durable.
    """

    operations: Sequence[Operation]
    forced: list[bool]

    def data_of(self, node: int) -> list[int]:
        """Return the positions of the operations on a file's bytes and size."""
        return [
            position
            for position, operation in enumerate(self.operations)
            if isinstance(operation, DATA_OPERATIONS) and operation.node == node
        ]


def _forced_by_own_sync(
    operations: Sequence[Operation], durable_sizes: Mapping[int, int] | None = None
) -> list[bool]:
    """
    Tell of each operation whether its own file or directory was synced after it.

    Args:
        operations: all.
        durable_sizes: of files at the start, where an fdatasync does not make a size durable.
    """
    forced = [False] * len(operations)
    waiting: dict[int, list[int]] = defaultdict(list)
    durable = dict(durable_sizes or {})
    sizes = dict(durable)
    for position, operation in enumerate(operations):
        match operation:
            case Synced(node, True) if durable_sizes is not None:
                within = _within(operations, waiting[node], durable.get(node, 0))
                waiting[node] = [earlier for earlier in waiting[node] if earlier not in within]
                for earlier in within:
                    forced[earlier] = True
            case Synced(node, _):
                durable[node] = sizes.get(node, 0)
                for earlier in waiting.pop(node, ()):
                    forced[earlier] = True
            case SyncedAll():
                durable = dict(sizes)
                for positions in waiting.values():
                    for earlier in positions:
                        forced[earlier] = True
                waiting.clear()
            case SyncFailed(node):
                # The system drops a file's pages then, and the next sync "succeeds".
                waiting.pop(node, None)
            case Renamed(source, _, _, _, _):
                waiting[source].append(position)
            case operation if isinstance(operation, ENTRY_OPERATIONS):
                waiting[_directory(operation)].append(position)
            case operation if isinstance(operation, DATA_OPERATIONS):
                waiting[operation.node].append(position)
                probe = Content(sizes.get(operation.node, 0))
                probe.apply(operation)
                sizes[operation.node] = probe.size
    return forced


def _within(operations: Sequence[Operation], positions: Iterable[int], size: int) -> set[int]:
    """Return which of the positions are writes that end within a size."""
    return {position for position in positions if _end_of(operations[position]) <= size}


def _end_of(operation: Operation) -> float:
    match operation:
        case Written(_, offset, data):
            return offset + len(data)
        case Zeroed(_, offset, length):
            return offset + length
        case _:
            return math.inf


def _directory(operation: EntryOperation) -> int:
    return operation.source if isinstance(operation, Renamed) else operation.directory


# ext4


def _ext4(start: Tree, operations: Sequence[Operation], caps: Caps) -> Iterator[Tree]:
    own = _forced_by_own_sync(operations)
    full_syncs = [
        position
        for position, operation in enumerate(operations)
        if isinstance(operation, SyncedAll)
        or (isinstance(operation, Synced) and not operation.data_only)
    ]
    committed = full_syncs[-1] if full_syncs else 0
    for end in range(committed, len(operations) + 1):
        if end < len(operations) and not _is_metadata(operations[end]):
            continue
        yield from _ext4_with_metadata_to(end, start, operations, own, caps)


def _is_metadata(operation: Operation) -> bool:
    return isinstance(operation, (*ENTRY_OPERATIONS, Truncated))


def _ext4_with_metadata_to(
    end: int, start: Tree, operations: Sequence[Operation], own: list[bool], caps: Caps
) -> Iterator[Tree]:
    names = _named(start, operations, [p < end for p in range(len(operations))])
    log = _Log(
        operations,
        [
            forced or (position < end and _is_metadata(operation))
            for position, (operation, forced) in enumerate(zip(operations, own, strict=True))
        ],
    )
    contents = {
        node: _ext4_contents(start.contents.get(node, Content()), log, node, caps)
        for node in _files_with_names(names)
    }
    yield from _with_contents(names, contents, caps)


def _ext4_contents(start: Content, log: _Log, node: int, caps: Caps) -> list[Content]:
    positions = log.data_of(node)
    loose = [
        p
        for p in positions
        if not log.forced[p] and isinstance(log.operations[p], Written | Zeroed)
    ]
    if _all_extend(start, log, positions, loose):
        chosen = [loose[:length] for length in _few(range(len(loose) + 1), caps)]
    else:
        chosen = [list(subset) for subset in _subsets(loose, caps.blocks, caps)]
    return _distinct(
        _content(
            start,
            log,
            positions,
            {p: "whole" if p in kept else "absent" for p in loose},
        )
        for kept in chosen
    )


def _all_extend(start: Content, log: _Log, positions: list[int], loose: list[int]) -> bool:
    """Tell whether all that is not durable was written behind the end, in order."""
    size = start.size
    for position in positions:
        operation = log.operations[position]
        assert isinstance(operation, DATA_OPERATIONS)
        if (
            position in loose
            and isinstance(operation, Written | Zeroed)
            and operation.offset < size
        ):
            return False
        probe = Content(size)
        probe.apply(operation)
        size = probe.size
    return True


# posix


def _posix(start: Tree, operations: Sequence[Operation], caps: Caps) -> Iterator[Tree]:
    operations = _renames_in_halves(operations)
    sizes = {node: content.size for node, content in start.contents.items()}
    log = _Log(operations, _forced_by_own_sync(operations, sizes))
    loose = [
        position
        for position, operation in enumerate(operations)
        if isinstance(operation, ENTRY_OPERATIONS) and not log.forced[position]
    ]
    contents: dict[int, list[Content]] = {}
    shapes: set[object] = set()
    for kept in _subsets(loose, caps.subset_items, caps):
        names = _named(start, operations, [f or p in kept for p, f in enumerate(log.forced)])
        shape = names.shape()
        if shape in shapes:
            continue
        shapes.add(shape)
        for node in _files_with_names(names):
            if node not in contents:
                old = start.contents.get(node, Content())
                contents[node] = _posix_contents(old, log, node, caps)
        yield from _with_contents(names, contents, caps)


def _renames_in_halves(operations: Iterable[Operation]) -> list[Operation]:
    halves: list[Operation] = []
    for operation in operations:
        if isinstance(operation, Renamed) and operation.source != operation.target:
            halves += (
                Linked(operation.target, operation.new, operation.node),
                Removed(operation.source, operation.old, operation.node),
            )
        else:
            halves.append(operation)
    return halves


def _posix_contents(start: Content, log: _Log, node: int, caps: Caps) -> list[Content]:
    positions = log.data_of(node)
    loose = [position for position in positions if not log.forced[position]]
    choices: list[dict[int, Choice]] = [
        {p: "whole" if p in kept else "absent" for p in loose}
        for kept in map(set, _subsets(loose, caps.blocks, caps))
    ]
    for damage in _DAMAGE:
        choices.append(dict.fromkeys(loose, damage))
        choices += (
            {p: damage if p == position else "whole" for p in loose}
            for position in _few(loose, caps)
        )
    return _distinct(_content(start, log, positions, choice) for choice in choices)


# Both


def _named(start: Tree, operations: Sequence[Operation], kept: Sequence[bool]) -> Tree:
    """Return the tree with some of the operations on names, and every node known."""
    tree = Tree(
        dict(start.kinds),
        {directory: dict(names) for directory, names in start.entries.items()},
        {node: content for node, content in start.contents.items()},  # noqa: C416 - replaced, not changed
    )
    for operation, is_kept in zip(operations, kept, strict=True):
        if not isinstance(operation, ENTRY_OPERATIONS):
            continue
        if is_kept:
            tree.apply_entry(operation)
        elif isinstance(operation, Made):
            tree.know(operation.node, operation.kind)
    return tree


def _files_with_names(tree: Tree) -> list[int]:
    return sorted({node for _, node in tree.walk() if node in tree.contents})


def _content(
    start: Content, log: _Log, positions: Iterable[int], choices: dict[int, Choice]
) -> Content:
    content = start.copy()
    for position in positions:
        operation = log.operations[position]
        assert isinstance(operation, DATA_OPERATIONS)
        _apply_some(content, operation, choices.get(position, "whole"), log)
    return content


def _apply_some(content: Content, operation: DataOperation, choice: Choice, log: _Log) -> None:
    if choice == "absent":
        return
    if choice == "whole" or isinstance(operation, Truncated):
        content.apply(operation)
        return
    if isinstance(operation, Written) and content.holds(operation.offset, operation.data):
        return
    if isinstance(operation, Zeroed):
        content.apply(operation)
        length = min(operation.length, len(_GARBAGE))
    else:
        length = len(operation.data)
    damaged = {
        "zeros": lambda: bytes(length),
        "garbage": lambda: _GARBAGE[:length],
        "stale": lambda: _stale(operation, length, log),
    }[choice]()
    content.write(operation.offset, damaged)


def _stale(operation: DataOperation, length: int, log: _Log) -> bytes:
    """Return what another file had at the same place, which a reused block may still hold."""
    for other in log.operations:
        if (
            isinstance(other, Written)
            and isinstance(operation, Written | Zeroed)
            and (other.node, other.offset) != (operation.node, operation.offset)
            and other.offset % BLOCK_BYTES == operation.offset % BLOCK_BYTES
        ):
            return other.data[:length].ljust(length, b"\0")
    return _GARBAGE[:length]


def _with_contents(names: Tree, contents: dict[int, list[Content]], caps: Caps) -> Iterator[Tree]:
    """Yield the tree with each combination of contents of the files that have names."""
    files = [node for node in _files_with_names(names) if node in contents]
    uncertain = [node for node in files if len(contents[node]) > 1]
    fixed = {node: contents[node][0] for node in files if len(contents[node]) == 1}
    for combination in _combinations([contents[node] for node in uncertain], caps.contents):
        whole = {**names.contents, **fixed, **dict(zip(uncertain, combination, strict=True))}
        yield Tree(names.kinds, names.entries, whole)


def _combinations(options: list[list[Content]], most: int) -> Iterator[tuple[Content, ...]]:
    """Yield all combinations, or, where they are too many, each option beside extreme ones."""
    total = 1
    for option in options:
        total *= len(option)
    if total <= most:
        yield from itertools.product(*options)
        return
    firsts = tuple(option[0] for option in options)
    lasts = tuple(option[-1] for option in options)
    yield firsts
    yield lasts
    for index, option in enumerate(options):
        for one in option:
            yield (*lasts[:index], one, *lasts[index + 1 :])


def _distinct(contents: Iterable[Content]) -> list[Content]:
    return list({content.key(): content for content in contents}.values())


def _few(items: Sequence[ItemT], caps: Caps) -> list[ItemT]:
    """Return all of a few items, or the first, the last and some between."""
    most = 4 * caps.blocks
    if len(items) <= most:
        return list(items)
    step = (len(items) - 1) / (most - 1)
    return [items[round(step * number)] for number in range(most)]


def _subsets(items: Sequence[int], most: int, caps: Caps) -> Iterator[frozenset[int]]:
    """Yield all subsets, the empty one first and the full one last; or the extreme ones."""
    if len(items) <= most:
        for size in range(len(items) + 1):
            yield from map(frozenset, itertools.combinations(items, size))
        return
    everything = frozenset(items)
    few = _few(items, caps)
    yield frozenset()
    yield from (frozenset([item]) for item in few)
    yield from (frozenset(items[: items.index(item)]) for item in few)
    yield from (frozenset(items[items.index(item) :]) for item in few)
    yield from (everything - {item} for item in few)
    dice = random.Random(len(items))
    for _ in range(caps.sample):
        yield frozenset(item for item in items if dice.random() < 0.5)
    yield everything
