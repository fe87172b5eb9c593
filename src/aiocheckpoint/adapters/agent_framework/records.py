"""What is stored of a checkpoint of a workflow."""

from __future__ import annotations

from typing import Final

from aiocheckpoint import BlobRecord
from aiocheckpoint.adapters._storage import Names

NAMES: Final = Names("agent_framework")


class StoredCheckpoint(BlobRecord, tag="agent_framework.StoredCheckpoint", kw_only=True):
    """
    A checkpoint of a workflow; its session is named `agent_framework.` and the workflow.

    Attributes:
        text: JSON of all but the ids, which keeps the order of keys. Values that JSON lacks are
            there as `exact` writes them, other objects as the framework does. `{"!list": n}` is
            the list, `{"!text": n}` the text, `{"!entries": n}` the dict of the n-th piece, and
            `{"!packed": n}` its JSON, compressed. `"!rest"` is the piece with the other fields.
        lengths: of each piece that is a list how many items its history has; of others 0.
        order: where equal pieces share a blob, the numbers of their blobs among `blob_digests`.
        is_pickled: whether any of it is as the framework writes objects.
        is_escaped: whether any of it is as `exact` writes values that JSON lacks.
    """

    text: str
    lengths: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    is_pickled: bool = True
    is_escaped: bool = True

    @property
    def pieces(self) -> list[tuple[str, int]]:
        """The pieces: digest and length."""
        order = self.order or range(len(self.lengths))
        return [
            (self.blob_digests[n], length) for n, length in zip(order, self.lengths, strict=True)
        ]
