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
from typing import TypeAlias

from ..claims import Claim, Pool, Standing, Taken

STEPS = 32
SLOTS = STEPS + 1
STEP_MICROSECONDS = 1_000_000 // STEPS  # for each second of the window: a whole number

Counter: TypeAlias = "array[int]"  # number of the running step, sum of the rest, then each step's, oldest first
BYTES = 4 * (2 + SLOTS)  # of a counter

_STEP, _SUM, _OLDEST = 0, 1, 2
_NEWEST = 2 + STEPS
_NUMBERS = 2**32  # of steps; they begin anew after that, which takes four years where windows are one second
_NOTHING = array("I", bytes(4 * SLOTS))


def new_counter(step: int) -> Counter:
    """Return a counter at a step, with nothing taken."""
    counter = array("I", (step % _NUMBERS, 0))
    counter.extend(_NOTHING)
    return counter


def go_on(counter: Counter, step: int) -> None:
    """Bring a counter to the step that runs now.

    Where that lies before the counter's own, a clock was set back: what was taken counts as of now, since nobody can
    say how long ago it was.
    """
    by = (step - counter[_STEP]) % _NUMBERS
    if not by:
        return
    counter[_STEP] = step % _NUMBERS
    if by >= _NUMBERS // 2:
        return
    if by < SLOTS:
        counter[_SUM] -= sum(counter[_OLDEST : _OLDEST + by])
        counter[_OLDEST:] = counter[_OLDEST + by :] + _NOTHING[:by]
    else:
        counter[_SUM] = 0
        counter[_OLDEST:] = _NOTHING


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
    """Take the cost from every counter and pool, or from none. The one decision that all limiters make.

    Args:
        claims, counters: The limits, and for each the counter that has gone on to now.
        pools, held: The pools, and the credits in each, deposits included; changed where they are taken.
        now: Microseconds.
        cost: What to take.
        test: Say what would become of it, and take nothing.
    """
    violated = []
    wait: float | None = 0.0
    for (policy, _, most, seconds), counter in zip(claims, counters, strict=True):
        over = counter[_SUM] + cost - most
        if over > 0:
            violated.append(policy)
            if cost > most:
                wait = None
            elif wait is not None:
                wait = max(wait, seconds_until(_steps_until(counter, over), seconds, now))
    violated += [pool.policy for pool, credits_ in zip(pools, held, strict=True) if credits_ < cost]
    if not violated and not test:
        for counter in counters:
            counter[_SUM] += cost
            counter[_NEWEST] += cost
        held[:] = [credits_ - cost for credits_ in held]
    return Taken(
        tuple([_standing(claim, counter, now) for claim, counter in zip(claims, counters, strict=True)]),
        tuple(violated),
        wait,
        tuple(held),
    )


def _standing(claim: Claim, counter: Counter, now: int) -> Standing:
    policy, _, most, seconds = claim
    used = counter[_SUM]
    if not used:
        return Standing(policy, most, seconds, most, seconds)
    # The first step in which something was taken, without looking at one after the other.
    rest = len(counter[_OLDEST:].tobytes().lstrip(b"\0"))
    steps = SLOTS - (rest + 3) // 4 + 1
    return Standing(policy, most, seconds, max(0, most - used), seconds_until(steps, seconds, now))


def _steps_until(counter: Counter, amount: int) -> int:
    """Return in how many steps so much has left the window; `amount` is 1 to what was taken."""
    steps = 0
    for left in counter[_OLDEST:]:
        steps += 1
        amount -= left
        if amount <= 0:
            break
    return steps


def seconds_until(steps: int, window_seconds: int, now: int) -> float:
    """Return how long it is until so many steps have begun."""
    length = window_seconds * STEP_MICROSECONDS
    return (steps * length - now % length) / 1_000_000
