"""What is stored of a flow of CrewAI."""

from __future__ import annotations

from typing import Final, TypeAlias

from aiocheckpoint import JsonValue
from aiocheckpoint.adapters._documents import DocumentRecord
from aiocheckpoint.adapters._storage import Names

NAMES: Final = Names("crewai")
STATE_ID: Final = "state"
PENDING_ID: Final = "pending"


class MethodState(DocumentRecord, tag="crewai.MethodState"):
    """
    The state of a flow after a method, as JSON text; its id is `state`.

    Attributes:
        method_name: the method.
    """

    method_name: str


class PendingFeedback(DocumentRecord, tag="crewai.PendingFeedback"):
    """
    A flow that waits for a person: its state as JSON text; its id is `pending`.

    Attributes:
        context: what `PendingFeedbackContext.to_dict` returned, as `exact` writes it.
    """

    context: JsonValue


FlowRecord: TypeAlias = MethodState | PendingFeedback
"""What an open store must be able to store: `open_store(url, record_type=FlowRecord)`."""
