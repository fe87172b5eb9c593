"""The command line tool `aiocheckpoint`: one file per verb; needs the extra `cli`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

_EXTRA_MODULES = ("rich", "typer")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the tool.

    Args:
        arguments: as after the program's name; None takes those of the process.

    Returns:
        the exit status: 0 all is well, 1 something is damaged or lost, 2 it could not be done.
    """
    try:
        from aiocheckpoint.cli import app  # noqa: PLC0415 - the extra may be missing
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in _EXTRA_MODULES:
            raise
        command = f"{shlex.quote(sys.executable)} -m pip install rich typer"
        sys.stderr.write(f"aiocheckpoint: this command needs the extra `cli`: {command}\n")
        return 2
    return app.run(arguments)
