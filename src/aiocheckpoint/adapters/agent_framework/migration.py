"""Moving checkpoints here from the framework's files, each compared afterwards."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from agent_framework import FileCheckpointStorage, WorkflowCheckpoint
from agent_framework.exceptions import WorkflowCheckpointException

from aiocheckpoint import CheckpointEncodeError
from aiocheckpoint.adapters._lists import in_order
from aiocheckpoint.adapters._moving import (
    ADVICE,
    Copied,
    CopyMismatchError,
    Failure,
    Move,
    Progress,
    RefusedError,
)
from aiocheckpoint.adapters._sources import UNREADABLE, brief, reading_source
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.agent_framework.sharing import StoredCheckpoint
from aiocheckpoint.adapters.agent_framework.storage import CheckpointStorage
from aiocheckpoint.adapters.agent_framework.values import Values


class _Source(NamedTuple):
    """A checkpoint in a file of the framework."""

    time: datetime
    checkpoint_id: str
    file_name: str


async def copy_checkpoints(
    directory: str | PathLike[str],
    storage: Storage[StoredCheckpoint],
    *,
    allowed_checkpoint_types: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> Copied:
    """
    Copy all checkpoints of a `FileCheckpointStorage`, each read back and compared.

    Those of a workflow are saved in the order of their times. It may be run again: what is there
    already is left as it is, and what is missing at its end is added. A workflow of which anything
    else is there is refused before anything of it is written, since it may have gone on; all others
    are copied. Nobody may use the files meanwhile; they are not changed.

    Args:
        directory: of the files.
        storage: as of `CheckpointStorage`.
        allowed_checkpoint_types: as were given to `FileCheckpointStorage`.
        progress: called after each workflow.

    Returns:
        how many workflows and checkpoints were copied, or were there.

    Raises:
        CopyMismatchError: files tell no workflow, which `FileCheckpointStorage` would leave out of
            its lists, so that they may be of any, and nothing was copied. Or, once all else is
            copied: of some workflows a checkpoint cannot be read or stored, a file is damaged or
            has the name of another, others are there, or one reads differently afterwards.
        OSError: there is no such directory.
        CheckpointError: what else `save` and `load` raise, as of a full disk.

    Cost: each file is read three times; one save and one load a checkpoint, two loads of what is
        there.
    """
    workflows = await asyncio.to_thread(_workflows, Path(directory))
    allowed = [*(allowed_checkpoint_types or ())]
    files = FileCheckpointStorage(Path(directory), allowed_checkpoint_types=allowed)
    async with CheckpointStorage(storage, allowed_checkpoint_types=allowed) as target:
        with Move(progress, unit="workflow") as move:
            for name, workflow in workflows.items():
                with move.part(name) as part:
                    ids = workflow.ids()
                    await _copy(name, ids, files, target, Values(allowed))
                    part.entries = len(ids)
    return move.copied


async def _copy(
    name: str,
    ids: list[str],
    files: FileCheckpointStorage,
    target: CheckpointStorage,
    values: Values,
) -> None:
    there = await target.list_checkpoint_ids(workflow_name=name)
    if there != ids[: len(there)]:
        raise RefusedError(f"there are other checkpoints there already; {ADVICE}")
    for checkpoint_id in there:
        checkpoint = await _loaded(files, checkpoint_id)
        if not _is_same(await target.load(checkpoint_id), checkpoint, values):
            raise RefusedError(f"{checkpoint_id} is another one there already; {ADVICE}")
    new = ids[len(there) :]
    for checkpoint_id in new:  # all of them, before anything is written
        _require_storable(await _loaded(files, checkpoint_id), values)
    for checkpoint_id in new:
        checkpoint = await _loaded(files, checkpoint_id)
        await target.save(checkpoint)
        if not _is_same(await target.load(checkpoint_id), checkpoint, values):
            raise RefusedError(f"{checkpoint_id} is not the same after the copy")


def _require_storable(checkpoint: WorkflowCheckpoint, values: Values) -> None:
    file_name = f"{checkpoint.checkpoint_id}.json"
    if not isinstance(checkpoint.previous_checkpoint_id, str | None):
        raise RefusedError(f"previous_checkpoint_id in {file_name} is no text; mend or delete it")
    try:
        values.to_json(checkpoint.to_dict())
    except CheckpointEncodeError as error:
        raise RefusedError(f"{file_name} cannot be stored; mend or delete it: {error}") from error


def _id_in(source: _Source) -> str:
    """
    Return the id of a checkpoint, as its file has to be named.

    Raises:
        RefusedError: it is not.
    """
    if source.file_name != f"{source.checkpoint_id}.json":
        reason = f"{source.file_name} is the checkpoint {source.checkpoint_id!r}"
        raise RefusedError(f"{reason}; name it as that, or mend or delete it")
    return source.checkpoint_id


async def _loaded(files: FileCheckpointStorage, checkpoint_id: str) -> WorkflowCheckpoint:
    try:
        with reading_source(f"{checkpoint_id}.json", OSError):
            return await files.load(checkpoint_id)
    except WorkflowCheckpointException as error:
        reason = f"{checkpoint_id}.json cannot be read; register its types, or mend or delete it"
        raise RefusedError(f"{reason}: {error}") from error


def _is_same(one: WorkflowCheckpoint, two: WorkflowCheckpoint, values: Values) -> bool:
    """Tell whether two are the same; many classes of the framework cannot be compared."""
    return values.to_json(one.to_dict()).json == values.to_json(two.to_dict()).json or one == two


class _Workflow:
    """
    The checkpoints of a workflow in a directory.

    Attributes:
        sources: they.
        damage: what is wrong with those that are left out; None where there are none.
    """

    def __init__(self) -> None:
        self.sources: list[_Source] = []
        self.damage: str | None = None

    def add(self, content: dict[str, Any], file_name: str) -> None:
        """Add what a file has, or that it is damaged."""
        try:
            time = in_order(datetime.fromisoformat(content["timestamp"]))
            checkpoint_id = content["checkpoint_id"]
            if not isinstance(checkpoint_id, str):
                raise TypeError("checkpoint_id is no text")
            self.sources.append(_Source(time, checkpoint_id, file_name))
        except UNREADABLE as error:
            self.damage = _no_checkpoint(file_name, error)

    def ids(self) -> list[str]:
        """
        Return the ids in the order of their times.

        Raises:
            RefusedError: a file is damaged, or has the name of another.
        """
        if self.damage is not None:
            raise RefusedError(self.damage)
        return [_id_in(source) for source in sorted(self.sources)]


def _workflows(directory: Path) -> dict[str, _Workflow]:
    """
    Return the checkpoints in a directory by their workflows.

    Raises:
        CopyMismatchError: some file tells no workflow.
    """
    found: defaultdict[str, _Workflow] = defaultdict(_Workflow)
    failures: list[Failure] = []
    for path in sorted(directory.iterdir()):
        if path.suffix != ".json":
            continue
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            name = content["workflow_name"]
            if not isinstance(name, str):
                raise TypeError("workflow_name is no text")
        except (*UNREADABLE, OSError) as error:
            failures.append(Failure(None, _no_checkpoint(path.name, error)))
        else:
            found[name].add(content, path.name)
    if failures:
        raise CopyMismatchError(failures, Copied())
    return found


def _no_checkpoint(file_name: str, error: Exception) -> str:
    return f"{file_name} is no checkpoint; mend or delete it: {brief(error)}"
