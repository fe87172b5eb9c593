"""Why a command cannot be done."""

from __future__ import annotations

EXIT_DAMAGED = 1
EXIT_NOT_DONE = 2


class CommandError(Exception):
    """
    A command that cannot be done as it was given; its text is one line for the user.

    Attributes:
        exit_status: of the command.
    """

    def __init__(self, text: str, exit_status: int = EXIT_NOT_DONE) -> None:
        super().__init__(text)
        self.exit_status = exit_status
