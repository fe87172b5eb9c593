"""Agents whose snapshots share the messages, where nobody can change them in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from strands import Agent, Snapshot
from strands.session import SnapshotSessionManager
from strands.types.agent import LocalAgent

_MESSAGES: Final = "messages"


class SharingManager(SnapshotSessionManager):
    """
    The framework's manager, which copies no messages to save or to restore them.

    It makes JSON of a snapshot as soon as it is taken, and loads one that it has just read, so that
    a copy of all messages protects nothing; to make it is most of the time of a save.
    """

    def initialize(self, agent: LocalAgent, **options: Any) -> None:
        """Restore an agent that is made, as the framework calls it."""
        super().initialize(_sharing(agent), **options)

    async def restore_snapshot(self, agent: LocalAgent, *, snapshot_id: str | None = None) -> bool:
        """Restore an agent; see `SnapshotSessionManager`."""
        return await super().restore_snapshot(_sharing(agent), snapshot_id=snapshot_id)

    async def save_snapshot(self, agent: LocalAgent, *, is_latest: bool) -> str | None:
        """Save an agent; see `SnapshotSessionManager`."""
        return await super().save_snapshot(_sharing(agent), is_latest=is_latest)


def _sharing(agent: Any) -> Any:
    """
    Return an agent whose snapshots share its messages, or the agent itself.

    That is one with snapshots of its own, or with a stash: the framework awaits it between the
    snapshot and the JSON, and the agent may go on meanwhile.
    """
    of_framework = (Agent.take_snapshot, Agent.load_snapshot)
    own = (getattr(agent, method.__name__, None) for method in of_framework)
    if tuple(getattr(method, "__func__", None) for method in own) != of_framework:
        return agent
    return agent if agent.context_manager is not None else _Sharing(agent)


class _Sharing:
    """An agent in all, but for its messages in snapshots."""

    _agent: Agent

    def __init__(self, agent: Agent) -> None:
        object.__setattr__(self, "_agent", agent)

    @property  # type: ignore[misc]  # the framework may ask what kind of agent it is
    def __class__(self) -> type:
        return type(self._agent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._agent, name, value)

    def take_snapshot(
        self, *, preset: Any = None, exclude: Iterable[Any] | None = None, **options: Any
    ) -> Snapshot:
        """Take one; a session has the messages first."""
        agent, excluded = self._agent, [*(exclude or ())]
        if preset != "session" or _MESSAGES in excluded:
            return agent.take_snapshot(preset=preset, exclude=excluded, **options)
        snapshot = agent.take_snapshot(preset=preset, exclude=[*excluded, _MESSAGES], **options)
        return replace(snapshot, data={_MESSAGES: agent.messages, **snapshot.data})

    def load_snapshot(self, snapshot: Snapshot) -> None:
        """Load one; the agent has its messages from now on."""
        agent, rest = self._agent, {**snapshot.data}
        before, messages = agent.messages, rest.pop(_MESSAGES, agent.messages)
        agent.messages = messages
        try:
            agent.load_snapshot(replace(snapshot, data=rest))
        except BaseException:
            agent.messages = before
            raise
