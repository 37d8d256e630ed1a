"""Limits in memory: what is kept, for how long, and what a fork does."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from keydesk.limiting.memory import MemoryLimiter
from keydesk.testing import ManualClock
from keydesk.testing.limiters import claim, credits_of


@pytest.fixture
def limiter(clock: ManualClock) -> MemoryLimiter:
    return MemoryLimiter(clock)


def _counters(limiter: MemoryLimiter) -> int:
    return sum(len(turns.now) + len(turns.before) for turns in limiter._counters.values()) + sum(
        map(len, limiter._ended)
    )


def test_memory_of_keys_used_once_comes_back_when_they_are_idle(limiter: MemoryLimiter, clock: ManualClock) -> None:
    limiter.take([claim(5)])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(20_000):
        limiter.take([claim(5, 60, f"{{{number}}}key")])
    most = tracemalloc.get_traced_memory()[0] - before
    for _ in range(3):
        clock.advance(70)
        limiter.take([claim(5)])
    for _ in range(20_000 // 64 + 1):  # requests of others let go of some each
        limiter.take([claim(5)])
    after = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert _counters(limiter) == 1
    assert most / 20_000 < 600  # with its name and its place
    assert after < most / 100


def test_counters_of_a_window_that_nobody_uses_any_more_go_too(limiter: MemoryLimiter, clock: ManualClock) -> None:
    for number in range(100):
        limiter.take([claim(5, 10, f"{{{number}}}key")])
    for _ in range(3):
        clock.advance(70)
        limiter.take([claim(5, 60)])
    limiter.take([claim(5, 60)])
    assert _counters(limiter) == 1


def test_windows_that_nobody_uses_any_more_leave_nothing_behind(limiter: MemoryLimiter, clock: ManualClock) -> None:
    """Whoever may change the limits of a key can name millions of lengths, one after the other."""
    for seconds in range(1, 501):
        limiter.take([claim(5, seconds)], [credits_of(1, seconds=seconds)])
        limiter.take([claim(5, 1000 + seconds)], test=True)
    for _ in range(3):
        clock.advance(2000)
        limiter.take([claim(5, 60)])
    assert (list(limiter._counters), list(limiter._credits)) == ([60], [])
    assert _counters(limiter) <= 1000


def test_no_request_waits_for_all_that_has_ended(limiter: MemoryLimiter, clock: ManualClock) -> None:
    for number in range(1000):
        limiter.take([claim(5, 60, f"{{{number}}}key")])
    clock.advance(70)
    limiter.take([claim(5)])
    clock.advance(70)
    limiter.take([claim(5)])
    assert 900 < _counters(limiter) < 1000


def test_refused_and_tested_requests_leave_nothing_behind(limiter: MemoryLimiter) -> None:
    for number in range(100):
        limiter.take([claim(5, 60, f"{{{number}}}key")], cost=6)
        limiter.take([claim(5, 60, f"{{{number}}}key")], test=True)
    assert _counters(limiter) == 0


def test_counter_in_use_is_kept_through_every_turn(limiter: MemoryLimiter, clock: ManualClock) -> None:
    for _ in range(50):
        clock.advance(7)
        limiter.take([claim(100)])
    assert limiter.take([claim(100)], test=True).standings[0].remaining == 100 - 9  # at 0 s, 7 s, ... 56 s


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_process_has_no_credits_of_its_parent(limiter: MemoryLimiter) -> None:
    """Both would spend them."""
    limiter.take([], [credits_of(5)])
    with limiter._lock:
        child = os.fork()
        if not child:
            os._exit(0 if limiter.take([], [credits_of()]).violated else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert limiter.take([], [credits_of()]).held == (3,)
