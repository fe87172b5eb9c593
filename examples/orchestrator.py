"""1,000 agent sessions in one process, 100 at a time: stop it, and run it again.

python examples/orchestrator.py [directory]
"""

import asyncio
import sys
import time

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointError

SESSIONS, STEPS, AT_ONCE = 1000, 2, 100


class Orchestrator:
    def __init__(self, writer: AsyncCheckpointWriter[CheckpointData]) -> None:
        self.writer = writer
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.resumed = self.saved = self.failed = 0

    async def run_session(self, session_id: str) -> None:
        """Run a session when there is room; what goes wrong in it does not end the others."""
        async with self.slots:
            try:
                await self.go_on(session_id)
            except CheckpointError as error:
                self.failed += 1
                print(f"{session_id} failed: {error}", flush=True)

    async def go_on(self, session_id: str) -> None:
        state = await self.writer.load(session_id) or CheckpointData(session_id=session_id)
        self.resumed += state.iteration
        while state.iteration < STEPS:
            await asyncio.sleep(0.01)  # a model call
            step = state.iteration + 1
            note = {"role": "assistant", "content": f"finding {step}"}
            state = state.next(iteration=step, messages=[*state.messages, note])
            await self.writer.save(state)
            self.saved += 1
            if self.saved % 500 == 0:
                print(f"{self.saved} steps are safe", flush=True)

    async def run(self) -> None:
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(SESSIONS):
                group.create_task(self.run_session(f"research-{number:04}"))
        seconds = time.monotonic() - started
        print(f"{self.resumed} steps found done, {self.saved} more saved in {seconds:.1f} s")


async def main(directory: str) -> int:
    async with AsyncCheckpointWriter(directory) as writer:
        orchestrator = Orchestrator(writer)
        await orchestrator.run()
        return 1 if orchestrator.failed else 0


if __name__ == "__main__":
    status = asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "research"))
    sys.exit(status)
