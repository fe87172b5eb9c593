"""JSON with pickles in it, compressed against what else a checkpoint says; pure."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable

import msgspec

PICKLED = b'"__pickled__":'
_PICKLE = re.compile(rb'(?<="__pickled__":")([A-Za-z0-9+/=]*)(?=")')
_WINDOW_BYTES = 32 * 1024  # as far as deflate looks back
# What messages of the framework say when they are pickled. What was packed needs these very bytes.
_CLASSES = (
    b"\x8c*agent_framework._workflows._agent_executor\x94\x8c\x15AgentExecutorResponse\x94\x93\x94)\x81"
    b"\x94}\x94(\x8c\x0bexecutor_id\x94\x8c\x05agent\x94\x8c\x0eagent_response\x94"
    b"\x8c\rAgentResponse\x94\x93\x94)\x81\x94}\x94(\x8c\x08messages\x94]\x94"
    b"\x80\x05\x95\x00\x00\x00\x00\x00\x00\x00\x8c*agent_framework._workflows._runner_context\x94"
    b"\x8c\x0fWorkflowMessage\x94\x93\x94)\x81\x94}\x94(\x8c\x04data\x94X\x8c\tsource_id\x94"
    b"\x8c\x0einternal:agent\x94\x8c\ttarget_id\x94\x8c\x05agent\x94\x8c\x04type\x94h\x00"
    b"\x8c\x0bMessageType\x94\x93\x94\x8c\x08standard\x94\x85\x94R\x94\x8c\x0etrace_contexts\x94N"
    b"\x8c\x0fsource_span_ids\x94N\x8c\x1boriginal_request_info_event\x94Nub."
    b'","__type__":"agent_framework._workflows._runner_context:WorkflowMessage"}]'
    b"\x80\x05\x95\x00\x00\x00\x00\x00\x00\x00\x8c\x16agent_framework._types\x94\x8c\x07Message"
    b"\x94\x93\x94)\x81\x94}\x94(\x8c\x04role\x94\x8c\x04user\x94\x8c\tassistant\x94\x8c\x08contents\x94]"
    b"\x94h\x00\x8c\x07Content\x94\x93\x94)\x81\x94}\x94(\x8c\x04type\x94\x8c\x04text\x94"
    b"\x8c\x0bannotations\x94N\x8c\x15additional_properties\x94}\x94\x8c\nmerge_mode\x94Nh\x0eX"
)
_FIELDS = (
    "protected_data uri media_type message error_code error_details usage_details call_id name "
    "arguments exception informational_only result items file_id vector_store_id inputs outputs "
    "image_id commands timeout_ms max_output_length status actions screenshot "
    "pending_safety_checks acknowledged_safety_checks stdout stderr exit_code timed_out tool_name "
    "server_name output hosted id function_call user_input_request approved consent_link"
)
_USUAL = (
    _CLASSES
    + b"".join(b"\x8c%c%b\x94N" % (len(name), name.encode()) for name in _FIELDS.split())
    + b'uba\x8c\x0bauthor_name\x94N\x8c\nmessage_id\x94Nh\x10}\x94ub."}]'
)
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


def packed(text: bytes, known: bytes) -> bytes:
    """
    Return JSON compressed.

    Args:
        text: most of it, or of its pickles, texts that are known.
        known: what `unpacked` will be given, too.
    """
    compressor = zlib.compressobj(zdict=known)
    return compressor.compress(msgspec.msgpack.encode(_parts(text))) + compressor.flush()


def _parts(text: bytes) -> list[bytes]:
    """Return JSON and pickles in turn; pickles as bytes, in which the known texts are found."""
    parts: list[bytes] = _PICKLE.split(text)
    pickles = parts[1::2]
    try:
        parts[1::2] = map(base64.b64decode, pickles)
    except ValueError:  # an application has its own use for the key
        return [text]
    return parts if [*map(base64.b64encode, parts[1::2])] == pickles else [text]


def unpacked(content: bytes, known: bytes) -> bytes:
    """
    Return what was packed.

    Raises:
        ValueError: it was not packed, or something else was known.
    """
    try:
        parts = _decode(zlib.decompressobj(zdict=known).decompress(content))
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from error
    parts[1::2] = map(base64.b64encode, parts[1::2])
    return b"".join(parts)


def end_of(pages: Iterable[bytes]) -> bytes:
    """Return the end of a list, JSON arrays that follow one another, and what is usual."""
    end = b""
    for page in reversed([*pages]):
        end = page[:-1] + b"," + end[1:] if end else page
        if len(end) > _WINDOW_BYTES:
            break
    return end[len(_USUAL) - _WINDOW_BYTES :] + _USUAL
