"""The methods of a saver for code that is not asynchronous."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from aiocheckpoint import BlobStore
from aiocheckpoint.adapters.langgraph import arguments
from aiocheckpoint.adapters.langgraph.drafts import Draft, state_draft, writes_draft
from aiocheckpoint.adapters.langgraph.failures import Failures
from aiocheckpoint.adapters.langgraph.listing import Listing
from aiocheckpoint.adapters.langgraph.looks import Looks
from aiocheckpoint.adapters.langgraph.records import ThreadRecord
from aiocheckpoint.adapters.langgraph.tuples import config_of, thread_id_of
from aiocheckpoint.portal import Portal


class SynchronousMethods(BaseCheckpointSaver[str]):
    """
    What each asynchronous method does, without the `a` before its name.

    They may be called from any thread, also one with a running loop, which they then block.
    Values are serialized in the thread of the caller.
    """

    _portal: Portal
    _store: BlobStore[ThreadRecord]
    _failures: Failures
    _looks: Looks

    @abstractmethod
    async def _store_state(self, draft: Draft) -> None: ...

    @abstractmethod
    async def _store_writes(self, draft: Draft) -> None: ...

    @abstractmethod
    async def _look(self, config: RunnableConfig) -> CheckpointTuple | None: ...

    @abstractmethod
    async def _listing(
        self,
        config: RunnableConfig | None,
        wanted: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing: ...

    @abstractmethod
    async def aflush(self) -> None:
        """Make the files of all that was stored durable themselves."""

    @abstractmethod
    async def _aclose(self) -> None: ...

    def _require_open(self) -> None: ...

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def flush(self) -> None:
        """Do what `aflush` does, from code that is not asynchronous."""
        self._portal.run(self.aflush())

    def close(self) -> None:
        """Do what `aclose` does, from code that is not asynchronous."""
        try:
            self._portal.run_close(self._aclose())
        finally:
            self._portal.close()

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - content decides
    ) -> RunnableConfig:
        """Do what `aput` does, from code that is not asynchronous."""
        with self._failures.storing(config):
            draft = state_draft(self.serde, self._looks, config, checkpoint, metadata)
            self._portal.run(self._store_state(draft))
        return config_of(thread_id_of(config), draft.record)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do what `aput_writes` does, from code that is not asynchronous."""
        with self._failures.storing(config):
            draft = writes_draft(self.serde, self._looks, config, writes, task_id, task_path)
            self._portal.run(self._store_writes(draft))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do what `aget_tuple` does, from code that is not asynchronous."""
        return self._portal.run(self._look(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the base class names it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Do what `alist` does, from code that is not asynchronous."""
        # No asynchronous generator: one that is left would have to be closed on its loop.
        arguments.require_count("limit", limit, 0)
        arguments.require_filter(filter)
        listing = self._portal.run(self._listing(config, filter, before, limit))
        while (part := self._portal.run(listing.read())) is not None:
            yield from part
        listing.raise_refused()

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Do what `aget_delta_channel_history` does, from code that is not asynchronous."""
        return self._portal.run(self.aget_delta_channel_history(config=config, channels=channels))

    def delete_thread(self, thread_id: str) -> None:
        """Do what `adelete_thread` does, from code that is not asynchronous."""
        self._portal.run(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what `adelete_for_runs` does, from code that is not asynchronous."""
        self._portal.run(self.adelete_for_runs(run_ids))

    @abstractmethod
    async def aprune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | None = None,
    ) -> None:
        """Remove what is not needed to go on with threads, durably."""

    def prune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | None = None,
    ) -> None:
        """Do what `aprune` does, from code that is not asynchronous."""
        self._portal.run(
            self.aprune(thread_ids, strategy=strategy, keep_last=keep_last, older_than=older_than)
        )

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what `acopy_thread` does, from code that is not asynchronous."""
        self._portal.run(self.acopy_thread(source_thread_id, target_thread_id))
