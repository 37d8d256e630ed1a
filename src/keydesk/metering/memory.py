"""Room metering: counts in the memory of this process, for stores that are no database."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TypeAlias

from ..keys.record import Key
from ..usage import (
    ALLOWED,
    OTHERS,
    TOP_NETWORKS,
    Batch,
    EarlierUsage,
    H,
    KeyUsage,
    MistakeUsage,
    Range,
    Span,
    Usage,
    spread,
)

MOST_ROWS = 100_000  # of keys, of mistakes and of earlier secrets each; then what is oldest goes, minutes first

_Counted: TypeAlias = dict[Span, dict[datetime, Counter[tuple[H, str]]]]


class MemoryUsage:
    """Counts of this process, which end with it; see `keydesk.ports.UsageStore`.

    Args:
        note_used: Of the store of keys, which shows when each was last used.
        find_key: Of the store of keys, which says whose each is.
    """

    shared = False

    def __init__(
        self,
        note_used: Callable[[Mapping[str, datetime]], None],
        find_key: Callable[[str], Key | None] = lambda _: None,
    ) -> None:
        self._note_used = note_used
        self._find_key = find_key
        self._lock = threading.RLock()
        self._keys: _Counted[str] = {span: {} for span in Span}
        self._mistakes: _Counted[str] = {span: {} for span in Span}
        self._earlier: _Counted[tuple[str, int]] = {span: {} for span in Span}

    def add(self, batch: Batch) -> bool:
        """See `UsageStore.add`."""
        with self._lock:
            _add(self._keys, batch.keys)
            _fold(self._mistakes, _add(self._mistakes, batch.mistakes))
            _fold(self._earlier, _add(self._earlier, batch.earlier))
            _drop_oldest(self._keys)
            _drop_oldest(self._mistakes)
            _drop_oldest(self._earlier)
        self._note_used(batch.used())
        return True

    def counts(self, range_: Range, key_id: str | None = None, owner: str | None = None) -> list[Usage]:
        """See `UsageStore.counts`.

        Raises:
            StoreUnavailable: The store of keys does not answer.
        """
        with self._lock:
            found = [
                (own_id, start_at, outcome, count)
                for start_at, counts in self._within(self._keys, range_)
                for (own_id, outcome), count in counts.items()
                if key_id is None or key_id == own_id
            ]
        # Not under the lock: the store of keys has one of its own.
        asked = {own_id for own_id, _, _, _ in found} if owner is not None else set()
        others = {own_id for own_id in asked if (key := self._find_key(own_id)) is None or key.owner != owner}
        sums: Counter[tuple[datetime, str]] = Counter()
        for own_id, start_at, outcome, count in found:
            if own_id not in others:
                sums[start_at, outcome] += count
        return [Usage(*at, count) for at, count in sorted(sums.items())]

    def counts_of_keys(self, range_: Range, key_ids: Sequence[str]) -> dict[str, list[Usage]]:
        """See `UsageStore.counts_of_keys`."""
        found: dict[str, list[Usage]] = {}
        asked = set(key_ids)
        with self._lock:
            for start_at, counts in sorted(self._within(self._keys, range_), key=itemgetter(0)):
                for (key_id, outcome), count in sorted(counts.items()):
                    if key_id in asked:
                        found.setdefault(key_id, []).append(Usage(start_at, outcome, count))
        return found

    def top(self, range_: Range, size: int) -> tuple[int, list[KeyUsage]]:
        """See `UsageStore.top`."""
        sent: Counter[str] = Counter()
        allowed: Counter[str] = Counter()
        with self._lock:
            for _, counts in self._within(self._keys, range_):
                for (key_id, outcome), count in counts.items():
                    sent[key_id] += count
                    allowed[key_id] += count if outcome == ALLOWED else 0
        first = sorted(sent, key=lambda key_id: (-sent[key_id], key_id))[:size]
        return sent.total(), [KeyUsage(key_id, None, sent[key_id], allowed[key_id]) for key_id in first]

    def mistakes(self, range_: Range, size: int) -> tuple[int, list[MistakeUsage]]:
        """See `UsageStore.mistakes`."""
        made: Counter[tuple[str, str]] = Counter()
        with self._lock:
            for _, counts in self._within(self._mistakes, range_):
                made.update(counts)
        first = sorted(made, key=lambda entry: (-made[entry], entry))[:size]
        return made.total(), [MistakeUsage(*entry, made[entry]) for entry in first]

    def mistake_counts(self, range_: Range) -> list[Usage]:
        """See `UsageStore.mistake_counts`."""
        sums: Counter[tuple[datetime, str]] = Counter()
        with self._lock:
            for start_at, counts in self._within(self._mistakes, range_):
                for (mistake, _), count in counts.items():
                    sums[start_at, mistake] += count
        return [Usage(*at, count) for at, count in sorted(sums.items())]

    def earlier_secrets(self, range_: Range, key_id: str, size: int) -> tuple[list[EarlierUsage], dict[int, datetime]]:
        """See `UsageStore.earlier_secrets`."""
        used: Counter[tuple[int, str]] = Counter()
        last: dict[int, datetime] = {}
        with self._lock:
            for span, start_at, own_id, number, network, count in self._all_earlier():
                if own_id == key_id:
                    last[number] = max(start_at, last.get(number, start_at))
                    if span is range_.span and range_.since <= start_at < range_.until:
                        used[number, network] += count
        first = sorted(used, key=lambda entry: (-used[entry], entry))[:size]
        return [EarlierUsage(*entry, used[entry]) for entry in first], dict(sorted(last.items()))

    def _all_earlier(self) -> Iterator[tuple[Span, datetime, str, int, str, int]]:
        for span, spans in self._earlier.items():
            for start_at, counts in spans.items():
                for ((key_id, number), network), count in counts.items():
                    yield span, start_at, key_id, number, network, count

    def forget(self, span: Span, before: datetime) -> bool:
        """See `UsageStore.forget`. It is quick here: there is never more to do."""
        with self._lock:
            _drop_before(self._keys[span], before)
            _drop_before(self._mistakes[span], before)
            _drop_before(self._earlier[span], before)
        return False

    @staticmethod
    def _within(counted: _Counted[str], range_: Range) -> list[tuple[datetime, Counter[tuple[str, str]]]]:
        return [item for item in counted[range_.span].items() if range_.since <= item[0] < range_.until]


def _add(counted: _Counted[H], entries: Mapping[tuple[Span, datetime, H, str], int]) -> set[tuple[Span, datetime]]:
    """Add entries, and return the spans that are not what they were."""
    touched = set()
    for span, start_at, first, second, count in spread(entries):
        counted[span].setdefault(start_at, Counter())[first, second] += count
        touched.add((span, start_at))
    return touched


def _fold(counted: _Counted[H], touched: Iterable[tuple[Span, datetime]]) -> None:
    for span, start_at in touched:
        counted[span][start_at] = _folded(counted[span][start_at])


def _folded(counts: Counter[tuple[H, str]]) -> Counter[tuple[H, str]]:
    """Return the counts of one span: of each mistake or secret the top networks, and one for the others."""
    if len(counts) <= 2 * TOP_NETWORKS:
        return counts
    top: Counter[tuple[H, str]] = Counter()
    places: Counter[H] = Counter()
    for (what, network), count in counts.most_common():
        if network != OTHERS:
            places[what] += 1
        top[what, network if places[what] <= TOP_NETWORKS else OTHERS] += count
    return top


def _drop_before(spans: dict[datetime, Counter[tuple[H, str]]], before: datetime) -> None:
    for start_at in [start_at for start_at in spans if start_at < before]:
        del spans[start_at]


def _drop_oldest(counted: _Counted[H]) -> None:
    rows = sum(len(counts) for spans in counted.values() for counts in spans.values())
    for span in Span:  # minutes first
        while rows > MOST_ROWS and counted[span]:
            rows -= len(counted[span].pop(min(counted[span])))
