"""The client of a bucket, which does no more for a request than the requests of a store need."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.loaders import create_loader

from aiocheckpoint.stores.s3.arguments import Options

_LARGE_BYTES = 1 << 20
# Other tools of AWS, and its containers, know the first name; this client the second one alone.
_REGION = {"region": ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)}


@asynccontextmanager
async def made_client(options: Options) -> AsyncIterator[Any]:
    """
    Make a client, and close it.

    Raises:
        BotoCoreError: what the environment says of it is wrong.
        ValueError: the same.
    """
    session = AioSession(session_vars=_REGION, profile=options.profile_name)
    data_path = session.get_config_variable("data_path")
    session.register_component("data_loader", _loader(data_path))
    seconds = options.request_timeout_seconds
    config = AioConfig(
        connect_timeout=min(seconds, 10.0),
        read_timeout=seconds,
        max_pool_connections=options.max_connections,
        # Retried by the bucket: whoever creates has to know of every attempt.
        retries={"total_max_attempts": 1, "mode": "standard"},
        http_session_cls=_HttpSession,
        # Not every server takes checksums that trail; documents and blobs have their own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        parameter_validation=False,  # the bucket makes them all
        user_agent=_user_agent(session),
    )
    async with session.create_client(
        "s3", endpoint_url=options.endpoint_url, region_name=options.region_name, config=config
    ) as client:
        client.meta.events.register_last("before-call.s3", _send_at_once)
        yield client


class _HttpSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
    """
    Sends each request once.

    aiohttp sends a PUT again whose connection was cut, and says nothing of it; nothing but this
    private switch turns that off.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False  # noqa: SLF001
        return session


@functools.cache
def _loader(data_path: str | None) -> Any:
    """Return what reads the descriptions of AWS's services; it remembers them for all stores."""
    return create_loader(data_path)


def _user_agent(session: AioSession) -> str:
    """Return who asks, which the client would put together anew for each request."""
    application = session.get_config_variable("user_agent_appid")
    return f"{session.user_agent()}{f' app/{application}' if application else ''}"


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Let no request wait until the server has asked for its body, but for a large one."""
    headers = params["headers"]
    if "Expect" in headers and params["body"].getbuffer().nbytes < _LARGE_BYTES:
        del headers["Expect"]
