"""Any calls in any order, against the plainest model of a store; needs hypothesis."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from aiocheckpoint.errors import SessionChangedError
from aiocheckpoint.models import ANY_NEWEST, CheckpointData, CheckpointId, Expected, SessionId
from aiocheckpoint.store import CheckpointStore, Transaction

ResultT = TypeVar("ResultT")
_SESSION_IDS = ("s", "a b", "")
_CHECKPOINT_IDS = ("a", "b", "c", "*")
_sessions = st.sampled_from(_SESSION_IDS)
_ids = st.sampled_from(_CHECKPOINT_IDS)
_some_ids = st.lists(_ids, max_size=3)
_expected = st.sampled_from((ANY_NEWEST, ANY_NEWEST, ANY_NEWEST, None, *_CHECKPOINT_IDS))


class StoreMachine(RuleBasedStateMachine):
    """
    Calls a store in any order and compares it with a dict of dicts after each call.

    ```python
    from aiocheckpoint.testing import MemoryStore
    from aiocheckpoint.testing.machine import StoreMachine


    class MyMachine(StoreMachine):
        async def connect(self):  # an empty store, and then what it was left with
            self.last = MemoryStore(beside=getattr(self, "last", None))
            return self.last


    TestMyStore = MyMachine.TestCase
    ```

    Attributes:
        reopens: whether the store may be closed and connected again amid the calls.
    """

    reopens: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._model: dict[SessionId, dict[CheckpointId, CheckpointData]] = {}
        self._count = 0
        self._store = self._run(self.connect())

    async def connect(self) -> CheckpointStore[CheckpointData]:
        """Return a store, open; an empty one the first time."""
        raise NotImplementedError

    async def erase(self) -> None:
        """Remove what the store has stored, when the last call has been made; nothing here."""

    def teardown(self) -> None:
        """Close the store."""
        self._run(self._store.aclose())
        self._run(self.erase())
        self._runner.close()

    def _run(self, call: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self._runner.run(call)

    def _session(self, session_id: SessionId) -> dict[CheckpointId, CheckpointData]:
        return self._model.setdefault(session_id, {})

    def _newest_id(self, session_id: SessionId) -> CheckpointId | None:
        return next(reversed(self._session(session_id)), None)

    def _record(self, session_id: SessionId, checkpoint_id: CheckpointId) -> CheckpointData:
        self._count += 1
        return CheckpointData(
            session_id=session_id, checkpoint_id=checkpoint_id, iteration=self._count
        )

    def _enter(self, data: CheckpointData) -> None:
        session = self._session(data.session_id)
        session.pop(data.checkpoint_id, None)
        session[data.checkpoint_id] = data

    def _remove(self, session_id: SessionId, checkpoint_ids: list[CheckpointId]) -> int:
        session = self._session(session_id)
        gone = {*checkpoint_ids} & session.keys()
        for checkpoint_id in gone:
            del session[checkpoint_id]
        return len(gone)

    @rule(session_id=_sessions, checkpoint_id=_ids, expected=_expected)
    def save(self, session_id: SessionId, checkpoint_id: CheckpointId, expected: Expected) -> None:
        """Save, with a condition now and then."""
        data, newest_id = self._record(session_id, checkpoint_id), self._newest_id(session_id)
        answer: CheckpointId | SessionChangedError
        try:
            answer = self._run(self._store.save(data, expected=expected))
        except SessionChangedError as error:
            answer = error
        if expected is ANY_NEWEST or newest_id == expected:
            assert answer == checkpoint_id
            self._enter(data)
        else:
            assert isinstance(answer, SessionChangedError)
            assert (answer.session_id, answer.newest_id) == (session_id, newest_id)

    @rule(session_id=_sessions, first_id=_ids, second_id=_ids)
    def save_together(
        self, session_id: SessionId, first_id: CheckpointId, second_id: CheckpointId
    ) -> None:
        """Save twice, at the same time."""
        both = [self._record(session_id, key) for key in (first_id, second_id)]

        async def save() -> None:
            await asyncio.gather(*map(self._store.save, both))

        self._run(save())
        for data in both:
            self._enter(data)

    @rule(session_id=_sessions, checkpoint_id=_ids)
    def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> None:
        """Delete one."""
        answer = self._run(self._store.delete(session_id, checkpoint_id))
        assert answer is bool(self._remove(session_id, [checkpoint_id]))

    @rule(session_id=_sessions, checkpoint_ids=_some_ids)
    def delete_many(self, session_id: SessionId, checkpoint_ids: list[CheckpointId]) -> None:
        """Delete several."""
        answer = self._run(self._store.delete_many(session_id, checkpoint_ids))
        assert answer == self._remove(session_id, checkpoint_ids)

    @rule(session_id=_sessions)
    def delete_session(self, session_id: SessionId) -> None:
        """Delete all of a session."""
        answer = self._run(self._store.delete_session(session_id))
        assert answer is bool(self._model.pop(session_id, {}))

    @rule(source_id=_sessions, target_id=_sessions)
    def copy_session(self, source_id: SessionId, target_id: SessionId) -> None:
        """Copy a session to another, or to itself."""
        records = [*self._session(source_id).values()]
        assert self._run(self._store.copy_session(source_id, target_id)) == len(records)
        for record in records if source_id != target_id else ():
            self._enter(replace(record, session_id=target_id))

    @rule(session_id=_sessions, saved=_some_ids, deleted=_some_ids, anew=st.booleans())
    def update(
        self,
        session_id: SessionId,
        saved: list[CheckpointId],
        deleted: list[CheckpointId],
        anew: bool,  # noqa: FBT001 - hypothesis passes it by name
    ) -> None:
        """Read and stage several changes in one step."""
        records = [self._record(session_id, key) for key in saved]
        expected = [*self._session(session_id).values()]

        async def work(session: Transaction[CheckpointData]) -> int:
            assert [*await session.load_many(_CHECKPOINT_IDS)] == expected
            if anew:
                session.delete_session()
            session.delete(*deleted)
            for record in records:
                session.save(record)
            return len(expected)

        assert self._run(self._store.update(session_id, work)) == len(expected)
        if anew:
            self._session(session_id).clear()
        self._remove(session_id, deleted)
        for record in records:
            self._enter(record)

    @rule(session_id=_sessions)
    def fail_to_update(self, session_id: SessionId) -> None:
        """Stage changes and raise, which changes nothing."""

        async def work(session: Transaction[CheckpointData]) -> None:
            session.save(self._record(session_id, "a"))
            session.delete_session()
            raise ZeroDivisionError

        refused = False
        try:
            self._run(self._store.update(session_id, work))
        except ZeroDivisionError:
            refused = True
        assert refused

    @rule()
    def reopen(self) -> None:
        """Close the store and connect again."""
        if self.reopens:
            self._run(self._store.aclose())
            self._store = self._run(self.connect())

    @invariant()
    def is_as_the_model(self) -> None:
        """Every way to read says what the model has."""
        self._run(self._compare())

    async def _compare(self) -> None:
        store, model = self._store, self._model
        for session_id in _SESSION_IDS:
            session = self._session(session_id)
            records = [*session.values()]
            newest = records[-1] if records else None
            assert await store.load(session_id) == newest
            assert [*await store.load_many(session_id, _CHECKPOINT_IDS)] == records
            metas = await store.list(session_id)
            assert [meta.iteration for meta in metas] == [r.iteration for r in records[::-1]]
            assert [*await store.ids(session_id)] == sorted(session, reverse=True)
            saved = await store.read(session_id, lambda reader: reader.saved_ids())
            assert [*saved] == [*session][::-1]
        named = sorted([session_id async for session_id in store.sessions()])
        assert named == sorted(session_id for session_id, session in model.items() if session)
        newest_of = await store.load_newest(_SESSION_IDS)
        assert {key: record.iteration for key, record in newest_of.items()} == {
            key: [*session.values()][-1].iteration for key, session in model.items() if session
        }
