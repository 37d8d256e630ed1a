"""Room limiting: counters in the memory of this process. No I/O."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from ..claims import Claim, Pool, Taken
from ..clock import Clock
from ..decision import Check
from ..forks import at_fork
from .window import SLOTS, STEP_MICROSECONDS, Counter, new_counter, settle

_DROPPED_AT_ONCE = 64  # entries that a request lets go of: where a million have ended, nobody waits for all of them

T = TypeVar("T")


class _Turns(Generic[T]):
    """What was used lately, by name: in this turn, or in the one before. What was used in neither has ended.

    Attributes:
        now, before: Entries by name.
        ends_at: When this turn ends, in microseconds.
    """

    __slots__ = ("before", "ends_at", "now")

    def __init__(self) -> None:
        self.now: dict[str, T] = {}
        self.before: dict[str, T] = {}
        self.ends_at = 0

    def find(self, name: str) -> T | None:
        """Return what has this name, or None."""
        found = self.now.get(name)
        return found if found is not None else self.before.get(name)

    def keep(self, name: str, entry: T) -> None:
        """Keep it through this turn and the next."""
        self.now[name] = entry
        self.before.pop(name, None)

    def turn(self, now: int, length: int) -> dict[str, T]:
        """Begin the next turn and return what has ended."""
        ended, self.before, self.now = self.before, self.now, {}
        self.ends_at = now + length
        return ended


class MemoryLimiter:
    """Limits and credits of one process; see `keydesk.ports.Limiter`.

    Args:
        clock: Only durations are asked of it: setting the time of day changes nothing.
    """

    shared = False

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._counters: defaultdict[int, _Turns[Counter]] = defaultdict(_Turns)  # by the length of the window
        self._begin()
        at_fork(self, MemoryLimiter._begin)

    def _begin(self) -> None:
        """Begin with a lock of one's own and without credits: a forked process has its parent's, who spends them."""
        self._lock = threading.Lock()
        self._credits: defaultdict[int, _Turns[int]] = defaultdict(_Turns)  # by how long they are kept
        self._ended: list[dict[str, Any]] = []
        self._next_turn = 0

    def take(self, claims: Sequence[Claim], pools: Sequence[Pool] = (), *, cost: int = 1, test: bool = False) -> Taken:
        """See `Limiter.take`."""
        with self._lock:  # nothing in here waits for anything
            now = round(self._monotonic() * 1_000_000)
            if now >= self._next_turn or self._ended:
                self._drop_ended(now)
            counters, others = [], None
            for _, subject, _, seconds in claims:
                turns = self._counters[seconds]
                counter = turns.now.get(subject)
                if counter is None:
                    counter = turns.before.get(subject) or new_counter()
                    others = [*(others or ()), (turns, subject, counter)]
                counters.append(counter)
            held = [] if not pools else self._held(pools)
            taken = settle(claims, counters, pools, held, now=now, cost=cost, test=test)
            if others and not taken.violated and not test:  # what nothing is taken from is not kept
                for turns, subject, counter in others:
                    turns.keep(subject, counter)
            if pools:
                for pool, credits_ in zip(pools, held, strict=True):
                    self._credits[pool.seconds].keep(pool.subject, credits_)
            return taken

    def _held(self, pools: Sequence[Pool]) -> list[int]:
        return [(self._credits[pool.seconds].find(pool.subject) or 0) + pool.deposit for pool in pools]

    def _drop_ended(self, now: int) -> None:
        """Begin the turns that are due, and drop some of what has ended."""
        if now >= self._next_turn:
            ends = []
            kinds: tuple[dict[int, _Turns[Any]], ...] = (self._counters, self._credits)
            for by_length in kinds:
                for seconds, turns in list(by_length.items()):
                    if now >= turns.ends_at:
                        # One step longer than the window: then whatever was not used in a turn has left.
                        self._ended.append(turns.turn(now, seconds * STEP_MICROSECONDS * SLOTS))
                        if not turns.before:  # nobody has a limit of this length any more
                            del by_length[seconds]
                            continue
                    ends.append(turns.ends_at)
            self._next_turn = min(ends, default=0)
        for _ in range(_DROPPED_AT_ONCE):
            while self._ended and not self._ended[-1]:
                self._ended.pop()
            if not self._ended:
                return
            self._ended[-1].popitem()

    def checks(self) -> list[Check]:
        """See `Limiter.checks`."""
        return [Check("limiter", True, "in the memory of this process")]

    def close(self) -> None:
        """See `Limiter.close`."""
