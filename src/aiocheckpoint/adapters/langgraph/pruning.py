"""Which checkpoints a delta channel still needs; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiocheckpoint.adapters.langgraph.records import ThreadRecord

_COUNTERS_KEY = "counters_since_delta_snapshot"


def with_plain_counters(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata whose counters are lists, as JSON has them, so that they are read here."""
    counters = _mapping(metadata.get(_COUNTERS_KEY))
    plain = {key: list(c) if isinstance(c, tuple) else c for key, c in counters.items()}
    return {**metadata, _COUNTERS_KEY: plain} if counters else dict(metadata)


def rebuilt(state: ThreadRecord) -> set[str]:
    """
    Return the channels of a checkpoint whose values are rebuilt from its ancestors.

    A delta channel is stored whole only now and then; at other checkpoints its value is the
    nearest ancestor's and the writes since. An empty channel is told from a delta channel by
    the counters in the metadata.
    """
    counted = set(_mapping(_mapping(state.metadata).get(_COUNTERS_KEY)))
    return (counted & set(versions(state))) - set(_mapping(state.channels))


def versions(state: ThreadRecord) -> dict[str, object]:
    """Return the versions of a checkpoint's channels, where these are plain JSON."""
    return _mapping(_mapping(state.document).get("channel_versions"))


class DeltaNeeds:
    """
    What of the ancestors of a kept checkpoint is still needed.

    Args:
        kept: the checkpoint.

    Attributes:
        missing: channels whose values are still looked for.
    """

    def __init__(self, kept: ThreadRecord) -> None:
        self.missing = rebuilt(kept)
        self._parent = kept.parent

    @property
    def next_ancestor(self) -> str | None:
        """LangGraph's id of the next checkpoint that has to stay; None when no more has to."""
        return self._parent if self.missing else None

    def visit(self, ancestor: ThreadRecord) -> None:
        """Go on to the ancestor that was next."""
        self.missing -= set(_mapping(ancestor.channels))
        self._parent = ancestor.parent


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
