"""Stores on the tests' own server, made by the hundred: what would be worked out anew is kept."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from aiobotocore.client import AioClientCreator
from botocore import endpoint_provider, hooks, parsers

from aiocheckpoint.stores.s3 import probe

WHOLE_PROBE = probe._CONCURRENT

_alias = hooks.EventAliaser._alias_event_name
_accepts_kwargs = hooks.accepts_kwargs
_RuleSet = endpoint_provider.RuleSet
_make_class = AioClientCreator._create_client_class
_load_model = AioClientCreator._load_service_model
_time = functools.lru_cache(maxsize=1_000)(parsers.DEFAULT_TIMESTAMP_PARSER)
_names: dict[str, str] = {}
_rules: dict[tuple[int, ...], tuple[dict[str, Any], Any]] = {}
_classes: dict[str, Any] = {}
_models: dict[tuple[str, str | None], Any] = {}


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Let stores try again sooner, try their servers by one create, and share what is pure."""
    patch.setattr("aiocheckpoint.stores.s3.bucket._LONGEST_PAUSE_SECONDS", 0.02)
    patch.setattr(probe, "_CONCURRENT", 1)
    patch.setattr(hooks.EventAliaser, "_alias_event_name", _name)
    patch.setattr(hooks, "accepts_kwargs", lambda handler: _takes(_function_of(handler)))
    patch.setattr(endpoint_provider, "RuleSet", _rule_set)
    patch.setattr(AioClientCreator, "_create_client_class", _client_class)
    patch.setattr(AioClientCreator, "_load_service_model", _model)
    patch.setattr(parsers, "DEFAULT_TIMESTAMP_PARSER", _time)


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


async def _client_class(creator: AioClientCreator, service_name: str, model: Any) -> Any:
    """Return the class of all clients of a service: it follows from its description alone."""
    if service_name not in _classes:
        _classes[service_name] = await _make_class(creator, service_name, model)
    return _classes[service_name]


def _model(creator: AioClientCreator, service_name: str, api_version: str | None = None) -> Any:
    """Return a service's description for all clients: each would find its parts anew."""
    key = service_name, api_version
    if key not in _models:
        _models[key] = _load_model(creator, service_name, api_version)
    return _models[key]
