"""
The records behind `tests/data/format-1`, and how its files are made.

    python -m tests.interop.golden [--driver PATH] NAME...

writes new golden files. One that is there is never written again: it stands for all the files
that users have. See `tests/data/format-1/README.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from aiocheckpoint._format.codec import RecordCodec
from aiocheckpoint._format.json_values import MAX_DEPTH
from tests.formats import seal
from tests.golden import DIRECTORY, RECORD_TYPES
from tests.interop.comparison import is_readable_as_printed
from tests.interop.driver import EXECUTABLE, Rust
from tests.interop.flat import flatten

_LOWEST = {"iteration": -(2**31), "tokens_used": -(2**63), "cost_estimate": -1.5}
_HIGHEST = {"iteration": 2**31 - 1, "tokens_used": 2**63 - 1}


def _document(checkpoint_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "checkpoint_id": checkpoint_id,
        "session_id": "golden",
        "created_at": "2026-05-11T04:12:00.123456Z",
        "trigger": "manual",
        "iteration": 0,
        "messages": [],
        "tool_calls_pending": [],
        "tool_results": None,
        "tokens_used": 0,
        "cost_estimate": 0.0,
        "resume_hint": None,
    } | fields


def _conversation() -> dict[str, Any]:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
    }
    return _document(
        "conversation",
        trigger="tool_call",
        iteration=3,
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Brauche ich morgen in Zürich einen Schirm? ☔"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
        tool_calls_pending=[call],
        tool_results={"call_1": {"temperature_celsius": 7.5, "rain": True}},
        tokens_used=412,
        cost_estimate=0.0123,
        resume_hint="waiting for the weather",
    )


def _escapes() -> dict[str, Any]:
    text = "".join(map(chr, range(0x20))) + '"\\/\x7f\x80\u2028\u2029\ufeff\uffff\U0001f600'
    keys = ["", " ", "A", "a", "é", "\uff61", "\U00010000", "_z", "10", "9", "\n", '"']
    return _document(
        "escapes",
        trigger=text,
        messages=[text, {key: key for key in keys}],
        tool_results={"like numbers": ["1e16", '"1e16"', '\\"0.30000000000000004']},
        resume_hint="",
    )


def _integers() -> dict[str, Any]:
    edges = [0, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 1 - 2**63]
    return _document("integers", messages=edges, tool_results=_LOWEST, **_HIGHEST)


def _floats() -> dict[str, Any]:
    edges = [0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e-7, 1e-6]
    edges += [1e-5, 1.5e-5, 1e-4, 0.1, 1 / 3, 1.0, 1e15, 1e16, 1.5e16, 1e17, 1e21, 1e22]
    return _document("floats", messages=edges, tool_results=[-edge for edge in edges])


def _misread_floats() -> dict[str, Any]:
    source = random.Random(1)
    floats = [source.random() for _ in range(40)]
    found = _document("misread", messages=floats)
    assert not is_readable_as_printed(found)
    return found


def _deep() -> dict[str, Any]:
    value: Any = [[], {}, "the bottom"]
    for level in range(MAX_DEPTH - 4):
        value = [value] if level % 2 else {"a": value}
    return _document("deep", messages=[value], tool_results={"empty": [{}, [], [[]], {"a": {}}]})


DOCUMENTS: dict[str, dict[str, Any]] = {
    "rust-minimal": _document("minimal"),
    "rust-conversation": _conversation(),
    "rust-escapes": _escapes(),
    "rust-integers": _integers(),
    "rust-floats": _floats(),
    "rust-floats-misread": _misread_floats(),
    "rust-deep": _deep(),
    "rust-nanoseconds": _document("nano", created_at="2026-05-11T04:12:00.123456789Z"),
    "rust-milliseconds": _document("milli", created_at="2026-05-11T04:12:00.120Z"),
    "rust-underscore": _document("123456_x"),
    "rust-serde_json-1.0.145": _floats() | {"checkpoint_id": "older"},
    "rust-preserve_order": _conversation() | {"checkpoint_id": "unsorted"},
    "python-conversation": _conversation() | {"checkpoint_id": "from-python"},
    "python-floats-respelled": _misread_floats() | {"checkpoint_id": "respelled"},
    "python-floats-inexact": _document("inexact", messages=[0.23733660385428734]),
    "python-odd-ids": _document("tool@5") | {"session_id": "me@home/../*"},
    "python-own-record": {
        "checkpoint_id": "7",
        "session_id": "golden",
        "created_at": "2026-05-11T04:12:00.123456Z",
        "level": 3,
        "inventory": {"lamp": 1, "rope": 2},
    },
}


def file_of_rust(rust: Rust, document: dict[str, Any]) -> bytes:
    """Return the bytes of the file that the crate writes for a document."""
    with tempfile.TemporaryDirectory() as directory:
        rust.ask("save", root=directory, document=flatten(document))
        (path,) = Path(directory).glob("*/checkpoints/cp_*.json")
        return path.read_bytes()


def file_of_python(name: str, document: dict[str, Any]) -> bytes:
    """Return the bytes of the file that this library writes for a document."""
    record_type = RECORD_TYPES[name]
    record = msgspec.convert(document, record_type)
    return seal(RecordCodec(record_type).draft(record))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--driver", type=Path, default=EXECUTABLE)
    parser.add_argument("names", nargs="+", choices=DOCUMENTS)
    arguments = parser.parse_args()
    with Rust(arguments.driver) as rust:
        for name in arguments.names:
            document = DOCUMENTS[name]
            ours = name.startswith("python-")
            body = file_of_python(name, document) if ours else file_of_rust(rust, document)
            _write_new(name, body, document)
    return 0


def _write_new(name: str, body: bytes, document: dict[str, Any]) -> None:
    tokens = json.dumps(flatten(document), indent=0).encode() + b"\n"
    with (DIRECTORY / "SHA256SUMS").open("a", encoding="ascii") as sums:
        for suffix, data in ((".json", body), (".tokens", tokens)):
            with (DIRECTORY / (name + suffix)).open("xb") as file:
                file.write(data)
            sums.write(f"{hashlib.sha256(data).hexdigest()}  {name}{suffix}\n")


if __name__ == "__main__":
    sys.exit(main())
