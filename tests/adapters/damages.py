"""Damage to what a framework has stored: each column, file and field of JSON in turn."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import json
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

_GONE: Final = object()
_DEPTH = 3
_FIELDS: Final[dict[str, object]] = {
    "a field is null": None,
    "a field is a number": 7,
    "a field is a text": "x",
    "a field is a list": [1],
    "a field is an object": {"x": 1},
    "a field is gone": _GONE,
}
_TEXTS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "no UTF-8": lambda _: b'{"x": "\xff"}',
    "no JSON": lambda _: b"no JSON",
    "cut off": lambda old: old[: len(old) // 2],
    "JSON of a list": lambda _: b"[1]",
    "JSON of an object": lambda _: b'{"x": 1}',
    "JSON of a text": lambda _: b'"x"',
    "JSON of null": lambda _: b"null",
    "JSON too deep": lambda _: b"[" * 100_000 + b"]" * 100_000,
}
_VALUES: Final[dict[str, Any]] = {"nothing": None, "a number": 7, "bytes": b"\xff\x00"}
DAMAGES: Final = (*_VALUES, *_TEXTS, *_FIELDS)
"""What a value may have become."""


class Place(NamedTuple):
    """
    What is damaged.

    Attributes:
        name: its column or file.
        units: the sessions that may be refused for it, as errors name them.
        damaged: makes of the name of a damage a block in which there is such damage, for each way
            to do it.
    """

    name: str
    units: frozenset[str]
    damaged: Callable[[str], Iterator[AbstractContextManager[None]]]


def loosened(database: Path) -> Path:
    """Let a database take NULL in each column, as what is damaged asks nobody."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA writable_schema=ON")
        loose = "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE type = 'table'"
        connection.execute(loose)
    return database


def as_killed(database: Path) -> Path:
    """Return a copy of a database as a process leaves it that was killed: with a log beside it."""
    copy = database.with_name(f"killed-{database.name}")
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE left_behind (x)")
        for end in ("", "-wal"):
            copy.with_name(copy.name + end).write_bytes(
                database.with_name(database.name + end).read_bytes()
            )
    return copy


def digests(path: Path) -> dict[str, str]:
    """
    Return the SHA-256 of a file and of its log, or of all files of a directory.

    An empty log is none: SQLite makes one where a database is only read.
    """
    files = path.rglob("*") if path.is_dir() else [path, path.with_name(f"{path.name}-wal")]
    return {
        str(it): sha256(it.read_bytes()).hexdigest()
        for it in files
        if it.is_file() and it.stat().st_size
    }


def cells(database: Path, table: str, where: str, *units: str, but: str = "") -> Iterator[Place]:
    """
    Yield the places in a row of a database.

    Args:
        database: the file; `loosened`.
        table: its table.
        where: which row, the first one of several; as `user_id = 'ann'`.
        units: the sessions that need it.
        but: columns that are none of those, with spaces between.
    """
    with closing(sqlite3.connect(database)) as connection:
        row = f"SELECT * FROM {table} WHERE {where} LIMIT 1"
        cursor = connection.execute(row)
        values = cursor.fetchone()
        (rowid,) = connection.execute(row.replace("*", "rowid")).fetchone()
        columns = [column[0] for column in cursor.description]
    for column, value in zip(columns, values, strict=True):
        if column not in but.split():
            cell = _Cell(database, f"UPDATE {table} SET {column} = {{}} WHERE rowid = {rowid}")
            yield Place(column, frozenset(units), _ways(value, cell.changed))


class _Cell(NamedTuple):
    database: Path
    update: str

    @contextlib.contextmanager
    def changed(self, old: object, new: object, *, is_text: bool) -> Generator[None]:
        self._set("CAST(? AS TEXT)" if is_text else "?", new)
        try:
            yield
        finally:
            gc.collect()  # a cursor of the source, in a traceback, locks the database
            self._set("?", old)

    def _set(self, sql: str, value: object) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(self.update.format(sql), [value])


def fields(value: Any, *units: str) -> Iterator[Place]:
    """Yield the places that the fields of a dataclass are."""
    for field in dataclasses.fields(value):
        changed = partial(_changed_field, value, field.name)
        yield Place(field.name, frozenset(units), _ways(getattr(value, field.name), changed))


@contextlib.contextmanager
def _changed_field(
    value: Any, name: str, old: object, new: Any, *, is_text: bool
) -> Generator[None]:
    # Past what would refuse it: some are frozen.
    vars(value)[name] = new.decode(errors="surrogateescape") if is_text else new
    try:
        yield
    finally:
        vars(value)[name] = old


def file(path: Path, *units: str) -> Place:
    """Return the place that a file is."""

    @contextlib.contextmanager
    def changed(old: Any, new: Any, *, is_text: bool) -> Generator[None]:
        del is_text
        path.write_bytes(_content(new))
        try:
            yield
        finally:
            path.write_bytes(old)

    return Place(path.name, frozenset(units), _ways(path.read_bytes(), changed))


def line(path: Path, number: int, *units: str) -> Place:
    """Return the place that a line of a file is; lines count from 0."""
    lines = path.read_bytes().splitlines(keepends=True)

    @contextlib.contextmanager
    def changed(old: Any, new: Any, *, is_text: bool) -> Generator[None]:
        del old, is_text
        path.write_bytes(b"".join([*lines[:number], _content(new) + b"\n", *lines[number + 1 :]]))
        try:
            yield
        finally:
            path.write_bytes(b"".join(lines))

    return Place(f"{path.name}: {number}", frozenset(units), _ways(lines[number], changed))


def _content(value: Any) -> bytes:
    """Return what a file has that is to hold a value."""
    return value if isinstance(value, bytes) else b"" if value is None else b"7"


def _ways(
    old: Any, changed: Callable[..., AbstractContextManager[None]]
) -> Callable[[str], Iterator[AbstractContextManager[None]]]:
    """Return what makes blocks of the name of a damage."""
    text = old if isinstance(old, bytes) else str(old).encode()

    def damaged(kind: str) -> Iterator[AbstractContextManager[None]]:
        if kind in _VALUES:
            yield changed(old, _VALUES[kind], is_text=False)
        elif kind in _TEXTS:
            yield changed(old, _TEXTS[kind](text), is_text=True)
        else:
            for document in _with_field(text, _FIELDS[kind]):
                yield changed(old, json.dumps(document).encode(), is_text=True)

    return damaged


def _with_field(text: bytes, value: object) -> Iterator[Any]:
    """Yield a document with each field in turn as something else; nothing of what is none."""
    try:
        document = json.loads(text)
    except ValueError:
        return
    for path in _paths(document, _DEPTH):
        changed = copy.deepcopy(document)
        *above, last = path
        parent = changed
        for key in above:
            parent = parent[key]
        if value is _GONE:
            del parent[last]
        else:
            parent[last] = value
        yield changed


def _paths(document: Any, depth: int) -> Iterator[tuple[Any, ...]]:
    """Yield where there are values in a document; of a list its first one."""
    if depth:
        first = dict(enumerate(document[:1])) if isinstance(document, list) else document
        for key, value in first.items() if isinstance(first, dict) else ():
            yield (key,)
            yield from ((key, *path) for path in _paths(value, depth - 1))
