"""`aiocheckpoint show DIR SESSION [ID]`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.highlighter import JSONHighlighter
from rich.text import Text

from aiocheckpoint import BlobStore, CheckpointMeta, RawRecord
from aiocheckpoint.cli.errors import CommandError
from aiocheckpoint.cli.place import Place, open_raw
from aiocheckpoint.cli.terminal import (
    LONG_TEXT,
    AsJson,
    MaxBytes,
    Session,
    Store,
    advised,
    cell,
    command_line,
    console,
    no_such_session,
    not_written,
    print_bytes,
    print_line,
    print_pairs,
    require_store,
    safe,
    typed,
    word,
)

CheckpointIdArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="ID", parser=typed, help="The checkpoint's id; the one saved last by default."
    ),
]

_NAMES = frozenset({"session_id", "checkpoint_id", "trigger"})
_ROLE_STYLES = {"system": "dim", "user": "green", "assistant": "cyan", "tool": "yellow"}


def show(
    directory: Store,
    session: Session,
    checkpoint_id: CheckpointIdArgument = None,
    *,
    max_bytes: MaxBytes = None,
    as_json: AsJson = False,
) -> int:
    """Show a checkpoint, verified; with --json its file, byte for byte, if it has one."""
    with advised(directory, session):
        store = open_raw(directory, max_bytes)
        record, metas = asyncio.run(_loaded(store, directory, session, checkpoint_id))
    record, meta = _found(record, metas, directory, session, checkpoint_id)
    file = word(meta.path or meta.location)
    if directory.path is not None and meta.path is not None and meta.path.exists():
        body = meta.path.read_bytes()
    else:  # the journal has it, or a server
        file += f": {not_written(directory)}" if meta.path is not None else ""
        body = msgspec.json.format(record.document, indent=2)
    if as_json:
        print_bytes(body, b"\n" if console().is_terminal else b"")
    else:
        _print_document(msgspec.json.decode(body), meta, file)
    return 0


async def _loaded(
    store: BlobStore[RawRecord], place: Place, session: str, checkpoint_id: str | None
) -> tuple[RawRecord | None, tuple[CheckpointMeta, ...]]:
    async with store:
        record, metas = await store.load(session, checkpoint_id), await store.list(session)
        if not metas:
            await require_store(store, place)
        return record, metas


def _found(
    record: RawRecord | None,
    metas: tuple[CheckpointMeta, ...],
    place: Place,
    session: str,
    checkpoint_id: str | None,
) -> tuple[RawRecord, CheckpointMeta]:
    """Return a checkpoint that has just been loaded, and so verified, and its listing entry."""
    if not metas:
        raise no_such_session(place, session)
    if record is None:
        hint = f"`{command_line('list', place, session)}` names those there are"
        raise CommandError(f"session {session!r} has no checkpoint {checkpoint_id!r}; {hint}")
    for meta in metas:
        if meta.checkpoint_id == record.checkpoint_id:
            return record, meta
    raise CommandError(f"checkpoint {record.checkpoint_id!r} was deleted meanwhile; try again")


def _print_document(document: dict[str, Any], meta: CheckpointMeta, file: str) -> None:
    messages = document.pop("messages", None)
    checksum, version = document.pop("_checksum", meta.checksum), document.pop("_version", "1.0")
    screen = console()
    print_pairs(
        screen, [(cell(word(key), "bold"), _field(key, value)) for key, value in document.items()]
    )
    screen.print()
    print_line(screen, f"file {file}", "dim")
    print_line(screen, f"format {version}, verified, sha256 {checksum}", "dim")
    if isinstance(messages, list) and messages:
        screen.print()
        print_pairs(screen, map(_message, messages), gap=True)


def _field(key: str, value: object) -> Text:
    """Return one field for the eye: what names something so that nothing else looks like it."""
    if key in _NAMES and isinstance(value, str):
        return Text(word(value), overflow="fold")
    return _value(value)


def _value(value: object) -> Text:
    """Return a value for the eye: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return Text(safe(value), overflow="fold")
    if isinstance(value, list | dict) and value:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        return JSONHighlighter()(safe(text)) if len(text) <= LONG_TEXT else Text(safe(text))
    return Text(msgspec.json.encode(value).decode(), "dim")


def _message(message: object) -> tuple[Text, Text]:
    """Return the role and the text of a message, in the form most agents keep them."""
    match message:
        case {"role": str(role), "content": str() | None as content, **others}:
            texts = [Text(safe(content))] if content else []
            texts += _tool_calls(others.get("tool_calls"))
            shown = Text("\n", overflow="fold").join(texts)
            return Text(safe(role), _ROLE_STYLES.get(role, "bold")), shown
        case _:
            return Text(), _value(message)


def _tool_calls(calls: object) -> list[Text]:
    return [_tool_call(call) for call in calls] if isinstance(calls, list) else []


def _tool_call(call: object) -> Text:
    match call:
        case {"function": {"name": str(name), "arguments": str(arguments)}}:
            return Text(f"→ {safe(name)} {safe(arguments)}", "magenta")
        case _:
            return Text(f"→ {safe(str(call))}", "magenta")
