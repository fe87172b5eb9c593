"""The golden files of format 1.0: what users have on their disks, kept for ever."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from aiocheckpoint import CheckpointData, CheckpointRecord
from aiocheckpoint._format.ids import encode_id
from tests.interop.flat import unflatten

DIRECTORY = Path(__file__).parent / "data" / "format-1"


class GameState(CheckpointRecord):
    """A record of an application's own."""

    level: int
    inventory: dict[str, int]


RECORD_TYPES: defaultdict[str, type[CheckpointRecord]] = defaultdict(
    lambda: CheckpointData, {"python-own-record": GameState}
)


class Golden(NamedTuple):
    """
    One golden file.

    Attributes:
        name: without the extension.
        body: the checkpoint file.
        document: what the writer had in memory when it wrote the file.
    """

    name: str
    body: bytes
    document: dict[str, Any]


def _read(path: Path) -> Golden:
    tokens = json.loads(path.with_suffix(".tokens").read_text("utf-8"))
    return Golden(path.stem, path.read_bytes(), unflatten(tokens))


GOLDENS = [_read(path) for path in sorted(DIRECTORY.glob("*.json"))]


def placed(golden: Golden, root: Path) -> Path:
    """Put a golden file where both sides look for it in `root`, and return its path."""
    document = golden.document
    session = encode_id(document["session_id"], "session id")
    checkpoint = encode_id(document["checkpoint_id"], "checkpoint id")
    directory = root / session / "checkpoints"
    directory.mkdir(parents=True)
    path = directory / f"cp_20260511_041200_{checkpoint}.json"
    path.write_bytes(golden.body)
    (directory / "latest.json").symlink_to(path.name)
    return path
