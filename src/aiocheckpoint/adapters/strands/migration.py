"""Moving what another storage of Strands Agents holds, each value compared afterwards."""

from __future__ import annotations

from itertools import groupby

from strands.storage import Storage as FrameworkStorage

from aiocheckpoint.adapters._moving import Copied, CopyMismatchError, Progress
from aiocheckpoint.adapters._storage import Storage as Location
from aiocheckpoint.adapters.strands.records import StoredValue, place_of
from aiocheckpoint.adapters.strands.storage import Storage


async def copy_storage(
    source: FrameworkStorage,
    storage: Location[StoredValue],
    *,
    prefix: str = "",
    progress: Progress | None = None,
) -> Copied:
    """
    Copy what a storage of the framework holds, as sessions, each value read back and compared.

    It may be run again: a value that is there already, and the same, is left as it is. Nobody may
    write to the source meanwhile; it is not changed.

    Args:
        source: a storage of the framework, as `LocalFileStorage("state/")`.
        storage: as of `Storage`.
        prefix: only keys that begin so, as `session/ann/`.
        progress: called after each session.

    Returns:
        how many sessions, as `Storage` keeps them, and how many values in them.

    Raises:
        CopyMismatchError: there is another value already; or it reads differently afterwards.
        strands.types.exceptions.StorageError: what the source raises.
        CheckpointError: what the calls of `Storage` raise.

    Cost: one read of the source, one save and two loads a value.
    """
    copied = Copied()
    async with Storage(storage) as target:
        sessions = groupby(await source.list(prefix), lambda key: place_of(key).session_id)
        for _, keys in sessions:
            count = 0
            for key in keys:
                await _copy(source, target, key)
                count += 1
            copied = Copied(copied.sessions + 1, copied.entries + count)
            if progress is not None:
                progress(copied)
    return copied


async def _copy(source: FrameworkStorage, target: Storage, key: str) -> None:
    data = await source.read(key)
    if data is None:
        raise CopyMismatchError(key, "it went away meanwhile; copy when nobody writes")
    found = await target.read(key)
    if found is None:
        await target.write(key, data)
        found = await target.read(key)
    elif found != data:
        raise CopyMismatchError(key, "there is another value already; copy to an empty storage")
    if found != data:
        raise CopyMismatchError(key, "it is not the same after the copy")
