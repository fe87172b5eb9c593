"""Requests as the client makes them, without what it would work out for each anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from botocore.utils import percent_encode

LARGE_BYTES = 1 << 20
"""From this size on a server is asked before a body is sent."""

_PUT, _DELETE = "PutObject", "DeleteObject"
_BEFORE_SIGNING = f"before-sign.s3.{_PUT}"
_SAFE = "/~"  # in a key, as the client writes it in an address
_SIGNATURES = ("v4", "s3v4")
_OF_ONE_REQUEST = frozenset({"s3_redirect", "input_params", "retries", "timestamp"})
_AGREED = frozenset({"user-agent", "if-none-match"})
_REFUSED = (400, 301, 302, 307, 308)  # as of another region, which the client finds out


class _Sample(NamedTuple):
    """
    What the requests of a client have in common.

    Attributes:
        address: what comes before the key.
        user_agent: who asks.
        context: by which they are signed.
        signer: of the client.
    """

    address: str
    user_agent: str
    context: Mapping[str, Any]
    signer: Any

    def request(
        self, method: str, key: str, body: bytes | None = None, condition: str | None = None
    ) -> AWSRequest:
        """Return a request that is not signed yet."""
        headers = {"User-Agent": self.user_agent}
        if condition is not None:
            headers["If-None-Match"] = condition
        address = self.address + percent_encode(key, safe=_SAFE)
        request = AWSRequest(method, url=address, data=body, headers=headers)
        request.context.update(self.context)
        return request


class Requests:
    """
    What changes objects in the bucket of a client.

    The first PUT is the client's own. Where nothing of its request depends on the object but what
    is known here, the next ones are made of it: signed by the client and sent by its session, for
    half the time. Where the server wants another address, the client finds it again.

    Args:
        client: of aiobotocore.
        session: by which it sends.
    """

    def __init__(self, client: Any, session: Any) -> None:
        self._client = client
        self._session = session
        self._sample: _Sample | None = None
        self._parser = create_parser(client.meta.service_model.resolved_protocol)
        model = client.meta.service_model
        self._shapes = {name: model.operation_model(name).output_shape for name in (_PUT, _DELETE)}
        client.meta.events.register_last(_BEFORE_SIGNING, self._see)

    def _see(self, request: Any, signature_version: Any, request_signer: Any, **_: Any) -> None:
        if self._sample is not None:
            return
        key = request.context.get("input_params", {}).get("Key", "")
        ending = percent_encode(key, safe=_SAFE)
        is_known = {name.lower() for name in request.headers} <= _AGREED
        is_signed_so = signature_version in _SIGNATURES
        if not (key and is_known and is_signed_so and request.url.endswith(ending)):
            return
        context = {k: v for k, v in request.context.items() if k not in _OF_ONE_REQUEST}
        address = request.url.removesuffix(ending)
        self._sample = _Sample(address, request.headers["User-Agent"], context, request_signer)

    async def put(self, **arguments: Any) -> Any:
        """
        Make one request, as `put_object` of the client does, whose arguments and answer these are.

        Args:
            arguments: `Bucket`, `Key`, `Body`, which are bytes, and maybe `IfNoneMatch`.

        Raises:
            ClientError: the server has refused.
            BotoCoreError: the way to it failed.
        """
        sample, body = self._sample, arguments["Body"]
        if sample is not None and len(body) < LARGE_BYTES:
            condition = arguments.get("IfNoneMatch")
            request = sample.request("PUT", arguments["Key"], body, condition)
            answer = await self._made(_PUT, sample, request)
            if answer is not None:
                return answer
        return await self._client.put_object(**arguments)

    async def delete(self, **arguments: Any) -> Any:
        """
        Make one request, as `delete_object` of the client does; see `put`.

        Args:
            arguments: `Bucket` and `Key`.

        Raises:
            ClientError: the server has refused.
            BotoCoreError: the way to it failed.
        """
        if self._sample is not None:
            request = self._sample.request("DELETE", arguments["Key"])
            answer = await self._made(_DELETE, self._sample, request)
            if answer is not None:
                return answer
        return await self._client.delete_object(**arguments)

    async def _made(
        self, operation: str, sample: _Sample, request: AWSRequest
    ) -> dict[str, Any] | None:
        """Return the answer; None where the client has to find out where to ask."""
        await sample.signer.sign(operation, request)
        response = await self._session.send(request.prepare())
        content = await response.content
        status = response.status_code
        if status in _REFUSED:
            self._sample = None
            return None
        if status < 300 and b"<Error" not in content[:1000]:  # which a server may add later on
            return _answer(status, response.headers)
        told = {
            "status_code": 500 if status < 300 else status,
            "headers": response.headers,
            "body": content,
        }
        raise ClientError(self._parser.parse(told, self._shapes[operation]), operation)


def _answer(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}
    }
    for name, header in (("ETag", "etag"), ("VersionId", "x-amz-version-id")):
        if header in headers:
            answer[name] = headers[header]
    return answer
