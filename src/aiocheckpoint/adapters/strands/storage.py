"""The storage of Strands Agents in any store of checkpoints."""

from __future__ import annotations

import builtins
import copy
import uuid
from typing import Self

from strands.storage import Storage as FrameworkStorage

from aiocheckpoint import CheckpointError, InvalidArgumentError, SessionId
from aiocheckpoint.adapters._documents import Documents, Pieces
from aiocheckpoint.adapters._given import require_text
from aiocheckpoint.adapters._lists import OF_ONE, finished, session_names
from aiocheckpoint.adapters._storage import InStorage, told_of
from aiocheckpoint.adapters._storage import Storage as Location
from aiocheckpoint.adapters.strands.records import (
    NAMES,
    Place,
    StoredValue,
    is_of_one_session,
    place_of,
    value_at,
)


class Storage(InStorage[StoredValue], FrameworkStorage[str, str]):
    """
    Bytes under keys: what session managers, memory stores and plugins of Strands Agents keep.

    ```py
    agent = Agent(storage=Storage("state/"))
    ```

    A value is replaced as a whole, whoever wrote the one before: for sessions take
    `SessionManager`, which tells when another agent has written. Any number of objects, tasks,
    event loops, threads and processes may use one storage; those that are given the same path or
    URL share one store.

    **Durability**: when a call returns, what it changed is durable, as the store promises.

    **Cancellation**: a call ends when its outcome is known; it took place as a whole or not at all.

    **Damage** raises `CheckpointCorruptError`. It is never taken for a key that has no value.

    Args:
        storage: a directory, a URL of `open_store`, or an open store of `StoredValue`, which stays
            open.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    def __init__(self, storage: Location[StoredValue]) -> None:
        super().__init__(storage, StoredValue)
        self._documents = Documents()
        self._prefix = ""

    def namespace(self, prefix: str) -> Self:
        """
        Return the same storage as it is beneath a prefix, which its keys do not name.

        Args:
            prefix: as `team/blue`; closing what is returned closes this one.

        Raises:
            InvalidIdError: it is no text.
        """
        require_text("prefix", prefix)
        scoped = copy.copy(self)
        beneath = prefix.strip("/")
        scoped._prefix = f"{self._prefix}{beneath}/" if beneath else self._prefix  # noqa: SLF001 - of this class
        return scoped

    async def write(self, key: str, data: bytes) -> None:
        """
        Store bytes under a key, in the place of those that were there.

        Args:
            key: any text. Of keys of three parts or more, as `session/ann/latest.json`, the first
                two name what is one session of the store, and shares what its values have in
                common.
            data: the bytes.

        Raises:
            InvalidArgumentError: something else than text and bytes.
            CheckpointError: what `save` of the store raises.

        Cost: one save, of what has changed since this object wrote or read the value.
        """
        place, pieces = self._cut(key, data)
        value = pieces.into(value_at(place, uuid.uuid4().hex))
        await pieces.saved(lambda blobs: self._store.save(value, blobs=blobs))
        self._documents.keep(place.session_id, pieces)

    async def read(self, key: str) -> bytes | None:
        """
        Return the bytes under a key; None when there are none.

        Args:
            key: as it was written.

        Raises:
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `load` of the store raises.

        Cost: one load, and one of those blobs that this object does not know.
        """
        found = await self._loaded(key)
        return None if found is None else found[1]

    async def delete(self, key: str) -> None:
        """
        Remove what is under a key, if there is something.

        Args:
            key: as it was written.

        Raises:
            CheckpointError: what `delete` of the store raises.
        """
        place = self._place(key)
        await self._store.delete(place.session_id, place.checkpoint_id)

    async def list(self, query: str = "") -> builtins.list[str]:
        """
        Return the keys that begin so, in order, also of values that `read` refuses.

        Args:
            query: the beginning; all keys for none.

        Raises:
            CheckpointError: what `ids` and `sessions` of the store raise; where that is of some
                sessions alone, `listed` of the error has the keys of all others.

        Cost: with two slashes or more in it, one listing of a session; else one of each session.
        """
        place = self._place(query)
        names: list[SessionId] = []
        refused: list[CheckpointError] = []
        if not is_of_one_session(place.key):
            names, refused = await session_names(self._store, NAMES.of(place.key))
        keys: set[str] = set()
        for name in dict.fromkeys([place.session_id, *names]):
            begin = place.checkpoint_id if name == place.session_id else ""
            try:
                found = await self._store.ids(name, prefix=begin)
            except OF_ONE as error:
                refused.append(error)
            else:
                keys.update(Place(name, checkpoint_id).key for checkpoint_id in found)
        return finished(sorted(key.removeprefix(self._prefix) for key in keys), refused)

    def _place(self, key: str) -> Place:
        return place_of(key, self._prefix)

    def _cut(self, key: str, data: bytes) -> tuple[Place, Pieces]:
        given: object = data
        if not isinstance(given, bytes | bytearray | memoryview):
            raise InvalidArgumentError("data", given, "bytes")
        place = self._place(key)
        return place, self._documents.cut(place.session_id, bytes(data))

    async def _loaded(self, key: str) -> tuple[StoredValue, bytes] | None:
        place = self._place(key)
        with told_of(f"key {place.key!r}"):
            found = await self._documents.load_from(self._store, *place)
        if found is None:
            return None
        value, data = found
        return (value, data) if isinstance(value, StoredValue) else None
