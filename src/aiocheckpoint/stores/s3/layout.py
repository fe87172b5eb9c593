"""Where things stand in a bucket: keys, and back; pure.

```text
<prefix>/sessions/<session>/<999999999999 - number>   its commits, the newest first in a LIST
<prefix>/sessions/<session>!<number>                  that commit may leave the session empty
<prefix>/index/<session>/<level>-<number>             what 32, 256, ... commits came to
<prefix>/blobs/<session>/<digest>-<write id>          blobs
<prefix>/owners/<session>/<token>                     the last sign of life of an owner
<prefix>/quarantine/<session>/...                     what `recover` put aside
<prefix>/probe/...                                    gone after a moment
```

A session's name is its id, percent-encoded behind a tilde or hashed where that is not safe.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aiocheckpoint.errors import InvalidArgumentError
from aiocheckpoint.kit import encode_id, require_no_stray_ends
from aiocheckpoint.models import CheckpointId, SessionId

SHORTEST_RANGE = 32
RANGES_IN_ONE = 8
_TOP = 10**12 - 1
_BUCKET = re.compile(r"[a-z0-9A-Z][a-z0-9A-Z._-]{1,253}[a-z0-9A-Z]")
_OURS = frozenset({"sessions", "index", "blobs", "owners", "quarantine", "probe"})
_INVERTED = re.compile(r"[0-9]{12}")
_WANTED_BUCKET = "the name of a bucket, 3 to 63 letters, digits, '.', '_' or '-', after s3://"
_WANTED_OPTIONS = (
    "no parameters: an endpoint is an argument of S3Store, or AWS_ENDPOINT_URL of the environment; "
    "so are a region, a profile and the like"
)
_WANTED = "s3://bucket or s3://bucket/prefix, without credentials, query or fragment"


class Range(NamedTuple):
    """
    A range of commits, and where it stands what they came to.

    Attributes:
        first: the number before the first of them.
        last: the number of the last.
        key: of the object.
    """

    first: int
    last: int
    key: str


class Layout:
    """
    The keys under one prefix of a bucket.

    Args:
        url: `s3://bucket/prefix`.

    Attributes:
        probe: what the keys begin with that are gone after a moment.
        probes_around: the same of stores of which this prefix would be a part.

    Raises:
        InvalidArgumentError: a URL of something else, or one with credentials in it.
    """

    def __init__(self, url: str) -> None:
        given: object = url
        if not isinstance(given, str):
            raise InvalidArgumentError("url", given, _WANTED)
        require_no_stray_ends("url", url)
        scheme, _, rest = url.partition("://")
        bucket, _, path = rest.partition("/")
        prefix = path.strip("/")
        is_plain = not any(mark in url for mark in "?#@")
        if scheme.lower() != "s3" or _BUCKET.fullmatch(bucket) is None or "?" in url or "#" in url:
            if scheme.lower() == "s3" and "?" in url and not any(mark in url for mark in "#@"):
                raise InvalidArgumentError("url", f"s3://...?{_names(url)}", _WANTED_OPTIONS)
            wanted = _WANTED_BUCKET if scheme.lower() == "s3" and is_plain else _WANTED
            raise InvalidArgumentError("url", "s3://...", wanted)  # which may be a password
        if (
            any(part in ("", ".", "..") for part in prefix.split("/") if prefix)
            or not prefix.isprintable()
        ):
            raise InvalidArgumentError("url", url, _WANTED)
        self.bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{self.bucket}/{prefix}" if prefix else f"s3://{self.bucket}"
        self.sessions = f"{self._prefix}sessions/"
        self.blobs = f"{self._prefix}blobs/"
        self.probe = f"{self._prefix}probe/"
        parts = prefix.split("/")
        self.probes_around = tuple(
            f"{'/'.join(parts[:depth])}/probe/".removeprefix("/")
            for depth, part in enumerate(parts)
            if part in _OURS
        )

    def location(self, key: str, checkpoint_id: CheckpointId | None = None) -> str:
        """Return the URL of an object, or of a checkpoint in it."""
        place = f"s3://{self.bucket}/{key}"
        if checkpoint_id is None:
            return place
        return f"{place}#{encode_id(checkpoint_id, 'checkpoint id')}"

    def session(self, session_id: SessionId) -> str:
        """Return what the keys of a session's commits begin with."""
        return f"{self.sessions}{_name(session_id)}/"

    def commit(self, session_id: SessionId, number: int) -> str:
        """Return the key of a commit."""
        return f"{self.session(session_id)}{_TOP - number:012d}"

    def number(self, key: str) -> int | None:
        """Return which commit a key is of; None for a key of something else."""
        inverted = key.rpartition("/")[2]
        return _TOP - int(inverted) if _INVERTED.fullmatch(inverted) else None

    def may_be_empty(self, session_id: SessionId, number: int | None = None) -> str:
        """Return the key of the note that a commit may leave a session empty; of all, its begin."""
        suffix = "" if number is None else f"{number:012d}"
        return f"{self.sessions}{_name(session_id)}!{suffix}"

    def session_name(self, key: str) -> str:
        """Return the name of a session from a key, or a prefix of keys, under `sessions`."""
        return re.split("[!/]", key.removeprefix(self.sessions), maxsplit=1)[0]

    def commits_of_name(self, name: str) -> str:
        """Return what the keys of the commits begin with, from a session's name."""
        return f"{self.sessions}{name}/"

    def listings(self, prefix: str) -> list[str]:
        """Return what names of sessions begin with whose ids begin with a prefix."""
        encoded = f"{self.sessions}~"
        is_safe = re.fullmatch(r"[A-Za-z0-9._-]*", prefix) is not None
        if not prefix:
            return [self.sessions]
        return [f"{self.sessions}{prefix}", encoded] if is_safe else [encoded]

    def blob(self, session_id: SessionId, digest: str, suffix: str) -> str:
        """Return the key of a blob that was put by one write."""
        return f"{self.blobs_of(session_id)}{digest}-{suffix}"

    def blobs_of(self, session_id: SessionId) -> str:
        """Return what the keys of a session's blobs begin with."""
        return f"{self.blobs}{_name(session_id)}/"

    def index(self, session_id: SessionId) -> str:
        """Return what the keys of a session's index begin with."""
        return f"{self._prefix}index/{_name(session_id)}/"

    def range(self, session_id: SessionId, level: int, position: int) -> Range:
        """Return the place of a part of the index, of those of its level the one there, from 0."""
        length = SHORTEST_RANGE * int(RANGES_IN_ONE**level)
        key = f"{self.index(session_id)}{level}-{position:012d}"
        return Range(position * length, (position + 1) * length, key)

    def range_of_key(self, session_id: SessionId, key: str) -> Range | None:
        """Return which part of the index a key is of."""
        found = re.fullmatch(r"([0-9])-([0-9]{12})", key.rpartition("/")[2])
        return self.range(session_id, int(found[1]), int(found[2])) if found else None

    def owner(self, session_id: SessionId, token: int) -> str:
        """Return the key of the last sign of life of an owner."""
        return f"{self.owners(session_id)}{token}"

    def owners(self, session_id: SessionId) -> str:
        """Return what the keys of a session's owners begin with."""
        return f"{self._prefix}owners/{_name(session_id)}/"

    def quarantine(self, session_id: SessionId, name: str) -> str:
        """Return a key for what is damaged."""
        return f"{self._prefix}quarantine/{_name(session_id)}/{name}"


def _name(session_id: SessionId) -> str:
    return encode_id(session_id, "session id")


def _names(url: str) -> str:
    """Return which parameters a URL has, without their values: those may be secrets."""
    items = (item.partition("=") for item in url.partition("?")[2].split("&"))
    return "&".join(f"{name}=..." for name, equals, _ in items if equals)
