"""What was looked for ahead: the answers to what the work of a read asks next; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiocheckpoint.kit import LookAhead
from aiocheckpoint.models import CheckpointId


class Contents:
    """
    Contents of bodies by their places, each once, of which one may need another.

    Args:
        seqs: their places.
        base_seqs: of each, the place of what it needs; None where it needs nothing.
        contents: what is stored.
    """

    def __init__(
        self, seqs: Iterable[int], base_seqs: Iterable[int | None], contents: Iterable[bytes]
    ) -> None:
        self._by_seq = dict(zip(seqs, zip(base_seqs, contents, strict=True), strict=True))

    def parts(self, seq: int) -> list[bytes]:
        """Return what a body is made of, the first one first, as far as it is there."""
        found: list[bytes] = []
        place: int | None = seq
        while place is not None and place in self._by_seq:
            base, content = self._by_seq[place]
            found.append(content)
            place = base if base is not None and base < place else None  # or it is damaged
        return found[::-1]


class Content(NamedTuple):
    """
    A checkpoint, and what its body is made of.

    Attributes:
        checkpoint_id: its id.
        seq: its place in the order of its session.
        parts: its content, and before it those that it needs, the first one first.
    """

    checkpoint_id: CheckpointId
    seq: int
    parts: Sequence[bytes]


class Ahead:
    """
    Answers of one moment; None to whatever was not looked for.

    Args:
        what: the questions.
        row: what the server says.

    Attributes:
        newest_id: of the checkpoint that was saved last, as far as it was asked for.
    """

    def __init__(self, what: LookAhead, row: Mapping[str, Any]) -> None:
        self._what = what
        self._newest = _decoded(row["newest"])
        self._head = None if row["head"] is None else row["head"].decode()
        self._family = _decoded(row["family"])
        self._seqs = dict(zip(self._family, row["family_seqs"] or (), strict=True))
        if self._head is not None:
            self._seqs[self._head] = row["head_seq"]
        self._contents = Contents(row["seqs"] or (), row["base_seqs"] or (), row["contents"] or ())
        digests = (digest.hex() for digest in row["digests"] or ())
        self._blobs = dict(zip(digests, row["blobs"] or (), strict=True))
        begin = len(what.head.encode())
        shared = (row["head"] or b"")[begin : begin + what.shared_bytes]
        self._family_prefix = what.family + shared.decode(errors="replace")
        self._has_family = self._head is not None or what.shared_bytes == 0
        self.newest_id = self._newest[0] if self._newest else None

    def saved_ids(self, prefix: str, limit: int | None) -> tuple[CheckpointId, ...] | None:
        """Return ids, the one saved last first."""
        is_whole = len(self._newest) < self._what.newest
        if not prefix and (is_whole or (limit is not None and limit <= self._what.newest)):
            return self._newest[:limit]
        if prefix == self._what.head != self._head and limit == 1:
            return () if self._head is None else (self._head,)
        return None

    def ids(
        self, prefix: str, before: CheckpointId | None, limit: int | None
    ) -> tuple[CheckpointId, ...] | None:
        """Return ids, the greatest first."""
        is_family = self._has_family and prefix == self._family_prefix
        return self._family if is_family and before is None and limit is None else None

    def contents(self, checkpoint_ids: Iterable[CheckpointId]) -> list[Content] | None:
        """Return those of the checkpoints that are there, saved first first."""
        wanted = set(checkpoint_ids)
        unknown = wanted - self._seqs.keys() - {self._what.head}
        if any(not self._is_of_family(found) for found in unknown):
            return None
        found = sorted((self._seqs[one], one) for one in wanted & self._seqs.keys())
        return [Content(one, seq, self._contents.parts(seq)) for seq, one in found]

    def _is_of_family(self, checkpoint_id: CheckpointId) -> bool:
        return self._has_family and checkpoint_id.startswith(self._family_prefix)

    def blobs(self, digests: Iterable[str]) -> dict[str, bytes] | None:
        """Return the contents of blobs by their digests, if all of them are there."""
        wanted = set(digests)
        if not wanted <= self._blobs.keys():
            return None
        return {digest: self._blobs[digest] for digest in wanted}


def _decoded(ids: Sequence[bytes] | None) -> tuple[CheckpointId, ...]:
    return tuple([found.decode() for found in ids or ()])
