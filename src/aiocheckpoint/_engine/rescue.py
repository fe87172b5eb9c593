"""Writing what only processes know that are alive, where the journal was removed by hand."""

from __future__ import annotations

import contextlib

from aiocheckpoint._disk.pending import Committed
from aiocheckpoint._engine.apply import Files
from aiocheckpoint._engine.root import OpenRoot
from aiocheckpoint._engine.sync import Touched
from aiocheckpoint._format import names
from aiocheckpoint.errors import CheckpointError, StorageError


def known_alone(root: OpenRoot) -> dict[str, list[Committed]]:
    """Return by session what a root's journal has, as far as it was read, and files may not."""
    view = root.view
    with contextlib.suppress(StorageError):  # of what is not open any more nothing can be read
        view.follow()
    with view.mutex:
        found = {
            name: [committed for committed in session.entries if committed.place > view.flushed]
            for name, session in view.pending.sessions.items()
        }
    return {name: entries for name, entries in found.items() if entries}


def write_known(root: OpenRoot) -> None:
    """
    Write the files of what a root's journal had, durably; then nobody applies it any more.

    Its locks went with it. Who else does the same writes the same files.

    Raises:
        CheckpointError: some could not be written; all others are.
    """
    operations, view = root.operations, root.view
    top = view.sessions.root
    operations.make_subdirectory(top, names.PRIVATE_DIRECTORY)
    with contextlib.ExitStack() as stack:
        private = operations.require_subdirectory(top, names.PRIVATE_DIRECTORY)
        stack.callback(operations.close_directory, private)
        touched = Touched(operations, top)
        stack.callback(touched.close)
        files, errors = Files(view, private), list[CheckpointError]()
        end = root.log.end if root.log is not None else 0
        for name, entries in known_alone(root).items():
            try:
                files.apply(name, entries, end, touched)
            except CheckpointError as error:
                errors.append(error)
        touched.sync()
        if errors:
            raise errors[0]
    view.is_left = True
