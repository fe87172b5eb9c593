"""An agent that may die at any moment, and goes on where it was: stop it, and run it again.

python examples/plain_agent.py [directory]
"""

import asyncio
import sys
from typing import Any

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData

STEPS = 10


async def ask_model(messages: list[Any]) -> str:
    """Stand in for a model: takes a while, and answers."""
    await asyncio.sleep(0.2)
    return f"thought {len(messages) + 1}"


async def run_agent(writer: AsyncCheckpointWriter[CheckpointData], session_id: str) -> None:
    state = await writer.load(session_id) or CheckpointData(session_id=session_id)
    print(f"{session_id} goes on after step {state.iteration}", flush=True)
    while state.iteration < STEPS:
        answer = await ask_model(state.messages)
        messages = [*state.messages, {"role": "assistant", "content": answer}]
        state = state.next(iteration=state.iteration + 1, messages=messages)
        await writer.save(state)
        print(f"step {state.iteration} is safe: {answer}", flush=True)


async def main(directory: str) -> None:
    async with AsyncCheckpointWriter(directory) as writer:
        await run_agent(writer, "agent-1")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "state"))
