"""A flow of CrewAI that asks a person: kill it, and run it again.

python examples/crewai_resume.py [directory]
"""

import sys
from typing import Any

from crewai.flow.async_feedback import HumanFeedbackPending, PendingFeedbackContext
from crewai.flow.flow import Flow, FlowState, listen, start
from crewai.flow.human_feedback import HumanFeedbackResult, human_feedback
from crewai.flow.persistence import persist

from aiocheckpoint.adapters.crewai import FlowPersistence

FLOW_ID = "order-7"


class AskLater:
    """A person who answers another day."""

    def request_feedback(self, context: PendingFeedbackContext, flow: Flow[Any]) -> str:  # noqa: ARG002 - as it is called
        raise HumanFeedbackPending(context=context)


class Order(FlowState):
    """What the flow knows; each step looks whether it was done before."""

    item: str = ""
    answer: str = ""


def shop(persistence: FlowPersistence) -> type[Flow[Order]]:
    @persist(persistence)
    class Shop(Flow[Order]):
        suppress_flow_events = True

        @start()
        def look_up(self) -> None:
            if not self.state.item:
                print("look_up: order 7", flush=True)
                self.state.item = "a broken lamp"

        @listen(look_up)
        @human_feedback(message="Refund 40 euros?", provider=AskLater())
        def review(self) -> str:
            print("asks Ann", flush=True)
            return str(self.state.item)

        @listen(review)
        def refund(self, result: HumanFeedbackResult) -> str:
            if result.feedback == "yes":
                print("refund: 40 euros", flush=True)
                self.state.answer = "Your 40 euros are on their way."
            return str(self.state.answer)

    return Shop


def main(directory: str) -> None:
    with FlowPersistence(directory) as persistence:
        state = persistence.load_state(FLOW_ID)
        if state is not None and state["answer"]:
            print(state["answer"])
            return
        if persistence.load_pending_feedback(FLOW_ID):
            print("approved by Ann", flush=True)
            print(shop(persistence).from_pending(FLOW_ID, persistence).resume("yes"))
            return
        result = shop(persistence)(persistence=persistence).kickoff(inputs={"id": FLOW_ID})
        waits = isinstance(result, HumanFeedbackPending)
        print("waiting: refund 40 euros?" if waits else result)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "orders")
