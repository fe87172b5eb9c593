"""`async with` for what is closed by `aclose`."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class AsyncClosing:
    """
    `async with` for a class that has `aclose`: the block is given it, and closes it at its end.

    A class that refuses calls once it is closed says so by `_require_open`, which the block asks.
    """

    async def __aenter__(self) -> Self:
        """Return it, unless it is closed."""
        self._require_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of what is held."""
        raise NotImplementedError

    def _require_open(self) -> None:
        """Refuse what comes after `aclose`; by default nothing is."""
