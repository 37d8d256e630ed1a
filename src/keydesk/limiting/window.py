"""Room limiting: the sliding window, the one algorithm of all limiters. Pure functions on a counter.

A window is cut into 32 steps. A counter holds how much was taken in the step that runs and in each of the 32 before
it, the oldest of which the window only reaches into. All 33 together are at most the limit: so in no window of that
length, wherever it begins, more is admitted than that. What was taken leaves with its step, at most one step later
than an exact log would let go of it. See docs/explanation/limits.md.

Times are whole microseconds since any moment before them all. Steps are numbered from that moment on.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import ceil
from typing import TypeAlias

from ..claims import Claim, Pool, Taken

STEPS = 32
SLOTS = STEPS + 1
STEP_MICROSECONDS = 1_000_000 // STEPS  # for each second of the window: a whole number

Counter: TypeAlias = "array[int]"  # step that runs, oldest slot that is not empty, sum of the slots, then 33 slots

_STEP, _FIRST, _SUM, _OLDEST = 0, 1, 2, 3
_NEWEST = _OLDEST + STEPS
_MOST_STEPS = 2**32  # of steps; they begin anew after that, which takes four years where windows are one second
_new = tuple.__new__  # half as long as calling the class of a named tuple
_EMPTY = array("I", bytes(4 * SLOTS))
NUMBERS = _OLDEST + SLOTS  # of a counter; each takes 4 bytes


def new_counter() -> Counter:
    """Return a counter with nothing taken."""
    return array("I", (0, STEPS, 0, *_EMPTY))


def go_on(counter: Counter, step: int) -> None:
    """Bring a counter to the step that runs now.

    Where that lies before the counter's own, a clock was set back: what was taken counts as of now, since nobody can
    say how long ago it was.
    """
    by = (step - counter[_STEP]) % _MOST_STEPS
    if not by:
        return
    counter[_STEP] = step % _MOST_STEPS
    if by >= _MOST_STEPS // 2 or not counter[_SUM]:
        return
    if by >= SLOTS:
        counter[_SUM] = 0
        counter[_OLDEST:] = _EMPTY
        return
    if counter[_FIRST] < by:
        counter[_SUM] -= sum(counter[_OLDEST : _OLDEST + by])
    counter[_OLDEST:] = counter[_OLDEST + by :] + _EMPTY[:by]
    first = max(0, counter[_FIRST] - by)
    while first < STEPS and not counter[_OLDEST + first]:
        first += 1
    counter[_FIRST] = first


def has_ended(counter: Counter, seconds: int, now: int) -> bool:
    """Return whether all that was taken has left the window, of so many seconds."""
    by = (now // (seconds * STEP_MICROSECONDS) - counter[_STEP]) % _MOST_STEPS
    return not counter[_SUM] or SLOTS <= by < _MOST_STEPS // 2


def settle(
    claims: Sequence[Claim],
    counters: Sequence[Counter],
    pools: Sequence[Pool],
    held: list[int],
    *,
    now: int,
    cost: int,
    test: bool,
) -> Taken:
    """Take the cost from every counter and every pool, or from none. The one decision that all limiters make.

    Args:
        claims, counters: The limits, and for each its counter, which goes on to now.
        pools, held: The pools, and the credits in each with its deposit; what is taken is taken from them.
        now: Microseconds.
        cost: What to take.
        test: Say what would become of it, and take nothing.
    """
    for credits_ in held:
        if credits_ < cost:
            return _refused(claims, counters, pools, held, now, cost)
    taking = 0 if test else cost
    left: list[int] = []
    for claim, counter in zip(claims, counters):  # noqa: B905 - `strict` takes as long again
        _, _, most, seconds = claim
        length = seconds * STEP_MICROSECONDS
        step = now // length
        if counter[_STEP] != step:
            go_on(counter, step)
        used = counter[_SUM]
        if used + cost > most:
            for earlier in counters[: len(left) // 2]:  # most requests pass: those that do not put back
                earlier[_SUM] -= taking
                earlier[_NEWEST] -= taking
            return _refused(claims, counters, pools, held, now, cost)
        if not used:
            if not taking:
                left += (most, seconds)
                continue
            counter[_FIRST] = STEPS
        counter[_SUM] = used = used + taking
        counter[_NEWEST] += taking
        left += (most - used, -((now - (step + counter[_FIRST] + 1) * length) // 1_000_000))
    if held:
        held[:] = [credits_ - taking for credits_ in held]
    return _new(Taken, (claims, tuple(left), (), 0.0, tuple(held)))


def _refused(
    claims: Sequence[Claim], counters: Sequence[Counter], pools: Sequence[Pool], held: list[int], now: int, cost: int
) -> Taken:
    left: list[int] = []
    violated = []
    for claim, counter in zip(claims, counters, strict=True):
        policy, _, most, seconds = claim
        go_on(counter, now // (seconds * STEP_MICROSECONDS))
        used = counter[_SUM]
        if used + cost > most:
            violated.append(policy)
        left += (max(0, most - used), ceil(seconds_until(counter[_FIRST] + 1, seconds, now)) if used else seconds)
    violated += [pool.policy for pool, credits_ in zip(pools, held, strict=True) if credits_ < cost]
    return Taken(claims, tuple(left), tuple(violated), _seconds_until_all(claims, counters, now, cost), tuple(held))


def _seconds_until_all(claims: Sequence[Claim], counters: Sequence[Counter], now: int, cost: int) -> float | None:
    """Return when the limits let a cost pass, if nothing else is taken; None where one never does."""
    wait = 0.0
    for claim, counter in zip(claims, counters, strict=True):
        over = counter[_SUM] + cost - claim.most
        if cost > claim.most:
            return None
        if over > 0:
            steps = 0
            for left in counter[_OLDEST:]:
                steps += 1
                over -= left
                if over <= 0:
                    break
            wait = max(wait, seconds_until(steps, claim.window_seconds, now))
    return wait


def seconds_until(steps: int, window_seconds: int, now: int) -> float:
    """Return how long it is until so many steps have begun."""
    length = window_seconds * STEP_MICROSECONDS
    return (steps * length - now % length) / 1_000_000
