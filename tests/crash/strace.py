"""What a process asks of the system, seen from outside."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from tests.crash.operations import (
    File,
    Linked,
    Made,
    Operation,
    Removed,
    Renamed,
    Symlink,
    Synced,
    SyncedAll,
    Truncated,
    Written,
    Zeroed,
)

Effect: TypeAlias = tuple[str | int, ...]
SET_TIME: Effect = ("set time",)
"""An effect that no promise is about, and no record has."""

_LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_READ_ONLY = frozenset(
    {
        "access", "chdir", "close", "dup", "execve", "faccessat", "faccessat2", "fadvise64",
        "fcntl", "flock", "fstat", "fstatfs", "getcwd", "getdents64", "ioctl", "lseek", "lstat",
        "mmap", "newfstatat", "pread64", "read", "readlink", "readlinkat", "stat", "statx",
    }
)  # fmt: skip


def effects_of_process(
    command: Sequence[str], log: Path, outer: Path, directory: Path
) -> list[Effect]:
    """
    Run a command in a directory; return all that it did to what is in an outer directory.

    A file that may be made or be there, as a lock's, counts as made if it was not there before.
    """
    were_there = {path.name for path in outer.rglob("*")}
    trace = ["strace", "-f", "-yy", "-s", "0", "-e", "trace=%file,%desc,syncfs", "-o", str(log)]
    subprocess.run([*trace, *command], check=True, cwd=directory)
    with log.open(encoding="utf-8", errors="surrogateescape") as lines:
        touching = [line for line in _whole(lines) if str(outer) in line]
    effects = [effect for line in touching for effect in _effects(line)]
    makings = [("make if missing", name) for name in were_there]
    return [_made(effect) for effect in effects if effect not in makings]


def _made(effect: Effect) -> Effect:
    return ("create", effect[1]) if effect[0] == "make if missing" else effect


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Yield each call once, in the order of completion, without the number of its thread."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, text = line.rstrip("\n").partition(" ")
        text = text.lstrip()
        if text.endswith(_UNFINISHED):
            begun[thread] = text.removesuffix(_UNFINISHED)
        elif resumed := _RESUMED.match(text):
            yield begun.pop(thread) + text[resumed.end() :]
        else:
            yield text


def _effects(line: str) -> Iterator[Effect]:
    found = _LINE.match(line)
    if found is None:
        yield ("not understood", line)
        return
    call, arguments, result = found[1], found[2], int(found[3])
    if result >= 0:
        names = [os.path.basename(text) for text in _TEXT.findall(arguments)]
        yield from _effects_of_call(call, arguments, names, result)


def _effects_of_call(call: str, arguments: str, names: list[str], result: int) -> Iterator[Effect]:
    match call.removesuffix("at2").removesuffix("at"):
        case "open" if "O_CREAT" in arguments:
            yield ("create" if "O_EXCL" in arguments else "make if missing", names[0])
        case "open" if "O_TRUNC" in arguments:
            yield ("truncate",)
        case "open":
            pass
        case "link":
            yield ("link", names[-1])
        case "mkdir" | "symlink" | "rename" as kind:
            yield (kind, *names)
        case "unlink" | "rmdir":
            yield ("remove", names[0])
        case "write" | "pwrite64":
            yield ("write", result)
        case "fsync" | "fdatasync" | "syncfs" as kind:
            yield (kind,)
        case "ftruncate":
            yield ("truncate",)
        case "utimens":
            yield SET_TIME
        case _ if call not in _READ_ONLY:
            yield ("unknown call", call, arguments)


def effects_of_record(operations: Iterable[Operation]) -> list[Effect]:
    """Return what was recorded, in the terms of the system's calls."""
    return [effect for operation in operations for effect in _effects_of_operation(operation)]


def _effects_of_operation(operation: Operation) -> Iterator[Effect]:
    match operation:
        case Made(_, name, _, File()):
            yield ("create", name)
        case Made(_, name, _, Symlink(target)):
            yield ("symlink", target, name)
        case Made(_, name, _, _):
            yield ("mkdir", name)
        case Linked(_, name, _):
            yield ("link", name)
        case Renamed(_, old, _, new, _):
            yield ("rename", old, new)
        case Removed(_, name, _):
            yield ("remove", name)
        case Written(_, _, data):
            yield ("write", len(data))
        case Zeroed(_, _, length):
            yield ("write", length)
        case Truncated():
            yield ("truncate",)
        case Synced(_, data_only):
            yield ("fdatasync",) if data_only else ("fsync",)
        case SyncedAll():
            yield ("syncfs",)
