"""Records to bytes of format 1.0 and back; pure.

The checksum covers the canonical form: the object without `_checksum` and `_version`, keys
sorted at every level, no white space, numbers as serde_json prints them. The file is that
form with the two keys spliced in, indented by two. A document is encoded once.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointEncodeError,
    FormatVersionError,
    RecordTypeError,
)
from aiocheckpoint.floats import special_spellings
from aiocheckpoint.json_values import (
    MAX_DEPTH,
    collect_floats,
    is_too_deep,
    path_of_float,
    surrogate_path,
)
from aiocheckpoint.models import (
    AwareDatetime,
    CheckpointMeta,
    CheckpointRecord,
    is_json_type,
)

FORMAT_VERSION = "1.0"
_CHECKSUM_KEY = "_checksum"
_VERSION_KEY = "_version"
_RESERVED_KEYS = frozenset({_CHECKSUM_KEY, _VERSION_KEY})

RecordT = TypeVar("RecordT", bound=CheckpointRecord)

_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode_any = msgspec.json.Decoder().decode
_SEAL = re.compile(rb'\{"_checksum":"([0-9a-f]{64})","_version":"1\.0"(?:,|(?=\}))')
_STRING_OR_NUMBER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[-+.0-9eE]+')

PIECEWISE_BYTES = 256 * 1024
"""Above this a document is decoded one list element at a time, so other threads get the GIL."""


class Draft(NamedTuple):
    """
    A record as it was when `save` was called, safe from later mutation.

    Attributes:
        session_id: of the record.
        checkpoint_id: of the record.
        text: its one encoding, compact, keys sorted, numbers as msgspec prints them.
        floats: every float in it.
    """

    session_id: str
    checkpoint_id: str
    text: bytes
    floats: tuple[float, ...]


class Sealed(NamedTuple):
    """
    A checkpoint file.

    Attributes:
        body: the bytes of the file.
        checksum: its SHA-256, 64 lower-case hex digits.
    """

    body: bytes
    checksum: str


class Identity(msgspec.Struct):
    """The part of any checkpoint that says which one it is."""

    session_id: str
    checkpoint_id: str


class _MetaFields(msgspec.Struct):
    session_id: str
    checkpoint_id: str
    created_at: AwareDatetime
    checksum: str = msgspec.field(name=_CHECKSUM_KEY)
    trigger: str = ""
    iteration: int = 0


_decode_identity = msgspec.json.Decoder(Identity).decode
_decode_meta = msgspec.json.Decoder(_MetaFields).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class RecordCodec(Generic[RecordT]):
    """
    Encodes and decodes one record type.

    Raises:
        RecordTypeError: when the type does not extend `CheckpointRecord`, is written as an
            array, or has a field named `_checksum` or `_version`.
    """

    def __init__(self, record_type: type[RecordT]) -> None:
        self.record_type = record_type
        name = getattr(record_type, "__qualname__", repr(record_type))
        given: object = record_type
        if not (isinstance(given, type) and issubclass(given, CheckpointRecord)):
            raise RecordTypeError(name, "it does not extend CheckpointRecord")
        if record_type.__struct_config__.array_like:
            raise RecordTypeError(name, "it is written as an array; remove array_like=True")
        fields = msgspec.structs.fields(record_type)
        if not _RESERVED_KEYS.isdisjoint(field.encode_name for field in fields):
            raise RecordTypeError(name, "the field names _checksum and _version are taken")
        self._json_fields = tuple(f.name for f in fields if is_json_type(f.type))
        self._typed_fields = tuple(f.name for f in fields if not is_json_type(f.type))
        self._names = {f.name: f.encode_name for f in fields}
        tag_field = record_type.__struct_config__.tag_field
        self._tag = {} if tag_field is None else {tag_field: record_type.__struct_config__.tag}
        self._decode = msgspec.json.Decoder(record_type).decode

    def draft(self, record: RecordT) -> Draft:
        """
        Check and encode a record; everything that must happen before the first await.

        Returns:
            the draft, independent of `record` from now on.

        Raises:
            RecordTypeError: when it is not of the codec's type.
            CheckpointEncodeError: naming the path of what cannot be stored exactly.

        Cost: one encode, and a check that takes about as long.
        """
        if not isinstance(record, self.record_type):
            name = type(record).__qualname__
            raise RecordTypeError(name, f"this writer stores {self.record_type.__qualname__}")
        document = self._document(record)
        floats = collect_floats(document)
        try:
            msgspec.convert(document, self.record_type, str_keys=True)
            text = _encode_sorted(record)
        except msgspec.ValidationError as error:
            raise _invalid_field(error) from error
        except UnicodeEncodeError as error:
            reason = "holds a lone surrogate, which UTF-8 cannot; replace it"
            raise CheckpointEncodeError(surrogate_path(document), reason) from error
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CheckpointEncodeError("", f"cannot be encoded: {error}") from error
        return Draft(record.session_id, record.checkpoint_id, text, tuple(floats))

    def _document(self, record: RecordT) -> dict[str, Any]:
        """Return the record as a dict: JSON fields as they are, typed ones as JSON sees them."""
        typed = {self._names[name]: getattr(record, name) for name in self._typed_fields}
        try:
            document: dict[str, Any] = self._tag | msgspec.to_builtins(typed, str_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise CheckpointEncodeError("", f"cannot be encoded: {error}") from error
        for name in self._json_fields:
            document[self._names[name]] = getattr(record, name)
        return document

    def decode(self, data: bytes, path: str) -> RecordT:
        """
        Return the record in a verified file.

        Args:
            data: the bytes `verified` returned.
            path: for the error.

        Raises:
            CheckpointCorruptError: when it is not a record of the codec's type.

        Cost: one decode; above `PIECEWISE_BYTES` in pieces, so that no single step holds the
            GIL for long, and half as long again in all.
        """
        try:
            if len(data) <= PIECEWISE_BYTES:
                return self._decode(data)
            return msgspec.convert(_decode_piecewise(data), self.record_type, str_keys=True)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reason = f"it is not a {self.record_type.__qualname__}: {error}"
            raise CheckpointCorruptError(path, reason) from error


def _invalid_field(error: msgspec.ValidationError) -> CheckpointEncodeError:
    reason, _, path = str(error).partition(" - at `$")
    return CheckpointEncodeError(path.strip("`").lstrip("."), f"is not valid: {reason}")


def _decode_piecewise(data: bytes) -> dict[str, Any]:
    return {key: _decode_part(part) for key, part in _decode_parts(data).items()}


def _decode_part(part: msgspec.Raw) -> Any:
    text = memoryview(part)
    if len(text) <= PIECEWISE_BYTES or bytes(text[:1]) != b"[":
        return _decode_any(part)
    return [_decode_any(item) for item in _decode_items(part)]


def seal(draft: Draft) -> Sealed:
    """
    Return the file of a draft.

    Cost: one SHA-256 (outside the GIL), one indentation, and, only where a float needs
    another spelling than msgspec gave it, two passes of a regular expression.
    """
    spellings = special_spellings(draft.floats) if draft.floats else {}
    canonical = _respelled(draft.text, {s.shortest: s.canonical for s in spellings.values()})
    checksum = hashlib.sha256(canonical).hexdigest()
    written = _respelled(draft.text, {s.shortest: s.written for s in spellings.values()})
    head = f'{{"{_CHECKSUM_KEY}":"{checksum}","{_VERSION_KEY}":"{FORMAT_VERSION}",'
    return Sealed(msgspec.json.format(head.encode() + written[1:], indent=2), checksum)


def require_exact_floats(draft: Draft) -> None:
    """
    Refuse a draft with a float that serde_json cannot be made to read exactly.

    Raises:
        CheckpointEncodeError: naming the path.
    """
    for spelling in special_spellings(draft.floats).values():
        if not spelling.exact:
            reason = f"is {float(spelling.shortest)!r}, which Rust would read as its neighbour"
            path = path_of_float(_decode_any(draft.text), float(spelling.shortest))
            raise CheckpointEncodeError(path, f"{reason}; round it or save it as a str")


def _respelled(text: bytes, spellings: dict[bytes, bytes]) -> bytes:
    """Replace numbers of a compact JSON text, never anything inside its strings."""
    if all(shortest == spelling for shortest, spelling in spellings.items()):
        return text
    return _STRING_OR_NUMBER.sub(partial(_respell_match, spellings), text)


def _respell_match(spellings: dict[bytes, bytes], match: re.Match[bytes]) -> bytes:
    token = match[0]
    return spellings.get(token, token)


def verified(data: bytes, path: str) -> bytes:
    """
    Return the content of a file, compact and unsealed, after checking it against its checksum.

    Args:
        data: the bytes of a file, size already bounded.
        path: for the error.

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
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointCorruptError(path, f"it is not JSON: {error}") from error
    seal_match = _SEAL.match(text)
    if seal_match is not None:
        digest = hashlib.sha256(b"{")
        digest.update(memoryview(text)[seal_match.end() :])
        if digest.hexdigest().encode() == seal_match[1]:
            return b"{" + text[seal_match.end() :]
    return _verified_by_value(text, path)


def _verified_by_value(text: bytes, path: str) -> bytes:
    """Verify as the Rust crate does: parse, take out the two keys, print, hash."""
    try:
        document = _decode_any(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckpointCorruptError(path, f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointCorruptError(path, "it is not a JSON object")
    expected = document.pop(_CHECKSUM_KEY, None)
    if not isinstance(expected, str):
        raise CheckpointCorruptError(path, "it has no _checksum")
    version = document.pop(_VERSION_KEY, None)
    if not isinstance(version, str):
        raise CheckpointCorruptError(path, "it has no _version")
    if version != FORMAT_VERSION:
        raise FormatVersionError(path, version, FORMAT_VERSION)
    content = _encode_sorted(document)
    hashes = [hashlib.sha256(form).hexdigest() for form in _canonical_forms(document, content)]
    if expected not in hashes:
        raise CheckpointCorruptError(path, "the checksum does not match", expected, hashes[0])
    return content


def _canonical_forms(document: dict[str, Any], text: bytes) -> list[bytes]:
    """
    Return the texts a Rust writer may have hashed, the current serde_json's first.

    Up to 1.0.149 it printed `1e16`, later `1e+16`; and Rust hashes the float it was given,
    not the one that it will read back.
    """
    try:
        floats = collect_floats(document)
    except CheckpointEncodeError:
        floats = []
    spellings = special_spellings(floats).values()
    tables: tuple[dict[bytes, bytes], ...] = (
        {s.shortest: s.canonical for s in spellings},
        {s.shortest: s.printed for s in spellings},
        {},
    )
    return [_respelled(text, table) for table in tables]


def with_session_id(text: bytes, session_id: str) -> Draft:
    """Return a draft of a verified file's content for another session, unknown keys kept."""
    document = _decode_any(text)
    document["session_id"] = session_id
    floats = tuple(collect_floats(document))
    return Draft(session_id, document["checkpoint_id"], _encode_sorted(document), floats)


def identity(text: bytes, path: str) -> Identity:
    """
    Return the ids in a verified file.

    Raises:
        CheckpointCorruptError: when it has none.
    """
    try:
        return _decode_identity(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckpointCorruptError(path, f"it has no ids: {error}") from error


def parse_meta(data: bytes, path: Any) -> CheckpointMeta | None:
    """Return the listing entry of a whole file, not verified; None when it is not a checkpoint."""
    if is_too_deep(data):
        return None
    try:
        fields = _decode_meta(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return CheckpointMeta(**msgspec.structs.asdict(fields), path=path)


_TOP_LEVEL = re.compile(
    rb'^  "(_checksum|checkpoint_id|session_id|created_at|trigger|iteration)": (.+?),?$', re.M
)
_HEAD = re.compile(rb'\{\n  "_checksum": "[0-9a-f]{64}",\n  "_version": "1\.0",\n')


def peek_meta(head: bytes, tail: bytes, path: Any) -> CheckpointMeta | None:
    """
    Return the listing entry from the two ends of a file, if they suffice.

    Args:
        head: the first bytes.
        tail: the last bytes, not overlapping `head`.
        path: of the file.

    Returns:
        None when a needed key is in neither; read the whole file then.

    In an indented file every line that begins with two spaces and a quote is a top-level
    key: JSON strings hold no raw newline. Anything else about the file is left to `verified`.
    """
    if not _HEAD.match(head) or not tail.endswith(b"\n}"):
        return None
    lines = _TOP_LEVEL.findall(head[: head.rfind(b"\n")]) + _TOP_LEVEL.findall(
        tail, tail.find(b"\n") + 1
    )
    if len(lines) != len(_MetaFields.__struct_fields__):
        return None
    members = b",".join(b'"%s":%s' % line for line in lines)
    return parse_meta(b"{%s}" % members, path)
