"""The first page of a list of keys, for each filter: where no key fits, and where only the oldest does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import select

from keydesk import Desk, open_desk
from keydesk.keys.record import Status
from keydesk.stores.schema import keys
from keydesk.stores.sql import SqlStore
from keydesk.testing import ManualClock

from .harness import Scale
from .importing import database
from .report import Promise, Section, Table

MAX_MILLISECONDS = 50.0
RUNS = 7
ENDED = (Status.EXPIRED, Status.DISABLED, Status.REVOKED)
_NEVER = datetime(2020, 1, 1, tzinfo=UTC)

NO_KEY: Mapping[str, Mapping[str, Any]] = {
    "owner": {"owner": "nobody"},
    "plan": {"plan": "none"},
    **{f"status {status}": {"status": status} for status in ENDED},
    "scope": {"scope": "orders:write"},
    "text": {"text": "nowhere"},
    "idle_since": {"idle_since": _NEVER},
    "owner and status": {"owner": "team-7", "status": Status.REVOKED},
    "owner and text": {"owner": "team-7", "text": "nowhere"},
    "plan and owner": {"plan": "none", "owner": "team-7"},
    "status and scope": {"status": Status.ACTIVE, "scope": "orders:write"},
    "status and idle_since": {"status": Status.ACTIVE, "idle_since": _NEVER},
    "scope and text": {"scope": "orders:read", "text": "nowhere"},
    "scope, text and status": {"scope": "orders:read", "text": "nowhere", "status": Status.ACTIVE},
}
OLDEST: Mapping[str, Mapping[str, Any]] = {
    "owner": {"owner": "solo"},
    "plan": {"plan": "gold"},
    **{f"status {status}": {"status": status} for status in ENDED},
    "scope": {"scope": "stock:read"},
    "text": {"text": "NEEDLE"},
    "owner and text": {"owner": "solo", "text": "needle"},
    "status and scope": {"status": Status.ACTIVE, "scope": "stock:read"},
}
ALL: Mapping[str, Mapping[str, Any]] = {
    "no filter": {},
    "status active": {"status": Status.ACTIVE},
    "scope, text and status": {"scope": "orders:read", "text": "client", "status": Status.ACTIVE},
}


@dataclass(frozen=True, slots=True)
class Listed:
    """What one filter came to: the median and the longest milliseconds of a first page, and calls to see all keys."""

    name: str
    median: float
    longest: float
    calls: int


def first_pages(desk: Desk, filters: Mapping[str, Mapping[str, Any]], fit: str) -> Iterator[Listed]:
    """Measure first pages of up to 100 keys."""
    for name, where in filters.items():
        times = []
        for _ in range(RUNS):
            began = time.perf_counter()
            page = desk.list_keys(**where)
            times.append((time.perf_counter() - began) * 1000)
        calls, found = 1, len(page.keys)
        while page.next_cursor is not None and found < 1:
            page = desk.list_keys(**where, cursor=page.next_cursor)
            calls, found = calls + 1, found + len(page.keys)
        yield Listed(f"{name}: {fit}", median(times), max(times), calls)


def set_apart_the_oldest(desk: Desk, clock: ManualClock) -> None:
    """Give the oldest key what no other has, and make the next ones the only ones that have ended."""
    assert isinstance(desk.store, SqlStore)
    with desk.store.engine.connect() as connection:
        oldest, *ended = connection.execute(select(keys.c.id).order_by(keys.c.id).limit(4)).scalars()
    desk.plans.put("gold", scopes=["stock:*"])
    desk.update(oldest, owner="solo", plan="gold", scopes=["stock:read"], name="Needle")
    desk.update(ended[0], expires_at=clock.now() + timedelta(hours=1))
    end: tuple[Callable[[str], object], ...] = (desk.disable, desk.revoke)
    for act, key_id in zip(end, ended[1:], strict=True):
        act(key_id)
    clock.advance(timedelta(hours=2))


def run(scale: Scale) -> Section:
    """Measure lists in the large database that `importing` left. The oldest keys are changed."""
    clock = ManualClock(datetime.now(UTC))
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{database(scale, scale.keys)}"}, clock=clock)
    found = [*first_pages(desk, ALL, "all keys"), *first_pages(desk, NO_KEY, "no key")]
    set_apart_the_oldest(desk, clock)
    found += first_pages(desk, OLDEST, "the oldest key")
    desk.close()
    rows = tuple((each.name, f"{each.median:.1f}", f"{each.longest:.1f}", f"{each.calls:,}") for each in found)
    title = f"desk.list_keys on SQLite, {scale.keys:,} keys: a first page of up to 100"
    headings = ("filter: keys that fit", "median ms", "longest ms", "calls to the first key or the end")
    slowest = max(each.median for each in found)
    promise = Promise(f"first page of {scale.keys:,} keys, the slowest filter", MAX_MILLISECONDS, slowest, "ms")
    return Section((Table(title, headings, rows),), (promise,))
