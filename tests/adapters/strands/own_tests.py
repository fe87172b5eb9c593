"""
The framework's own tests of storages and of sessions in them, with our storage in their place.

`python -m tests.adapters.strands.own_tests [options of pytest]`
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.adapters.sdist import own_tests

PATHS = (
    "tests/strands/storage/test_storage.py",
    "tests/strands/storage/test_in_memory_storage.py",
    "tests/strands/session/test_snapshot_session_manager.py",
    "tests/strands/agent/test_agent_storage.py",
    "tests/strands/agent/test_snapshot.py",
    "tests/strands/bidi/agent/test_snapshot.py",
    "tests/strands/vended_memory_stores/file_memory_store/test_store.py",
)
_MEMORY = "tests/strands/storage/test_in_memory_storage.py::TestInMemoryStorage::test_"
_RESOLVE = "tests/strands/storage/test_storage.py::TestResolveNamespace::test_"
_STASH = (
    "tests/strands/session/test_snapshot_session_manager.py::TestSnapshotStashIntegration::test_"
)
_PATHS = "about keys as paths; to the protocol, and to ours, any text is a key"
_MARK = "looks for a private mark that the framework's own namespaces have"
_EPHEMERAL = "looks for a private mark of the framework's storage in memory, which ours never is"
_INDEX = (
    "about `search_strategy`, which the protocol has not; a subclass may have a `search` of its own"
)
_CLEAR = "calls `clear`, which the protocol has not"
DESELECTED = {
    **{
        _MEMORY + name: _PATHS
        for name in ("key_normalization", "rejects_empty_key", "rejects_path_traversal")
    },
    _MEMORY + "clear": _CLEAR,
    _MEMORY + "namespace_clear_only_clears_prefix": _CLEAR,
    _MEMORY + "namespace_returns_scoped_instance": _MARK,
    _MEMORY + "namespace_passes_scoped_instance_to_strategy": _INDEX,
    _MEMORY + "write_indexes_with_search_strategy": _INDEX,
    _MEMORY + "search_delegates_to_strategy": _INDEX,
    _RESOLVE + "returns_as_is_when_already_namespaced": _MARK,
    _RESOLVE + "calls_namespace_method_when_available": _MARK,
    "tests/strands/session/test_snapshot_session_manager.py"
    "::test_prenamespaced_storage_is_not_double_prefixed": _MARK,
    "tests/strands/vended_memory_stores/file_memory_store/test_store.py"
    "::TestConstructor::test_does_not_re_scope_already_namespaced_storage": _MARK,
    **{
        _STASH + name: _EPHEMERAL
        for name in (
            "save_includes_inline_stash_for_ephemeral_storage",
            "save_omits_stash_when_empty",
            "immutable_snapshot_includes_stash",
            "ephemeral_detection_survives_namespacing",
        )
    },
}

if __name__ == "__main__":
    sys.exit(
        own_tests(
            "strands-agents",
            Path(__file__).with_name("swapped_storage.py"),
            PATHS,
            DESELECTED,
            needs=["moto"],
        )
    )
