"""
A small S3 server in a thread: strict about creates, counting, and failing as told.

It keeps what the store relies on and no more. That it is like a real server is held by running
the same tests on Ceph's gateway.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

_MAX_KEYS = 1000
_XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Stored(NamedTuple):
    """An object."""

    data: bytes
    modified_at: datetime

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class Asked(NamedTuple):
    """A request: `create`, `put`, `get`, `head`, `list` or `delete`, and the key or the prefix."""

    operation: str
    key: str


class Fault:
    """
    What goes wrong with some requests.

    Args:
        kind: `"before"` answers `status` without doing it, `"after"` does it first, `"cut"` closes
            the connection without an answer and does nothing, `"lost"` does it and then closes the
            connection, `"twice"` does it two times and answers the second, as a proxy that has lost
            the first answer, `"slow"` waits until `release` is called and then does it, `"page"`
            answers `code` as a proxy does, with status 200, and does nothing.
        operation: of which requests; None for all.
        times: how often.
        status: of the answer.
        key: what the key contains.
        code: of the answer.
    """

    def __init__(
        self,
        kind: str,
        operation: str | None = None,
        *,
        times: int = 1,
        status: int = 500,
        key: str = "",
        code: str = "Injected",
    ) -> None:
        self.kind = kind
        self.operation = operation
        self.times = times
        self.status = status
        self.key = key
        self.code = code
        self.reached = threading.Event()
        self.released = threading.Event()

    def meets(self, asked: Asked) -> bool:
        """Tell whether it is for a request, and count it."""
        of_it = self.operation in (None, asked.operation) and self.key in asked.key
        if not of_it or self.times <= 0:
            return False
        self.times -= 1
        return True


class FakeS3:
    """
    A server on a port of its own, with buckets that are there as soon as they are asked for.

    Args:
        exclusive: whether a create fails where there is an object; False for a server that breaks
            its word, `"slowly"` for one that breaks it when creates come together.

    Attributes:
        keeps_versions: whether the buckets are versioned from now on; as of a server, that tells
            nothing of `exclusive`.
    """

    def __init__(self, exclusive: bool | str = True) -> None:
        self.exclusive = exclusive
        self.keeps_versions = False
        self._replaced: dict[str, list[tuple[str, Stored | None]]] = {}
        self.objects: dict[str, Stored] = {}
        self.asked: list[Asked] = []
        self.headers: Mapping[str, str] = {}  # of the last request
        self.faults: list[Fault] = []
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._port = 0

    # For tests

    def start(self) -> FakeS3:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.listen(), self._loop).result()
        return self

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.unlisten(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def go_down(self) -> None:
        """Refuse connections, and cut those there are."""
        asyncio.run_coroutine_threadsafe(self.unlisten(), self._loop).result()

    def come_up(self) -> None:
        """Listen on the same port again."""
        asyncio.run_coroutine_threadsafe(self.listen(), self._loop).result()

    def fail(self, kind: str, operation: str | None = None, **options: object) -> Fault:
        fault = Fault(kind, operation, **options)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def count(self) -> Counter[str]:
        """Return how many requests of each kind there were since the last time, and forget them."""
        counted = Counter(asked.operation for asked in self.asked)
        self.asked.clear()
        return counted

    def keys(self, part: str = "") -> list[str]:
        return sorted(key for key in self.objects if part in key)

    def read(self, key: str) -> bytes:
        return self.objects[key].data

    def write(self, key: str, data: bytes) -> None:
        self.objects[key] = Stored(data, self._now())

    def age(self, by: timedelta) -> None:
        """Let every object be older."""
        self.objects = {
            key: Stored(stored.data, stored.modified_at - by)
            for key, stored in self.objects.items()
        }

    # The server

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def listen(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{bucket}/{key:.*}", self._serve)
        app.router.add_route("*", "/{bucket}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def unlisten(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def _now(self) -> datetime:
        return self.clock().replace(microsecond=0)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        key = (
            unquote(request.raw_path.partition("?")[0])
            .removeprefix(f"/{request.match_info['bucket']}")
            .removeprefix("/")
        )
        asked = Asked(_operation(request), key or request.query.get("prefix", ""))
        self.asked.append(asked)
        self.headers = request.headers
        assert "Authorization" in request.headers
        fault = next((fault for fault in self.faults if fault.meets(asked)), None)
        if fault is not None and fault.kind == "slow":
            fault.reached.set()
            await asyncio.to_thread(fault.released.wait, 30)
        if fault is not None and fault.kind == "cut":
            return self._cut(request)
        if fault is not None and fault.kind == "page":
            return web.Response(text=fault.code, content_type="text/html")
        if fault is not None and fault.kind == "before":
            return _error(fault.status, fault.code, self._now())
        if asked.operation == "create" and self.exclusive == "slowly":
            existed = key in self.objects
            await asyncio.sleep(0.05)
            answer = self._stored(key, data) if not existed else _error(412, "", self._now())
        else:
            answer = self._answer(asked.operation, key, data, request)
        if fault is not None and fault.kind == "lost":
            return self._cut(request)
        if fault is not None and fault.kind == "twice":
            return self._answer(asked.operation, key, data, request)
        if fault is not None and fault.kind == "after":
            return _error(fault.status, fault.code, self._now())
        return answer

    def _cut(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _answer(self, operation: str, key: str, data: bytes, request: web.Request) -> web.Response:
        match operation:
            case "create" if key in self.objects and self.exclusive:
                return _error(412, "PreconditionFailed", self._now())
            case "create" | "put":
                return self._stored(key, data)
            case "delete":
                self._delete(key, request.query.get("versionId"))
                return web.Response(status=204, headers=self._headers())
            case "list":
                return self._list(request)
        stored = self.objects.get(key)
        if stored is None:
            return _error(404, "NoSuchKey", self._now(), has_body=operation == "get")
        return self._got(stored, request, has_body=operation == "get")

    def _stored(self, key: str, data: bytes) -> web.Response:
        before = self.objects.get(key)
        stored = self.objects[key] = Stored(data, self._now())
        headers = {**self._headers(), "ETag": stored.etag}
        if self.keeps_versions:
            replaced = self._replaced.setdefault(key, [])
            replaced.append((f"version-{len(replaced)}", before))
            headers["x-amz-version-id"] = replaced[-1][0]
        return web.Response(headers=headers)

    def _delete(self, key: str, version: str | None) -> None:
        """Remove an object; of the version that was put last, bring back what was before it."""
        if version is None:
            self.objects.pop(key, None)
            return
        last, before = self._replaced[key].pop()
        assert last == version, "the tests take back the last one alone"
        if before is None:
            del self.objects[key]
        else:
            self.objects[key] = before

    def _headers(self) -> dict[str, str]:
        return {"Date": format_datetime(self._now(), usegmt=True)}

    def _got(self, stored: Stored, request: web.Request, *, has_body: bool) -> web.Response:
        headers = {
            **self._headers(),
            "ETag": stored.etag,
            "Last-Modified": format_datetime(stored.modified_at, usegmt=True),
        }
        if not has_body:
            return web.Response(headers=headers)
        asked = request.headers.get("Range")
        if asked is None:
            return web.Response(body=stored.data, headers=headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if int(first) >= len(stored.data):
            return _error(416, "InvalidRange", self._now())
        part = stored.data[int(first) : int(last) + 1]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(stored.data)}"
        return web.Response(status=206, body=part, headers=headers)

    def _list(self, request: web.Request) -> web.Response:
        prefix = request.query.get("prefix", "")
        delimiter = request.query.get("delimiter", "")
        after = request.query.get("continuation-token") or request.query.get("start-after", "")
        limit = min(int(request.query.get("max-keys", _MAX_KEYS)), _MAX_KEYS)
        items: list[str] = []
        seen: str | None = None
        token = ""
        # By bytes, as AWS orders them.
        for key in sorted(self.objects, key=str.encode):
            if not key.startswith(prefix) or key <= after:
                continue
            rest = key.removeprefix(prefix)
            is_group = bool(delimiter) and delimiter in rest
            group = prefix + rest.split(delimiter or None)[0] + delimiter if is_group else ""
            if is_group and (group == seen or after.startswith(group)):
                continue
            if len(items) == limit:
                token = seen or ""
                break
            seen = group if is_group else key
            items.append(self._group(group) if is_group else self._item(key))
        more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
        text = (
            f'<?xml version="1.0"?><ListBucketResult {_XMLNS}>'
            f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>{more}{''.join(items)}"
            "</ListBucketResult>"
        )
        return web.Response(text=text, content_type="application/xml", headers=self._headers())

    def _item(self, key: str) -> str:
        stored = self.objects[key]
        modified = stored.modified_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>{escape(stored.etag)}</ETag><Size>{len(stored.data)}</Size></Contents>"
        )

    def _group(self, prefix: str) -> str:
        return f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>"


def _operation(request: web.Request) -> str:
    if request.method == "PUT":
        return "create" if request.headers.get("If-None-Match") == "*" else "put"
    if request.method == "GET":
        return "list" if "list-type" in request.query else "get"
    return request.method.lower()


def _error(status: int, code: str, now: datetime, *, has_body: bool = True) -> web.Response:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told to</Message></Error>"
    headers = {"Date": format_datetime(now, usegmt=True)}
    if not has_body:
        return web.Response(status=status, headers=headers)
    return web.Response(status=status, text=text, content_type="application/xml", headers=headers)
