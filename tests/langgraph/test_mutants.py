"""Savers with one fault, most of which the conformance kit calls perfect, are all noticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver

from aiocheckpoint.adapters.langgraph import (
    CheckpointSaver,
    copying,
    drafts,
    history,
    listing,
    reading,
    records,
    removal,
    saver,
    turns,
)
from aiocheckpoint.adapters.langgraph.pruning import DeltaNeeds
from aiocheckpoint.adapters.langgraph.turns import Turns
from aiocheckpoint.adapters.langgraph.watches import Chain, Watch
from tests.langgraph import test_conformance, test_forks
from tests.langgraph.promises import Promises

pytestmark = [pytest.mark.blocking, pytest.mark.damages_store]

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch], object]
_PAGE = Path(__file__).parents[2] / "docs/how-to/langgraph.md"


def _reverse_writes(patch: Patch) -> None:
    merged = records.merged_writes
    patch.setattr(records, "merged_writes", lambda found: merged(found)[::-1])


def _drop_task_paths(patch: Patch) -> None:
    def writes_draft(serde: Any, looks: Any, config: Any, writes: Any, task: str, _: str) -> Any:
        return drafts.writes_draft(serde, looks, config, writes, task, "")

    patch.setattr(saver, "writes_draft", writes_draft)


def _require_the_checkpoint(patch: Patch) -> None:
    put_writes = CheckpointSaver.aput_writes

    async def aput_writes(self: Any, config: Any, *args: Any) -> None:
        if await self._store.load(
            records.session_of(config["configurable"]["thread_id"]),
            records.state_id(records.key_of(config["configurable"]["checkpoint_id"])),
        ):
            await put_writes(self, config, *args)
        else:
            raise KeyError(config["configurable"]["checkpoint_id"])

    patch.setattr(CheckpointSaver, "aput_writes", aput_writes)


class _JsonSerializer:
    def dumps_typed(self, value: Any) -> tuple[str, bytes]:
        return "json", json.dumps(value, default=str, skipkeys=True).encode()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return json.loads(data[1])


def _no_serializer(patch: Patch) -> None:
    begin = BaseCheckpointSaver.__init__

    def init(self: Any, **_: Any) -> None:
        begin(self, serde=_JsonSerializer())

    patch.setattr(BaseCheckpointSaver, "__init__", init)


def _raw_thread_ids(patch: Patch) -> None:
    def session_of(thread_id: object, namespace: str = "") -> str:
        return f"{thread_id}.{namespace}" if namespace else str(thread_id)

    for module in (listing, records):
        patch.setattr(module, "session_of", session_of)
    patch.setattr(records, "thread_prefix", str)
    patch.setattr(records, "is_session", lambda _: True)


def _constant_version(patch: Patch) -> None:
    version = f"{1:032}.{0:016}"
    patch.setattr(CheckpointSaver, "get_next_version", lambda *_: version)


def _first_or_last(*, first: bool) -> Mutation:
    def mutate(patch: Patch) -> None:
        def merged_writes(found: Any) -> Any:
            merged: dict[Any, Any] = {}
            for record in found:
                for write in record.writes or ():
                    place = (record.task_id, write["index"])
                    if not (first and place in merged):
                        merged[place] = records.Write(
                            record, write["index"], write["channel"], write["value"]
                        )
            return sorted(merged.values(), key=lambda write: write.order)

        patch.setattr(records, "merged_writes", merged_writes)

    return mutate


def _in_two_commits(patch: Patch) -> None:
    store = CheckpointSaver._store_state

    async def store_state(self: Any, draft: Any) -> None:
        channels, draft.record.channels = draft.record.channels, {}
        await store(self, draft)
        draft.record.channels = channels
        await store(self, draft)

    patch.setattr(CheckpointSaver, "_store_state", store_state)


def _no_checksums(patch: Patch) -> None:
    import msgspec

    def verified(data: bytes, _path: str) -> bytes:
        document = msgspec.json.decode(data)
        return msgspec.json.encode({k: v for k, v in document.items() if k[0] != "_"})

    patch.setattr("aiocheckpoint._format.documents.verified", verified)
    patch.setattr("aiocheckpoint._engine.bodies.verified_blob", lambda data, _digest, _path: data)


def _delete_by_prefix(patch: Patch) -> None:
    async def adelete_thread(self: Any, thread_id: str) -> None:
        async for found in self.alist(None):
            place = found.config["configurable"]
            if str(place["thread_id"]).startswith(thread_id):
                session = records.session_of(place["thread_id"], place["checkpoint_ns"])
                await self._store.delete_session(session)

    patch.setattr(CheckpointSaver, "adelete_thread", adelete_thread)


def _copy_without_old_writes(patch: Patch) -> None:
    ids = copying._ids

    async def states(store: Any, session_id: str) -> list[str]:
        found = await ids(store, session_id)
        return [each for each in found if each.startswith(records.STATE_PREFIX)]

    patch.setattr(copying, "_ids", states)


def _list_ignores_ids(patch: Patch) -> None:
    async def without_id(store: Any, config: Any, before: Any, refused: Any) -> Any:
        if config is not None:
            configurable = {**config["configurable"], "checkpoint_id": None}
            config = {"configurable": configurable}
        return await listing.matching(store, config, before, refused)

    patch.setattr(saver, "matching", without_id)


def _list_of_nothing(patch: Patch) -> None:
    async def with_config(store: Any, config: Any, before: Any, refused: Any) -> Any:
        return [] if config is None else await listing.matching(store, config, before, refused)

    patch.setattr(saver, "matching", with_config)


def _drop_what_is_not_needed(patch: Patch) -> None:
    def state_draft(serde: Any, looks: Any, config: Any, checkpoint: Any, metadata: Any) -> Any:
        kept: Any = {k: v for k, v in checkpoint.items() if k not in ("updated_channels", "ts")}
        return drafts.state_draft(serde, looks, config, kept, metadata)

    patch.setattr(saver, "state_draft", state_draft)


def _metadata_as_given(patch: Patch) -> None:
    patch.setattr(drafts, "get_checkpoint_metadata", lambda _config, metadata: metadata)


def _naive_keep_latest(patch: Patch) -> None:
    patch.setattr(DeltaNeeds, "next_ancestor", None)


def _ancestors_stay_listed(patch: Patch) -> None:
    async def move(moved: Any, doomed: Sequence[str], session: Any) -> None:
        session.delete(*(each for each in doomed if each not in moved))

    patch.setattr(removal, "_move", move)


def _gaps_are_passed_over(patch: Patch) -> None:
    patch.setattr(history, "rebuilt", lambda _: set())


def _older_writes_are_left_over(patch: Patch) -> None:
    def left_over(ids: Sequence[str], _keep: Sequence[str]) -> set[str]:
        newest = next(found for found in ids if found.startswith(records.STATE_PREFIX))
        earlier = ids[ids.index(newest) :]
        return {found for found in earlier if found.startswith(records.PENDING_PREFIX)}

    patch.setattr(removal, "_left_over", left_over)


def _put_anyway(patch: Patch) -> None:
    async def store(self: Any, draft: Any, watch: Any, _parent: str) -> None:
        await self._store_anyway(draft, watch)

    patch.setattr(Turns, "_store_behind_own", store)


def _go_on_behind_anything(patch: Patch) -> None:
    async def store_anyway(self: Any, draft: Any, watch: Any) -> None:
        await self._store.save(draft.record, blobs=draft.blobs)
        watch.chain = Chain(draft.record.checkpoint_id, None, is_own=True)

    patch.setattr(Turns, "_store_anyway", store_anyway)


def _never_look_again(patch: Patch) -> None:
    async def store(self: Any, draft: Any, watch: Any, parent: str) -> None:
        chain = watch.chain or await self._looked(draft, watch, parent)
        expected, chain.last_id = chain.last_id, draft.record.checkpoint_id
        await self._store.save(draft.record, blobs=draft.blobs, expected=expected)

    patch.setattr(Turns, "_store_behind_own", store)


def _always_look(patch: Patch) -> None:
    patch.setattr(Watch, "begin", lambda _, last_id, newest, _parent: Chain(last_id, newest))
    patch.setattr(Watch, "look", lambda _watch, _key, _last_id, _turns: None)


def _forgets_what_it_stored(patch: Patch) -> None:
    patch.setattr(Watch, "has_stored", lambda _watch, _key: False)


def _greatest_is_newest(patch: Patch) -> None:
    async def greatest(reader: Any) -> str | None:
        ids = await reader.ids(prefix="s", limit=1)
        return records.key_in(ids[0]) if ids else None

    async def newest_records(reader: Any) -> reading.Newest:
        last = await reader.saved_ids(limit=1)
        return reading.Newest(await greatest(reader), last[0] if last else None)

    patch.setattr(reading, "newest_key", greatest)
    for module in (reading, turns):
        patch.setattr(module, "newest_records", newest_records)


def _lists_by_id(patch: Patch) -> None:
    async def by_id(*args: Any) -> Any:
        return sorted(await reading.entries_of(*args), reverse=True)

    patch.setattr(listing, "entries_of", by_id)
    patch.setattr(removal, "entries_of", by_id)


MUTANTS: Sequence[tuple[str, Mutation, str]] = (
    ("reverse order", _reverse_writes, "writes_come_in_the_order_in_which_they_apply"),
    ("no task paths", _drop_task_paths, "delta_channels_are_rebuilt_in_the_order_of_the_run"),
    ("checkpoint first", _require_the_checkpoint, "writes_may_come_before_their_checkpoint"),
    ("no serializer", _no_serializer, "values_come_back_with_their_types"),
    ("raw thread ids", _raw_thread_ids, "any_thread_id_names_its_own_thread"),
    ("one version", _constant_version, "versions_are_new_each_time"),
    ("first counts", _first_or_last(first=True), "of_errors_and_interrupts_the_last_counts"),
    ("last counts", _first_or_last(first=False), "of_equal_writes_the_first_counts"),
    ("in two commits", _in_two_commits, "a_failed_put_leaves_what_was_there"),
    ("no checksums", _no_checksums, "damage_is_never_taken_for_nothing"),
    ("delete by prefix", _delete_by_prefix, "deleting_a_thread_deletes_that_one_alone"),
    ("copy without writes", _copy_without_old_writes, "a_copy_is_whole_and_stands_alone"),
    ("list ignores ids", _list_ignores_ids, "lists_are_exact"),
    ("no list of all", _list_of_nothing, "lists_are_exact"),
    ("drops keys", _drop_what_is_not_needed, "the_whole_checkpoint_comes_back"),
    ("metadata as given", _metadata_as_given, "metadata_have_what_the_config_adds"),
    ("naive pruning", _naive_keep_latest, "pruning_keeps_the_state_of_delta_channels"),
    ("ancestors are listed", _ancestors_stay_listed, "every_state_that_is_left_is_whole"),
    ("gaps are passed over", _gaps_are_passed_over, "no_state_is_rebuilt_in_part"),
    ("older writes go", _older_writes_are_left_over,
     "pruning_keeps_writes_whose_checkpoint_is_to_come"),
    ("older writes go in a run", _older_writes_are_left_over,
     "pruning_loses_no_answer_of_a_run"),
    ("no condition", _put_anyway, "the_second_of_two_is_told"),
    ("no condition at first", _put_anyway, "two_that_begin_a_thread"),
    ("writes hide", _go_on_behind_anything, "writes_hide_nobody"),
    ("refused at once", _never_look_again, "writes_of_others_are_no_conflict"),
    ("looks each time", _always_look, "a_run_in_peace_looks_once"),
    ("own are forgotten", _forgets_what_it_stored, "what_was_cancelled_is_no_conflict"),
    ("greatest is newest", _greatest_is_newest, "a_clock_behind_loses_nothing"),
    ("lists by id", _lists_by_id, "a_clock_behind_loses_nothing"),
)  # fmt: skip


@pytest.mark.parametrize(("mutate", "name"), [m[1:] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
@pytest.mark.some(10)
@pytest.mark.few(5)
async def test_mutant_is_noticed(
    mutate: Mutation,
    name: str,
    make: Callable[..., CheckpointSaver],
    root: Path,
    monkeypatch: Patch,
) -> None:
    """A saver with this fault breaks the promise that is named for it."""
    mutate(monkeypatch)
    tests = next(
        tests for tests in (Promises, test_forks.TestForks) if hasattr(tests, f"test_{name}")
    )
    promise: Any = getattr(tests(), f"test_{name}")
    given = {"make": make, "root": root, "monkeypatch": monkeypatch, "options": {}, "hops": 1}

    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        await promise(**{k: v for k, v in given.items() if k in promise.__annotations__})
    monkeypatch.undo()
    assert not isinstance(caught.value, (AttributeError, NameError, TypeError))  # of the mutant


_SEEN_BY_THE_KIT = {
    "checkpoint first",
    "raw thread ids",
    "copy without writes",
    "drops keys",
    "own are forgotten",
}


@pytest.mark.campaign
@pytest.mark.parametrize(("name", "mutate"), [m[:2] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
async def test_what_the_kit_sees(name: str, mutate: Mutation, monkeypatch: Patch) -> None:
    """It calls all but a few of the faults perfect."""
    mutate(monkeypatch)
    try:
        await test_conformance.test_every_check_of_the_kit_passes()
    except AssertionError:
        assert name in _SEEN_BY_THE_KIT
    else:
        assert name not in _SEEN_BY_THE_KIT


def test_the_page_says_how_many_it_sees() -> None:
    """It has the numbers of faults, and of those that the kit calls perfect."""
    faults = {mutate for _, mutate, _ in MUTANTS}
    perfect = {mutate for name, mutate, _ in MUTANTS if name not in _SEEN_BY_THE_KIT}
    page = " ".join(_PAGE.read_text(encoding="utf-8").split())
    assert f"of {len(faults)} savers with one such fault each, {len(perfect)} score 81" in page
