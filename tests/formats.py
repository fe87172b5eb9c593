"""Files and names of the format, made as the library has no need to make them."""

from __future__ import annotations

from aiocheckpoint._format import documents, names
from aiocheckpoint._format.documents import Draft
from aiocheckpoint._format.names import FileName


def seal(draft: Draft) -> bytes:
    """Return the file of a draft."""
    body = documents.body_of(draft)
    return documents.file_of(body.text, body.checksum)


def make_name(checkpoint_id: str, microseconds: int) -> FileName:
    """Return the name of a checkpoint saved at that time, microseconds since 1970, UTC."""
    return names._named(checkpoint_id, names._stamp(microseconds))
