"""Every store that hands out the credits of quotas, through one contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from keydesk.allowances import Account
from keydesk.events import QuotaReached, QuotaRefilled
from keydesk.ports import Balance, QuotaStore, WritableKeyStore
from keydesk.stores.engines import open_engine
from keydesk.stores.memory import MemoryStore
from keydesk.stores.sql import SqlStore
from keydesk.testing import START, ManualClock

KEY = "key_" + "a" * 28
MONTH = Account(f"key:{KEY}", "month", "UTC", START)


def reached(percent: int) -> QuotaReached:
    return QuotaReached(at=START, actor="keydesk", key_id=KEY, owner="acme", details={"percent": percent})


def refilled(credits_: int) -> QuotaRefilled:
    return QuotaRefilled(at=START, actor="python", key_id=KEY, owner="acme", details={"credits": credits_})


@pytest.fixture(params=["memory", "sqlite", "postgres", "mariadb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStore | SqlStore]:
    if request.param == "memory":
        yield MemoryStore(ManualClock())
        return
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/keys.db" if sqlite else request.getfixturevalue(f"{request.param}_url")
    store = SqlStore(open_engine(url), ManualClock(), own=True)
    store.upgrade()
    yield store
    store.close()


@pytest.fixture
def quotas(store: MemoryStore | SqlStore) -> QuotaStore:
    return store.quotas


def test_lease_hands_out_what_there_is_and_no_more(quotas: QuotaStore) -> None:
    handed_out = 0
    for _ in range(1000):
        granted, balance = quotas.lease(MONTH, 1000, 1)
        handed_out += granted
        assert balance.leased == handed_out
        if not granted:
            break
    assert handed_out == 1000
    assert quotas.balance(MONTH) == Balance(1000, 0, 0)
    assert quotas.lease(MONTH, 1000, 1)[0] == 0


def test_lease_is_a_share_of_what_is_left_or_what_is_needed(quotas: QuotaStore) -> None:
    assert quotas.lease(MONTH, 6400, 1)[0] == 100
    assert quotas.lease(MONTH, 6400, 5000)[0] == 5000
    assert quotas.lease(MONTH, 6400, 1301)[0] == 0
    assert quotas.lease(MONTH, 6400, 1300)[0] == 1300


def test_balance_of_a_quota_that_nobody_used(quotas: QuotaStore) -> None:
    assert quotas.balance(MONTH) == Balance(0, 0, 0)


@pytest.mark.parametrize(
    "other",
    [
        MONTH._replace(holder="owner:acme"),
        MONTH._replace(holder="owner:ACME"),
        MONTH._replace(period="day"),
        MONTH._replace(zone="Europe/Rome"),
        MONTH._replace(start_at=START + timedelta(days=31)),
        MONTH._replace(holder="owner:" + "ä" * 200),
    ],
)
def test_accounts_are_apart(quotas: QuotaStore, other: Account) -> None:
    quotas.lease(MONTH, 10, 10)
    quotas.lease(MONTH._replace(holder="owner:other"), 10, 10)
    assert quotas.lease(other, 10, 10)[0] == 10


def test_quota_that_was_made_smaller_hands_out_nothing_more(quotas: QuotaStore) -> None:
    quotas.lease(MONTH, 100, 60)
    assert quotas.lease(MONTH, 50, 1) == (0, Balance(60, 0, 0))
    assert quotas.lease(MONTH, 70, 10)[0] == 10


def test_event_tells_once_of_each_percentage(store: WritableKeyStore, quotas: QuotaStore) -> None:
    quotas.lease(MONTH, 10, 8)
    for percent in (80, 80, 100, 100, 80):
        quotas.tell(MONTH, percent, reached(percent))
    assert [row.event.details["percent"] for row in store.list_events()] == [80, 100]
    assert store.check_chain().problem is None


def test_refill_adds_to_this_period_and_lets_events_tell_again(store: WritableKeyStore, quotas: QuotaStore) -> None:
    quotas.lease(MONTH, 10, 10)
    quotas.tell(MONTH, 100, reached(100))
    assert quotas.refill(MONTH, 5, refilled(5)) == Balance(10, 5, 0)
    assert quotas.lease(MONTH, 10, 5)[0] == 5
    assert quotas.lease(MONTH, 10, 1)[0] == 0
    quotas.tell(MONTH, 100, reached(100))
    assert [row.event.kind for row in store.list_events()] == ["quota.reached", "quota.refilled", "quota.reached"]


def test_refill_before_the_first_use(quotas: QuotaStore) -> None:
    assert quotas.refill(MONTH, 5, refilled(5)) == Balance(0, 5, 0)
    assert quotas.lease(MONTH, 10, 15)[0] == 15


def test_threads_at_once_are_handed_out_no_more(quotas: QuotaStore) -> None:
    start = threading.Barrier(8)

    def lease(_: int) -> int:
        start.wait(10)
        total = 0
        while granted := quotas.lease(MONTH, 300, 3)[0]:
            total += granted
        return total

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lease, range(8))) == 300


def test_event_of_a_quota_changes_no_key(store: WritableKeyStore, quotas: QuotaStore) -> None:
    """Its kind says that texts which are nobody's stay so."""
    from keydesk.stores.cached import _NO_NEW_SECRET

    quotas.lease(MONTH, 10, 10)
    quotas.tell(MONTH, 100, replace(reached(100)))
    assert {row.event.kind for row in store.list_events()} <= _NO_NEW_SECRET


@pytest.fixture(params=["postgres", "mariadb"])
def server_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


def test_row_that_somebody_makes_at_that_moment_is_locked_before_it_is_read(server_url: str) -> None:
    """Three workers need the first credits of a period. Without the lock the last to write hands out again what the
    one before it did. (SQLite lets one write at a time.)"""
    stores = [SqlStore(open_engine(server_url), ManualClock(), own=True) for _ in range(3)]
    stores[0].upgrade()
    first, second, third = (store.quotas for store in stores)
    handed_out, seen = [], [""]

    def meanwhile(_connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE keydesk_quotas") and not cursor.rowcount and not handed_out:
            handed_out.append(second.lease(MONTH, 100, 3)[0])
            seen[0] = "unlocked"
        elif statement.startswith("SELECT") and seen[0] == "unlocked":
            seen[0] = ""
            handed_out.append(third.lease(MONTH, 100, 5)[0])
        elif statement.startswith("UPDATE"):
            seen[0] = "locked"

    event.listen(stores[0]._requests, "after_cursor_execute", meanwhile)
    handed_out.append(first.lease(MONTH, 100, 7)[0])
    assert first.balance(MONTH).leased == sum(handed_out)
    assert len(handed_out) >= 2
    for store in stores:
        store.close()
