"""Stores on the tests' own server, made by the hundred: what would be worked out anew is kept."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from botocore import endpoint_provider, hooks

from aiocheckpoint.stores.s3 import probe

WHOLE_PROBE = probe._CONCURRENT

_alias = hooks.EventAliaser._alias_event_name
_accepts_kwargs = hooks.accepts_kwargs
_RuleSet = endpoint_provider.RuleSet
_names: dict[str, str] = {}
_rules: dict[tuple[int, ...], tuple[dict[str, Any], Any]] = {}


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Let stores try again sooner, try their servers by fewer creates, and share what is pure."""
    patch.setattr("aiocheckpoint.stores.s3.bucket._LONGEST_PAUSE_SECONDS", 0.02)
    patch.setattr(probe, "_CONCURRENT", 2)
    patch.setattr(hooks.EventAliaser, "_alias_event_name", _name)
    patch.setattr(hooks, "accepts_kwargs", lambda handler: _takes(_function_of(handler)))
    patch.setattr(endpoint_provider, "RuleSet", _rule_set)


def _name(aliaser: Any, event: str) -> str:
    if event not in _names:
        _names[event] = _alias(aliaser, event)
    return _names[event]


def _function_of(handler: Any) -> Any:
    return getattr(handler, "__func__", handler)  # the one of all clients


@functools.lru_cache(maxsize=1_000)
def _takes(function: Any) -> Any:
    return _accepts_kwargs(function)


def _rule_set(**parts: Any) -> Any:
    """Return what all clients find their endpoints by; `_loader` of the store keeps its parts."""
    key = (*map(id, parts.values()),)
    if key not in _rules:
        _rules[key] = parts, _RuleSet(**parts)
    return _rules[key][1]
