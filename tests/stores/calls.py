"""Calls on a store, one for each way in: all are refused where a store must exist and does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiocheckpoint import CheckpointData
from tests.promises.tasks import list_sessions

Call = Callable[[Any], Awaitable[Any]]


async def _update(store: Any) -> None:
    async def work(session: Any) -> None:
        session.save((await session.load()).next())

    await store.update("s", work)


CALLS: Mapping[str, Call] = {
    "load": lambda store: store.load("s"),
    "load another": lambda store: store.load("t"),
    "list": lambda store: store.list("s"),
    "load_newest": lambda store: store.load_newest(["s", "t"]),
    "sessions": list_sessions,
    "check": lambda store: store.check(),
    "recover": lambda store: store.recover("s"),
    "verify": lambda store: store.verify("s", "x"),
    "update": _update,
    "save": lambda store: store.save(CheckpointData(session_id="s", iteration=7)),
    "copy_session": lambda store: store.copy_session("s", "t"),
}
