"""Commands that run servers of the tests: never as root, and for no longer than the tests."""

from __future__ import annotations

import shutil

NOBODY = 65534


def server_command(*command: str, as_nobody: bool, ended_by: str = "KILL") -> list[str]:
    """
    Return a command of a server that ends with whoever starts it, also where that is killed.

    It ends with the thread that starts it, so that has to last: the main one, or one of a loop's.

    Args:
        command: of the server.
        as_nobody: whether root runs it as somebody else, by `setpriv`, which is there.
        ended_by: the signal that ends it at once, and its children.
    """
    if shutil.which("setpriv") is None:
        return [*command]
    user = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups") if as_nobody else ()
    return ["setpriv", f"--pdeathsig={ended_by}", *user, *command]
