"""The counter of a sliding window: what leaves when, and clocks that are set back."""

from __future__ import annotations

import sys
from math import ceil

import pytest

from keydesk.claims import Claim, Taken
from keydesk.limiting.window import (
    NUMBERS,
    SLOTS,
    STEP_MICROSECONDS,
    STEPS,
    Counter,
    go_on,
    has_ended,
    new_counter,
    settle,
)

NEWEST = SLOTS - 1


def _take(counter: Counter, cost: int = 1, most: int = 100, *, step: int = 0, after: int = 0) -> Taken:
    """Take within a step, so many microseconds after its beginning."""
    now = step * STEP_MICROSECONDS + after
    return settle([Claim("100/second", "{k}", most, 1)], [counter], [], [], now=now, cost=cost, test=False)


def _slots(counter: Counter) -> list[int]:
    return counter[-SLOTS:].tolist()


def test_counter_takes_at_most_256_bytes() -> None:
    counter = new_counter()
    for step in range(100):
        _take(counter, step=10**9 + step)
    assert 4 * NUMBERS <= 256
    assert sys.getsizeof(counter) <= 256


@pytest.mark.parametrize("by", range(SLOTS + 2))
def test_what_was_taken_leaves_after_all_its_steps(by: int) -> None:
    counter = new_counter()
    _take(counter, cost=7, step=5)
    assert has_ended(counter, 1, (5 + by) * STEP_MICROSECONDS) == (by >= SLOTS)
    go_on(counter, 5 + by)
    assert sum(_slots(counter)) == (7 if by < SLOTS else 0)
    assert _take(counter, cost=100, step=5 + by).violated == (("100/second",) if by < SLOTS else ())


def test_steps_are_kept_apart() -> None:
    counter = new_counter()
    for step in range(40):
        _take(counter, cost=step, most=10_000, step=step)
    assert _slots(counter) == list(range(40 - SLOTS, 40))


@pytest.mark.parametrize("back", [1, 3, 1000, 2**31 - 1])
def test_clock_set_back_makes_nothing_older(back: int) -> None:
    counter = new_counter()
    _take(counter, cost=3, step=2**31 + 5)
    _take(counter, cost=4, step=2**31 + 7)
    assert not has_ended(counter, 1, (2**31 + 7 - back) * STEP_MICROSECONDS)
    go_on(counter, 2**31 + 7 - back)
    assert _slots(counter)[-3:] == [3, 0, 4]
    go_on(counter, 2**31 + 7 - back + STEPS)
    assert sum(_slots(counter)) == 4


def test_numbers_of_steps_begin_anew() -> None:
    counter = new_counter()
    _take(counter, cost=3, step=2**32 - 1)
    go_on(counter, 2**32 + 1)
    assert _slots(counter)[-3:] == [3, 0, 0]


def test_refused_counters_go_on_as_well() -> None:
    """Whoever is refused by the first limit is told of the second what is so now."""
    tight, wide = new_counter(), new_counter()
    claims = [Claim("1/second", "{k}", 1, 1), Claim("9/2 seconds", "{k}", 9, 2)]
    settle(claims, [tight, wide], [], [], now=0, cost=1, test=False)
    refused = settle(claims, [tight, wide], [], [], now=10**9 * STEP_MICROSECONDS, cost=2, test=False)
    assert refused.violated == ("1/second",)
    assert [each.remaining for each in refused.standings] == [1, 9]


def test_wait_is_counted_to_the_microsecond_and_reset_to_the_second_after() -> None:
    counter, length = new_counter(), STEP_MICROSECONDS
    (standing,) = _take(counter, cost=100, after=1).standings
    assert standing.reset_seconds == ceil((SLOTS * length - 1) / 1_000_000) == 2
    refused = _take(counter, step=10, after=77)
    assert refused.retry_after == ((SLOTS - 10) * length - 77) / 1_000_000
    assert refused.standings[0].reset_seconds == ceil(refused.retry_after) == 1
    # From 31,250 microseconds after the first step on, it is one second and no more.
    other = new_counter()
    assert _take(other, cost=50, after=length - 1).standings[0].reset_seconds == 2
    (standing,) = _take(other, cost=1, step=1).standings
    assert standing.reset_seconds == 1


def test_wait_is_for_as_much_as_is_needed() -> None:
    counter = new_counter()
    _take(counter, cost=60)
    _take(counter, cost=40, step=5)
    waits = [_take(counter, cost=cost, step=5).retry_after for cost in (1, 60, 61, 100, 101)]
    first, second = (SLOTS - 5) * STEP_MICROSECONDS / 10**6, SLOTS * STEP_MICROSECONDS / 10**6
    assert waits == [first, first, second, second, None]
