"""A scripted model, in the place of Anthropic's, so that the example needs no key and no network.

`python examples/claude_agent_model.py` serves it until its input ends, and prints its address.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def parts_of(conversation: Json, kind: str) -> list[Json]:
    """Return the parts of a kind in all messages of a conversation."""
    contents = [message["content"] for message in conversation["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [part for part in parts if part["type"] == kind]


def next_part(conversation: Json) -> Json:
    """Call each tool of the shop that was not answered yet, then say that it is done."""
    answered = {part["tool_use_id"] for part in parts_of(conversation, "tool_result")}
    calls = parts_of(conversation, "tool_use")
    done = {call["name"] for call in calls if call["id"] in answered}
    offered = {tool["name"] for tool in conversation.get("tools", [])}
    for name, given in (("look_up", {"order": 7}), ("refund", {"euros": 40})):
        tool = f"mcp__shop__{name}"
        if tool in offered and tool not in done:
            return {"type": "tool_use", "id": f"call-{len(calls)}", "name": tool, "input": given}
    turns = sum(message["role"] == "user" for message in conversation["messages"])
    text = "Your 40 euros are on their way." if done else f"It is on its way, for turn {turns}."
    return {"type": "text", "text": text}


def events_of(part: Json) -> list[Json]:
    """Return what a model streams that answers with one part."""
    is_call = part["type"] == "tool_use"
    empty = {**part, "input": {}} if is_call else {**part, "text": ""}
    delta = (
        {"type": "input_json_delta", "partial_json": json.dumps(part["input"])}
        if is_call
        else {"type": "text_delta", "text": part["text"]}
    )
    message: Json = {
        "id": f"message-{part.get('id', 'last')}",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    stop = {"stop_reason": "tool_use" if is_call else "end_turn", "stop_sequence": None}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


async def serve(asked: Callable[[Json], Any]) -> str:
    """Serve the model on this machine, on the running loop, and return its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length:")[2].split("\r\n")[0]
        body = await reader.readexactly(int(length or 0))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"connection: close\r\n\r\n")
        if body:
            conversation = json.loads(body)
            await asked(conversation)
            for event in events_of(next_part(conversation)):
                writer.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    _servers.append(server)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


_servers: list[asyncio.Server] = []


async def main() -> None:
    async def asked(conversation: Json) -> None:
        """Answer at once."""

    print(await serve(asked), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
