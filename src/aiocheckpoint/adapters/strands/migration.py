"""Moving what another storage of Strands Agents holds, each value compared afterwards."""

from __future__ import annotations

from collections import defaultdict

from strands.storage import Storage as FrameworkStorage
from strands.types.exceptions import StorageError

from aiocheckpoint.adapters._moving import ADVICE, Copied, Move, Progress, RefusedError
from aiocheckpoint.adapters._sources import reading_source
from aiocheckpoint.adapters._storage import Storage as Location
from aiocheckpoint.adapters.strands.records import NAMES, StoredValue, place_of
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

    It may be run again: what is there already, and the same, is left as it is, and what is missing
    is added. A session of which anything else is there is refused before anything of it is written,
    since an agent may have gone on with it; all others are copied. Nobody may write to the source
    meanwhile; it is not changed.

    Args:
        source: a storage of the framework, as `LocalFileStorage("state/")`.
        storage: as of `Storage`.
        prefix: only keys that begin so, as `session/ann/`.
        progress: called after each session.

    Returns:
        how many sessions, as `Storage` keeps them, and how many values in them.

    Raises:
        CopyMismatchError: once all else is copied: of some sessions there is another value or key
            already, it cannot be read or stored, or it reads differently afterwards.
        strands.types.exceptions.StorageError: what the source raises when it is listed.
        CheckpointError: what the calls of `Storage` raise, as of a full disk.

    Cost: two reads of the source, one save and one load a value; two reads of what is there before.
    """
    sessions: defaultdict[str, list[str]] = defaultdict(list)
    for key in await source.list(prefix):
        sessions[place_of(key).session_id].append(key)
    async with Storage(storage) as target:
        there: defaultdict[str, list[str]] = defaultdict(list)
        for key in await target.list(prefix):
            there[place_of(key).session_id].append(key)
        with Move(progress) as move:
            for session_id, keys in sessions.items():
                with move.part(NAMES.text_in(session_id)) as part:
                    await _copy(source, target, keys, there[session_id])
                    part.entries = len(keys)
    return move.copied


async def _copy(
    source: FrameworkStorage, target: Storage, keys: list[str], there: list[str]
) -> None:
    """
    Copy a session.

    Args:
        source: where it is.
        target: where it shall be.
        keys: what it has.
        there: what it has in the target already.
    """
    for key in there:
        if key not in keys:
            raise RefusedError(f"{key!r} is there already, and not in the source; {ADVICE}")
        if await target.read(key) != await _value(source, key):
            raise RefusedError(f"{key!r} has another value there already; {ADVICE}")
    for key in keys:  # all of them, before anything is written
        if key not in there:
            await _value(source, key)
    for key in keys:
        data = await _value(source, key)
        if key not in there:
            await target.write(key, data)
        if await target.read(key) != data:
            raise RefusedError(f"{key!r} is not the same after the copy")


async def _value(source: FrameworkStorage, key: str) -> bytes:
    with reading_source(repr(key), StorageError, OSError):
        data = await source.read(key)
    if data is None:
        raise RefusedError(f"{key!r} went away meanwhile; copy when nobody writes")
    return data
