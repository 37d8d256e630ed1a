"""Every limiter against an exact log of times, with requests as Hypothesis finds them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keydesk.limiting.memory import MemoryLimiter
from keydesk.limiting.redis import RedisLimiter
from keydesk.limiting.sqlite import SqliteLimiter
from keydesk.ports import Limiter
from keydesk.testing import ManualClock
from keydesk.testing.limiters import STEPS, ExactLog, claim

from ..servers import Valkey

_numbers = count()

# Counts and windows of two or three limits that a request is under at once.
limits = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([1, 2, 7, 60])),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each[1],
)
# How long after the one before, in 1/64 of a second and perhaps a microsecond, and what it costs.
requests = st.lists(st.tuples(st.integers(0, 3 * 64), st.integers(-1, 1), st.integers(0, 5)), min_size=1, max_size=60)


@pytest.fixture
def all_limiters(clock: ManualClock, valkey: Valkey, tmp_path: Path) -> Iterator[list[Limiter]]:
    made: list[Limiter] = [
        MemoryLimiter(clock),
        SqliteLimiter(tmp_path / "limits.db", clock),
        RedisLimiter(valkey.url(), clock),
    ]
    yield made
    for limiter in made:
        limiter.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=limits, requests=requests)
def test_never_over_and_never_far_below_an_exact_log(
    all_limiters: list[Limiter], clock: ManualClock, limits: list[tuple[int, int]], requests: list[tuple[int, int, int]]
) -> None:
    """What passes an exact log would admit, of every limit; what is refused, one of them would refuse if its window
    were longer by 1/32. Where the steps of a window begin differs from limiter to limiter, so each has logs of its own.
    """
    subject = f"{{{next(_numbers)}}}key"
    claims = [claim(most, seconds, subject) for most, seconds in limits]
    logs = [[ExactLog(most, timedelta(seconds=seconds)) for most, seconds in limits] for _ in all_limiters]
    now = timedelta(0)
    for sixtyfourths, microseconds, cost in requests:
        pause = timedelta(microseconds=max(0, sixtyfourths * 15_625 + microseconds))
        clock.advance(pause)
        now += pause
        for limiter, own in zip(all_limiters, logs, strict=True):
            if limiter.take(claims, cost=cost).violated:
                assert not all(log.admits(now, cost, longer=log.window / STEPS) for log in own)
            else:
                assert all(log.admits(now, cost) for log in own)
                for log in own:
                    log.taken.append((now, cost))
