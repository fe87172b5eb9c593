"""`aiocheckpoint show DIR SESSION [ID]`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.highlighter import JSONHighlighter
from rich.text import Text

from aiocheckpoint import AsyncCheckpointWriter, CheckpointMeta, CheckpointRecord
from aiocheckpoint.cli.terminal import (
    AsJson,
    CommandError,
    Directory,
    MaxBytes,
    Session,
    advised,
    cell,
    command_line,
    console,
    no_such_session,
    open_store,
    print_bytes,
    print_line,
    print_pairs,
    safe,
)

CheckpointIdArgument = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="The checkpoint's id; the one saved last by default."),
]

_ROLE_STYLES = {"system": "dim", "user": "green", "assistant": "cyan", "tool": "yellow"}


def show(
    directory: Directory,
    session: Session,
    checkpoint_id: CheckpointIdArgument = None,
    *,
    max_bytes: MaxBytes = None,
    as_json: AsJson = False,
) -> int:
    """Show a checkpoint, verified; with --json its file, byte for byte."""
    with advised(directory, session):
        path = _path(directory, session, checkpoint_id, max_bytes)
    if not path.exists():
        hint = f"`{command_line('flush', directory)}` writes it"
        raise CommandError(f"{path} is not there yet, the journal has it; {hint}")
    body = path.read_bytes()
    if as_json:
        print_bytes(body)
    else:
        _print_document(msgspec.json.decode(body), path)
    return 0


def _path(directory: Path, session: str, checkpoint_id: str | None, max_bytes: int | None) -> Path:
    """Return the file of a checkpoint that has just been loaded, and so verified."""
    record, metas = asyncio.run(_found(open_store(directory, max_bytes), session, checkpoint_id))
    if not metas:
        raise no_such_session(directory, session)
    if record is None:
        hint = f"`{command_line('list', directory, session)}` names those there are"
        raise CommandError(f"session {session!r} has no checkpoint {checkpoint_id!r}; {hint}")
    for meta in metas:
        if meta.checkpoint_id == record.checkpoint_id and meta.path is not None:
            return meta.path
    raise CommandError(f"checkpoint {record.checkpoint_id!r} was deleted meanwhile; try again")


async def _found(
    writer: AsyncCheckpointWriter[CheckpointRecord], session: str, checkpoint_id: str | None
) -> tuple[CheckpointRecord | None, tuple[CheckpointMeta, ...]]:
    async with writer:
        return await writer.load(session, checkpoint_id), await writer.list(session)


def _print_document(document: dict[str, Any], path: Path) -> None:
    messages = document.pop("messages", None)
    checksum, version = document.pop("_checksum"), document.pop("_version")
    screen = console()
    print_pairs(screen, [(cell(key, "bold"), _value(value)) for key, value in document.items()])
    screen.print()
    print_line(screen, f"file {path}", "dim")
    print_line(screen, f"format {version}, verified, sha256 {checksum}", "dim")
    if isinstance(messages, list) and messages:
        screen.print()
        print_pairs(screen, map(_message, messages), gap=True)


def _value(value: object) -> Text:
    """Return one field for the eye: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return Text(safe(value), overflow="fold")
    if isinstance(value, list | dict) and value:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        return JSONHighlighter()(safe(text))
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
