"""Versions of the library that break a rule of durability, each by an edit of its source."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any, NamedTuple

import pytest

from aiocheckpoint.writer import Durability
from tests.crash.enumeration import POPULATED
from tests.crash.model import Model


class Edit(NamedTuple):
    """
    A change of a function's source.

    Attributes:
        function: its module within the package, and its name there.
        old: a text that stands in it once.
        new: what it becomes.
    """

    function: str
    old: str
    new: str


class Mutant(NamedTuple):
    """
    A broken version, and calls during which a crash shows it.

    Attributes:
        name: what is wrong.
        edits: of the source.
        calls: names of calls; a crash during or after the last is looked at.
        model: of the crash.
        durability: of the writer.
        base: names of calls made before, closed and durable.
        crashes_again: whether it takes a second crash, inside the recovery.
    """

    name: str
    edits: tuple[Edit, ...]
    calls: Sequence[str]
    model: Model = "posix"
    durability: Durability = "journal"
    base: Sequence[str] = ()
    crashes_again: bool = False


MUTANTS = (
    Mutant(
        "the file is not synced",
        (Edit("store.Store.publish", "files.sync_file(descriptor, path)", "pass"),),
        ("save-new",),
        durability="file",
    ),
    Mutant(
        "the directory is not synced",
        (
            Edit(
                "store.Store._sync_published",
                "self.files.sync_directory(session.directory)",
                "pass",
            ),
        ),
        ("save-new",),
        durability="file",
    ),
    Mutant(
        "the directories above are not synced",
        (Edit("store.Store.save", "self.sessions.sync_entries(session)", "pass"),),
        ("save-new",),
        durability="file",
    ),
    Mutant(
        "the session's own directory is not synced into the root",
        (
            Edit(
                "sessions.SessionDirectories.sync_entries",
                "self._files.sync_directory(root)",
                "pass",
            ),
        ),
        ("save-new",),
        durability="file",
    ),
    Mutant(
        "a new root is not synced into its parent",
        (Edit("files.LocalFiles.make_root", "self.sync_directory(directory)", "pass"),),
        ("save-new",),
    ),
    Mutant(
        "the directory of the journal is not synced",
        (Edit("commit.Commits._opened_journal", "files.sync_directory(root)", "pass"),),
        ("save-new",),
    ),
    Mutant(
        "a new journal is not synced into its directory",
        (Edit("journal.Journal._make_segment", "files.sync_directory(self._directory)", "pass"),),
        ("save-new",),
    ),
    Mutant(
        "what is replaced is removed before its successor is durable",
        (
            Edit(
                "store.Store.save",
                "            self._sync_published(session, name)\n"
                "            self.prune(session, replaced, synced=True)\n",
                "            self.prune(session, replaced, synced=False)\n"
                "            self._sync_published(session, name)\n",
            ),
        ),
        ("replace",),
        durability="file",
        base=POPULATED[:1],
    ),
    Mutant(
        "latest.json is there before what it names, in a batch",
        (
            Edit(
                "changes.SaveGroup.apply",
                "        published = [plan",
                "        self._show(self._planned)\n        published = [plan",
            ),
        ),
        ("save-new",),
        "killed",
    ),
    Mutant(
        "latest.json is there before what it names",
        (
            Edit(
                "store.Store.save",
                "self.publish(session, name",
                "self.point(session, name, sealed.body)\n            self.publish(session, name",
            ),
        ),
        ("save-new",),
        "killed",
        durability="file",
    ),
    Mutant(
        "a commit is acknowledged before its fdatasync",
        (Edit("journal.Journal._append", "files.sync_data(segment.descriptor, path)", "pass"),),
        ("save-existing",),
        base=POPULATED[:1],
    ),
    Mutant(
        "the journal is dropped before the files are flushed",
        (
            Edit(
                "journal.Journal._settle", "sync_sessions(self._files, self._root, touched)", "pass"
            ),
        ),
        ("save-existing", "flush"),
    ),
    Mutant(
        "replay trusts the size of a file",
        (
            Edit(
                "replay._is_in_place",
                "return backup in (None, body) and files.read(directory, name, len(body)) == body",
                "return len(files.read(directory, name, len(body)) or b'') == len(body)",
            ),
        ),
        ("save-new",),
    ),
    Mutant(
        "replay brings back what was deleted",
        (
            Edit(
                "replay._by_session",
                "elif isinstance(entry, JournaledDelete):\n"
                "            wanted.removed.update(entry.removed)\n",
                "elif isinstance(entry, JournaledDelete):\n            pass\n",
            ),
        ),
        ("delete-latest",),
        base=POPULATED[:2],
    ),
    Mutant(
        "replay removes only what is there",
        (
            Edit(
                "replay._replay_session",
                "            store.files.unlink(session.directory, name)\n",
                "            if not store.files.unlink(session.directory, name):\n"
                "                raise StorageError('remove', name, None, 'it is gone already')\n",
            ),
        ),
        ("delete",),
        base=POPULATED[:2],
    ),
    Mutant(
        "replay drops the journal without flushing",
        (
            Edit(
                "replay.replay",
                "sync_sessions(store.files, store.sessions.make_root(), "
                "_touched(segments.dead.values()))",
                "pass",
            ),
        ),
        ("save-existing",),
        crashes_again=True,
    ),
    Mutant(
        "replay drops the journal before flushing",
        (
            Edit(
                "replay.replay",
                "        sync_sessions(store.files",
                "        for name in segments.dead:\n"
                "            store.files.unlink(directory, name)\n"
                "        sync_sessions(store.files",
            ),
        ),
        ("save-existing",),
        crashes_again=True,
    ),
    Mutant(
        "frames are not bound to the use of their segment",
        (
            Edit("journal._parse_frame", " or found_id != segment_id", ""),
            Edit(
                "journal._parse_frame", "_digest(segment_id, payload)", "_digest(found_id, payload)"
            ),
        ),
        ("save-existing", "save-existing", "flush", "delete-latest", "flush", "save-existing"),
        "killed",
    ),
    Mutant(
        "saves that failed are not undone",
        (Edit("commit.Commits.run", "[*self._undoing(groups), *entries]", "entries"),),
        ("replace-refused", "save-existing"),
        base=POPULATED[:2],
    ),
    Mutant(
        "replay does not look at what was undone",
        (Edit("replay._by_session", "elif (entry.session, entry.name) not in undone:", "else:"),),
        ("replace-refused", "save-existing"),
        base=POPULATED[:2],
    ),
    Mutant(
        "replay leaves the files of saves that were undone",
        (Edit("replay._by_session", "wanted.removed.update(entry.undone)", "pass"),),
        ("replace-refused", "save-existing"),
        "ext4",
        base=POPULATED[:2],
    ),
    Mutant(
        "a delete is not journaled",
        (
            Edit(
                "changes.DeleteGroup.__init__",
                "self.entries.append(JournaledDelete(session.name, removed))",
                "pass",
            ),
        ),
        ("delete-latest",),
        base=POPULATED[:2],
    ),
)


@contextmanager
def mutated(edits: Sequence[Edit]) -> Iterator[None]:
    """
    Put edited functions in the place of the library's.

    Raises:
        LookupError: an edit fits the source no more; the mutant has to be written anew.
    """
    with pytest.MonkeyPatch.context() as patch:
        for edit in edits:
            _apply(edit, patch)
        yield


_sources: dict[CodeType, str] = {}
_PACKAGE = "aiocheckpoint"


def _apply(edit: Edit, patch: pytest.MonkeyPatch) -> None:
    module_name, *names = edit.function.split(".")
    found: Any = importlib.import_module(f"{_PACKAGE}.{module_name}")
    for name in names:
        found = getattr(found, name)
    function = inspect.unwrap(found)
    source = _sources.get(function.__code__) or inspect.getsource(function)
    if source.count(edit.old) != 1:
        raise LookupError(f"{edit.function} does not hold {edit.old!r} once")
    edited = source.replace(edit.old, edit.new)
    code = _compiled(edited, edit.function)
    _sources[code] = edited
    # The code, not the function: others have imported that, or it has been decorated.
    patch.setattr(function, "__code__", code)


def _compiled(source: str, name: str) -> CodeType:
    if source.startswith(" "):  # a method, as it stands in its class
        source = f"if True:\n{source}"
    definition = next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    definition.decorator_list = []
    around = ast.parse("def around(__class__): pass")  # where a `super()` finds its class
    (outer,) = around.body
    assert isinstance(outer, ast.FunctionDef)
    outer.body = [definition]
    return _code_within(_code_within(compile(around, f"<mutant of {name}>", "exec")))


def _code_within(code: CodeType) -> CodeType:
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))
