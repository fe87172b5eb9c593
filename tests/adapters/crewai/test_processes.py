"""Flows of processes that are killed, or wait for a person over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("crewai", reason="needs the extra crewai: .ci/adapter crewai")

from aiocheckpoint.adapters.crewai import FlowPersistence
from tests.adapters.crewai.saving import state
from tests.adapters.processes import TAKES_LONG, killed_after, killed_at, lines_of

SHOP = "tests.adapters.crewai.shop"
SAVING = "tests.adapters.crewai.saving"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def test_nothing_acknowledged_is_lost(root: Path) -> None:
    """After a kill the newest state that was acknowledged is there, or the one after it."""
    lines = killed_after("20", SAVING, root)

    with FlowPersistence(root) as persistence:
        found = persistence.load_state("f")

    assert found is not None
    assert found["number"] >= int(lines[-1])
    assert found == state(found["number"])


def test_flow_goes_on_in_a_new_process(root: Path, tmp_path: Path) -> None:
    """A flow that was killed amid two methods goes on; what it did it does not do again."""
    log = tmp_path / "log"
    killed_at("model reads", SHOP, root, log)
    killed_at("asks", SHOP, root, log)

    assert lines_of(SHOP, root, log)[-1] == "waiting"
    assert lines_of(SHOP, root, log, "yes")[-1] == "refunded: True"

    assert log.read_text().splitlines() == ["look_up", "refund"]
    with FlowPersistence(root) as persistence:
        assert persistence.load_pending_feedback("order-7") is None
        found = persistence.load_state("order-7")
    assert found is not None
    assert len(found["order"]) > 100_000
    assert found["refunded"] is True
