"""Every place in the library where something is synced, and versions of it that leave one out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import aiocheckpoint
from tests.crash.recorder import RecordingFiles

_SOURCE = Path(aiocheckpoint.__file__).parent
_CORE = ("_disk", "_engine")
_METHODS = frozenset(
    {
        "sync_file", "sync_directory", "sync_data", "sync_name", "sync_everything",
        "sync", "_sync_slot", "sync_control", "keep",
    }
)  # fmt: skip
_FUNCTIONS = frozenset({"fsync", "full_sync", "data_sync", "syncfs"})


class Site(NamedTuple):
    """
    A call of one of the syncing file operations, or of what leads to one.

    Attributes:
        path: of the source.
        lines: of the call.
        function: around it.
        call: method and arguments.
    """

    path: str
    lines: range
    function: str
    call: str

    def __str__(self) -> str:
        return f"{Path(self.path).stem}.{self.function}: {self.call}"


@cache
def sites() -> list[Site]:
    """Return all of the core; adapters and stores elsewhere sync nothing themselves."""
    paths = [path for part in _CORE for path in sorted((_SOURCE / part).glob("*.py"))]
    return [site for path in paths for site in _sites_in(path)]


def _sites_in(path: Path) -> Iterator[Site]:
    text = path.read_text()
    if not any(f".{method}(" in text for method in _METHODS):
        return  # nor is it parsed: every process that collects tests comes by here
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in _METHODS
                ):
                    end = node.end_lineno or node.lineno
                    lines = range(node.lineno, end + 1)
                    arguments = ", ".join(map(ast.unparse, node.args))
                    yield Site(str(path), lines, function.name, f"{node.func.attr}({arguments})")


@contextmanager
def forgotten(site: Site) -> Iterator[None]:
    """Let one place say that it has synced when it has not, where operations are recorded."""
    places = {(site.path, line) for line in site.lines}
    recorded = RecordingFiles.recorded

    def recorded_but_there(files: RecordingFiles, name: str, function: Any) -> Any:
        if name in _FUNCTIONS and not places.isdisjoint(_asked_by()):
            return _nothing
        return recorded(files, name, function)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordingFiles, "recorded", recorded_but_there)
        yield


def _asked_by() -> Iterator[tuple[str, int]]:
    """Yield where in the source this is called from."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


def _nothing(*args: object, **kwargs: object) -> None:
    """Sync nothing."""
