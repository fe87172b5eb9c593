"""`aiocheckpoint show DIR SESSION [ID]`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.highlighter import JSONHighlighter
from rich.table import Table
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
    facts = Table.grid(padding=(0, 2, 0, 0))
    for key, value in document.items():
        facts.add_row(cell(key, "bold"), _value(value))
    screen = console()
    screen.print(facts)
    screen.print()
    print_line(screen, f"file {path}", "dim")
    print_line(screen, f"format {version}, verified, sha256 {checksum}", "dim")
    if isinstance(messages, list) and messages:
        screen.print()
        screen.print(_conversation(messages))


def _value(value: object) -> RenderableType:
    """Return one field for the eye: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return Text(safe(value), overflow="fold")
    if isinstance(value, list | dict) and value:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        return JSONHighlighter()(safe(text))
    return Text(msgspec.json.encode(value).decode(), "dim")


def _conversation(messages: list[Any]) -> Table:
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    for message in messages:
        role, content = _message(message)
        lines.add_row(Text(role, _ROLE_STYLES.get(role, "bold")), content)
        lines.add_row()
    return lines


def _message(message: object) -> tuple[str, RenderableType]:
    """Return the role and the text of a message, in the form most agents keep them."""
    match message:
        case {"role": str(role), "content": str() | None as content, **others}:
            text = [Text(safe(content), overflow="fold")] if content else []
            return safe(role), Group(*text, *_tool_calls(others.get("tool_calls")))
        case _:
            return "", _value(message)


def _tool_calls(calls: object) -> list[Text]:
    return [_tool_call(call) for call in calls] if isinstance(calls, list) else []


def _tool_call(call: object) -> Text:
    match call:
        case {"function": {"name": str(name), "arguments": str(arguments)}}:
            return Text(f"→ {safe(name)} {safe(arguments)}", "magenta", overflow="fold")
        case _:
            return Text(f"→ {safe(str(call))}", "magenta", overflow="fold")
