"""
The framework's own tests of sessions, with our session in the place of `SQLiteSession`.

`python -m tests.adapters.openai_agents.own_tests [options of pytest]`

Left out as a whole is `tests/memory/test_compaction_suffix.py`: it is about a private method with
which the framework's SQLite sessions, and no others, replace the end of a conversation.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.adapters.sdist import own_tests

_SESSION = "tests/memory/test_session.py::test_sqlite_session_"
_COMPACTION = (
    "tests/memory/test_openai_responses_compaction_session.py::TestOpenAIResponsesCompactionSession"
    "::test_"
)
PATHS = (
    "tests/memory/test_session.py",
    "tests/memory/test_session_limit.py",
    "tests/memory/test_compaction_model_visibility.py",
    "tests/memory/test_openai_responses_compaction_session.py",
    "tests/extensions/memory/test_encrypt_session.py",
    "tests/test_soft_cancel.py",
    "tests/test_max_turns.py",
    "tests/test_run_impl_resume_paths.py",
    "tests/test_native_tool_failure_history.py",
    "tests/test_tool_batch_failure_history.py",
    "tests/test_tool_failure_boundaries.py",
)
_CONNECTIONS = "connections, locks and transactions of SQLite itself"
_SKIPS = "writes a damaged row with SQL and wants it left out in silence; ours raises"
_VISIBILITY = "tests/memory/test_compaction_model_visibility.py::test_"
_ENCRYPTED = "tests/extensions/memory/test_encrypt_session.py::test_encrypted_"
_HOOK = "calls private methods that only the framework's SQLite sessions have"
_ROLLBACK = "makes a commit of SQLite fail, through its private connection"
DESELECTED = {
    **{
        _SESSION + name: _CONNECTIONS
        for name in (
            "file_lock_is_shared_across_instances",
            "close_closes_worker_thread_connections",
            "reaps_connections_from_exited_worker_threads",
            "closes_retired_connections_before_the_next_allocation",
            "keeps_connections_of_live_worker_threads",
            "rollback_failure_evicts_connection",
            "close_retries_quarantined_connection",
        )
    },
    **{
        _SESSION + name: _SKIPS
        for name in (
            "get_items_session_settings_limit_skips_corrupt_rows",
            "get_items_limit_skips_corrupt_newest_rows",
            "pop_item_skips_corrupt_most_recent",
            "pop_item_returns_none_after_dropping_only_corrupt_rows",
        )
    },
    **{
        _SESSION + name: _ROLLBACK
        for name in (
            "failed_add_items_releases_write_lock",
            "failed_pop_item_releases_write_lock",
            "failed_clear_session_rolls_back",
            "post_commit_cancellation_propagates_after_known_outcome",
        )
    },
    **{
        _COMPACTION + name: _ROLLBACK
        for name in (
            "settled_pop_failure_invalidates_response_chain",
            "settled_clear_failure_invalidates_response_chain",
        )
    },
    _SESSION + "closed_rejects_empty_add_items": "wants the text 'SQLiteSession is closed'",
    _COMPACTION + "automatic_compaction_rollback_budget[True]": _HOOK,
    **{
        _VISIBILITY + name: _HOOK
        for name in (
            "backend_read_limit_cannot_hide_retained_history_from_compaction",
            "automatic_compaction_does_not_reload_unbounded_hidden_history",
            "expired_read_overhead_does_not_authorize_hidden_history",
        )
    },
    **{
        _ENCRYPTED + name: _HOOK
        for name in (
            "compaction_skips_unencrypted_stored_history",
            "pop_wrong_key_preserves_recoverable_history",
            "pop_rechecks_authentication_after_expired_tail",
            "pop_authentication_is_atomic_with_concurrent_mutations",
            "pop_wrong_key_preserves_row_identity",
            "pop_cancellation_waits_for_authentication_rollback",
        )
    },
    "tests/test_run_impl_resume_paths.py"
    "::test_handoff_resume_after_cancelled_compaction_commits": _HOOK,
}

if __name__ == "__main__":
    sys.exit(
        own_tests(
            "openai-agents", Path(__file__).with_name("swapped_session.py"), PATHS, DESELECTED
        )
    )
