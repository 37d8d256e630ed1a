"""Room metering: counts in memory, exact under threads and bounded whatever is thrown at them. No I/O."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Generic, TypeVar

from ..keys.networks import network_of
from ..usage import OTHERS, TOP_NETWORKS, Batch, Entry, H, Span

logger = logging.getLogger("keydesk")

FULL = 10_000  # requests that wait to be counted
EARLY = 20_000  # entries with which nobody waits for the next interval
MOST = 100_000  # entries of keys in memory, while the store does not answer
MOST_ADDRESSES = 10_000  # of mistakes, and as many of earlier secrets, between two flushes
MOST_NETWORKS = 10_000  # entries of mistakes, and as many of earlier secrets, while the store does not answer

T = TypeVar("T")


class ByNetwork(Generic[H]):
    """What was counted by where it came from: mistakes, or uses of earlier secrets.

    Requests put one tuple each at the end of `waiting`. All else is called under the lock of `Counts`.

    Args:
        rest: What stands for those that cannot be told apart any more; None where they are few.
    """

    def __init__(self, rest: H | None = None) -> None:
        self.waiting: deque[tuple[H, str, datetime]] = deque()  # what, address, minute
        self.addresses: Counter[tuple[H, str, datetime]] = Counter()
        self._kept: Counter[tuple[Span, datetime, H, str]] = Counter()  # which could not be written
        self._rest: H | None = rest

    def settle(self) -> None:
        """Count what waits."""
        for entry, count in Counter(_drained(self.waiting)).items():
            if entry not in self.addresses and len(self.addresses) >= MOST_ADDRESSES:
                what, _, minute = entry
                self._kept[Span.MINUTE, minute, what, OTHERS] += count
            else:
                self.addresses[entry] += count
        self._bound()

    def take(self) -> tuple[Counter[tuple[Span, datetime, H, str]], Counter[tuple[H, str, datetime]]]:
        """Return what was kept, and what came since by its addresses, and begin anew."""
        taken = self._kept, self.addresses
        self._kept, self.addresses = Counter(), Counter()
        return taken

    def give_back(self, entries: Mapping[tuple[Span, datetime, H, str], int]) -> None:
        """Keep what could not be written."""
        self._kept.update(entries)
        self._bound()

    def _bound(self) -> None:
        self._kept = _bounded(self._kept, MOST_NETWORKS, "networks", self._others)

    def _others(self, entry: tuple[Span, datetime, H, str]) -> tuple[Span, datetime, H, str]:
        span, start_at, what, _ = entry
        return span, start_at, what if self._rest is None else self._rest, OTHERS


class Counts:
    """What was counted and is not written yet.

    Requests put one tuple each at the end of `requests`, or of what waits in `mistakes` and `earlier`: one step that no
    other thread can come between, where adding to a number is three. Whoever finds one full calls `settle`.
    """

    def __init__(self) -> None:
        self.requests: deque[tuple[str, str, datetime]] = deque()  # key id, outcome, minute
        self.mistakes: ByNetwork[str] = ByNetwork()
        self.earlier: ByNetwork[tuple[str, int]] = ByNetwork((OTHERS, 0))
        # Reentrant, as what is collected in the middle of it may end a desk, which takes the last counts.
        self._lock = threading.RLock()
        self._counted: Counter[tuple[str, str, datetime]] = Counter()
        self._kept: Counter[Entry] = Counter()  # of keys, which could not be written

    def settle(self) -> bool:
        """Count what waits. Return whether there is so much that it should be written soon."""
        with self._lock:
            self._counted.update(_drained(self.requests))
            if self.mistakes.waiting:
                self.mistakes.settle()
            if self.earlier.waiting:
                self.earlier.settle()
            if len(self._counted) + len(self._kept) > MOST:
                self._keep()
            addresses = max(len(self.mistakes.addresses), len(self.earlier.addresses))
            return len(self._counted) > EARLY or addresses >= MOST_ADDRESSES

    def take(self) -> Batch:
        """Return all there is, and begin anew."""
        self.settle()
        with self._lock:
            self._keep()
            kept, self._kept = self._kept, Counter()
            mistakes, earlier = self.mistakes.take(), self.earlier.take()
        # Out of the lock: what a network is takes longer than all the rest.
        return Batch(kept, _top(*mistakes), _top(*earlier))

    def give_back(self, batch: Batch) -> None:
        """Keep a batch that could not be written, for the next time."""
        with self._lock:
            self._kept.update(batch.keys)
            self._kept = _bounded(self._kept, MOST, "keys", _other_keys)
            self.mistakes.give_back(batch.mistakes)
            self.earlier.give_back(batch.earlier)

    def _keep(self) -> None:
        counted, self._counted = self._counted, Counter()
        for (key_id, outcome, minute), count in counted.items():
            self._kept[Span.MINUTE, minute, key_id, str(outcome)] += count
        self._kept = _bounded(self._kept, MOST, "keys", _other_keys)


def _drained(waiting: deque[T]) -> list[T]:
    """Return what waits now, and take it out: each once, whoever else does so at the same time."""
    taken: list[T] = []
    take, keep = waiting.popleft, taken.append
    with suppress(IndexError):  # somebody else took the last
        for _ in range(len(waiting)):
            keep(take())
    return taken


def _bounded(
    entries: Counter[tuple[Span, datetime, H, str]],
    most: int,
    what: str,
    others: Callable[[tuple[Span, datetime, H, str]], tuple[Span, datetime, H, str]],
) -> Counter[tuple[Span, datetime, H, str]]:
    """Return entries of which there are no more than fit: by the hour if need be, or by the day.

    Where even the days of so many do not fit, those with the highest counts stay, and `others` makes the rest one. No
    request is lost to the sum.
    """
    if len(entries) <= most:
        return entries
    logger.warning("Keydesk could not write usage for so long that it keeps it by the hour or by the day now")
    for span in (Span.HOUR, Span.DAY):
        coarse: Counter[tuple[Span, datetime, H, str]] = Counter()
        for (own, start_at, first, second), count in entries.items():
            longer = own if own is Span.DAY else span
            coarse[longer, longer.start_of(start_at), first, second] += count
        if len(coarse) <= most // 2:  # and not just below, or the next request would do it all again
            return coarse
        entries = coarse
    logger.warning("Keydesk has so much usage to write that it no longer tells %s with few requests apart", what)
    folded: Counter[tuple[Span, datetime, H, str]] = Counter()
    for place, (entry, count) in enumerate(entries.most_common()):
        folded[entry if place < most // 2 else others(entry)] += count
    return folded


def _other_keys(entry: Entry) -> Entry:
    span, start_at, _, outcome = entry
    return span, start_at, OTHERS, outcome


def _top(
    kept: Counter[tuple[Span, datetime, H, str]], addresses: Mapping[tuple[H, str, datetime], int]
) -> Counter[tuple[Span, datetime, H, str]]:
    """Return what was kept and the networks of addresses; of each minute and mistake or secret the top ones."""
    networks: Counter[tuple[Span, datetime, H, str]] = Counter()
    for (what, address, minute), count in addresses.items():
        networks[Span.MINUTE, minute, what, _network_of(address)] += count
    taken: Counter[tuple[datetime, H]] = Counter()
    for (span, minute, what, network), count in networks.most_common():
        taken[minute, what] += 1
        kept[span, minute, what, network if taken[minute, what] <= TOP_NETWORKS else OTHERS] += count
    return kept


@lru_cache(maxsize=4096)
def _network_of(address: str) -> str:
    return network_of(address)
