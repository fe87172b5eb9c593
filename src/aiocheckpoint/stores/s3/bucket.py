"""A bucket: the few requests that the store is made of, their retries and their errors."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

from aiohttp import ClientConnectorError
from aiohttp import ClientError as TransportError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
)
from botocore.parsers import ResponseParserError

from aiocheckpoint.errors import StorageFullError, StoreUnavailableError, UnsuitableStoreError
from aiocheckpoint.stores.s3.arguments import Options
from aiocheckpoint.stores.s3.client import made_client
from aiocheckpoint.stores.s3.layout import Layout

_ATTEMPTS = 5
_SETTLING_ATTEMPTS = 9
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 3.0
_EXISTS = 412
_IS_BEING_PUT = 409
_FULL = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})
_ABSENT = frozenset({"NoSuchKey", "404", "InvalidRange", "416"})
_FAILURES = (
    BotoCoreError, ClientError, TransportError, OSError, TimeoutError, ResponseParserError,
)  # fmt: skip

ResultT = TypeVar("ResultT")


class Object(NamedTuple):
    """
    An object, or a part of it.

    Attributes:
        data: the bytes.
        modified_at: when it was put, by the server's clock, to a second.
        asked_at: when it was asked for, by the server's clock, to a second.
    """

    data: bytes
    modified_at: datetime
    asked_at: datetime

    @property
    def age(self) -> timedelta:
        """How long it has been there."""
        return self.asked_at - self.modified_at


class Listed(NamedTuple):
    """
    A line of a LIST.

    Attributes:
        key: of an object, or what several begin with.
        age: how long it has been there, by the server's clock, to a second; None for several.
    """

    key: str
    age: timedelta | None


class Created(NamedTuple):
    """
    An object that was created.

    Attributes:
        version: its id, where the bucket keeps versions; else None.
    """

    version: str | None


class UnsettledError(Exception):
    """
    A create of which nobody knows whether it took place, or still will.

    Attributes:
        cause: the last failure.
    """

    def __init__(self, cause: StoreUnavailableError) -> None:
        super().__init__(cause)
        self.cause = cause


class ServerClock:
    """The server's clock, as far as the dates of its answers tell."""

    def __init__(self) -> None:
        self._skew = timedelta()

    def now(self) -> datetime:
        """Return the server's time, to about a second."""
        return datetime.now(UTC) + self._skew

    def saw(self, date: datetime, asked_at: datetime) -> None:
        """Note the date of an answer, which is cut to a second, and when it was asked for."""
        earliest = date - datetime.now(UTC)
        latest = date + timedelta(seconds=1) - asked_at
        self._skew = min(max(self._skew, earliest), max(latest, earliest))


class Bucket:
    """
    Requests to one bucket; one event loop's.

    Args:
        layout: where things stand in it.
        options: how to reach it.
    """

    def __init__(self, layout: Layout, options: Options) -> None:
        self.clock = ServerClock()
        self._layout = layout
        self._options = options
        self._client: Any = None
        self._open = AsyncExitStack()

    async def start(self) -> None:
        """Make the client, which reads files; no request is made yet."""
        try:
            self._client = await self._open.enter_async_context(made_client(self._options))
        except (BotoCoreError, ValueError) as error:
            raise self._unavailable("connect", error) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._open.aclose()

    # Requests

    async def create(self, key: str, data: bytes) -> Created | None:
        """
        Put an object where there is none; None where one is.

        That may be this one where a proxy has sent it twice.

        Args:
            key: where.
            data: the object.

        Raises:
            StoreUnavailableError: it was not put, and will not be.
            StorageFullError: the same, for there is no room.
            UnsettledError: an answer was lost, and what is there, or will be, may be this one.
        """
        may_be_there = is_lost = False

        async def put() -> Created | None:
            nonlocal may_be_there, is_lost
            try:
                return Created(await self._store(key, data, IfNoneMatch="*"))
            except ClientError as error:
                if _status(error) == _EXISTS:
                    if not is_lost:
                        return None
                    raise UnsettledError(self._unavailable("create", error, key)) from error
                is_done_with = _code(error) == "SlowDown" or _is_full(error)
                is_lost |= _status(error) >= 500 and not is_done_with
                # What is being put may be this one, sent twice on its way: until it is there.
                may_be_there |= is_lost or _status(error) == _IS_BEING_PUT
                raise
            except _FAILURES as error:
                is_lost |= _may_be_sent(error)
                may_be_there |= is_lost
                raise

        def attempts() -> int:
            return _SETTLING_ATTEMPTS if may_be_there else _ATTEMPTS

        try:
            return await self._retried("create", key, put, attempts)
        except StoreUnavailableError as error:
            if may_be_there:
                raise UnsettledError(error) from error
            raise
        except StorageFullError as error:
            if may_be_there:
                lost = StoreUnavailableError(error.path, error.operation, error.reason)
                raise UnsettledError(lost) from error
            raise

    async def put(self, key: str, data: bytes) -> None:
        """Put an object, in the place of one that is there."""
        await self._retried("put", key, lambda: self._store(key, data))

    async def _store(self, key: str, data: bytes, **conditions: str) -> str | None:
        answer, _ = await self._ask(self._client.put_object, key, Body=data, **conditions)
        _told(answer, "ETag")
        version: str | None = answer.get("VersionId")
        return version

    async def get(self, key: str, start: int = 0, length: int | None = None) -> Object | None:
        """Return an object, or a part of it; None where there is none."""
        extra: dict[str, Any] = {}
        if length is not None:
            extra["Range"] = f"bytes={start}-{start + length - 1}"

        async def get() -> Object | None:
            try:
                answer, asked_at = await self._ask(self._client.get_object, key, **extra)
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
            async with answer["Body"] as stream:
                data = await stream.read()
            return Object(data, _told(answer, "LastModified"), asked_at)

        return await self._retried("get", key, get)

    async def age(self, key: str) -> timedelta | None:
        """Return how long ago an object was put, by the server's clock; None without one."""

        async def head() -> timedelta | None:
            try:
                answer, asked_at = await self._ask(self._client.head_object, key)
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
            modified_at: datetime = _told(answer, "LastModified")
            return asked_at - modified_at

        return await self._retried("look at", key, head)

    async def first(self, prefix: str, *, after: str = "", limit: int = 1000) -> tuple[Listed, ...]:
        """Return the first keys that begin so, in order."""
        page, _ = await self._page(
            prefix, MaxKeys=limit, **({"StartAfter": after} if after else {})
        )
        return page

    async def list_all(
        self, prefix: str, *, after: str = "", delimiter: str = ""
    ) -> AsyncIterator[Listed]:
        """Yield every key that begins so, in order; those that have the delimiter as one."""
        extra: dict[str, str] = {"StartAfter": after} if after else {}
        if delimiter:
            extra["Delimiter"] = delimiter
        token: str | None = ""
        while token is not None:
            page, token = await self._page(prefix, **extra)
            for item in page:
                yield item
            extra["ContinuationToken"] = token or ""

    async def _page(self, prefix: str, **extra: Any) -> tuple[tuple[Listed, ...], str | None]:
        async def page() -> tuple[tuple[Listed, ...], str | None]:
            method = self._client.list_objects_v2
            answer, asked_at = await self._ask(method, None, Prefix=prefix, **extra)
            is_more = _told(answer, "IsTruncated")
            objects = answer.get("Contents", ())
            found = [Listed(item["Key"], asked_at - item["LastModified"]) for item in objects]
            found += [Listed(item["Prefix"], None) for item in answer.get("CommonPrefixes", ())]
            token = answer.get("NextContinuationToken") if is_more else None
            return tuple(sorted(found, key=lambda item: item.key)), token

        return await self._retried("list", prefix, page)

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; of those that are not there nothing comes."""
        # One by one: servers differ in which checksum they want for a delete of many.
        await self.gather(map(self._delete, keys))

    async def _delete(self, key: str) -> None:
        await self._retried("delete", key, lambda: self._ask(self._client.delete_object, key))

    async def take_back(self, key: str, version: str) -> None:
        """Remove a version of an object, so that the one before it is there again."""
        method = self._client.delete_object
        await self._retried("take back", key, lambda: self._ask(method, key, VersionId=version))

    async def gather(self, calls: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
        """Await calls side by side, as many as there are connections; raise the first error."""
        items = list(calls)
        if not items:
            return []
        results: list[Any] = [None] * len(items)
        numbered = enumerate(items)

        async def work() -> None:
            for position, call in numbered:
                results[position] = await call

        count = min(len(items), self._options.max_connections)
        workers = [asyncio.ensure_future(work()) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for _, call in numbered:
                call.close()
        return results

    # What all of them do

    async def _ask(
        self, method: Callable[..., Awaitable[dict[str, Any]]], key: str | None, **arguments: Any
    ) -> tuple[dict[str, Any], datetime]:
        """Make one request; return the answer, and its date by the server's clock."""
        if key is not None:
            arguments["Key"] = key
        asked_at = datetime.now(UTC)
        answer = await method(Bucket=self._layout.bucket, **arguments)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is None:
            return answer, self.clock.now()
        told = parsedate_to_datetime(date)
        self.clock.saw(told, asked_at)
        return answer, told

    async def _retried(
        self,
        operation: str,
        key: str,
        request: Callable[[], Awaitable[ResultT]],
        attempts: Callable[[], int] = lambda: _ATTEMPTS,
    ) -> ResultT:
        pause = _FIRST_PAUSE_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                return await request()
            except _FAILURES as error:
                if isinstance(error, ClientError):
                    self._require_suitable(error)
                    self._require_room(operation, key, error)
                if attempt >= attempts() or not _may_pass(error):
                    raise self._unavailable(operation, error, key) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _require_suitable(self, error: ClientError) -> None:
        if _code(error) == "NoSuchBucket":
            reason = "the bucket does not exist; make it, or mend the URL"
            raise UnsuitableStoreError(self._layout.url, reason) from error
        if _status(error) == 501:
            reason = f"the server does not know a request that is needed: {error}"
            raise UnsuitableStoreError(self._layout.url, reason) from error

    def _require_room(self, operation: str, key: str, error: ClientError) -> None:
        if _is_full(error):
            location, reason = self._layout.location(key), str(error)
            raise StorageFullError(operation, location, errno.ENOSPC, reason) from error

    def _unavailable(
        self, operation: str, error: Exception, key: str | None = None
    ) -> StoreUnavailableError:
        location = self._layout.url if key is None else self._layout.location(key)
        return StoreUnavailableError(location, operation, str(error) or type(error).__name__)


def _status(error: ClientError) -> int:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


def _code(error: ClientError) -> str:
    code: str = error.response.get("Error", {}).get("Code", "")
    return code


def _told(answer: Mapping[str, Any], name: str) -> Any:
    """
    Return what every answer of a server tells.

    Raises:
        ResponseParserError: it does not: somebody else has answered, as a proxy by a page.
    """
    if name not in answer:
        raise ResponseParserError(f"the answer has no {name}, and so is none of the server")
    return answer[name]


def _is_full(error: ClientError) -> bool:
    """Tell whether a server has no room, or no quota left; Amazon S3 itself never says so."""
    return _status(error) == 507 or _code(error) in _FULL


def _may_pass(error: Exception) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(error, ClientError):
        return _status(error) >= 500 or _status(error) in (408, _IS_BEING_PUT, 429)
    return _is_of_the_way(error)


def _is_of_the_way(error: Exception) -> bool:
    """Tell whether the way to the server failed."""
    connecting = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
    return isinstance(error, (HTTPClientError, *connecting, *_FAILURES[2:]))


def _may_be_sent(error: Exception) -> bool:
    """Tell whether a request may have reached the server before this."""
    if isinstance(error, (ConnectTimeoutError, ProxyConnectionError)):
        return False
    # aiobotocore names both so: no connection, and one that broke.
    is_refused = isinstance(error.__context__, ClientConnectorError)
    return _is_of_the_way(error) and not is_refused
