"""What the verbs share: arguments, output for people and for programs, and errors of use."""

from __future__ import annotations

import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aiocheckpoint import AsyncCheckpointWriter, CheckpointRecord

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="The directory that holds the sessions.")
]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_END = re.compile(r"\s*[\n\t]\s*")


class CommandError(Exception):
    """A command that cannot be done as it was given; its text is one line for the user."""


def open_store(directory: Path) -> AsyncCheckpointWriter[CheckpointRecord]:
    """
    Return a writer on a directory, for records of any type.

    Raises:
        CommandError: when there is no such directory; a writer would make it.
    """
    if not directory.is_dir():
        reason = "is a file" if directory.exists() else "does not exist"
        raise CommandError(f"{directory} {reason}; give the directory that holds the sessions")
    return AsyncCheckpointWriter(directory, record_type=CheckpointRecord)


def no_such_session(directory: Path, session_id: str) -> CommandError:
    """Return the error for a session without checkpoints."""
    hint = f"`aiocheckpoint sessions {quoted(directory)}` names those there are"
    return CommandError(f"no checkpoints of session {session_id!r} in {directory}; {hint}")


def quoted(argument: str | Path) -> str:
    """Return an argument as a shell takes it."""
    return shlex.quote(str(argument))


def console() -> Console:
    """Return the console of standard output; plain where that is no terminal."""
    return Console(highlight=False, soft_wrap=False)


def print_json(value: object) -> None:
    """Print a value as indented JSON, in UTF-8 whatever the terminal's encoding."""
    encoded = msgspec.json.encode(value, enc_hook=_as_text)
    print_bytes(msgspec.json.format(encoded, indent=2))


def print_bytes(text: bytes) -> None:
    """Print a text as it is, and a line's end."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


def _as_text(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()


def safe(text: str) -> str:
    """Return a text with the control characters spelled out that could drive a terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Return a text as one safe line."""
    return safe(_LINE_END.sub(" ", text))


def cell(text: str, style: str = "") -> Text:
    """Return a table cell or line of any text, markup and control characters inert."""
    return Text(one_line(text), style, overflow="fold")


def print_line(screen: Console, text: str, style: str = "") -> None:
    """Print one line of any text and any length; paths in it can be copied as they are."""
    screen.print(Text(one_line(text), style), soft_wrap=True)


def plain_table(*headings: str) -> Table:
    """Return a table with these headings; those that begin with `>` are for numbers."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", show_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        is_number = heading.startswith(">")
        table.add_column(heading.removeprefix(">"), justify="right" if is_number else "left")
    return table


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts, as `1 kill` or `2 kills`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def time_text(moment: datetime) -> str:
    """Return a time as people read it, UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
