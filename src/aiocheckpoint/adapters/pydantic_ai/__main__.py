"""`python -m aiocheckpoint.adapters.pydantic_ai MODULE:NAME STORAGE` copies a store."""

from __future__ import annotations

import argparse
import importlib

from pydantic_ai import conversation_store as framework

from aiocheckpoint.adapters._moving import Copied, Progress, run_copy
from aiocheckpoint.adapters.pydantic_ai.migration import copy_conversations


def _store_of(name: str) -> framework.ConversationStore:
    """Return the store that an application has under a name, as `app.stores:conversations`."""
    module, _, attribute = name.partition(":")
    store = getattr(importlib.import_module(module), attribute)
    if not isinstance(store, framework.ConversationStore):
        raise TypeError(f"it is a {type(store).__name__}, no ConversationStore")
    return store


def main(arguments: list[str] | None = None) -> None:
    """Copy all conversations of a store into a storage, and compare each."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.pydantic_ai",
        description="Copy all conversations of another ConversationStore, and compare each.",
    )
    parser.add_argument("source", help="the store to copy from, as app.stores:conversations")
    parser.add_argument("storage", help="directory or URL to copy to")
    options = parser.parse_args(arguments)
    try:
        source = _store_of(options.source)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        parser.exit(2, f"{options.source} is no store in a module: {error}\n")

    async def copy(progress: Progress) -> Copied:
        return await copy_conversations(source, options.storage, progress=progress)

    run_copy(
        parser,
        copy,
        unit="conversation",
        entries="entries",
        source=options.source,
        source_errors=(),
    )


if __name__ == "__main__":
    main()
