"""Number 4: `remaining = 1`, and many requests at once. Elsewhere more than one of them passed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keydesk import Desk, open_desk
from keydesk.testing import ManualClock

from ..servers import Valkey

AT_ONCE = 16


@pytest.fixture(params=["memory", "sqlite", "valkey"])
def desks(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Iterator[Callable[[], Desk]]:
    """Open desks on one store and one limiter, as workers do; in memory it is one desk for all."""
    opened: list[Desk] = []
    store = f"sqlite:///{tmp_path}/keys.db"
    settings = {"KEYDESK_STORE": "memory://" if request.param == "memory" else store}
    if request.param == "valkey":
        valkey: Valkey = request.getfixturevalue("valkey")
        settings["KEYDESK_LIMITER"] = valkey.url()

    def open_() -> Desk:
        if not opened or request.param != "memory":
            opened.append(open_desk(settings, clock=clock))
        return opened[-1]

    yield open_
    for desk in opened:
        desk.close()


def _passed(desks: Callable[[], Desk], secret: str, times: int) -> int:
    several = [desks() for _ in range(4)]
    start = threading.Barrier(AT_ONCE)

    def one(place: int) -> int:
        start.wait(20)
        return sum(several[place % 4].verify(secret).allowed for _ in range(times))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return sum(threads.map(one, range(AT_ONCE)))


@pytest.mark.parametrize(
    "terms", [{"limits": ["10/hour"]}, {"quotas": ["10/total"]}, {"quotas": ["10/day", "99/month"]}]
)
def test_of_many_at_once_one_takes_the_last(desks: Callable[[], Desk], terms: dict[str, list[str]]) -> None:
    secret = desks().issue(name="client", **terms).secret
    assert sum(desks().verify(secret).allowed for _ in range(9)) == 9
    assert _passed(desks, secret, 3) == 1


def test_no_more_pass_than_there_are(desks: Callable[[], Desk]) -> None:
    secret = desks().issue(name="client", limits=["100/hour"], quotas=["70/total"]).secret
    assert _passed(desks, secret, 10) == 70
