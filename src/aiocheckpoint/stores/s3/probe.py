"""Whether a server keeps its word about creates; before anything is entrusted to it."""

from __future__ import annotations

import secrets

from aiocheckpoint.errors import StoreUnavailableError, UnsuitableStoreError
from aiocheckpoint.stores.s3.bucket import Bucket, Created, UnsettledError
from aiocheckpoint.stores.s3.layout import Layout

_CONCURRENT = 8
_ADVICE = "checkpoints of one client would be lost to another; use a server whose creates exclude"
_ADVICE_ON_VERSIONS = (
    "checkpoints of one client would be lost to another; the bucket keeps versions, and some"
    " servers let creates exclude only where none are kept: use a bucket without versioning, or"
    " suspend it"
)


async def probe(bucket: Bucket, layout: Layout) -> bool:
    """
    Create one object many times, at once and again afterwards; tell whether versions are kept.

    It can prove a server bad, never good: some let several creates win when they come together.

    Raises:
        UnsuitableStoreError: not exactly one of them won, or another than it said.
        StoreUnavailableError: nobody can tell.
    """
    lost: list[StoreUnavailableError] = []

    async def create(content: bytes) -> Created | None:
        try:
            return await bucket.create(key, content)
        except UnsettledError as error:
            lost.append(error.cause)
            return None

    key = f"{layout.probe}{secrets.token_hex(8)}"
    contents = [str(number).encode() for number in range(_CONCURRENT)]
    try:
        won = await bucket.gather(map(create, contents))
        again = await create(b"again")
        stored = await bucket.get(key)
    finally:
        await bucket.delete([key])
    winners = [content for content, created in zip(contents, won, strict=True) if created]
    keeps_versions = any(created.version for created in (*won, again) if created)
    advice = _ADVICE_ON_VERSIONS if keeps_versions else _ADVICE
    if again or len(winners) > 1:
        reason = "it lets several writers create the same object (If-None-Match: *)"
        raise UnsuitableStoreError(layout.url, f"{reason}; {advice}")
    if stored is None and lost:
        raise lost[0]
    # Without a winner an answer was lost, and the retry found the object; that is not the server's.
    if stored is None or (winners and stored.data != winners[0]):
        reason = "what it stored is not what it said it had"
        raise UnsuitableStoreError(layout.url, f"{reason}; {advice}")
    return keeps_versions
