"""Where a store may be: a directory, or what a URL names; pure."""

from __future__ import annotations

import re
import sys
from os import PathLike
from typing import Any, NamedTuple
from urllib.parse import unquote

from aiocheckpoint.errors import InvalidArgumentError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
# Of two slashes a `Path` has made one, and some forget both, or the colon: no directory is meant.
_BROKEN_SCHEME = re.compile(r"(?:\./)*(postgres|postgresql|s3|file)(?::|;?//)", re.IGNORECASE)
_ALMOST_URL = re.compile(r"//.*:.*@", re.DOTALL)
_PART_OF_URL = re.compile(r"://|\A\?|\?[a-z_]+=", re.IGNORECASE)
# What a shell, or a program, was to fill in: a variable, a home, a value that was not set; or was
# to take away: a variable's name before its value, as of `STATE=STATE=/srv/state`.
_UNFILLED = re.compile(
    r"\$[a-z_({]\w*|(?:\A|(?<=/))%[a-z_]\w*%(?=/|\Z)|\A~[\w.-]*(?=/|\Z)"
    r"|\A(?-i:None|null|undefined)(?=/|\Z)|\A(?-i:[A-Z_][A-Z0-9_]*)=(?=[.~]{0,2}/|\Z)",
    re.IGNORECASE | re.ASCII,
)
_AS_IT_IS = "./"
# What clings to a text that came through a shell, a file of settings or a page.
_STRAY = r"[\s\x00-\x1f'\"`\u2018\u2019\u201c\u201d\u200b\ufeff]"
_STRAY_END = re.compile(rf"\A{_STRAY}|{_STRAY}\Z")
_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^:,\[\]]*)(?::[0-9]*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")


class Location(NamedTuple):
    """
    Where a store is.

    Attributes:
        scheme: of its URL, lower case; `file` for a directory, however that was given.
        text: the URL, as it was given, or the path of the directory.
    """

    scheme: str
    text: str

    @property
    def is_directory(self) -> bool:
        """Whether it is one, and no server's."""
        return self.scheme == "file"


class ServerUrl(NamedTuple):
    """
    A URL of a server, taken apart.

    Attributes:
        scheme: before `://`, lower case.
        user: who is to be, as it is written; empty where it does not say so.
        has_password: whether one stands beside the user.
        hosts: with their ports, as they are written.
        path: from the slash on.
        query: behind the question mark.
    """

    scheme: str
    user: str
    has_password: bool
    hosts: str
    path: str
    query: str


def location_of(name: str, value: str | PathLike[str]) -> Location:
    """
    Tell a directory from the URL of a server, for all who take either.

    A text that looks like a mistaken URL, or in which something was to be filled in, is refused:
    it would become a directory, and nobody would be told. A directory that is really called so
    is given as a `Path`, of which only one that was made of a URL is refused.

    Args:
        name: of the argument, for the error.
        value: as given.

    Raises:
        InvalidArgumentError: that is so, or it is empty, no path, or a `file://` URL of more than a
            path; the error repeats nothing of it that may be a password.
    """
    text = path_text(name, value)
    url = _SCHEME.match(text)
    broken = None if url else _BROKEN_SCHEME.match(text)
    if broken is not None:  # of which the rest may be a password
        wanted = f"a str that begins with {broken[1]}://, of which a Path keeps one slash"
        raise InvalidArgumentError(name, f"{broken[0]}...", wanted)
    if isinstance(value, str):
        require_no_stray_ends(name, value)
        _require_filled(name, text)
    path = path_of_url(name, text)
    if path is not None:
        return Location("file", path)
    if url is not None:
        return Location(url[1].lower(), text)
    if _ALMOST_URL.search(text):
        wanted = "a directory, or a URL that begins with its scheme and ://"
        raise InvalidArgumentError(name, "...//...@...", wanted)
    part = _PART_OF_URL.search(text) if isinstance(value, str) else None
    if part is not None:
        wanted = "a directory, as a Path if it is called so, or the whole URL"
        raise InvalidArgumentError(name, _shown_part(text, part), wanted)
    return Location("file", text)


def directory_text(name: str, value: str | PathLike[str]) -> str:
    """
    Return the path of a directory as a str, for who takes no URL.

    Raises:
        InvalidArgumentError: it is a URL, or what `location_of` refuses.
    """
    text = path_text(name, value)
    url = _SCHEME.match(text) or _BROKEN_SCHEME.match(text)
    if url is not None:  # of which the rest may be a password
        raise InvalidArgumentError(name, f"{url[0]}...", "a directory, or the URL to open_store")
    return location_of(name, value).text


def path_text(name: str, value: str | PathLike[str], *, may_be_empty: bool = False) -> str:
    """
    Return a path as a str.

    Raises:
        InvalidArgumentError: it is empty and may not, no path, or none that the system can have.
    """
    given: Any = value
    text = given.__fspath__() if isinstance(given, PathLike) else given
    if not isinstance(text, str) or not (text or may_be_empty):
        raise InvalidArgumentError(name, given, "a path, as a str or a Path")
    if not _is_possible(text):
        raise InvalidArgumentError(name, given, "a path without NUL and lone surrogates")
    return text


def server_url(url: str) -> ServerUrl | None:
    """
    Take a URL of a server apart.

    Returns:
        None where nobody can tell what in it is a password: one that is not percent-encoded may
        end in the place of a port, a database or an option. None of it may be shown then.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#\\\s]", rest, maxsplit=1)[0]
    behind = rest.removeprefix(authority)
    login, _, hosts = authority.rpartition("@")
    user, has_password, _ = login.partition(":")
    is_doubtful = "@" in login or (":" in authority and "@" in behind)
    if is_doubtful or not _HOSTS.fullmatch(hosts) or re.search(r"[#\\\s]", behind):
        return None
    path, _, query = behind.partition("?")
    return ServerUrl(scheme.lower(), user, bool(has_password), hosts, path, query)


def path_of_url(name: str, value: str) -> str | None:
    """
    Return the path in a `file://` URL; None of any other text.

    Raises:
        InvalidArgumentError: it is of another machine, has an option, or no path that can be.
    """
    if not value.lower().startswith("file://"):
        return None
    machine, slash, path = value.removeprefix(value[:7]).partition("/")
    if machine not in ("", "localhost") or "?" in value or "#" in value:
        wanted = "file:// and an absolute path of this machine, ? and # in it as %3F and %23"
        raise InvalidArgumentError(name, "file://...", wanted)
    return path_text(name, unquote(slash + path, errors="surrogateescape"))


def require_no_stray_ends(name: str, value: str) -> None:
    """
    Refuse a text that begins or ends with a quote or white space: it would lead somewhere else.

    Raises:
        InvalidArgumentError: it does; the error does not repeat it, for it may have a password.
    """
    if found := _STRAY_END.search(value):
        is_begin = found.start() == 0
        shown_part = f"{found[0]}..." if is_begin else f"...{found[0]}"
        wanted = (
            f"a text that does not {'begin' if is_begin else 'end'} with a quote or white space, "
            "or a Path if a directory is called so"
        )
        raise InvalidArgumentError(name, shown_part, wanted)


def _require_filled(name: str, text: str) -> None:
    """
    Refuse a path, also that of a URL, in which something was to be filled in.

    Raises:
        InvalidArgumentError: it is not filled in; of a URL that may have a password none is shown.
    """
    if text.startswith(_AS_IT_IS):
        return
    for part in _of_a_url(text) if _SCHEME.match(text) else (text,):
        found = _UNFILLED.search(part)
        if found is not None:
            shown_part = "...$..." if "@" in part else _shown_part(part, found)
            wanted = (
                "one in which the shell, or the program, has filled in what it was to, without the "
                "name of a variable in front; a directory that is called so is a Path, or begins "
                f"with {_AS_IT_IS}"
            )
            raise InvalidArgumentError(name, shown_part, wanted)


def _of_a_url(url: str) -> tuple[str, ...]:
    parts = server_url(url)  # if it cannot be taken apart it is refused as what it is
    return () if parts is None else (parts.hosts, parts.path.lstrip("/"))


def _shown_part(text: str, part: re.Match[str]) -> str:
    begin, end = "..." * (part.start() > 0), "..." * (part.end() < len(text))
    return f"{begin}{part[0]}{end}"


def _is_possible(path: str) -> bool:
    try:
        path.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
    except UnicodeEncodeError:
        return False
    return "\0" not in path
