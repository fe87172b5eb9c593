"""
Each store keeps each part of the contract, test by test.

`python -m tests.contract.test_table` writes the page that says so anew.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiocheckpoint.testing import contract

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "contract.md"
PARTS = {name: getattr(contract, name) for name in contract.__all__ if name.endswith("Contract")}
MARKER = "| Part | "


def _stores() -> dict[str, tuple[type, ...]]:
    """Return the classes of tests of each store."""

    def of(module: str, *names: str) -> tuple[type, ...]:
        loaded = importlib.import_module(module)
        return tuple(getattr(loaded, name) for name in names)

    local = "tests.contract.test_local"
    writers = of(local, "TestWriter"), of(local, "TestWriterOfOtherDurability")
    postgres = of("tests.stores.postgres.test_contract", "TestPostgres", "TestPostgresOfBlobs")
    return {
        "Memory": of("tests.contract.test_memory", "TestMemoryStore"),
        **{
            f'Directory, `"{durability}"`': writer
            for writer in writers
            for durability in _durabilities(*writer)
        },
        "PostgreSQL": postgres,
        "Bucket, the tests' own server": of("tests.stores.s3.test_contract", "TestS3"),
        "Bucket, Ceph's gateway": of("tests.stores.s3.test_ceph", "TestCeph"),
    }


def _durabilities(cls: type) -> list[str]:
    (mark,) = (mark for mark in getattr(cls, "pytestmark", ()) if mark.name == "parametrize")
    assert mark.args[0] == "durability"
    return list(mark.args[1])


def _tests(part: type) -> list[str]:
    return [name for name in vars(part) if name.startswith("test_")]


def _is_run(cls: type, part: type, name: str) -> bool:
    """Tell whether a class runs a test as the part has it: not another one, and not skipped."""
    marks = {mark.name for mark in getattr(cls, "pytestmark", ())}
    return getattr(cls, name) is vars(part)[name] and not marks & {"skip", "skipif", "xfail"}


def _cells(stores: dict[str, tuple[type, ...]], part: type) -> Iterator[str]:
    for classes in stores.values():
        keeping = [cls for cls in classes if issubclass(cls, part)]
        run = sum(any(_is_run(cls, part, name) for cls in keeping) for name in _tests(part))
        yield "all" if run == len(_tests(part)) else f"{run} of {len(_tests(part))}"


def table(stores: dict[str, tuple[type, ...]]) -> str:
    """Return the table as Markdown: how many tests of each part run on each store."""
    lines = [f"{MARKER}{' | '.join(stores)} |", "|---|" + "---|" * len(stores)]
    for name, part in PARTS.items():
        link = f"[`{name}`](api.md#{name.lower()})"
        lines.append(f"| {link} | {' | '.join(_cells(stores, part))} |")
    return "\n".join(lines)


def _renewed(page: str, new: str) -> str:
    """Return the page with another table."""
    before, _, rest = page.partition(MARKER)
    behind = rest.partition("\n\n")[2]
    return f"{before}{new}\n\n{behind}"


@pytest.fixture(name="stores")
def _loaded_stores(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[type, ...]]:
    """Load the tests of a server that is not installed as well: none of them is run here."""
    return _with_all_servers(monkeypatch)


def _with_all_servers(patch: pytest.MonkeyPatch) -> dict[str, tuple[type, ...]]:
    patch.setenv("AIOCHECKPOINT_CEPH", "yes")
    patch.setattr("tests.stores.s3.ceph.missing_programs", list)
    return _stores()


@pytest.mark.blocking
def test_the_page_says_which_store_keeps_which_part(stores: dict[str, tuple[type, ...]]) -> None:
    """The table in `docs/reference/contract.md` is what the classes of tests come to."""
    text = PAGE.read_text(encoding="utf-8")
    assert _renewed(text, table(stores)) == text, "run python -m tests.contract.test_table"


@pytest.mark.blocking
def test_every_store_keeps_every_part(stores: dict[str, tuple[type, ...]]) -> None:
    """None is left out, replaced or skipped."""
    for name, part in PARTS.items():
        assert _tests(part), name
        assert set(_cells(stores, part)) == {"all"}, name


def test_what_is_left_out_is_counted() -> None:
    """A part that is missing, and a test that is replaced or skipped, is not counted."""
    part = PARTS["RetentionContract"]
    (first, *_) = _tests(part)
    replaced = type("Replaced", (part,), {first: lambda self: None})
    skipped = pytest.mark.skip(type("Skipped", (part,), {}))
    stores: dict[str, tuple[type, ...]] = {
        "whole": (part,),
        "none": (object,),
        "replaced": (replaced,),
        "skipped": (skipped,),
    }
    count = len(_tests(part))
    counted = ["all", f"0 of {count}", f"{count - 1} of {count}", f"0 of {count}"]
    assert list(_cells(stores, part)) == counted


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patched:
        PAGE.write_text(_renewed(PAGE.read_text("utf-8"), table(_with_all_servers(patched))))
