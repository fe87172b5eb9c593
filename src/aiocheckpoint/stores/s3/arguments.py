"""What a store in a bucket may be told of its server."""

from __future__ import annotations

from typing import NamedTuple

from aiocheckpoint.errors import InvalidArgumentError
from aiocheckpoint.kit import require_count, require_instance, require_seconds


class Options(NamedTuple):
    """
    How a bucket is used; None leaves it to the environment and the files of AWS's tools.

    Attributes:
        endpoint_url: of a server that is not AWS's.
        region_name: of the bucket.
        profile_name: which section of `~/.aws/config` and `credentials` to use.
        max_connections: at a time.
        request_timeout_seconds: how long one try of a request may stand still.
        must_exist: whether to refuse a prefix under which nothing was ever stored.
    """

    endpoint_url: str | None
    region_name: str | None
    profile_name: str | None
    max_connections: int
    request_timeout_seconds: float
    must_exist: bool


def checked_options(options: Options) -> Options:
    """
    Return them with a float for the time.

    Raises:
        InvalidArgumentError: one is of the wrong type or out of range.
    """
    _require_texts(
        endpoint_url=options.endpoint_url,
        region_name=options.region_name,
        profile_name=options.profile_name,
    )
    require_count("max_connections", options.max_connections, 1)
    require_time(request_timeout_seconds=options.request_timeout_seconds)
    require_instance("must_exist", options.must_exist, bool)
    return options._replace(request_timeout_seconds=float(options.request_timeout_seconds))


def require_time(**given: float) -> None:
    """
    Refuse what is no time above 0.

    Raises:
        InvalidArgumentError: one is none.
    """
    for name, seconds in given.items():
        require_seconds(name, seconds)
        if not seconds:
            raise InvalidArgumentError(name, seconds, "more than 0 seconds")


def _require_texts(**given: object) -> None:
    for name, text in given.items():
        if text is not None and not isinstance(text, str):
            raise InvalidArgumentError(name, text, "a str, or None")
