"""Room metering: counts in memory, exact under threads and bounded whatever is thrown at them. No I/O."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import TypeVar

from ..keys.networks import network_of
from ..usage import OTHERS, TOP_NETWORKS, Batch, Entry, Span

logger = logging.getLogger("keydesk")

FULL = 10_000  # requests that wait to be counted
EARLY = 20_000  # entries with which nobody waits for the next interval
MOST = 100_000  # entries of keys in memory, while the store does not answer
MOST_ADDRESSES = 10_000  # of mistakes, between two flushes
MOST_NETWORKS = 10_000  # entries of mistakes in memory, while the store does not answer

T = TypeVar("T")


class Counts:
    """What was counted and is not written yet.

    Requests put one tuple each at the end of `requests` or `mistakes`: one step that no other thread can come between,
    where adding to a number is three. Whoever finds one full calls `settle`.
    """

    def __init__(self) -> None:
        self.requests: deque[tuple[str, str, datetime]] = deque()  # key id, outcome, minute
        self.mistakes: deque[tuple[str, str, datetime]] = deque()  # mistake, address, minute
        # Reentrant, as what is collected in the middle of it may end a desk, which takes the last counts.
        self._lock = threading.RLock()
        self._counted: Counter[tuple[str, str, datetime]] = Counter()
        self._addresses: Counter[tuple[str, str, datetime]] = Counter()
        self._kept: Counter[Entry] = Counter()  # of keys, which could not be written
        self._kept_mistakes: Counter[Entry] = Counter()

    def settle(self) -> bool:
        """Count what waits. Return whether there is so much that it should be written soon."""
        with self._lock:
            self._counted.update(_drained(self.requests))
            if self.mistakes:
                self._settle_mistakes()
            if len(self._counted) + len(self._kept) > MOST:
                self._keep()
            return len(self._counted) > EARLY or len(self._addresses) >= MOST_ADDRESSES

    def _settle_mistakes(self) -> None:
        for entry, count in Counter(_drained(self.mistakes)).items():
            if entry not in self._addresses and len(self._addresses) >= MOST_ADDRESSES:
                mistake, _, minute = entry
                self._kept_mistakes[Span.MINUTE, minute, mistake, OTHERS] += count
            else:
                self._addresses[entry] += count

    def take(self) -> Batch:
        """Return all there is, and begin anew."""
        self.settle()
        with self._lock:
            self._keep()
            addresses, self._addresses = self._addresses, Counter()
            batch = Batch(self._kept, self._kept_mistakes)
            self._kept, self._kept_mistakes = Counter(), Counter()
        # Out of the lock: what a network is takes longer than all the rest.
        return Batch(batch.keys, _top(batch.mistakes, addresses)) if addresses else batch

    def give_back(self, batch: Batch) -> None:
        """Keep a batch that could not be written, for the next time."""
        with self._lock:
            self._kept.update(batch.keys)
            self._kept_mistakes.update(batch.mistakes)
            self._kept = _bounded(self._kept, MOST, "keys")
            self._kept_mistakes = _bounded(self._kept_mistakes, MOST_NETWORKS, "networks")

    def _keep(self) -> None:
        counted, self._counted = self._counted, Counter()
        for (key_id, outcome, minute), count in counted.items():
            self._kept[Span.MINUTE, minute, key_id, str(outcome)] += count
        self._kept = _bounded(self._kept, MOST, "keys")


def _drained(waiting: deque[T]) -> list[T]:
    """Return what waits now, and take it out: each once, whoever else does so at the same time."""
    taken: list[T] = []
    take, keep = waiting.popleft, taken.append
    with suppress(IndexError):  # somebody else took the last
        for _ in range(len(waiting)):
            keep(take())
    return taken


def _bounded(entries: Counter[Entry], most: int, what: str) -> Counter[Entry]:
    """Return entries of which there are no more than fit: by the hour if need be, or by the day.

    Where even the days of so many do not fit, those with the highest counts stay, and the others are one. No request
    is lost to the sum.
    """
    if len(entries) <= most:
        return entries
    logger.warning("Keydesk could not write usage for so long that it keeps it by the hour or by the day now")
    for span in (Span.HOUR, Span.DAY):
        coarse: Counter[Entry] = Counter()
        for (own, start_at, first, second), count in entries.items():
            longer = own if own is Span.DAY else span
            coarse[longer, longer.start_of(start_at), first, second] += count
        if len(coarse) <= most // 2:  # and not just below, or the next request would do it all again
            return coarse
        entries = coarse
    folded: Counter[Entry] = Counter()
    for place, (entry, count) in enumerate(entries.most_common()):
        folded[entry if place < most // 2 else _others(entry, what)] += count
    return folded


def _others(entry: Entry, what: str) -> Entry:
    span, start_at, first, second = entry
    return (span, start_at, OTHERS, second) if what == "keys" else (span, start_at, first, OTHERS)


def _top(kept: Mapping[Entry, int], addresses: Mapping[tuple[str, str, datetime], int]) -> Counter[Entry]:
    """Return what was kept and the networks of addresses; of each minute and mistake the top ones."""
    networks: Counter[Entry] = Counter()
    for (mistake, address, minute), count in addresses.items():
        networks[Span.MINUTE, minute, mistake, _network_of(address)] += count
    top = Counter(kept)
    taken: Counter[tuple[datetime, str]] = Counter()
    for entry, count in networks.most_common():
        _, minute, mistake, _ = entry
        taken[minute, mistake] += 1
        top[entry if taken[minute, mistake] <= TOP_NETWORKS else _others(entry, "networks")] += count
    return top


@lru_cache(maxsize=4096)
def _network_of(address: str) -> str:
    return network_of(address)
