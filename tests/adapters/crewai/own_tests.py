"""
The framework's own tests of flows' states, with our class in the place of its SQLite one.

`python -m tests.adapters.crewai.own_tests [options of pytest]`
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.adapters.sdist import own_tests

PATHS = (
    "tests/test_flow_persistence.py",
    "tests/test_async_human_feedback.py",
    "tests/test_flow_conversation.py",
    "tests/test_flow_resumability_regression.py",
    "tests/test_flow_turns.py",
    "tests/test_flow_ask.py",
    "tests/test_execution_uuid.py",
    "tests/test_flow_from_definition.py",
    "tests/test_flow_definition.py",
)
DESELECTED: dict[str, str] = {}

if __name__ == "__main__":
    sys.exit(
        own_tests("crewai", Path(__file__).with_name("swapped_persistence.py"), PATHS, DESELECTED)
    )
