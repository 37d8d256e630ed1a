"""Room limiting: all counters of a subject as one text, so that a take reads and writes one row."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TypeAlias

from ..claims import Claim
from .window import NUMBERS, SLOTS, STEP_MICROSECONDS, Counter, has_ended, new_counter

MOST_UNUSED = 64  # counters of a subject, of limits that a request does not name: other workers' and former ones

_SIZE = 1 + NUMBERS  # of what is kept of a counter: the seconds of its window, and then itself
Ledger: TypeAlias = "dict[int, Counter]"  # all counters of a subject, by the length of the window


def counter_of(ledger: Ledger, seconds: int) -> Counter:
    """Return the counter of a window of so many seconds, a new one where there is none yet."""
    counter = ledger.get(seconds)
    if counter is None:
        counter = ledger[seconds] = new_counter()
    return counter


def end_of(seconds: int, now: int) -> int:
    """Return when all that is taken now has left a window of so many seconds; in microseconds, as `now`."""
    return now + seconds * STEP_MICROSECONDS * SLOTS


def unpack(packed: bytes | None) -> Ledger:
    """Return the counters of a subject from one text: each behind the seconds of its window. None is no text yet.

    Raises:
        ValueError: It is no such text.
        TypeError: It is not even bytes.
    """
    ledger: Ledger = {}
    if packed is not None:
        numbers = array("I", packed)
        for at in range(0, len(numbers), _SIZE):
            ledger[numbers[at]] = numbers[at + 1 : at + _SIZE]
        if len(numbers) % _SIZE or 0 in ledger:
            raise ValueError
    return ledger


def pack(ledger: Ledger, claims: Sequence[Claim], now: int) -> array[int]:
    """Return the text of a ledger, in which whatever these claims do not need is dropped first."""
    if len(ledger) > len(claims):
        _drop_unused(ledger, claims, now)
    numbers = array("I")
    for seconds, counter in ledger.items():
        numbers.append(seconds)
        numbers.extend(counter)
    return numbers


def _drop_unused(ledger: Ledger, claims: Sequence[Claim], now: int) -> None:
    """Drop the counters of windows that no limit of today has: all that have ended, and of the others the first.

    Who changes the limits of a key over and over would otherwise make its row ever longer, and each take slower.
    """
    for seconds in {claim.window_seconds for claim in claims}.intersection(ledger):
        ledger[seconds] = ledger.pop(seconds)  # what is used now comes last
    for seconds in [seconds for seconds, counter in ledger.items() if has_ended(counter, seconds, now)]:
        del ledger[seconds]
    for seconds in list(ledger)[: max(0, len(ledger) - len(claims) - MOST_UNUSED)]:
        del ledger[seconds]
