"""Realistic documents of a wanted size, made of the bundled conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.resources import files
from itertools import chain, cycle, islice
from typing import Any

import msgspec
from msgspec import Struct

from aiocheckpoint import CheckpointData

KB = 1000
MB = 1000 * KB


class Document(Struct, frozen=True):
    """
    What one agent step stores, the same for every contender.

    Attributes:
        messages: a conversation with tool calls and their results.
        tool_results: the last tool's answer, decoded: nested values and floats.
        text: all of it as compact JSON.
    """

    messages: list[dict[str, Any]]
    tool_results: Any
    text: bytes

    def checkpoint(self, session_id: str, iteration: int) -> CheckpointData:
        """Return it as a new checkpoint of ours."""
        return CheckpointData(
            session_id=session_id,
            trigger="tool_result",
            iteration=iteration,
            messages=self.messages,
            tool_results=self.tool_results,
            tokens_used=len(self.text) // 4,
            cost_estimate=len(self.text) * 1e-6,
            resume_hint="answer the last tool result",
        )


@cache
def _conversations() -> tuple[list[dict[str, Any]], ...]:
    directory = files("aiocheckpoint") / "cli" / "conversations"
    paths = sorted(directory.iterdir(), key=lambda path: path.name)
    return tuple(
        msgspec.json.decode(path.read_bytes())["messages"]
        for path in paths
        if path.name.endswith(".json")
    )


def endless_conversation() -> Iterator[dict[str, Any]]:
    """Yield the messages of the bundled conversations, one after the other, again and again."""
    return chain.from_iterable(cycle(_conversations()))


def _tool_result(messages: list[dict[str, Any]], most_bytes: int) -> Any:
    for message in messages:
        if message["role"] == "tool" and len(message["content"]) <= most_bytes:
            with suppress(msgspec.DecodeError):
                return msgspec.json.decode(message["content"])
    return None


def _document(size_bytes: int, number: int) -> Document:
    conversations = _conversations()
    first = number % len(conversations)
    endless = chain.from_iterable(cycle(conversations[first:] + conversations[:first]))
    tool_results = _tool_result(conversations[first], size_bytes // 4)
    last = {"role": "user", "content": ""}
    messages: list[dict[str, Any]] = []
    room = size_bytes - len(_encoded([last], tool_results))
    for message in endless:
        needed = len(msgspec.json.encode(message)) + len(",")
        if needed > room:
            break
        messages.append(message)
        room -= needed
    last["content"] = _words(endless, room)
    text = _encoded([*messages, last], tool_results)
    # Decoded anew: messages that come twice would otherwise be one object, warm in the cache.
    decoded = msgspec.json.decode(text)
    return Document(decoded["messages"], decoded["tool_results"], text)


def _encoded(messages: list[dict[str, Any]], tool_results: Any) -> bytes:
    return msgspec.json.encode(Document(messages, tool_results, b"").checkpoint("session-0", 1))


def _words(messages: Iterable[dict[str, Any]], length: int) -> str:
    """Return so many ASCII letters of the conversations' words, one byte each in JSON."""
    texts = (message["content"] or "" for message in islice(messages, 1000))
    words = (word for text in texts for word in text.split() if word.isalpha() and word.isascii())
    return " ".join(islice(words, length))[:length]


@cache
def documents(size_bytes: int, count: int) -> tuple[Document, ...]:
    """
    Return different documents of about one size.

    Args:
        size_bytes: of each, as compact JSON.
        count: how many.
    """
    return tuple(_document(size_bytes, number) for number in range(count))


@cache
def growing_documents(size_bytes: int, number: int) -> tuple[Document, ...]:
    """
    Return one conversation, message after message, from half a size to one and a half.

    Args:
        size_bytes: on the average, as compact JSON.
        number: which conversation.
    """
    first = number % len(_conversations())
    rest = _conversations()[first:] + _conversations()[:first]
    messages: list[dict[str, Any]] = []
    found: list[Document] = []
    for message in chain.from_iterable(cycle(rest)):
        messages.append(message)
        text = _encoded(messages, None)
        if len(text) > size_bytes * 3 // 2:
            return tuple(found)
        if len(text) >= size_bytes // 2:
            found.append(Document(msgspec.json.decode(text)["messages"], None, text))
    raise AssertionError


def size_label(size_bytes: int) -> str:
    """Return `"8 KB"` for 8000."""
    if size_bytes >= MB:
        return f"{size_bytes / MB:g} MB"
    return f"{size_bytes / KB:g} KB"
