"""What nobody should hand to an adapter."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from aiocheckpoint.testing import MemoryStore
from tests.adapters.case import AdapterCase


class Thing:
    """What no adapter knows."""

    def __repr__(self) -> str:
        return "Thing()"


ODD_IDS: tuple[Any, ...] = (None, 5, 2.5, True, b"s", ["s"], {"s": 1}, {"s"}, "\ud800", object())
ODD_TEXTS: tuple[Any, ...] = (
    None, 10**20, float("nan"), b"text", {"a", "b"}, ("a",), {1: "a"}, "\ud800", Thing(),
)  # fmt: skip
ODD_STORAGES: tuple[Any, ...] = (
    None, 5, True, b"state", ["state"], {}, object(), MemoryStore, "", "a\0b", "ftp://a/b",
    "'s3://bucket/p'", " postgresql:///app", "?schema=agents",
)  # fmt: skip


class OddArguments(AdapterCase):
    """What is none of what a call takes is refused by name, and loses nothing."""

    async def test_odd_storages(self) -> None:
        """What is no storage is refused by name before anything is done."""

        async def texts(storage: Any) -> list[str]:
            async with self.opened(storage) as adapter:
                return await self.texts(adapter, "s")

        for odd in ODD_STORAGES:
            with pytest.raises(self.refusals):
                pytest.fail(f"the storage {odd!r} has {await texts(odd)}")

    async def test_odd_sessions(self, storage: Any) -> None:
        """What is no id of a session is refused by name, and nothing is stored or found."""
        async with self.opened(storage) as adapter:
            await self.add(adapter, "s", "text")
            listed = await self.listed(adapter)
            for odd in ODD_IDS:
                with pytest.raises(self.refusals):
                    await self.add(adapter, odd, "odd")
                with pytest.raises(self.refusals):
                    pytest.fail(f"{odd!r} has {await self.texts(adapter, odd)}")
            assert await self.listed(adapter) == listed
            assert await self.texts(adapter, "s") == ["text"]

    async def test_odd_texts(self, storage: Any) -> None:
        """What is no text comes back as it is, or is refused by name and changes nothing."""
        async with self.opened(storage) as adapter:
            for number, odd in enumerate(ODD_TEXTS):
                session = f"s{number}"
                await self.add(adapter, session, "text")
                texts: list[Any] = ["text"]
                with contextlib.suppress(*self.refusals):
                    await self.add(adapter, session, odd)
                    texts += self.stored_as(odd)
                assert repr(await self.texts(adapter, session)) == repr(texts)
                await self.add(adapter, session, "more")
                assert repr(await self.texts(adapter, session)) == repr([*texts, "more"])

    async def test_odd_arguments(self, storage: Any) -> None:
        """Every other argument that is none is refused by name, and nothing is changed."""
        async with self.opened(storage) as adapter:
            await self.add(adapter, "s", "text")
            answers: list[str] = []
            for call in self.odd_calls(adapter, "s"):
                try:
                    answers.append(f"{call} returned {await call()!r}")
                except self.refusals:
                    pass
                except Exception as error:  # noqa: BLE001 - all are told together
                    answers.append(f"{call} raised {error!r}")
            assert not answers, "\n".join(answers)
            assert await self.texts(adapter, "s") == ["text"]
