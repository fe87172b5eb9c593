"""What the journal says: entries tell what must be true afterwards, by names; pure."""

from __future__ import annotations

import msgspec


class Saved(msgspec.Struct, frozen=True, array_like=True, tag="s", gc=False):
    """
    A checkpoint file to be there.

    Attributes:
        session: name of the session's directory.
        name: of the file; given once, for ever.
        checkpoint_id: of the checkpoint.
        digest: SHA-256 of the body: the document as it is written, compact and unsealed.
        size_bytes: of the body.
        checksum: SHA-256 of the canonical form, where that differs from the body; or else empty.
        blobs: SHA-256 of each blob it refers to.
        max_backups: how many superseded files keep a second name.
        modified: time of the file's last change, microseconds since 1970; 0 for that in its name,
            which is later where Rust has saved in the same second.
    """

    session: str
    name: str
    checkpoint_id: str
    digest: bytes
    size_bytes: int
    checksum: bytes = b""
    blobs: tuple[bytes, ...] = ()
    max_backups: int = 0
    modified: int = 0


class SavedBlob(msgspec.Struct, frozen=True, array_like=True, tag="b", gc=False):
    """
    A blob to be there.

    Attributes:
        session: name of the session's directory.
        digest: its SHA-256, which is its name.
        size_bytes: of the body.
        links: SHA-256 of each blob that it refers to; empty for a plain one.
    """

    session: str
    digest: bytes
    size_bytes: int
    links: tuple[bytes, ...] = ()


class Removed(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """
    Files to be gone, and their backups.

    Attributes:
        session: name of the session's directory.
        names: of checkpoint files.
        blobs: SHA-256 of blobs.
        drops_session: whether its directories go too, if nothing else is in them.
        erases: whether somebody asked for it, so that no copy may stay in the journal.
    """

    session: str
    names: tuple[str, ...]
    blobs: tuple[bytes, ...] = ()
    drops_session: bool = False
    erases: bool = False


class Quarantined(msgspec.Struct, frozen=True, array_like=True, tag="q", gc=False):
    """
    A file to be in the quarantine.

    Attributes:
        session: name of the session's directory.
        name: of the file, or the SHA-256 of a blob in hex.
        aside: its name in the quarantine; where that is there, the move was made.
        is_blob: which of the two it is.
    """

    session: str
    name: str
    aside: str
    is_blob: bool = False


READ_JOURNAL = "read journal"


class Stuck(msgspec.Struct, frozen=True, array_like=True, tag="x", gc=False):
    """
    A session whose files cannot be written: its entries follow again, and its saves fail.

    Attributes:
        session: name of the session's directory.
        operation: what failed; `READ_JOURNAL` where the journal is damaged.
        path: on what.
        errno: the error's number, 0 if it had none.
        reason: the system's text for it.
    """

    session: str
    operation: str
    path: str
    errno: int
    reason: str

    @property
    def is_damage(self) -> bool:
        """Whether the journal is damaged: no try helps, and the reason says what does."""
        return self.operation == READ_JOURNAL

    @property
    def told(self) -> str:
        """The reason, and that it is of an earlier try, where another one may end it."""
        return self.reason if self.is_damage else f"{self.reason} (noted by an earlier try)"


class Owned(msgspec.Struct, frozen=True, array_like=True, tag="o", gc=False):
    """
    A session that has an owner, or has none any more. No file comes of it.

    Attributes:
        session: name of the session's directory.
        token: greater than those of all owners of the session before.
        process: names the process of the owner; empty for none.
    """

    session: str
    token: int
    process: str = ""


Entry = Saved | SavedBlob | Removed | Quarantined | Stuck | Owned

encode_entries = msgspec.msgpack.Encoder().encode
"""Return the table of some entries."""

decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode
"""Return the entries of a table."""


def body_bytes(entry: Entry) -> int:
    """Return how many bytes of body an entry has."""
    return entry.size_bytes if isinstance(entry, (Saved, SavedBlob)) else 0
