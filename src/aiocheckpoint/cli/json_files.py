"""What the demo compares with: a file for each session, written by `json.dump` at each save."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from aiocheckpoint import CheckpointData, CheckpointId, SessionId
from aiocheckpoint.kit import AsyncClosing


class JsonFiles(AsyncClosing):
    """
    Sessions in plain files, as most agents begin.

    Args:
        directory: where to, it is there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def aclose(self) -> None:
        """Do nothing: no file stays open."""

    def _path(self, session_id: SessionId) -> Path:
        return self._directory / f"{session_id}.json"

    async def save(self, data: CheckpointData, /) -> CheckpointId:
        """Write the session's file anew."""
        with self._path(data.session_id).open("w", encoding="utf-8") as file:
            json.dump(msgspec.to_builtins(data), file)
        return data.checkpoint_id

    async def load(self, session_id: SessionId) -> CheckpointData | None:
        """Return what the file has; None where there is none, or where it is torn."""
        try:
            text = self._path(session_id).read_bytes()
            return msgspec.json.decode(text, type=CheckpointData)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    async def is_torn(self, session_id: SessionId) -> bool:
        """Tell whether there is a file that nobody can read any more."""
        return self._path(session_id).exists() and await self.load(session_id) is None
