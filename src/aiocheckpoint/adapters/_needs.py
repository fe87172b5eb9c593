"""Telling which package an adapter lacks, and how to install it."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Generator


@contextlib.contextmanager
def needs(framework: str, *modules: str, extra: str, requirement: str) -> Generator[None]:
    """
    Import an adapter in the block; what its framework lacks is told with what to install.

    Args:
        framework: its name, as people know it.
        modules: the top-level modules that come with it.
        extra: the extra of this library that has it.
        requirement: what pip installs.

    Raises:
        ModuleNotFoundError: one of the modules is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in modules:
            raise
        command = f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(requirement)}"
        raise ModuleNotFoundError(
            f"the adapter needs {framework}, the extra `{extra}`: {command}", name=error.name
        ) from error
