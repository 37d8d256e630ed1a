"""A quota is never oversold: by eight processes, with workers and the limiter killed in the middle of it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keydesk import Desk, open_desk

from .. import servers
from .conftest import upgraded

QUOTA = 10_000
WORKERS = 8
SECONDS = 90  # in which all must be over


class Spenders:
    """Eight workers that spend one quota. One that is killed is replaced."""

    def __init__(self, store: str, limiter: str, failure: str, secret: str, folder: Path) -> None:
        self._command = [sys.executable, str(Path(__file__).with_name("spending.py")), store, limiter, failure]
        self.secret, self._folder = secret, folder
        self._started = 0
        self.running = [self._start() for _ in range(WORKERS)]

    def _start(self) -> subprocess.Popen[str]:
        self._started += 1
        command = [*self._command, str(self._folder / f"{self._started}.admitted")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(f"{self.secret}\n")
        process.stdin.close()
        return process

    def admitted(self) -> int:
        return sum(path.stat().st_size for path in self._folder.glob("*.admitted"))

    def kill(self, place: int) -> None:
        self.running[place].kill()
        self.running[place].wait(10)
        self.running[place] = self._start()

    def wait(self) -> None:
        for process in self.running:
            assert process.wait(SECONDS) == 0

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait(10)


@pytest.fixture
def spenders(tmp_path: Path) -> Iterator[Callable[..., Spenders]]:
    made: list[Spenders] = []

    def start(desk: Desk, store: str, limiter: str, failure: str = "open") -> Spenders:
        issued = desk.issue(name="spender", quotas=[f"{QUOTA}/total"])
        made.append(Spenders(store, limiter, failure, issued.secret, tmp_path))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def _spend(spenders: Spenders, disturb: Callable[[int], None]) -> int:
    """Disturb the workers each time some hundred requests more were let in, and return how many were in the end."""
    draw, disturbances = random.Random(1), 0
    end = time.monotonic() + SECONDS
    while any(process.poll() is None for process in spenders.running) and time.monotonic() < end:
        if spenders.admitted() > 700 * (disturbances + 1) and disturbances < 10:
            disturbances += 1
            spenders.kill(draw.randrange(WORKERS))
            disturb(disturbances)
        time.sleep(0.02)
    spenders.wait()
    assert disturbances >= 5
    return spenders.admitted()


def test_quota_with_the_limiter_in_a_file(spenders: Callable[..., Spenders], tmp_path: Path) -> None:
    store = upgraded(f"sqlite:///{tmp_path}/keys.db")
    desk = open_desk({"KEYDESK_STORE": store})
    admitted = _spend(spenders(desk, store, f"sqlite:///{tmp_path}/limits.db"), lambda _: None)
    assert 0.9 * QUOTA <= admitted <= QUOTA
    assert desk.quotas.balances(desk.list_keys().keys[0].id)[0].leased == QUOTA
    desk.close()


@pytest.mark.parametrize("comes_back", ["empty", "from a snapshot"])
def test_quota_with_the_limiter_in_valkey(
    own_server: Callable[[str], servers.Valkey],
    postgres_url: str,
    spenders: Callable[..., Spenders],
    comes_back: str,
) -> None:
    """Killed and started empty, while workers lease for limiters of their own; or from a snapshot with credits that
    have been spent since, while they wait; and once more from that when everything is spent."""
    store = upgraded(postgres_url)
    desk = open_desk({"KEYDESK_STORE": store})
    valkey, snapshot = own_server("valkey"), comes_back != "empty"

    def disturb(number: int) -> None:
        if number % 2 and snapshot:
            valkey.ask("SAVE")
        elif number % 2 == 0:
            valkey.stop()
            valkey.start()

    policy = "closed" if snapshot else "open"
    spent = spenders(desk, store, valkey.url(), policy)
    admitted = _spend(spent, disturb)
    # What a limiter of its own held when a worker was killed is lost, too, and more of it than on one shared limiter.
    assert 0.8 * QUOTA <= admitted <= QUOTA
    assert desk.quotas.balances(desk.list_keys().keys[0].id)[0].leased == QUOTA
    desk.close()
    if snapshot:
        valkey.stop()
        valkey.start()
        after = open_desk({"KEYDESK_STORE": store, "KEYDESK_LIMITER": valkey.url()})
        assert sum(after.verify(spent.secret).allowed for _ in range(300)) == 0
        after.close()
