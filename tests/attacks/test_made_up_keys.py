"""Somebody tries keys they made up, from as many addresses as they have: it shows, and it fills nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from keydesk import Desk
from keydesk.stores.schema import mistakes, usage
from keydesk.stores.sql import SqlStore
from keydesk.testing import ManualClock
from keydesk.usage import TOP_NETWORKS

LOUD = "198.51.100.9"
FLUSHES, EACH = 10, 10_000


@pytest.fixture
def desk(everywhere: Callable[..., Desk]) -> Desk:
    return everywhere(KEYDESK_USAGE_FLUSH_SECONDS=3600)


def test_made_up_keys_show_and_fill_nothing(desk: Desk, clock: ManualClock) -> None:
    """100,000 of them, from 95,000 networks, written down ten times within an hour."""
    meter = desk.meter
    assert meter is not None
    for flush in range(FLUSHES):
        for number in range(EACH):
            network = flush * EACH + number
            address = LOUD if number % 20 == 0 else f"2001:db8:{network >> 8:x}:{(network & 255) << 8:x}::1"
            meter.count_mistake("unknown", address, clock.now())
        meter.flush()
        clock.advance(2)
    report = desk.mistakes(size=1000)
    assert report.total == FLUSHES * EACH
    assert {each.network: each.count for each in report.networks}["198.51.100.0/24"] == FLUSHES * EACH // 20
    assert len(report.networks) <= 2 * TOP_NETWORKS + 1
    if isinstance(desk.store, SqlStore):
        with desk.store.engine.connect() as connection:
            rows = connection.execute(select(func.count()).select_from(mistakes)).scalar_one()
            assert rows <= 3 * (2 * TOP_NETWORKS + 1)  # minutes, hours and days
            assert connection.execute(select(func.count()).select_from(usage)).scalar_one() == 0


@pytest.mark.parametrize("address", ["\0", "\ud800", "💥" * 1000, "' OR 1=1 --", "203.0.113.7\n", "%", "x" * 100_000])
def test_odd_addresses_are_one_network(desk: Desk, address: str) -> None:
    desk.verify("nobody-has-this-one-0123456789", client_address=address)
    assert [(each.network, each.count) for each in desk.mistakes().networks] == [("unknown", 1)]
