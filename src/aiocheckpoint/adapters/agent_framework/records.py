"""What is stored of a checkpoint of a workflow."""

from __future__ import annotations

from typing import Final, NamedTuple

from aiocheckpoint import BlobRecord
from aiocheckpoint.adapters._storage import Names

NAMES: Final = Names("agent_framework")


class Piece(NamedTuple):
    """
    What stands in a blob and not in the record.

    Attributes:
        blob: the number of its blob among `blob_digests`; equal pieces share one.
        length: of a list, how many items its history has; of a text, 0.
    """

    blob: int
    length: int


class StoredCheckpoint(BlobRecord, tag="agent_framework.StoredCheckpoint", kw_only=True):
    """
    A checkpoint of a workflow; its session is named `agent_framework.` and the workflow.

    Attributes:
        text: JSON of all but the ids, which keeps the order of keys. Values that JSON lacks are
            there as `exact` writes them, other objects as the framework does. `{"!list": n}` is
            the list, `{"!text": n}` the text, `{"!entries": n}` the dict of the n-th piece.
        pieces: what is long.
        is_pickled: whether any of it is as the framework writes objects.
        is_escaped: whether any of it is as `exact` writes values that JSON lacks.
    """

    text: str
    pieces: tuple[Piece, ...] = ()
    is_pickled: bool = True
    is_escaped: bool = True
