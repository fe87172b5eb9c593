"""Records to bytes of format 1.0 and back; pure.

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
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from aiocheckpoint._format.floats import FloatSpelling, rust_spellings, special_spellings
from aiocheckpoint._format.json_values import (
    MAX_DEPTH,
    encode_exactly,
    find_float,
    first_change,
    is_too_deep,
)
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointEncodeError,
    FormatVersionError,
    RecordTypeError,
)
from aiocheckpoint.models import (
    AwareDatetime,
    BlobRecord,
    CheckpointMeta,
    CheckpointRecord,
    JsonValue,
    is_json_type,
)

FORMAT_VERSION = "1.0"
_CHECKSUM_KEY = "_checksum"
_VERSION_KEY = "_version"
_DIGESTS_KEY = "blob_digests"
_RESERVED_KEYS = frozenset({_CHECKSUM_KEY, _VERSION_KEY})

RecordT = TypeVar("RecordT", bound=CheckpointRecord)

_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode_any = msgspec.json.Decoder().decode
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SEAL = re.compile(rb'\{"_checksum":"([0-9a-f]{64})","_version":"1\.0"(?:,|(?=\}))')
_TEXT_THEN_NUMBER = re.compile(
    rb'((?:[^"0-9]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+)'
    rb"((?:[0-9]++(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+)?+)"
)

# Of more than this at once hashlib lets go of the GIL, and then waits for it longer than it hashes.
_HASHED_WITH_THE_GIL = 2047
_BUILTINS = frozenset({str, int, float, bool, type(None)})
_FEW_SPELLINGS = 8  # each costs a tenth of what the regular expression does
_SMALL_BYTES = 16 * 1024
_MOST_GROWTH = 2 * MAX_DEPTH + 4  # of a document when it is indented, for each of its bytes

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
    checksum: JsonValue = msgspec.field(name=_CHECKSUM_KEY, default=None)
    version: JsonValue = msgspec.field(name=_VERSION_KEY, default=None)


class _MetaFields(msgspec.Struct):
    session_id: str
    checkpoint_id: str
    created_at: AwareDatetime
    checksum: str = msgspec.field(name=_CHECKSUM_KEY)
    trigger: JsonValue = ""
    iteration: JsonValue = 0


class _DigestFields(msgspec.Struct):
    blob_digests: JsonValue = ()


_decode_digests = msgspec.json.Decoder(_DigestFields).decode
_META_KEYS = frozenset(key.encode() for key in _MetaFields.__struct_encode_fields__)
_decode_identity = msgspec.json.Decoder(Identity).decode
_decode_seal = msgspec.json.Decoder(_SealFields).decode
_decode_meta = msgspec.json.Decoder(_MetaFields).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class RecordCodec(Generic[RecordT]):
    """
    Encodes and decodes one record type.

    Raises:
        RecordTypeError: when the type does not extend `CheckpointRecord`, is written as an
            array, has a key `_checksum` or `_version`, or changes the key or the type of a
            field of `CheckpointRecord`.
    """

    def __init__(self, record_type: type[RecordT]) -> None:
        objection = _objection_to(record_type)
        if objection is not None:
            name = getattr(record_type, "__qualname__", repr(record_type))
            raise RecordTypeError(name, objection)
        self.record_type = record_type
        fields = msgspec.structs.fields(record_type)
        self._json_keys = {f.name: f.encode_name for f in fields if is_json_type(f.type)}
        self._typed_keys = {f.name: f.encode_name for f in fields if not is_json_type(f.type)}
        config = record_type.__struct_config__
        self._tag = {} if config.tag_field is None else {config.tag_field: config.tag}
        self._decode = msgspec.json.Decoder(record_type).decode

    def draft(self, record: RecordT) -> Draft:
        """
        Check and encode a record; everything that must happen before the first await.

        Returns:
            the draft, independent of `record` from now on.

        Raises:
            RecordTypeError: when it is not of the codec's very type.
            CheckpointEncodeError: naming the path of what cannot be stored exactly.

        Cost: one encode, and a check that takes about twice as long.
        """
        if type(record) is not self.record_type:
            reason = f"this writer stores {self.record_type.__qualname__}, and no subclass of it"
            raise RecordTypeError(type(record).__qualname__, reason)
        document = self._document(record)
        text, floats = encode_exactly(document)
        self._require_same(record, document)
        return Draft(document["session_id"], document["checkpoint_id"], text, tuple(floats))

    def _document(self, record: RecordT) -> dict[str, Any]:
        """Return the record as a dict: JSON fields as they are, typed ones as JSON sees them."""
        document: dict[str, Any] = dict(self._tag)
        for name, key in self._typed_keys.items():
            value = getattr(record, name)
            document[key] = value if type(value) in _BUILTINS else _to_builtins(key, value)
        for name, key in self._json_keys.items():
            document[key] = getattr(record, name)
        return {key: value for key, value in document.items() if value is not msgspec.UNSET}

    def _require_same(self, record: RecordT, document: dict[str, Any]) -> None:
        """Refuse typed fields that would not come back as they are."""
        try:
            restored = msgspec.convert(document, self.record_type, str_keys=True)
        except msgspec.ValidationError as error:
            raise _invalid_field(error) from error
        for name, key in self._typed_keys.items():
            was, now = getattr(record, name), getattr(restored, name)
            change = None if was is now else first_change(key, was, now)
            if change is not None:
                reason = "would not come back the same; convert it to the type of its field"
                raise CheckpointEncodeError(change, reason)

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
            return msgspec.convert(_decode_object(data), self.record_type, str_keys=True)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            reason = f"it is not a {self.record_type.__qualname__}: {error}"
            raise CheckpointCorruptError(path, reason) from error


def _objection_to(record_type: object) -> str | None:
    if not (isinstance(record_type, type) and issubclass(record_type, CheckpointRecord)):
        return "it does not extend CheckpointRecord"
    config = record_type.__struct_config__
    if config.array_like:
        return "it is written as an array; remove array_like=True"
    fields = {field.name: field for field in msgspec.structs.fields(record_type)}
    keys = {config.tag_field, *(field.encode_name for field in fields.values())}
    if not _RESERVED_KEYS.isdisjoint(keys):
        return "the keys _checksum and _version are taken; rename the field"
    base_type = BlobRecord if issubclass(record_type, BlobRecord) else CheckpointRecord
    if base_type is CheckpointRecord and _DIGESTS_KEY in keys:
        return "the key blob_digests is taken; rename the field, or extend BlobRecord"
    for base in msgspec.structs.fields(base_type):
        field = fields[base.name]
        if (field.encode_name, field.type) != (base.encode_name, base.type):
            return f"{base.name} must keep its key and its type; rename and retype other fields"
    return None


def _to_builtins(key: str, value: Any) -> Any:
    try:
        return value if value is msgspec.UNSET else msgspec.to_builtins(value, str_keys=True)
    except (TypeError, RecursionError) as error:
        raise CheckpointEncodeError(key, f"cannot be encoded: {error}") from error


def _invalid_field(error: msgspec.ValidationError) -> CheckpointEncodeError:
    reason, _, path = str(error).partition(" - at `$")
    return CheckpointEncodeError(path.strip("`").lstrip("."), f"is not valid: {reason}")


def _decode_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object in pieces; no single step holds the GIL for long."""
    return {key: _decode_part(part) for key, part in _decode_parts(data).items()}


def _decode_part(part: msgspec.Raw) -> Any:
    text = memoryview(part)
    if len(text) <= PIECEWISE_BYTES or bytes(text[:1]) != b"[":
        return _decode_any(part)
    return [_decode_any(item) for item in _decode_items(part)]


def body_of(draft: Draft) -> Body:
    """
    Return what the journal keeps of a draft.

    Cost: one SHA-256, and, where a few floats need another spelling than msgspec gave them, a
    search and two replacements for each; where many do, one pass of a regular expression.
    """
    spellings = special_spellings(draft.floats) if any(draft.floats) else {}
    if not spellings:
        digest = _sha256(draft.text)
        return Body(draft.text, digest, digest)
    respelled = _respelling(draft, spellings)
    canonical = respelled({key: s.canonical for key, s in spellings.items()})
    written = respelled({key: s.written for key, s in spellings.items()})
    return Body(written, _sha256(written), _sha256(canonical))


def body_of_verified(text: bytes) -> Body:
    """Return what the journal keeps of the content of a file that was verified."""
    document = _decode_object(text)
    canonical, floats = encode_exactly(document)
    draft = Draft(document["session_id"], document["checkpoint_id"], canonical, tuple(floats))
    return body_of(draft)


def file_of(text: bytes, checksum: bytes) -> bytes:
    """
    Return the file of a document: sealed and indented.

    Args:
        text: of its body.
        checksum: of its canonical form.
    """
    head = f'{{"{_CHECKSUM_KEY}":"{checksum.hex()}","{_VERSION_KEY}":"{FORMAT_VERSION}",'
    # Joined, for a sum would copy all of it twice, and new pages cost more than the hash.
    return msgspec.json.format(b"".join((head.encode(), memoryview(text)[1:])), indent=2)


def seal(draft: Draft) -> bytes:
    """Return the file of a draft."""
    body = body_of(draft)
    return file_of(body.text, body.checksum)


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
    except msgspec.MsgspecError as error:
        raise CheckpointCorruptError(path, f"it is not JSON: {error}") from error
    seal_match = _SEAL.match(text)
    if seal_match is not None:
        content = b"{" + memoryview(text)[seal_match.end() :]
        expected = seal_match[1].decode()
        if hashlib.sha256(content).hexdigest() == expected or expected in _checksums(content):
            return content
    return _verified_by_value(text, path)


def _verified_by_value(text: bytes, path: str) -> bytes:
    """Verify as the Rust crate does: parse, take out the two keys, print, hash."""
    try:
        expected = _required_seal(text, path)
        document = _decode_object(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckpointCorruptError(path, f"it is not a JSON object: {error}") from error
    del document[_CHECKSUM_KEY], document[_VERSION_KEY]
    content = _encode_sorted(document)
    checksums = list(_checksums(content))
    if expected not in checksums:
        raise CheckpointCorruptError(path, "the checksum does not match", expected, checksums[0])
    return content


def _required_seal(text: bytes, path: str) -> str:
    """Return the checksum that a file claims, before anything else in it is decoded."""
    seal = _decode_seal(text)
    if not isinstance(seal.checksum, str):
        raise CheckpointCorruptError(path, "it has no _checksum")
    if not isinstance(seal.version, str):
        raise CheckpointCorruptError(path, "it has no _version")
    if seal.version != FORMAT_VERSION:
        raise FormatVersionError(path, seal.version, FORMAT_VERSION)
    return seal.checksum


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
    document = _decode_object(text)
    document["session_id"] = session_id
    copied, floats = encode_exactly(document)
    return Draft(session_id, document["checkpoint_id"], copied, tuple(floats))


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


def blob_digest(data: bytes) -> str:
    """Return the name of a blob: its SHA-256, 64 lower-case hex digits."""
    return _sha256(data).hex()


def _sha256(data: bytes) -> bytes:
    if len(data) > _SMALL_BYTES:
        return hashlib.sha256(data).digest()
    digest = hashlib.sha256()
    for start in range(0, len(data), _HASHED_WITH_THE_GIL):
        digest.update(data[start : start + _HASHED_WITH_THE_GIL])
    return digest.digest()


def is_digest(value: object) -> bool:
    """Tell whether a value can be the name of a blob."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def blob_digests(text: bytes) -> tuple[str, ...]:
    """Return which blobs a verified file refers to; none for a record that has no such field."""
    digests = _decode_digests(text).blob_digests
    if not isinstance(digests, list) or not all(map(is_digest, digests)):
        return ()
    return tuple(digests)


def require_digests(digests: tuple[str, ...]) -> None:
    """
    Refuse names that no blob can have.

    Raises:
        CheckpointEncodeError: naming the path.
    """
    seen: set[str] = set()
    for position, digest in enumerate(digests):
        path = f"blob_digests[{position}]"
        if not is_digest(digest):
            raise CheckpointEncodeError(path, "is not a SHA-256 of 64 lower-case hex digits")
        if digest in seen:
            raise CheckpointEncodeError(path, "is there twice; name each blob once")
        seen.add(digest)


def require_digest(digest: str, data: bytes) -> None:
    """
    Refuse a blob that is not what its name says.

    Raises:
        CheckpointEncodeError: naming the blob.
    """
    if blob_digest(data) != digest:
        raise CheckpointEncodeError(f"blobs[{digest!r}]", "has another SHA-256")


def verified_blob(data: bytes, digest: str, path: str) -> bytes:
    """
    Return the content of a blob's file after checking it against its name.

    Raises:
        CheckpointCorruptError: when it is something else.
    """
    actual = blob_digest(data)
    if actual != digest:
        raise CheckpointCorruptError(path, "the blob does not match its name", digest, actual)
    return data


def parse_meta(data: bytes, path: Any) -> CheckpointMeta | None:
    """Return the listing entry of a whole file, not verified; None when it is not a checkpoint."""
    if is_too_deep(data):
        return None
    try:
        fields = _decode_meta(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return CheckpointMeta(
        checkpoint_id=fields.checkpoint_id,
        session_id=fields.session_id,
        created_at=fields.created_at,
        trigger=fields.trigger if isinstance(fields.trigger, str) else "",
        iteration=fields.iteration if type(fields.iteration) is int else 0,
        checksum=fields.checksum,
        path=path,
    )


def meta_of_body(text: bytes, checksum: str, path: Any) -> CheckpointMeta | None:
    """Return the listing entry of a document that is not in a file yet."""
    sealed = b"".join((b'{"_checksum":"', checksum.encode(), b'",', memoryview(text)[1:]))
    return parse_meta(sealed, path)


_MEMBER = re.compile(rb'^  "([^"\\]*)": (.+?),?$', re.MULTILINE)
_KEY = re.compile(rb'  "([^"\\]*)": ')
_HEAD = re.compile(rb'\{\n  "_checksum": "[0-9a-f]{64}",\n  "_version": "1\.0",\n')


def peek_meta(head: bytes, tail: bytes, path: Any) -> CheckpointMeta | None:
    """
    Return the listing entry from the two ends of a file, if they suffice.

    Args:
        head: the first bytes.
        tail: the last bytes, not overlapping `head`.
        path: of the file.

    Returns:
        None when a needed key may be in neither; read the whole file then.

    In an indented file every line that begins with two spaces and a quote is a top-level
    key: JSON strings hold no raw newline. Keys are sorted, so where none is missing between
    those at the ends, a record type has none. The rest of the file is left to `verified`.
    """
    if not _HEAD.match(head) or not tail.endswith(b"\n}"):
        return None
    cut = head.rfind(b"\n") + 1
    first = _MEMBER.findall(head[:cut])
    last = _MEMBER.findall(tail, tail.find(b"\n") + 1)
    cut_key = _KEY.match(head, cut)
    before_gap = [key for key, _ in first] + ([cut_key[1]] if cut_key else [])
    after_gap = [key for key, _ in last]
    keys = (before_gap + after_gap)[2:]  # those of the seal come first
    if not after_gap or keys != sorted(set(keys)):
        return None
    members = [(key, value) for key, value in first + last if key in _META_KEYS]
    missing = _META_KEYS.difference(key for key, _ in members)
    if any(before_gap[-1] <= key < after_gap[0] for key in missing):
        return None
    return parse_meta(b"{%s}" % b",".join(b'"%s":%s' % member for member in members), path)
