"""
A shop's agent with a scripted model: it looks an order up, asks for an approval, and refunds.

`python -m tests.adapters.claude_agent.shop STORAGE LOG [approve]` runs it, or goes on
with it.
Each call of a tool is a line of the log, which stands for what it does to the world.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    ResultMessage,
    SessionKey,
    SessionStoreEntry,
    ToolAnnotations,
    create_sdk_mcp_server,
    project_key_for_directory,
    tool,
)

from aiocheckpoint.adapters.claude_agent import SessionStore
from tests.adapters.claude_agent.scripted import environment, parts_of, serve

SESSION_ID = "0b5b1a0e-6f0c-4d0e-9c39-3f6d3c6f7a10"


def said(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def key_in(directory: Path) -> Any:
    """Return the key of the session of the agent that works in a directory."""
    return {"project_key": project_key_for_directory(directory), "session_id": SESSION_ID}


class ToldStore(SessionStore):
    """Tells what is stored, once it is."""

    def __init__(self, storage: str) -> None:
        super().__init__(storage)
        self.call_is_stored = asyncio.Event()
        self.result_is_stored = asyncio.Event()

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Append, and say of which kinds the messages were."""
        await super().append(key, entries)
        given: list[Any] = [entry for entry in entries if "message" in entry]
        contents = [entry["message"]["content"] for entry in given]
        kinds = ["text" if isinstance(one, str) else one[0]["type"] for one in contents]
        if "tool_use" in kinds:
            self.call_is_stored.set()
        if "tool_result" in kinds:
            self.result_is_stored.set()
        for kind in kinds:
            said(f"stored {kind}")


def waits(transcript: list[Any]) -> bool:
    """Tell whether a call was put off, and has no result yet."""
    attachments = [entry.get("attachment", {}) for entry in transcript]
    put_off = {one["toolUseID"] for one in attachments if one.get("type") == "hook_deferred_tool"}
    messages = [entry["message"] for entry in transcript if entry["type"] == "user"]
    results = parts_of({"messages": messages}, "tool_result")
    return bool(put_off - {result["tool_use_id"] for result in results})


def shop_tools(log: Path, store: ToldStore) -> list[Any]:
    """Return the tools, which write to a log; an order is looked up when the call is stored."""

    def logged(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    # Without the hint, what is large goes to a file of this machine, and its name to the store.
    whole = ToolAnnotations(maxResultSizeChars=500_000)

    @tool("look_up", "Look an order up.", {"order": int}, annotations=whole)
    async def look_up(given: dict[str, Any]) -> dict[str, Any]:
        await store.call_is_stored.wait()
        await asyncio.to_thread(logged, f"look_up {given['order']}")
        said("looked up")
        return {"content": [{"type": "text", "text": "a lamp, " + "broken " * 20_000}]}

    @tool("refund", "Refund.", {"euros": int})
    async def refund(given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.to_thread(logged, f"refund {given['euros']}")
        return {"content": [{"type": "text", "text": "refunded"}]}

    return [look_up, refund]


async def main(storage: str, log: str, *how: str) -> None:
    """Run it as far as it goes."""
    directory = Path(log).parent
    async with ToldStore(storage) as store:
        transcript: Any = await store.load(key_in(directory)) or []
        is_waiting = waits(transcript)
        if is_waiting and "approve" not in how:
            said("waiting")
            return

        async def ask(_given: Any, _tool_use_id: Any, _context: Any) -> Any:
            decision = "allow" if is_waiting else "defer"
            output = {"hookEventName": "PreToolUse", "permissionDecision": decision}
            return {"hookSpecificOutput": output}

        async def asked(conversation: Any) -> None:
            results = parts_of(conversation, "tool_result")
            if results and not transcript:  # or the next call may be stored with the result
                await store.result_is_stored.wait()
            said(f"model reads {len(results)} results")

        options = ClaudeAgentOptions(
            session_store=store,
            session_store_flush="eager",
            resume=SESSION_ID if transcript else None,
            session_id=None if transcript else SESSION_ID,
            cwd=directory,
            tools=[],
            mcp_servers={"shop": create_sdk_mcp_server("shop", tools=shop_tools(Path(log), store))},
            allowed_tools=["mcp__shop__look_up"],
            hooks={"PreToolUse": [HookMatcher(matcher="mcp__shop__refund", hooks=[ask])]},
            setting_sources=[],
            env=environment(await serve(asked), Path(tempfile.mkdtemp(dir=directory))),
        )
        async with ClaudeSDKClient(options) as client:
            if not is_waiting:
                await client.query("Go on." if transcript else "My lamp arrived broken.")
            async for message in client.receive_response():
                if isinstance(message, ResultMessage):
                    said("waiting" if message.deferred_tool_use else str(message.result))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
