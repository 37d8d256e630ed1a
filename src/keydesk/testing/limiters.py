"""Room testing: what every limiter must do, as tests to inherit. Each implementation overrides one fixture.

    class TestMyLimiter(LimiterContract):
        @pytest.fixture
        def limiter(self, clock):
            limiter = MyLimiter(clock)
            yield limiter
            limiter.close()

`clock` is the fixture of `keydesk.testing.fixtures`; the limiter counts seconds by it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from math import ceil

import pytest

from ..claims import Claim, Pool, Taken
from ..ports import Limiter
from .clock import ManualClock

STEPS = 32  # of a window: what is left of its edge by this part may still count
MICROSECOND = timedelta(microseconds=1)

ODD_SUBJECTS = (
    "{a}key",
    "{b}key",
    "{a}",
    "{a%7D}key",
    "{owner:ACME}key:1",
    "{owner:acme}key:1",
    "{x}" + "y" * 500,
    "{x}'; DROP TABLE windows; --",
    "{x}%",
    "{x}_",
    "{x}\\",
    "{x}:",
    "{x}::",
)


def claim(count: int, window_seconds: int = 60, subject: str = "{k}key") -> Claim:
    """Return a claim on a limit."""
    return Claim(f"{count}/{window_seconds}", subject, count, window_seconds)


def credits_of(credits_: int = 0, subject: str = "{k}quota", seconds: int = 3600) -> Pool:
    """Return a pool with a deposit."""
    return Pool("1000/month", subject, seconds, credits_)


class ExactLog:
    """What a limit would be with the time of every request written down.

    Args:
        count: How many pass in any window.
        window: Its length.
    """

    def __init__(self, count: int, window: timedelta) -> None:
        self.count, self.window = count, window
        self.taken: list[tuple[timedelta, int]] = []

    def admits(self, now: timedelta, cost: int, *, longer: timedelta = timedelta(0)) -> bool:
        """Return whether it lets a request pass, by a window that is longer by so much."""
        since = now - self.window - longer
        return sum(each for at, each in self.taken if at > since) + cost <= self.count


class LimiterContract:
    """The tests of `keydesk.ports.Limiter`."""

    @pytest.fixture
    def limiter(self) -> Limiter:
        """Return a new limiter, with nothing taken."""
        raise NotImplementedError

    # One limit

    def test_limit_admits_so_many_and_no_more(self, limiter: Limiter) -> None:
        outcomes = [limiter.take([claim(3)]) for _ in range(5)]
        assert [taken.violated for taken in outcomes] == [(), (), (), ("3/60",), ("3/60",)]
        assert [taken.standings[0].remaining for taken in outcomes] == [2, 1, 0, 0, 0]

    def test_standing_names_the_limit(self, limiter: Limiter) -> None:
        (standing,) = limiter.take([claim(3)]).standings
        assert standing.claim == claim(3)
        assert 60 <= standing.reset_seconds <= ceil(60 * (1 + 1 / STEPS))

    def test_what_was_taken_leaves_after_the_window(self, limiter: Limiter, clock: ManualClock) -> None:
        limiter.take([claim(1)])
        clock.advance(60 - 0.000001)
        assert limiter.take([claim(1)]).violated
        clock.advance(60 / STEPS + 0.000001)
        assert not limiter.take([claim(1)]).violated

    def test_retry_after_is_the_first_moment_at_which_the_same_request_passes(
        self, limiter: Limiter, clock: ManualClock
    ) -> None:
        draw = random.Random(1)  # noqa: S311 - the same in every run
        limits = [claim(5, 10), claim(12, 60), claim(30, 3600, "{k}owner")]
        refused = 0
        for _ in range(200):
            cost = draw.randint(1, 4)
            taken = limiter.take(limits, cost=cost)
            if taken.violated:
                refused += 1
                assert taken.retry_after
                full = [each for each in taken.standings if not each.remaining]
                assert all(ceil(taken.retry_after) >= each.reset_seconds for each in full)
                clock.advance(timedelta(seconds=taken.retry_after) - MICROSECOND)
                assert limiter.take(limits, cost=cost, test=True).violated
                clock.advance(MICROSECOND)
                assert not limiter.take(limits, cost=cost).violated
            clock.advance(timedelta(microseconds=draw.randint(0, 3_000_000)))
        assert refused > 20

    def test_reset_is_when_more_would_pass(self, limiter: Limiter, clock: ManualClock) -> None:
        limiter.take([claim(5)])
        clock.advance(20)
        (before,) = limiter.take([claim(5)]).standings
        clock.advance(timedelta(seconds=before.reset_seconds - 1))
        assert limiter.take([claim(5)], test=True).standings[0].remaining == before.remaining
        clock.advance(1)
        assert limiter.take([claim(5)], test=True).standings[0].remaining == before.remaining + 1

    def test_nothing_taken_yet_resets_after_a_window(self, limiter: Limiter) -> None:
        (standing,) = limiter.take([claim(5)], test=True).standings
        assert (standing.remaining, standing.reset_seconds) == (5, 60)

    def test_cost_counts_for_so_many(self, limiter: Limiter) -> None:
        assert not limiter.take([claim(10)], cost=7).violated
        assert limiter.take([claim(10)], cost=4).violated
        assert not limiter.take([claim(10)], cost=3).violated
        assert limiter.take([claim(10)], cost=1).violated

    def test_cost_above_the_limit_never_passes(self, limiter: Limiter) -> None:
        taken = limiter.take([claim(10), claim(100, 3600)], cost=11)
        assert (taken.violated, taken.retry_after) == (("10/60",), None)
        assert limiter.take([claim(10)], test=True).standings[0].remaining == 10

    def test_cost_of_nothing_passes_and_takes_nothing(self, limiter: Limiter) -> None:
        limiter.take([claim(1)])
        taken = limiter.take([claim(1)], cost=0)
        assert (taken.violated, taken.standings[0].remaining) == ((), 0)

    def test_test_takes_nothing(self, limiter: Limiter) -> None:
        for _ in range(5):
            taken = limiter.take([claim(1)], [credits_of()], test=True, cost=0)
            assert not taken.violated
        assert not limiter.take([claim(1)]).violated
        assert limiter.take([claim(1)], test=True).violated == ("1/60",)

    def test_largest_limit(self, limiter: Limiter) -> None:
        most = claim(2**32 - 1, 366 * 86_400)
        for _ in range(3):
            taken = limiter.take([most], cost=1_000_000)
        assert taken.standings[0].remaining == 2**32 - 1 - 3_000_000

    # Several at once

    def test_refused_request_takes_nothing_from_any_limit(self, limiter: Limiter) -> None:
        short, long = claim(100, 1, "{k}key"), claim(2, 86_400, "{k}owner")
        for _ in range(10):
            limiter.take([short, long])
        taken = limiter.take([short, long], test=True)
        assert [each.remaining for each in taken.standings] == [98, 0]
        assert taken.violated == ("2/86400",)

    def test_retry_after_is_the_later_of_two(self, limiter: Limiter, clock: ManualClock) -> None:
        limits = [claim(1, 10), claim(1, 60)]
        limiter.take(limits)
        taken = limiter.take(limits)
        assert taken.violated == ("1/10", "1/60")
        assert taken.retry_after is not None
        assert ceil(taken.retry_after) == max(each.reset_seconds for each in taken.standings)
        clock.advance(11)
        assert limiter.take(limits).violated == ("1/60",)

    def test_limits_on_the_same_subject_are_counted_apart_by_window(self, limiter: Limiter) -> None:
        limiter.take([claim(5, 10)], cost=5)
        assert not limiter.take([claim(5, 20)], cost=5).violated

    def test_a_limit_that_was_changed_counts_on(self, limiter: Limiter) -> None:
        limiter.take([claim(10)], cost=8)
        assert limiter.take([claim(5)]).violated
        assert limiter.take([claim(9)]).standings[0].remaining == 0

    def test_subjects_are_counted_apart(self, limiter: Limiter) -> None:
        for subject in ODD_SUBJECTS:
            assert not limiter.take([claim(1, 60, subject)]).violated, subject
        for subject in ODD_SUBJECTS:
            assert limiter.take([claim(1, 60, subject)]).violated, subject

    def test_no_limit_at_all(self, limiter: Limiter) -> None:
        assert limiter.take(())[1:] == ((), (), 0.0, ())

    # Against the exact log

    @pytest.mark.parametrize("seed", range(6))
    def test_never_over_in_any_window_and_never_far_below(
        self, limiter: Limiter, clock: ManualClock, seed: int
    ) -> None:
        """At most what an exact log admits; and nothing refused that one with a window longer by 1/32 would admit."""
        draw = random.Random(seed)  # noqa: S311
        count, seconds = draw.choice([(1, 1), (5, 10), (7, 7), (20, 60), (3, 3600), (1000, 60)])
        log, longer = ExactLog(count, timedelta(seconds=seconds)), timedelta(seconds=seconds) / STEPS
        now, admitted = timedelta(0), 0
        for _ in range(400):
            pause = draw.choice(
                [0, 0, 1, 1000, seconds * 31_250, seconds * 1_000_000 // max(1, count), seconds * 10**6]
            )
            pause = draw.randint(0, 2 * pause)
            clock.advance(timedelta(microseconds=pause))
            now += timedelta(microseconds=pause)
            cost = draw.randint(1, max(1, count // 3))
            if limiter.take([claim(count, seconds)], cost=cost).violated:
                assert not log.admits(now, cost, longer=longer)
            else:
                assert log.admits(now, cost)
                log.taken.append((now, cost))
                admitted += 1
        assert admitted

    def test_constant_pressure_admits_nearly_all_that_an_exact_log_would(
        self, limiter: Limiter, clock: ManualClock
    ) -> None:
        limit, seconds, windows = claim(20, 10), 10, 8
        admitted = 0
        for _ in range(windows * seconds * 10):
            while not limiter.take([limit]).violated:
                admitted += 1
            clock.advance(0.1)
        assert 0.96 * 20 * windows <= admitted <= 20 * windows

    # Credits

    def test_credits_are_spent_and_no_more(self, limiter: Limiter) -> None:
        assert limiter.take([], [credits_of()]).violated == ("1000/month",)
        assert limiter.take([], [credits_of(3)]).held == (2,)
        outcomes = [limiter.take([], [credits_of()]) for _ in range(4)]
        assert [taken.held for taken in outcomes] == [(1,), (0,), (0,), (0,)]
        assert [bool(taken.violated) for taken in outcomes] == [False, False, True, True]

    def test_deposit_stays_where_the_request_is_refused(self, limiter: Limiter) -> None:
        limiter.take([claim(1)])
        assert limiter.take([claim(1)], [credits_of(5)]).violated == ("1/60",)
        assert limiter.take([], [credits_of()], cost=2).held == (3,)

    def test_request_without_credits_takes_nothing_from_its_limits(self, limiter: Limiter) -> None:
        taken = limiter.take([claim(5)], [credits_of(2), credits_of(0, "{k}other")])
        assert (taken.violated, taken.held) == (("1000/month",), (2, 0))
        assert limiter.take([claim(5)], test=True).standings[0].remaining == 5

    def test_deposits_add_up(self, limiter: Limiter) -> None:
        limiter.take([], [credits_of(5)], cost=0)
        limiter.take([], [credits_of(7)], cost=0)
        assert limiter.take([], [credits_of()], cost=12).held == (0,)
        assert limiter.take([], [credits_of()], cost=1).violated

    def test_many_credits(self, limiter: Limiter) -> None:
        assert limiter.take([], [credits_of(10**12)], cost=1_000_000).held == (10**12 - 10**6,)

    # At the same time

    def test_threads_share_the_last_ones(self, limiter: Limiter) -> None:
        """Number 4 of what went wrong elsewhere: `remaining = 1`, and many requests at once."""
        limiter.take([claim(10), claim(100, 3600, "{k}owner")], [credits_of(100)], cost=9)
        start = threading.Barrier(8)

        def one(_: int) -> Taken:
            start.wait(10)
            return limiter.take([claim(10), claim(100, 3600, "{k}owner")], [credits_of()])

        with ThreadPoolExecutor(8) as threads:
            outcomes: Sequence[Taken] = list(threads.map(one, range(8)))
        assert sum(not taken.violated for taken in outcomes) == 1
        taken = limiter.take([claim(10), claim(100, 3600, "{k}owner")], [credits_of()], test=True, cost=0)
        assert [each.remaining for each in taken.standings] == [0, 90]
        assert taken.held == (90,)
