"""
A shop's flow with a scripted model: it looks an order up, asks a person, and refunds.

`python -m tests.adapters.crewai.shop STORAGE LOG [feedback]` runs it, or goes on with it. Each
effect is a line of the log.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from crewai.flow.async_feedback import HumanFeedbackPending, PendingFeedbackContext
from crewai.flow.flow import Flow, FlowState, listen, start
from crewai.flow.human_feedback import HumanFeedbackResult, human_feedback
from crewai.flow.persistence import persist
from crewai.llms.base_llm import BaseLLM

from aiocheckpoint.adapters.crewai import FlowPersistence

FLOW_ID = "order-7"


def said(line: str) -> None:
    """Print a line at once, and give whoever reads it the time to kill this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class ScriptedModel(BaseLLM):
    """A model that reads the state and knows what to say."""

    def call(self, messages: Any, *args: Any, **options: Any) -> str:
        """Answer."""
        said(f"model reads {len(messages)} letters")
        return f"A lamp: {len(messages)}"


class Shop(FlowState):
    """What the flow knows."""

    order: str = ""
    answer: str = ""
    refunded: bool = False


class AskLater:
    """A person who answers another day."""

    def request_feedback(self, context: PendingFeedbackContext, flow: Flow[Any]) -> str:
        """Let the flow wait."""
        raise HumanFeedbackPending(context=context)


def shop_flow(persistence: FlowPersistence, log: Path) -> type[Flow[Shop]]:
    """Return the flow, kept by a persistence."""

    def logged(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @persist(persistence)
    class ShopFlow(Flow[Shop]):
        suppress_flow_events = True
        _skip_auto_memory = True  # half of what each process would take is to import its database

        @start()
        def look_up(self) -> None:
            if not self.state.order:
                logged("look_up")
                self.state.order = "a lamp, " + "broken " * 20_000

        @listen(look_up)
        def think(self) -> None:
            if not self.state.answer:
                model = ScriptedModel(model="scripted")
                self.state.answer = str(model.call(self.state.order))

        @listen(think)
        @human_feedback(message="Refund?", provider=AskLater())
        def review(self) -> str:
            said("asks")
            return str(self.state.answer)

        @listen(review)
        def refund(self, result: HumanFeedbackResult) -> str:
            if result.feedback == "yes" and not self.state.refunded:
                logged("refund")
                self.state.refunded = True
            return f"refunded: {self.state.refunded}"

    return ShopFlow


async def main(storage: str, log: str, *feedback: str) -> None:
    """Run it as far as it goes."""
    async with FlowPersistence(storage) as persistence:
        flow_type = shop_flow(persistence, Path(log))
        waits = persistence.load_pending_feedback(FLOW_ID) is not None
        if waits and not feedback:
            said("waiting")
            return
        if waits:
            flow = flow_type.from_pending(FLOW_ID, persistence)
            result = await flow.resume_async(*feedback)
        else:
            flow = flow_type(persistence=persistence)
            result = await flow.kickoff_async(inputs={"id": FLOW_ID})
        said("waiting" if isinstance(result, HumanFeedbackPending) else str(result))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
