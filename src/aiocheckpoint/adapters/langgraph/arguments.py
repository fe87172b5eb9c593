"""What callers hand to a saver, checked before anything is touched; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from aiocheckpoint import InvalidArgumentError, SessionId
from aiocheckpoint.adapters._given import listed
from aiocheckpoint.adapters._storage import told_of
from aiocheckpoint.adapters.langgraph.records import configurable_of, session_of


class Place(NamedTuple):
    """
    What a config names.

    Attributes:
        thread_id: as it was given; its text is what counts.
        namespace: `""` for the graph itself.
        checkpoint: LangGraph's id of a checkpoint; None where the newest is meant.
    """

    thread_id: object
    namespace: str
    checkpoint: str | None

    @property
    def session_id(self) -> SessionId:
        """The session in which the thread's namespace is stored."""
        return session_of(self.thread_id, self.namespace)


class Run(NamedTuple):
    """
    Who runs: LangGraph makes a `Runtime` for each graph, and a `RunControl` for the outermost.

    Attributes:
        graph: names the run of one graph, as long as its control is held.
        control: of the outermost graph, which those within its nodes have, too.
    """

    graph: int
    control: object


def run_of(config: RunnableConfig) -> Run | None:
    """
    Return who runs.

    Returns:
        None for whoever does not, as `aget_state` and `aupdate_state`, also where a node calls them
        with the config it was given, of which it has taken the namespace away.
    """
    configurable = configurable_of(config)
    runtime = configurable.get("__pregel_runtime")
    is_within = bool(configurable.get("checkpoint_ns"))
    if not isinstance(runtime, Runtime) or (not is_within and "__pregel_task_id" in configurable):
        return None
    return Run(id(runtime), runtime.control)


def told_of_thread(thread_id: object) -> AbstractContextManager[None]:
    """Say in errors of the block which thread was asked for: names of sessions are digests."""
    return told_of(f"thread {str(thread_id)!r}")


def place_of(config: RunnableConfig) -> Place:
    """
    Return what a config names.

    Raises:
        InvalidArgumentError: it names no thread, or holds what is no id.
    """
    configurable = configurable_of(config)
    return Place(
        named("thread_id", configurable.get("thread_id")),
        optional_text("checkpoint_ns", configurable.get("checkpoint_ns")) or "",
        checkpoint_in(configurable),
    )


def checkpoint_in(configurable: Mapping[str, Any]) -> str | None:
    """Return the id of the checkpoint that is named; an empty one is none, as in LangGraph."""
    return optional_text("checkpoint_id", configurable.get("checkpoint_id")) or None


def named(name: str, value: object) -> object:
    """
    Return a thread's id: whoever has none would share one thread with all others who have none.

    Raises:
        InvalidArgumentError: it is missing, or no id.
    """
    if value is None or isinstance(value, (dict, list, set, tuple)):
        raise InvalidArgumentError(name, value, "the id of a thread")
    return value


def text(name: str, value: object) -> str:
    """
    Return a text.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not isinstance(value, str):
        raise InvalidArgumentError(name, value, "a str")
    return value


def optional_text(name: str, value: object) -> str | None:
    """Return a text, or None; see `text`."""
    return None if value is None else text(name, value)


def texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return several texts; see `listed` and `text`."""
    return tuple(text(name, value) for value in listed(name, values))


def require_serializer(serde: object) -> None:
    """
    Check what turns values into bytes; LangGraph takes anything, and fails at the first value.

    Raises:
        InvalidArgumentError: it is no serializer, or the class of one.
    """
    is_one = any(
        callable(getattr(serde, dumps, None)) and callable(getattr(serde, loads, None))
        for dumps, loads in (("dumps_typed", "loads_typed"), ("dumps", "loads"))
    )
    if serde is not None and (isinstance(serde, type) or not is_one):
        raise InvalidArgumentError("serde", serde, "a serializer of LangGraph")


def require_count(name: str, value: object, least: int) -> None:
    """
    Refuse what is neither None nor a whole number of at least so much.

    Raises:
        InvalidArgumentError: it is not.
    """
    if value is not None and (type(value) is not int or value < least):
        raise InvalidArgumentError(name, value, f"None or a plain int of at least {least}")


def require_bool(name: str, value: object) -> None:
    """
    Refuse what is neither True nor False: any text would count as True.

    Raises:
        InvalidArgumentError: it is not.
    """
    if not isinstance(value, bool):
        raise InvalidArgumentError(name, value, "a bool")


def require_filter(value: object) -> None:
    """
    Refuse what cannot be compared with metadata.

    Raises:
        InvalidArgumentError: it is neither None nor a mapping.
    """
    if value is not None and not isinstance(value, Mapping):
        raise InvalidArgumentError("filter", value, "None or a dict of metadata")


def require_retention(strategy: object, keep_last: object, older_than: object) -> None:
    """
    Refuse what does not say what is to stay.

    Raises:
        InvalidArgumentError: it does not.
    """
    if strategy not in ("keep_latest", "delete"):
        raise InvalidArgumentError("strategy", strategy, "'keep_latest' or 'delete'")
    require_count("keep_last", keep_last, 1)
    given: object = older_than
    if given is not None and (not isinstance(given, timedelta) or given < timedelta(0)):
        raise InvalidArgumentError("older_than", given, "None or a timedelta of 0 or more")
    if strategy == "delete":
        for name, value in (("keep_last", keep_last), ("older_than", older_than)):
            if value is not None:
                raise InvalidArgumentError(name, value, "None: 'delete' removes everything")
