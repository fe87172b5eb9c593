"""The bundled conversations: many, different, and as a chat API would take them."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations

import msgspec
import pytest

from aiocheckpoint.cli.agents import Conversation, casting, conversations, state_after


def test_there_are_many_and_no_two_share_a_message() -> None:
    """At least twenty conversations, none a variation of another."""
    found = conversations()

    assert len(found) >= 20
    assert len({one.name for one in found}) == len(found)
    contents = [{message["content"] for message in one.messages} - {None} for one in found]
    shared = Counter(text for one in contents for text in one if len(text) > 80)
    assert max(shared.values()) == 1
    assert all(len(a & b) <= 1 for a, b in combinations(contents, 2))


@pytest.mark.parametrize("script", conversations(), ids=lambda script: script.name)
def test_each_is_well_formed(script: Conversation) -> None:
    """Every tool call is answered once, right after the call, and its arguments are JSON."""
    assert 8 <= len(script.messages) <= 20
    open_calls: list[str] = []
    for message in script.messages:
        assert message["role"] in {"system", "user", "assistant", "tool"}
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
        else:
            assert open_calls == []
        for call in message.get("tool_calls", ()):
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            open_calls.append(call["id"])
        assert message["content"] or message.get("tool_calls")
    assert open_calls == []
    assert any(message.get("tool_calls") for message in script.messages)
    assert len(msgspec.json.encode(script.messages)) > 2500


def test_many_writing_systems_are_among_them() -> None:
    """Chinese, Japanese, Arabic, Devanagari, Latin with accents and emoji all occur."""
    text = msgspec.json.encode([list(one.messages) for one in conversations()]).decode()

    for sample in ("订单", "通関", "مراكش", "गेहूँ", "daltonienne", "Wykonawca", "ü", "¿", "👨‍👩‍👧‍👦"):
        assert sample in text


def test_a_session_gets_the_same_conversation_every_time() -> None:
    """Parent and child, and every restart, agree on who replays what."""
    assert casting(100) == casting(100)
    assert len(casting(100)) == 100
    assert list(casting(100))[:32] == list(casting(32))


def test_a_checkpoint_knows_the_calls_that_wait_for_an_answer() -> None:
    """Between a tool call and its result the call is pending, with a hint for the resume."""
    script = next(one for one in conversations() if one.name == "billing-double-charge")
    asked = next(n for n, message in enumerate(script.messages, 1) if "tool_calls" in message)

    waiting = state_after("s", script.messages[:asked])
    answered = state_after("s", script.messages[: asked + 1])

    assert waiting.tool_calls_pending == script.messages[asked - 1]["tool_calls"]
    assert waiting.resume_hint == "tool calls to answer: 1"
    assert answered.tool_calls_pending == []
    assert answered.tool_results == {"call_01": script.messages[asked]["content"]}
