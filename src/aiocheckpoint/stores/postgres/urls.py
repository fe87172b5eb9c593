"""What a URL of the database says, and what is wrong with one."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote

import asyncpg

from aiocheckpoint.errors import InvalidArgumentError
from aiocheckpoint.kit import require_no_stray_ends, server_url

_SCHEMES = ("postgresql", "postgres")
_DEFAULT_SCHEMA = "aiocheckpoint"
_WANTED_SOURCE = "a URL as postgresql://host/database, or a pool of asyncpg"
_WANTED_ENCODED = (
    "a URL whose password has / ? # @ and the like percent-encoded, as %40 for @, and whose ports "
    "are numbers"
)
_WANTED_UNBROKEN = "a URL without white space: a space in a password or a name is %20"
_WANTED_PARAMETERS = "no parameters of it without `=` and a value"
# What the driver takes from a URL; all others are settings, which the server knows.
_OF_THE_DRIVER = (
    "host", "port", "dbname", "database", "user", "password", "passfile", "service", "sslmode",
    "sslcert", "sslkey", "sslrootcert", "sslnegotiation", "sslcrl", "sslpassword",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname",
    "gsslib",
)  # fmt: skip
_WANTED_SETTINGS = (
    f"a URL whose parameters are schema, migrate, {', '.join(_OF_THE_DRIVER)}, "
    "or settings of the server, as application_name"
)


class Source(NamedTuple):
    """
    What is connected to, and what a URL says beyond what its server knows.

    Attributes:
        dsn_or_pool: where connections are to come from.
        schema: where the tables are.
        migrates: whether a schema of an older release may be brought up to date.
    """

    dsn_or_pool: Any
    schema: str = _DEFAULT_SCHEMA
    migrates: bool = True


def checked_source(dsn_or_pool: object) -> Source:
    """
    Return what connections are to come from.

    Raises:
        InvalidArgumentError: neither a URL of PostgreSQL nor a pool of asyncpg.
    """
    if isinstance(dsn_or_pool, str):
        place_of(dsn_or_pool, "")
        return _apart(dsn_or_pool)
    if not isinstance(dsn_or_pool, asyncpg.Pool):
        raise InvalidArgumentError("dsn_or_pool", dsn_or_pool, _WANTED_SOURCE)
    return Source(dsn_or_pool)


def _apart(dsn: str) -> Source:
    """Take apart what a server knows of a URL, and what is for us."""
    base, _, query = dsn.partition("?")
    rest = "&".join(it for it in query.split("&") if not it.startswith(("schema=", "migrate=")))
    if not all("=" in it for it in query.split("&") if query):
        raise InvalidArgumentError("dsn_or_pool", "postgresql://...?...", _WANTED_PARAMETERS)
    given = parse_qs(query, keep_blank_values=True)
    migrate = given.get("migrate", ["yes"])
    if not {"yes", "no"}.issuperset(migrate):
        raise InvalidArgumentError("dsn_or_pool", "...?migrate=...", "migrate=yes or migrate=no")
    schema = given.get("schema", [_DEFAULT_SCHEMA])[-1]
    return Source(f"{base}?{rest}" if rest else base, schema, migrates=migrate[-1] == "yes")


def wanted_servers(dsn: str) -> str | None:
    """
    Return which of its servers to connect to; None where a URL says it.

    A replica would answer reads with what is older, also in the place of a server that is gone.
    """
    return None if "target_session_attrs" in parse_qs(dsn.partition("?")[2]) else "primary"


def wrong_parameter(dsn: str, reason: str) -> InvalidArgumentError | None:
    """Return what says that a parameter of a URL is wrong, if that is what a reason means."""
    given = parse_qs(dsn.partition("?")[2])
    named = (it for it in given if re.search(rf"(?<![\w.]){re.escape(it)}(?![\w.])", reason))
    name = next(named, "options" if "options" in given else None)
    if name is None:
        return None
    wanted = "one that it may have" if name in _OF_THE_DRIVER else _WANTED_SETTINGS
    return InvalidArgumentError("location", f"...?{name}=...", f"{wanted}: {reason}")


def place_of(dsn: str, schema: str) -> str:
    """
    Return where a URL leads, without credentials.

    Raises:
        InvalidArgumentError: it is no URL of PostgreSQL; the error does not repeat it.
    """
    require_no_stray_ends("dsn_or_pool", dsn)
    if not dsn.lower().startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        raise InvalidArgumentError("dsn_or_pool", "...", _WANTED_SOURCE)
    parts = server_url(dsn)
    if parts is None:
        wanted = _WANTED_UNBROKEN if re.search(r"\s", dsn) else _WANTED_ENCODED
        raise InvalidArgumentError("dsn_or_pool", "postgresql://...", wanted)
    hosts, query = parts.hosts, parse_qs(parts.query)
    if re.search(r"[^0-9,]", "".join(query.get("port", []))):
        raise InvalidArgumentError("dsn_or_pool", "...?port=...", _WANTED_ENCODED)
    if not hosts:
        hosts = ",".join(quote(host, safe="") for host in query.get("host", []))
        hosts += "".join(f":{port}" for port in query.get("port", []))
    database = parts.path.lstrip("/") or quote(query.get("dbname", [""])[0], safe="")
    return f"postgresql://{hosts}/{database}?schema={quote(schema, safe='')}"
