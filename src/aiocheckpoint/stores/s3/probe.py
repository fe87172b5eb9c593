"""Whether a server keeps its word about creates; before anything is entrusted to it."""

from __future__ import annotations

import secrets

from aiocheckpoint.errors import StoreUnavailableError, UnsuitableStoreError
from aiocheckpoint.stores.s3.bucket import Bucket, UnsettledError
from aiocheckpoint.stores.s3.layout import Layout

_CONCURRENT = 8
_ADVICE = "checkpoints of one client would be lost to another; use a server whose creates exclude"


async def probe(bucket: Bucket, layout: Layout) -> None:
    """
    Create one object many times, at once and again afterwards.

    It can prove a server bad, never good: some let several creates win when they come together.

    Raises:
        UnsuitableStoreError: not exactly one of them won, or another than it said.
        StoreUnavailableError: nobody can tell.
    """
    lost: list[StoreUnavailableError] = []

    async def create(content: bytes) -> bool:
        try:
            return await bucket.create(key, content)
        except UnsettledError as error:
            lost.append(error.cause)
            return False

    key = f"{layout.probe}{secrets.token_hex(8)}"
    contents = [str(number).encode() for number in range(_CONCURRENT)]
    try:
        won = await bucket.gather(map(create, contents))
        again = await create(b"again")
        stored = await bucket.get(key)
    finally:
        await bucket.delete([key])
    winners = [content for content, has_won in zip(contents, won, strict=True) if has_won]
    if again or len(winners) > 1:
        reason = "it lets several writers create the same object (If-None-Match: *)"
        raise UnsuitableStoreError(layout.url, f"{reason}; {_ADVICE}")
    if stored is None and lost:
        raise lost[0]
    # Without a winner an answer was lost, and the retry found the object; that is not the server's.
    if stored is None or (winners and stored.data != winners[0]):
        reason = "what it stored is not what it said it had"
        raise UnsuitableStoreError(layout.url, f"{reason}; {_ADVICE}")
