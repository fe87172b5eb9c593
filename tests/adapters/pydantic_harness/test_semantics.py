"""
What the framework documents of a step store, in words of our own.

The framework's own stores, in memory, in files and in SQLite, have to hold it as well.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip(
    "pydantic_ai_harness", reason="needs the extra pydantic-harness: .ci/adapter pydantic-harness"
)

from pydantic_ai_harness.step_persistence import StepStore, continue_run, fork_run

from tests.adapters.pydantic_harness.steps import START, effect, event, kept, run, snapshot

pytestmark = pytest.mark.blocking  # the framework's own store in files


class TestRuns:
    async def test_is_what_the_framework_calls_a_store(self, make_store: Any) -> None:
        """It has what the framework's protocol asks for."""
        assert isinstance(make_store(), StepStore)

    async def test_what_was_never_stored_is_not_there(self, make_store: Any) -> None:
        """Of a run that nobody stored there is nothing."""
        store = make_store()
        assert await store.get_run(run_id="r") is None
        assert await store.list_runs() == []
        assert await store.list_events(run_id="r") == []
        assert await store.latest_snapshot(run_id="r", include_interrupted=True) is None
        assert await store.get_tool_effect(run_id="r", tool_call_id="c") is None
        assert await store.list_unresolved_tool_effects(run_id="r") == []
        with pytest.raises(LookupError):
            await continue_run(store, run_id="r")

    async def test_run_comes_back(self, make_store: Any) -> None:
        """All its fields come back, to another store as well."""
        store = make_store()
        whole = run(
            1,
            conversation_id="c",
            parent_run_id="p",
            agent_name="a",
            metadata={"key": "välue"},
            registration_id="once",
        )

        await store.register_run(whole)

        assert await store.get_run(run_id="r1") == whole
        assert await store.list_runs() == [whole]

    async def test_list_is_by_time_and_filters(self, make_store: Any) -> None:
        """The run that began first comes first; both filters have to fit."""
        store = make_store()
        for number, parent, conversation in ((3, "p", "c"), (1, "p", "d"), (2, None, "c")):
            await store.register_run(
                run(number, parent_run_id=parent, conversation_id=conversation)
            )

        async def listed(**options: Any) -> list[str]:
            return [found.run_id for found in await store.list_runs(**options)]

        assert await listed() == ["r1", "r2", "r3"]
        assert await listed(parent_run_id="p") == ["r1", "r3"]
        assert await listed(conversation_id="c") == ["r2", "r3"]
        assert await listed(parent_run_id="p", conversation_id="c") == ["r3"]
        assert await listed(parent_run_id="nobody") == []


class TestEvents:
    async def test_events_come_back_in_order(self, make_store: Any) -> None:
        """They come back as they were, in the order in which they were appended, per run."""
        store = make_store()
        events = [
            event(
                step,
                kind="tool_call_failed",
                timestamp=START,
                conversation_id="c",
                parent_run_id="p",
                agent_name="a",
                tool_call_id=f"call-{step}",
                tool_name="pay",
                error="no",
                metadata={"n": str(step)},
            )
            for step in (3, 1, 2)
        ]
        for appended in events:
            await store.append_event(appended)
        await store.append_event(event(0, run_id="other"))

        assert await store.list_events(run_id="r") == events

    async def test_key_counts_once(self, make_store: Any) -> None:
        """The first event of a key is kept; of another run it is another key; none is no key."""
        store = make_store()
        for step, key in ((0, "a"), (1, "a"), (2, "b"), (3, None), (4, None), (5, "a")):
            await store.append_event(event(step, idempotency_key=key))
        await store.append_event(event(6, idempotency_key="a", run_id="other"))

        assert [found.step_index for found in await store.list_events(run_id="r")] == [0, 2, 3, 4]
        assert len(await store.list_events(run_id="other")) == 1


class TestSnapshots:
    async def test_newest_settled_one_is_gone_on_from(self, make_store: Any) -> None:
        """An interrupted one is returned only to those that ask for it."""
        store = make_store()
        settled = snapshot(1, conversation_id="c", parent_run_id="p", agent_name="a")
        interrupted = snapshot(2, state="interrupted", timestamp=START)
        await store.save_snapshot(snapshot(0))
        await store.save_snapshot(settled)
        await store.save_snapshot(interrupted)

        assert await store.latest_snapshot(run_id="r") == settled
        assert await store.latest_snapshot(run_id="r", include_interrupted=True) == interrupted
        assert await continue_run(store, run_id="r") == settled.messages
        assert await fork_run(store, run_id="r", include_interrupted=True) == interrupted.messages
        assert await kept(store) == [0, 1]
        assert await kept(store, include_interrupted=True) == [0, 1, 2]

    async def test_order_is_of_the_saves(self, make_store: Any) -> None:
        """The newest is the one saved last, whatever its step and its time say."""
        store = make_store()
        for step in (5, 0, 3):
            await store.save_snapshot(snapshot(step))

        latest = await store.latest_snapshot(run_id="r")
        assert latest.step_index == 3
        assert await kept(store) == [5, 0, 3]

    async def test_histories_may_be_rewritten(self, make_store: Any) -> None:
        """Messages may be fewer, others, or none; each snapshot has its own."""
        store = make_store()
        lengths = [4, 6, 2, 0, 5, 5]
        for step, length in enumerate(lengths):
            await store.save_snapshot(snapshot(step, length))
        rewritten = snapshot(6, 6)
        rewritten.messages[1:3] = snapshot(0, 9).messages[7:]
        await store.save_snapshot(rewritten)

        found = await store.list_snapshots(run_id="r")
        assert [len(one.messages) for one in found] == [*lengths, 6]
        assert await store.latest_snapshot(run_id="r") == rewritten

    async def test_key_counts_once(self, make_store: Any) -> None:
        """The first snapshot of a key is kept."""
        store = make_store()
        await store.save_snapshot(snapshot(0, idempotency_key="0:0:complete"))
        await store.save_snapshot(snapshot(1, idempotency_key="1:1:complete"))
        await store.save_snapshot(snapshot(2, idempotency_key="0:0:complete"))
        await store.save_snapshot(snapshot(3, idempotency_key="1:1:complete"))
        await store.save_snapshot(snapshot(4, idempotency_key="0:0:complete", run_id="other"))

        assert await kept(store) == [0, 1]

    @pytest.mark.parametrize("keep", [1, 2, 5])
    async def test_key_counts_once_after_pruning(self, make_store: Any, keep: int) -> None:
        """A key whose snapshot was pruned is known all the same."""
        store = make_store(keep)
        for step in range(8):
            await store.save_snapshot(snapshot(step, idempotency_key=f"{step}:{step}:complete"))
        for step in range(8):
            await store.save_snapshot(
                snapshot(step + 50, idempotency_key=f"{step}:{step}:complete")
            )

        assert await kept(store) == [*range(8)][-keep:]

    @pytest.mark.parametrize(
        ("keep", "states", "expected"),
        [
            (None, "ccccc", [0, 1, 2, 3, 4]),
            (5, "ccc", [0, 1, 2]),
            (2, "cccc", [2, 3]),
            (2, "ccii", [1, 2, 3]),
            (1, "ci", [0, 1]),
            (1, "cic", [2]),
            (2, "iii", [1, 2]),
            (3, "ciiiiii", [0, 4, 5, 6]),
            (1, "iiic", [3]),
        ],
    )
    async def test_bound(
        self, make_store: Any, keep: int | None, states: str, expected: list[int]
    ) -> None:
        """The newest are kept, and besides them the newest that is complete."""
        store = make_store(keep)
        for step, state in enumerate(states):
            whole = {"c": "complete", "i": "interrupted"}[state]
            await store.save_snapshot(snapshot(step, state=whole))

        assert await kept(store, include_interrupted=True) == expected
        latest = await store.latest_snapshot(run_id="r")
        assert (None if latest is None else latest.step_index) == (
            states.rindex("c") if "c" in states else None
        )

    @pytest.mark.parametrize("keep", [0, -1, 1.5, "2"])
    def test_wrong_bound_is_refused(self, make_store: Any, keep: Any) -> None:
        """A bound below 1, or of no int, is refused at once."""
        with pytest.raises(ValueError, match="max_snapshots_per_run"):
            make_store(keep)


class TestEffects:
    async def test_newest_record_of_a_call_counts(self, make_store: Any) -> None:
        """A call that has begun and not ended is unresolved; its fields come back."""
        store = make_store()
        await store.record_tool_effect(effect("one", "started"))
        two = effect("two", "started", idempotency_key="k", effect_summary="s", started_at=START)
        await store.record_tool_effect(two)
        await store.record_tool_effect(effect("three", "failed"))
        done = effect("one", "completed", ended_at=START)
        await store.record_tool_effect(done)
        await store.record_tool_effect(effect("one", "started", run_id="other"))

        assert await store.get_tool_effect(run_id="r", tool_call_id="one") == done
        assert await store.get_tool_effect(run_id="r", tool_call_id="four") is None
        assert await store.list_unresolved_tool_effects(run_id="r") == [two]
