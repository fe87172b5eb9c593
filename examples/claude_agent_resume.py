"""An agent of the Claude Agent SDK that asks for approval: kill it, and run it again.

python examples/claude_agent_resume.py [directory]
"""

import asyncio
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from claude_agent_model import parts_of, serve
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    ResultMessage,
    create_sdk_mcp_server,
    project_key_for_directory,
    tool,
)

from aiocheckpoint.adapters.claude_agent import SessionStore

ORDER = "order-7"
SESSION_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, ORDER))


class Payments:
    """Stands for a payment service, which pays once for a key, however often that comes."""

    directory = Path()

    def refund(self, idempotency_key: str, euros: int) -> None:
        self.directory.mkdir(exist_ok=True)
        try:
            (self.directory / idempotency_key).touch(exist_ok=False)
        except FileExistsError:
            return
        print(f"refund: {euros} euros", flush=True)


payments = Payments()


@tool("look_up", "Look an order up.", {"order": int})
async def look_up(given: dict[str, Any]) -> dict[str, Any]:
    print(f"look_up: order {given['order']}", flush=True)
    return {"content": [{"type": "text", "text": "a broken lamp"}]}


@tool("refund", "Refund.", {"euros": int})
async def refund(given: dict[str, Any]) -> dict[str, Any]:
    # It may run again after a kill: the key is of what is to be done, not of the call.
    payments.refund(f"{ORDER}-refund", given["euros"])
    return {"content": [{"type": "text", "text": "refunded"}]}


async def think(conversation: dict[str, Any]) -> None:
    """Tell what the scripted model is asked."""
    print(f"the model thinks, step {len(parts_of(conversation, 'tool_result'))}", flush=True)
    await asyncio.sleep(0.2)


def waits(transcript: list[Any]) -> bool:
    """Tell whether a call was put off, and has no result yet."""
    attachments = [entry.get("attachment", {}) for entry in transcript]
    put_off = {one["toolUseID"] for one in attachments if one.get("type") == "hook_deferred_tool"}
    messages = [entry["message"] for entry in transcript if entry["type"] == "user"]
    results = parts_of({"messages": messages}, "tool_result")
    return bool(put_off - {result["tool_use_id"] for result in results})


def last_words(transcript: list[Any]) -> str | None:
    """Return what the model has said, if that ended its turn and nothing came after it."""
    messages = [entry["message"] for entry in transcript if entry["type"] in ("user", "assistant")]
    if not messages or messages[-1].get("stop_reason") != "end_turn":
        return None
    return "".join(part["text"] for part in messages[-1]["content"] if part["type"] == "text")


async def run(directory: str, local: str) -> None:
    async with SessionStore(f"{directory}/checkpoints") as store:
        key: Any = {"project_key": project_key_for_directory(directory), "session_id": SESSION_ID}
        transcript = await store.load(key) or []
        answer = last_words(transcript)
        if answer is not None:  # it was killed before it printed that, or it has ended
            print(answer)
            return
        is_approved = waits(transcript)

        async def ask(_given: Any, _tool_use_id: Any, _context: Any) -> Any:
            """Put the refund off the first time; whoever runs this again approves it."""
            if is_approved:
                print("approved by Ann", flush=True)
            decision = "allow" if is_approved else "defer"
            output = {"hookEventName": "PreToolUse", "permissionDecision": decision}
            return {"hookSpecificOutput": output}

        options = ClaudeAgentOptions(
            session_store=store,
            session_store_flush="eager",  # or a turn is stored at its end
            resume=SESSION_ID if transcript else None,
            session_id=None if transcript else SESSION_ID,
            cwd=directory,
            tools=[],
            mcp_servers={"shop": create_sdk_mcp_server("shop", tools=[look_up, refund])},
            allowed_tools=["mcp__shop__look_up"],
            hooks={"PreToolUse": [HookMatcher(matcher="mcp__shop__refund", hooks=[ask])]},
            setting_sources=[],
            env={  # the scripted model; and none of the files that are on this machine
                "ANTHROPIC_BASE_URL": await serve(think),
                "ANTHROPIC_API_KEY": "none",
                "CLAUDE_CONFIG_DIR": local,
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "CLAUDE_CODE_MAX_RETRIES": "0",
            },
        )
        async with ClaudeSDKClient(options) as client:
            if not is_approved:
                await client.query("Go on." if transcript else "My lamp arrived broken.")
            async for message in client.receive_response():
                if isinstance(message, ResultMessage):
                    is_waiting = message.deferred_tool_use is not None
                    print("waiting: refund 40 euros?" if is_waiting else message.result)


def main(directory: str) -> None:
    Path(directory).mkdir(parents=True, exist_ok=True)
    payments.directory = Path(directory) / "payments"
    with tempfile.TemporaryDirectory() as local:
        asyncio.run(run(directory, local))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "orders")
