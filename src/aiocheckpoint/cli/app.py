"""The verbs put together, and the one place where an error becomes a line and an exit status."""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Protocol, runtime_checkable

import typer

from aiocheckpoint import CheckpointCorruptError, CheckpointError, __version__
from aiocheckpoint.cli.copy import copy
from aiocheckpoint.cli.demo import demo
from aiocheckpoint.cli.errors import EXIT_DAMAGED, EXIT_NOT_DONE, CommandError
from aiocheckpoint.cli.flush import flush
from aiocheckpoint.cli.list import list_checkpoints
from aiocheckpoint.cli.recover import recover
from aiocheckpoint.cli.sessions import sessions
from aiocheckpoint.cli.show import show
from aiocheckpoint.cli.terminal import (
    command_line,
    discard_errors,
    discard_output,
    fill_standard_streams,
    print_error,
    with_options,
)
from aiocheckpoint.cli.verify import verify

EXIT_INTERRUPTED = 130
_SILENT = logging.NullHandler()
_OF_THE_PARSER = ": Value error, "  # what newer versions of typer put before a text of ours
_OF_THE_OUTPUT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
_UNKNOWN = re.compile(r"No such command '(\w+)'")
_VERBS = {"check": "verify", "load": "show"}
"""What does on the command line what a method of the writer does that has another name."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",  # joins the lines of a docstring's paragraph
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if wanted:
        sys.stdout.write(f"aiocheckpoint {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Look at checkpoints of agent sessions, check them, and see them survive kill -9."""


app.command("demo")(demo)
app.command("sessions")(sessions)
app.command("list")(list_checkpoints)
app.command("show")(show)
app.command("verify")(verify)
app.command("recover")(recover)
app.command("flush")(flush)
app.command("copy")(copy)


@runtime_checkable
class _UsageError(Protocol):
    """What typer raises for wrong options; its class has moved between typer's versions."""

    exit_code: int

    def format_message(self) -> str:
        """Return the text for the user."""
        ...


def run(arguments: Sequence[str] | None) -> int:
    """Run a command line and return its exit status."""
    logging.getLogger("aiocheckpoint").addHandler(_SILENT)  # the error says the same, in a line
    fill_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        # Ids and messages are any text; a terminal that cannot show it is no reason to fail.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        status = _run(arguments)
    except CommandError as error:
        return _failed(str(error), error.exit_status)
    except CheckpointCorruptError as error:
        return _failed(str(error), EXIT_DAMAGED)
    except CheckpointError as error:
        return _failed(with_options(str(error)), EXIT_NOT_DONE)
    except OSError as error:
        return _failed(_system_error(error), EXIT_NOT_DONE)
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except Exception as error:
        if not isinstance(error, _UsageError):
            raise
        return _misused(error) if str(error) else EXIT_NOT_DONE
    return status


def _system_error(error: OSError) -> str:
    """Return what the system says of a path that was given, or of the output, which has none."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    if error.errno in _OF_THE_OUTPUT:
        return f"cannot print: {reason}; what else was to be done may be done"
    return reason


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command line; that nobody reads what it prints is no failure."""
    try:
        status = app(args=arguments, prog_name="aiocheckpoint", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
    else:
        return status or 0
    return 0


def _misused(error: _UsageError) -> int:
    """Say what is wrong with a command line, and which verb is meant or which help to ask for."""
    context = getattr(error, "ctx", None)
    verbs = context.command_path.split()[1:] if context is not None else []
    help_command = " ".join([command_line(*verbs), "--help"])
    message = error.format_message().strip().removesuffix(".").replace(_OF_THE_PARSER, ": ")
    unknown = _UNKNOWN.match(message)
    if unknown is not None and unknown[1] in _VERBS:
        return _failed(
            f"{message}; `{command_line(_VERBS[unknown[1]])}` does that", error.exit_code
        )
    return _failed(f"{message}; `{help_command}` explains it", error.exit_code)


def _failed(message: str, status: int) -> int:
    try:
        print_error(message.strip())
        sys.stderr.flush()
    except OSError:  # the exit status still says it; 1 would say that something is damaged
        discard_errors()
    return status
