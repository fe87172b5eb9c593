"""Documents to sealed files of format 1.0 and back; pure.

The checksum covers the canonical form: the object without `_checksum` and `_version`, keys
sorted at every level, no white space, numbers as serde_json prints them. The file is that
form with the two keys spliced in, indented by two. A document is encoded once.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import msgspec

from aiocheckpoint._format.floats import FloatSpelling, rust_spellings, special_spellings
from aiocheckpoint._format.json_values import MAX_DEPTH, encode_exactly, find_float, is_too_deep
from aiocheckpoint.errors import CheckpointCorruptError, CheckpointEncodeError, FormatVersionError
from aiocheckpoint.models import JsonValue

FORMAT_VERSION = "1.0"
CHECKSUM_KEY = "_checksum"
VERSION_KEY = "_version"

PIECEWISE_BYTES = 256 * 1024
"""Above this a document is decoded one list element at a time, so other threads get the GIL."""

_LISTED_KEYS = ("session_id", "checkpoint_id", "created_at", "trigger", "iteration")
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode_any = msgspec.json.Decoder().decode
_SEAL_START = f'{{"{CHECKSUM_KEY}":"'.encode()
_SEAL_END = f'","{VERSION_KEY}":"{FORMAT_VERSION}",'.encode()
_SEAL = re.compile(rb'\{"_checksum":"([0-9a-f]{64})","_version":"1\.0"(?:,|(?=\}))')
_TEXT_THEN_NUMBER = re.compile(
    rb'((?:[^"0-9]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+)'
    rb"((?:[0-9]++(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+)?+)"
)

# Of more than this at once hashlib lets go of the GIL, and then waits for it longer than it hashes.
_HASHED_WITH_THE_GIL = 2047
_FEW_SPELLINGS = 8  # each costs a tenth of what the regular expression does
_SMALL_BYTES = 16 * 1024
_MOST_GROWTH = 2 * MAX_DEPTH + 4  # of a document when it is indented, for each of its bytes


class Draft(NamedTuple):
    """
    A record as it was when `save` was called, safe from later mutation.

    Attributes:
        session_id: of the record.
        checkpoint_id: of the record.
        text: its one encoding, compact, keys sorted, numbers as msgspec prints them.
        floats: every float in it.
        listed: the members of the document that a listing tells, as far as it has them.
    """

    session_id: str
    checkpoint_id: str
    text: bytes
    floats: tuple[float, ...]
    listed: Mapping[str, Any]


class Body(NamedTuple):
    """
    A document as the journal keeps it; its file follows from it.

    Attributes:
        text: as it is written: compact, unsealed, some floats respelled for Rust.
        digest: SHA-256 of the text.
        checksum: SHA-256 of the canonical form, which goes into the file.
    """

    text: bytes
    digest: bytes
    checksum: bytes


class Identity(msgspec.Struct):
    """
    What any checkpoint says of itself; a record's default must never fill it in.

    Attributes:
        session_id: of the record.
        checkpoint_id: of the record.
        created_at: as it is written, not checked.
    """

    session_id: str
    checkpoint_id: str
    created_at: str


class _SealFields(msgspec.Struct):
    checksum: JsonValue = msgspec.field(name=CHECKSUM_KEY, default=None)
    version: JsonValue = msgspec.field(name=VERSION_KEY, default=None)


_decode_identity = msgspec.json.Decoder(Identity).decode
_decode_seal = msgspec.json.Decoder(_SealFields).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def drafted(document: dict[str, Any]) -> Draft:
    """
    Return a draft of a document of JSON values.

    Raises:
        CheckpointEncodeError: naming a value that would not come back as it is.
    """
    text, floats = encode_exactly(document)
    listed = {key: document[key] for key in _LISTED_KEYS if key in document}
    return Draft(document["session_id"], document["checkpoint_id"], text, tuple(floats), listed)


def body_of(draft: Draft) -> Body:
    """
    Return what the journal keeps of a draft.

    Cost: one SHA-256, and, where a few floats need another spelling than msgspec gave them, a
    search and two replacements for each; where many do, one pass of a regular expression.
    """
    spellings = special_spellings(draft.floats) if any(draft.floats) else {}
    if not spellings:
        digest = sha256(draft.text)
        return Body(draft.text, digest, digest)
    respelled = _respelling(draft, spellings)
    canonical = respelled({key: s.canonical for key, s in spellings.items()})
    written = respelled({key: s.written for key, s in spellings.items()})
    return Body(written, sha256(written), sha256(canonical))


def body_of_verified(text: bytes) -> Body:
    """Return what the journal keeps of the content of a file that was verified."""
    return body_of(drafted(decode_object(text)))


def listed_of(draft: Draft, checksum: bytes) -> bytes:
    """Return a sealed document of the members of a draft that a listing tells."""
    return sealed(_encode_sorted(draft.listed), checksum)


def sealed(text: bytes, checksum: bytes) -> bytes:
    """
    Return a document with its seal, compact.

    Args:
        text: of its body.
        checksum: of its canonical form.
    """
    # Joined, for a sum would copy all of it twice, and new pages cost more than the hash.
    return b"".join((_SEAL_START, checksum.hex().encode(), _SEAL_END, memoryview(text)[1:]))


def file_of(text: bytes, checksum: bytes) -> bytes:
    """Return the file of a document: sealed and indented; the arguments are those of `sealed`."""
    return msgspec.json.format(sealed(text, checksum), indent=2)


def may_exceed(text: bytes, max_bytes: int) -> bool:
    """Tell whether the file of a document may be larger than so many bytes, at a glance."""
    if len(text) * _MOST_GROWTH <= max_bytes:
        return False
    opened = text.count(b"[") + text.count(b"{")
    lines = 4 + text.count(b",") + 2 * opened
    return len(text) + text.count(b":") + lines * (1 + 2 * MAX_DEPTH) + 200 > max_bytes


def require_exact_floats(draft: Draft) -> None:
    """
    Refuse a draft with a float that serde_json cannot be made to read exactly.

    Raises:
        CheckpointEncodeError: naming the path.
    """
    for spelling in special_spellings(draft.floats).values():
        if not spelling.exact:
            path, value = find_float(_decode_any(draft.text), float(spelling.shortest))
            reason = f"is {value!r}, which Rust would read as its neighbour"
            raise CheckpointEncodeError(path, f"{reason}; round it or save it as a str")


def _respelling(
    draft: Draft, spellings: Mapping[bytes, FloatSpelling]
) -> Callable[[dict[bytes, bytes]], bytes]:
    """Return what gives the text of a draft with some floats spelled otherwise."""
    if len(spellings) <= _FEW_SPELLINGS and _can_be_replaced(draft, spellings):
        return partial(_replaced, draft.text)
    return partial(_respelled, _split_numbers(draft.text))


def _can_be_replaced(draft: Draft, spellings: Mapping[bytes, FloatSpelling]) -> bool:
    """Tell whether each of these texts stands for a float wherever it stands, now and then."""
    floats = Counter(map(abs, draft.floats))
    pairs = permutations(spellings.values(), 2)
    return all(draft.text.count(text) == floats[float(text)] for text in spellings) and not any(
        one.shortest in other.canonical + b" " + other.written for one, other in pairs
    )


def _replaced(text: bytes, spellings: dict[bytes, bytes]) -> bytes:
    for shortest, spelling in spellings.items():
        text = text.replace(shortest, spelling)
    return text


def _split_numbers(text: bytes) -> list[bytes]:
    """Split compact JSON: what stands before a number, strings included, its digits, and so on."""
    return [part for match in _TEXT_THEN_NUMBER.finditer(text) for part in match.groups()]


def _respelled(pieces: list[bytes], spellings: dict[bytes, bytes]) -> bytes:
    digits = pieces[1::2]
    pieces = pieces.copy()
    pieces[1::2] = map(spellings.get, digits, digits)
    return b"".join(pieces)


def verified(data: bytes, path: str, *, of_any_version: bool = False) -> bytes:
    """
    Return the content of a file, compact and unsealed, after checking it against its checksum.

    Args:
        data: the bytes of a file, size already bounded.
        path: for the error.
        of_any_version: whether a file of another version will do, if its checksum is right.

    Raises:
        FormatVersionError: for another `_version`.
        CheckpointCorruptError: for anything else that is not an intact checkpoint.

    Cost: for a file as we and Rust write it, a minify and a hash; a file with respelled
        floats, or indented or ordered by someone else, is decoded and encoded once.
    """
    if is_too_deep(data):
        raise CheckpointCorruptError(path, f"it nests deeper than {MAX_DEPTH} levels")
    try:
        text = msgspec.json.format(data, indent=-1)
    except msgspec.MsgspecError as error:
        raise CheckpointCorruptError(path, f"it is not JSON: {error}") from error
    seal_match = _SEAL.match(text)
    if seal_match is not None:
        content = b"{" + memoryview(text)[seal_match.end() :]
        expected = seal_match[1].decode()
        if hashlib.sha256(content).hexdigest() == expected or expected in _checksums(content):
            return content
    return _verified_by_value(text, path, of_any_version=of_any_version)


def _verified_by_value(text: bytes, path: str, *, of_any_version: bool) -> bytes:
    """Verify as the Rust crate does: parse, take out the two keys, print, hash."""
    try:
        expected, version = _required_seal(text, path)
        is_foreign = version != FORMAT_VERSION
        if is_foreign and not of_any_version:
            raise FormatVersionError(path, version, FORMAT_VERSION)
        document = decode_object(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckpointCorruptError(path, f"it is not a JSON object: {error}") from error
    del document[CHECKSUM_KEY], document[VERSION_KEY]
    content = _encode_sorted(document)
    checksums = list(_checksums(content))
    if expected not in checksums:
        if is_foreign:  # another version may count otherwise
            raise FormatVersionError(path, version, FORMAT_VERSION)
        raise CheckpointCorruptError(path, "the checksum does not match", expected, checksums[0])
    return content


def _required_seal(text: bytes, path: str) -> tuple[str, str]:
    """Return the checksum and the version a file claims, before anything else is decoded."""
    seal = _decode_seal(text)
    if not isinstance(seal.checksum, str):
        raise CheckpointCorruptError(path, "it has no _checksum")
    if not isinstance(seal.version, str):
        raise CheckpointCorruptError(path, "it has no _version")
    return seal.checksum, seal.version


def _checksums(content: bytes) -> Iterator[str]:
    """Yield the checksums that a Rust writer may have given to a content, the likeliest first."""
    pieces = _split_numbers(content)
    floats = {digits for digits in pieces[1::2] if digits and not digits.isdigit()}
    for spellings in rust_spellings(floats):
        yield hashlib.sha256(_respelled(pieces, spellings)).hexdigest()


def with_session_id(text: bytes, session_id: str) -> Draft:
    """
    Return a draft of a verified file's content for another session, unknown keys kept.

    Raises:
        CheckpointEncodeError: naming a value that only a foreign writer could store.
    """
    document = decode_object(text)
    document["session_id"] = session_id
    return drafted(document)


def identity(text: bytes, path: str) -> Identity:
    """
    Return what a verified file says of itself.

    Raises:
        CheckpointCorruptError: when that is not all.
    """
    try:
        return _decode_identity(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckpointCorruptError(path, f"it has no ids or no time: {error}") from error


def parts_of(data: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, their values not decoded."""
    return _decode_parts(data)


def decode_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object in pieces; no single step holds the GIL for long."""
    return {key: _decode_part(part) for key, part in parts_of(data).items()}


def _decode_part(part: msgspec.Raw) -> Any:
    text = memoryview(part)
    if len(text) <= PIECEWISE_BYTES or bytes(text[:1]) != b"[":
        return _decode_any(part)
    return [_decode_any(item) for item in _decode_items(part)]


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of some bytes, in steps too small to let go of the GIL if they are few."""
    if len(data) > _SMALL_BYTES:
        return hashlib.sha256(data).digest()
    digest = hashlib.sha256()
    for start in range(0, len(data), _HASHED_WITH_THE_GIL):
        digest.update(data[start : start + _HASHED_WITH_THE_GIL])
    return digest.digest()
