"""What must be true after some entries of the log: the last word on each name; pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from aiocheckpoint._disk.pending import Committed
from aiocheckpoint._format.entries import Quarantined, Removed, Saved, SavedBlob


class Aside(NamedTuple):
    """
    A file to be in the quarantine.

    Attributes:
        entry: which says so.
        saved: what to write there if it was never written.
    """

    entry: Quarantined
    saved: Committed | None


class Wanted(NamedTuple):
    """
    The last word on each name, in the order in which it was said.

    Attributes:
        saved: checkpoints to be there, by the names of their files.
        blobs: to be there, by their digests.
        removed: names of files not to be there.
        removed_blobs: digests of blobs not to be there.
        quarantined: files to be in the quarantine.
        drops_session: whether the session's directories go as well, if nothing is in them.
    """

    saved: dict[str, Committed]
    blobs: dict[bytes, Committed]
    removed: dict[str, None]
    removed_blobs: dict[bytes, None]
    quarantined: list[Aside]
    drops_session: bool


def last_words(entries: Sequence[Committed]) -> Wanted:
    """Return what must be true after some entries of a session."""
    wanted = Wanted({}, {}, {}, {}, [], drops_session=False)
    for committed in entries:
        match committed.entry:
            case Saved(name=name):
                wanted.saved[name] = committed
                wanted.removed.pop(name, None)
            case SavedBlob(digest=digest):
                wanted.blobs[digest] = committed
                wanted.removed_blobs.pop(digest, None)
            case Removed() as removed:
                for name in removed.names:
                    wanted.saved.pop(name, None)
                    wanted.removed[name] = None
                for digest in removed.blobs:
                    wanted.blobs.pop(digest, None)
                    wanted.removed_blobs[digest] = None
            case Quarantined() as quarantined:
                if quarantined.is_blob:
                    saved = wanted.blobs.pop(bytes.fromhex(quarantined.name), None)
                else:
                    saved = wanted.saved.pop(quarantined.name, None)
                wanted.quarantined.append(Aside(quarantined, saved))
            case _:
                pass
    drops = any(isinstance(c.entry, Removed) and c.entry.drops_session for c in entries)
    return wanted._replace(drops_session=drops)


def done_up_to(entries: Sequence[Committed], written: Collection[str]) -> int:
    """
    Return up to where entries of a session are done, when there was no room for all of them.

    Args:
        entries: what was to be done, of which the removals are.
        written: names of the files that were written; before the first of them come the blobs.
    """
    if not written:
        return 0
    left = (c.place for name, c in last_words(entries).saved.items() if name not in written)
    return min(left, default=1) - 1
