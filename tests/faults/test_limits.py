"""Many processes on one limit, and processes that are killed: never over, hardly under, all limits or none.

The limits here have windows of a few seconds, so that a test sees several of them. The algorithm knows no other unit
than a thirty-second of the window, so what holds for `200 per 2 seconds` holds for `6000/minute`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from keydesk import SystemClock
from keydesk.claims import Claim
from keydesk.limiting.redis import RedisLimiter
from keydesk.limiting.sqlite import SqliteLimiter
from keydesk.ports import Limiter
from keydesk.testing import ManualClock

from ..servers import Valkey, wait_until
from .taking import ROOT, Take, go, join, start

PROCESSES = 8
LEAST_SHARE = 0.96  # of what an exact log admits; the algorithm grants 32/33, which is 0.9697
Figures = Callable[[str, float], None]


@pytest.fixture(params=["sqlite", "valkey"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a limiter is that processes share: a file, or a real Valkey."""
    return str(tmp_path / "limits.db") if request.param == "sqlite" else request.getfixturevalue("valkey").url()


@pytest.fixture
def limiter(url: str) -> Iterator[Limiter]:
    """The same limiter, from this process."""
    limiter: Limiter = RedisLimiter(url) if "://" in url else SqliteLimiter(Path(url), SystemClock())
    yield limiter
    limiter.close()


def claim(most: int, seconds: int, subject: str = "{k}key") -> Claim:
    return Claim(f"{most} per {seconds} seconds", subject, most, seconds)


LEDGER = claim(1_000_000, 86_400, "{k}ledger")  # never full, and everything in it stays: it says what was taken in all


def assert_never_over(takes: Sequence[Take], limit: Claim) -> None:
    """Look at every window that begins with a take, by the limiter's own time to the microsecond, ends included.

    And, so as not to believe the limiter's clock alone, at those takes that were within a window for certain by the
    clock of the processes: begun after its start and done before its end.
    """
    admitted = [take for take in takes if take.admitted]
    length, inside, cost = limit.window_seconds * 1_000_000, deque[Take](), 0
    for take in admitted:
        inside.append(take)
        cost += take.cost
        while inside[0].at < take.at - length:
            cost -= inside.popleft().cost
        assert cost <= limit.most, f"{cost} within {limit.policy}"
    done = deque(sorted(admitted, key=lambda take: take.after))
    begun = sorted(admitted, key=lambda take: take.before)
    for number, first in enumerate(begun):
        if first.before + limit.window_seconds > done[-1].after:
            break
        certain = sum(
            take.cost
            for take in begun[number : number + limit.most + 1]
            if take.after < first.before + limit.window_seconds
        )
        assert certain <= limit.most, f"{certain} within {limit.policy} by another clock"


def by_exact_log(takes: Sequence[Take], limit: Claim) -> list[Take]:
    """Return those of the takes that an exact log would have admitted."""
    log, cost, admitted = deque[Take](), 0, []
    for take in takes:
        while log and log[0].at <= take.at - limit.window_seconds * 1_000_000:
            cost -= log.popleft().cost
        if cost + take.cost <= limit.most:
            log.append(take)
            cost += take.cost
            admitted.append(take)
    return admitted


def rate(admitted: Sequence[Take], limit: Claim) -> float:
    """Return how many were admitted a second, from the first up to the last time that a whole limit had been used."""
    whole = (len(admitted) - 1) // limit.most * limit.most
    assert whole >= 3 * limit.most, "too few windows to say"
    return whole / (admitted[whole].at - admitted[0].at) * 1_000_000


def test_eight_processes_on_one_limit(
    url: str, tmp_path: Path, figures: Figures, record_property: Callable[[str, object], None]
) -> None:
    limit = claim(200, 2)
    takers = [start("press", url, [limit], tmp_path / f"{number}.log", seconds=9) for number in range(PROCESSES)]
    go(takers)
    takes = join(takers)
    assert_never_over(takes, limit)
    admitted = [take for take in takes if take.admitted]
    share = rate(admitted, limit) / rate(by_exact_log(takes, limit), limit)
    name = "Valkey" if "://" in url else "SQLite"
    record_property(f"figure: {name}: of what an exact log admits to 8 processes", f"{share:.2%}")
    record_property(f"figure: {name}: takes a second of 8 processes", f"{len(takes) / 9:,.0f}")
    figures(f"{name}: the longest take among 8 processes", max(take.after - take.before for take in takes))
    assert share >= LEAST_SHARE


def test_eight_processes_on_several_limits(url: str, limiter: Limiter, tmp_path: Path) -> None:
    """All or none: what one limit refuses is in none of the others, to the last one."""
    limits = [LEDGER, claim(90, 1), claim(150, 2), claim(260, 4, "{k}owner")]
    takers = [start("press", url, limits, tmp_path / f"{number}.log", seconds=6, most=3) for number in range(PROCESSES)]
    go(takers)
    takes = join(takers)
    for limit in limits[1:]:
        assert_never_over(takes, limit)
    taken = sum(take.cost for take in takes if take.admitted)
    assert 260 <= taken < sum(take.cost for take in takes)
    (ledger,) = limiter.take([LEDGER], test=True).standings
    assert ledger.claim.most - ledger.remaining == taken


def test_the_last_one_goes_to_one_of_all(url: str, limiter: Limiter, tmp_path: Path) -> None:
    """Number 4 of what went wrong elsewhere: `remaining = 1`, and eight processes call at the same moment."""
    count, limits = 40, [claim(10, 3600, "{{k}}key {}"), claim(100, 86_400, "{{k}}owner {}")]
    options = {"count": count, "every": 0.05, "calls": 2}
    takers = [start("rounds", url, limits, tmp_path / f"{number}.log", **options) for number in range(PROCESSES)]
    for number in range(count):
        limiter.take([each._replace(subject=each.subject.format(number)) for each in limits], cost=9)
    go(takers, time.monotonic() + 0.5)
    takes = join(takers)
    assert len(takes) == count * PROCESSES * 2
    assert sum(take.admitted for take in takes) == count
    for number in range(count):
        own = [each._replace(subject=each.subject.format(number)) for each in limits]
        assert [each.remaining for each in limiter.take(own, test=True).standings] == [0, 90]


def test_processes_killed_in_the_middle_of_takes(tmp_path: Path) -> None:
    """The file goes on as if nothing had been. A take that was killed is in all of its limits or in none."""
    url, limit, draw = str(tmp_path / "limits.db"), claim(300, 2), random.Random(1)
    second = LEDGER._replace(subject="{k}another")
    limits = [limit, LEDGER, second]
    staying = [start("press", url, limits, tmp_path / f"stays {number}.log", seconds=6) for number in range(2)]
    dying = [start("press", url, limits, tmp_path / f"dies {number}.log", seconds=60) for number in range(8)]
    go(staying + dying)
    for taker in dying:
        time.sleep(draw.uniform(0.1, 0.4))
        taker.process.kill()
        taker.process.communicate(timeout=10)
    takes = sorted([*join(staying), *(take for taker in dying for take in taker.takes())])
    assert_never_over(takes, limit)
    with closing(SqliteLimiter(Path(url), SystemClock())) as limiter:
        assert limiter.checks()[0].passed
        ledgers = limiter.take([LEDGER, second], test=True).standings
        for ledger in ledgers:
            used = ledger.claim.most - ledger.remaining
            assert 0 <= used - sum(take.admitted for take in takes) <= len(dying)
        assert ledgers[0].remaining == ledgers[1].remaining
    lasting = [take for taker in staying for take in taker.takes() if take.admitted]
    assert max(take.at for take in lasting) > max(take.at for taker in dying for take in taker.takes())


# What is kept


def test_memory_of_many_keys_comes_back(record_property: Callable[[str, object], None]) -> None:
    """By the size of the process, as whoever runs it sees it. `python -m bench` does the same with a million."""
    command = [sys.executable, "-m", "tests.faults.taking", "idle", "100000"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    before, most, after = json.loads(said)
    record_property("figure: memory of a key and limit, its name counted in", f"{(most - before) / 100_000:.0f} B")
    assert (most - before) / 100_000 <= 600
    assert after - before <= 0.1 * (most - before)


def test_file_keeps_nothing_of_many_keys(tmp_path: Path, clock: ManualClock) -> None:
    import sqlite3

    count, path = 100_000, tmp_path / "limits.db"
    with closing(SqliteLimiter(path, clock)) as limiter, closing(sqlite3.connect(path)) as connection:
        limiter.take([], cost=0)

        def rows() -> int:
            return int(connection.execute("SELECT count(*) FROM counters").fetchone()[0])

        def sizes() -> tuple[int, int]:
            names = "PRAGMA page_count", "PRAGMA freelist_count"
            pages, free = (int(connection.execute(name).fetchone()[0]) for name in names)
            return pages, free

        many = 500  # of one take, so that the test is not all about taking
        for first in range(0, count, many):
            limiter.take([claim(5, 10, f"{{{number}}}key") for number in range(first, first + many)])
        assert rows() == count
        clock.advance(20)
        for _ in range(2 * 64 * (count // 128 + 1)):  # by then the sweep has been everywhere, and back
            if limiter._takes % 4096 == 0 and rows() == 1:
                break
            limiter.take([claim(10**6, 60)])
        assert rows() == 1
        pages, free = sizes()
        assert free > 0.99 * pages - 10  # to be used again by what comes


def test_server_keeps_nothing_of_many_keys(valkey: Valkey) -> None:
    def used() -> int:
        return int(valkey.ask("INFO", "memory")["used_memory"])

    with closing(RedisLimiter(valkey.url())) as limiter:
        limiter.take([claim(5, 1)])
        before = used()
        for number in range(5000):
            limiter.take([claim(5, 2, f"{{{number}}}{key}") for key in range(20)])
        wait_until(lambda: valkey.ask("DBSIZE") == 0)
        assert used() - before < 5_000_000
