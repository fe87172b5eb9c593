"""
The framework's own tests of session stores, with ours in the place of `InMemorySessionStore`.

`python -m tests.adapters.claude_agent.own_tests [options of pytest]`

Each runs on asyncio; the framework runs it on trio as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.adapters.sdist import own_tests

PATHS = (
    "tests/test_session_store_conformance.py",
    "tests/test_session_store_anyio.py",
    "tests/test_session_helpers_store.py",
    "tests/test_session_import.py",
    "tests/test_session_resume.py",
    "tests/test_session_summary.py",
    "tests/test_transcript_mirror.py",
)
_PRIVATE = "sets times in the private fields of `InMemorySessionStore`"
_HAPPY = "tests/test_session_resume.py::TestHappyPath::test_continue_"
DESELECTED = {
    _HAPPY + "picks_most_recent": _PRIVATE,
    _HAPPY + "skips_sidechain_sessions": _PRIVATE,
    _HAPPY + "tie_break_is_deterministic": _PRIVATE,
}

if __name__ == "__main__":
    sys.exit(
        own_tests(
            "claude-agent-sdk",
            Path(__file__).with_name("swapped_store.py"),
            PATHS,
            DESELECTED,
            asyncio_mode="strict",
        )
    )
