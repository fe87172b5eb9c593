"""The tool on a directory that the Rust crate wrote; `rust_store` is as sh-layer2 left it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Tool, tree


@pytest.fixture(name="rust_store")
def _rust_store(tmp_path: Path) -> Path:
    source = Path(__file__).parent / "rust_store"
    return shutil.copytree(source, tmp_path / "rust_store", symlinks=True)


def test_looking_works_and_changes_nothing(tool: Tool, rust_store: Path) -> None:
    """A store that Rust wrote is listed, shown and verified, and stays as it is."""
    before = tree(rust_store)

    metas = tool("list", rust_store, "from-rust", "--json").json
    shown = tool("show", rust_store, "from-rust")
    verified = tool("verify", rust_store)
    named = tool("sessions", rust_store, "--json").json

    assert [meta["checkpoint_id"] for meta in metas] == ["second", "first"]
    assert "🎂🧒 = 7!! next saturday" in shown.output
    assert verified.status == 0
    assert [one["session_id"] for one in named] == ["from-rust"]
    assert tree(rust_store) == before


def test_damage_is_found_and_recovered_from(tool: Tool, rust_store: Path) -> None:
    """Damage to a file of Rust's is found, and the session goes on from the one before."""
    [path] = rust_store.glob("from-rust/checkpoints/cp_*_second.json")
    path.write_bytes(path.read_bytes().replace(b'"tokens_used": 20', b'"tokens_used": 21'))

    assert tool("verify", rust_store).status == 1
    assert tool("show", rust_store, "from-rust").status == 1
    assert tool("recover", rust_store, "from-rust", "--json").json["newest_valid_id"] == "first"
    assert tool("verify", rust_store).status == 0
