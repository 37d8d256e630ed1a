"""Core: what was counted of requests, as plain values. Minutes, hours and days, and the ranges people ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias, TypeVar

from .errors import InvalidField
from .keys.record import Key, as_utc

ALLOWED = "allowed"  # the outcome of what was not refused; the others are the values of `Reason`
OTHERS = ""  # stands for the keys or networks that no longer had a place of their own
TOP_NETWORKS = 100  # kept of each span and mistake; the rest is one row
MAX_POINTS = 5000  # spans in one range
MAX_TOP = 1000
MAX_KEYS = 1000  # whose counts are read at once
MAX_POINTS_OF_KEYS = 100_000  # spans in one range, times keys


class Span(StrEnum):
    """A length of time that requests are counted by. All begin in UTC."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return _LENGTHS[self]

    def start_of(self, at: datetime) -> datetime:
        """Return the beginning of the one that a moment in UTC lies in."""
        if self is Span.MINUTE:
            return at.replace(second=0, microsecond=0)
        if self is Span.HOUR:
            return at.replace(minute=0, second=0, microsecond=0)
        return at.replace(hour=0, minute=0, second=0, microsecond=0)


_LENGTHS = {Span.MINUTE: timedelta(minutes=1), Span.HOUR: timedelta(hours=1), Span.DAY: timedelta(days=1)}
_COARSER = {
    Span.MINUTE: (Span.MINUTE, Span.HOUR, Span.DAY),
    Span.HOUR: (Span.HOUR, Span.DAY),
    Span.DAY: (Span.DAY,),
}

# Of keys: span, its beginning, the key's id and the outcome. Of mistakes: span, beginning, mistake and network.
Entry: TypeAlias = tuple[Span, datetime, str, str]
# Of earlier secrets: span, beginning, the key's id with the number of its secret, and network.
EarlierEntry: TypeAlias = tuple[Span, datetime, tuple[str, int], str]
H = TypeVar("H", str, tuple[str, int])


@dataclass(frozen=True, slots=True)
class Kept:
    """For how long counts are kept. Those of days are kept for ever."""

    minutes: timedelta = timedelta(hours=48)
    hours: timedelta = timedelta(days=90)

    def of(self) -> tuple[tuple[Span, timedelta], ...]:
        """Return the spans that end, each with its time."""
        return (Span.MINUTE, self.minutes), (Span.HOUR, self.hours)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process counted and has not written down yet.

    An entry of a minute counts for its hour and its day, too; one of an hour for its day.

    Attributes:
        keys: Verifications of keys.
        mistakes: Texts that were no key's.
        earlier: Secrets that were not the newest of their key.
    """

    keys: Mapping[Entry, int] = field(default_factory=dict)
    mistakes: Mapping[Entry, int] = field(default_factory=dict)
    earlier: Mapping[EarlierEntry, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.keys or self.mistakes or self.earlier)

    def used(self) -> dict[str, datetime]:
        """Return when each key was last allowed, to the minute."""
        used: dict[str, datetime] = {}
        for _, start_at, key_id, outcome in self.keys:
            if outcome == ALLOWED and key_id and (key_id not in used or used[key_id] < start_at):
                used[key_id] = start_at
        return used


def spread(entries: Mapping[tuple[Span, datetime, H, str], int]) -> list[tuple[Span, datetime, H, str, int]]:
    """Return the rows that entries make in minutes, hours and days, sorted: who writes them in order cannot deadlock.

    Where there are many entries, many are of one hour and of one day: those become one row.
    """
    rows: Counter[tuple[Span, datetime, H, str]] = Counter()
    starts: dict[tuple[Span, datetime], list[tuple[Span, datetime]]] = {}  # few, while the entries may be many
    for (span, start_at, first, second), count in entries.items():
        if (span, start_at) not in starts:
            starts[span, start_at] = [(each, each.start_of(start_at)) for each in _COARSER[span]]
        for each, start in starts[span, start_at]:
            rows[each, start, first, second] += count
    return [
        (span, start_at, first, second, rows[span, start_at, first, second])
        for span, start_at, first, second in sorted(rows)
    ]


@dataclass(frozen=True, slots=True)
class Usage:
    """How many requests had one outcome within one span.

    Attributes:
        start_at: When the span begins.
        outcome: `allowed`, or the `Reason` why not; of texts that are no key's, the mistake.
        count: How many; at least 1.
    """

    start_at: datetime
    outcome: str
    count: int


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What one key sent. `key` is None where it was deleted; the empty id stands for keys that had no place left."""

    key_id: str
    key: Key | None
    count: int
    allowed: int


@dataclass(frozen=True, slots=True)
class MistakeUsage:
    """How many texts that are no key's came from one network.

    Attributes:
        mistake: `unknown`: no key has it; `malformed`: it cannot be a secret.
        network: A /24 or /56; `unknown` for requests without an address; empty for all that are not among the top.
        count: How many; at least 1.
    """

    mistake: str
    network: str
    count: int


@dataclass(frozen=True, slots=True)
class EarlierUsage:
    """How often one network presented a secret that is not the newest of its key, whatever became of the request.

    Attributes:
        secret: Its number.
        network: As of `MistakeUsage`.
        count: How many times; at least 1.
    """

    secret: int
    network: str
    count: int


@dataclass(frozen=True, slots=True)
class Range:
    """What was asked about: from the beginning of the span that `since` lies in, to `until`, which is not in it."""

    span: Span
    since: datetime
    until: datetime

    def starts(self) -> list[datetime]:
        """Return the beginnings of its spans, in order."""
        count = -((self.since - self.until) // self.span.length)
        return [self.since + number * self.span.length for number in range(count)]


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What was counted within a range, in order of time. Spans without requests are left out."""

    range: Range
    counts: tuple[Usage, ...]

    def totals(self) -> dict[str, int]:
        """Return how many requests had each outcome, the most frequent first."""
        totals: Counter[str] = Counter()
        for usage in self.counts:
            totals[usage.outcome] += usage.count
        return dict(totals.most_common())


@dataclass(frozen=True, slots=True)
class TopReport:
    """The keys that sent the most within a range, first the one that sent most; `total` is what all keys sent."""

    range: Range
    total: int
    keys: tuple[KeyUsage, ...]


@dataclass(frozen=True, slots=True)
class MistakeReport:
    """Where the texts came from that are no key's, the most first; `total` is how many there were."""

    range: Range
    total: int
    networks: tuple[MistakeUsage, ...]


@dataclass(frozen=True, slots=True)
class EarlierReport:
    """Who presented earlier secrets of a key within a range, the most first.

    `last_used` says of each that was, whenever that may be, in which minute it was for the last time, by its number;
    once minutes are no longer kept, in which hour, and then on which day.
    """

    range: Range
    networks: tuple[EarlierUsage, ...]
    last_used: Mapping[int, datetime]


def parse_range(
    since: datetime | None, until: datetime | None, span: Span | None, now: datetime, back: timedelta, kept: Kept
) -> Range:
    """Return the range somebody asks about.

    Args:
        since: Its beginning, aware; None for `back` before its end.
        until: Its end, aware; None for now.
        span: What to count by; None for what fits: minutes up to two hours, hours up to two days, else days, and
            never what is likely to be gone by now.
        now: The present.
        back: How long it is where nobody says since when.
        kept: For how long counts are kept.

    Raises:
        InvalidField: A moment has no time zone, the range ends before it begins, or it has over 5000 spans.
    """
    end = as_utc("until", until) if until is not None else now
    since = as_utc("since", since) if since is not None else end - back
    if since >= end:
        raise InvalidField("since", "is not before the end of the range; write an earlier moment")
    if span is None:
        long, ago = end - since, now - since
        # And one more of each: who says "two hours ago" has done so a moment before, or from the beginning of a minute.
        if long < timedelta(hours=2) + Span.MINUTE.length and ago < kept.minutes + Span.MINUTE.length:
            span = Span.MINUTE
        else:
            few = long < timedelta(hours=48) + Span.HOUR.length and ago < kept.hours + Span.HOUR.length
            span = Span.HOUR if few else Span.DAY
    if until is None:
        end += timedelta.resolution  # the span that begins at this very moment is in it, too
    since = Span(span).start_of(since)
    if (end - since) / span.length > MAX_POINTS:
        raise InvalidField("since", f"is over {MAX_POINTS} {span}s before the end; ask about less, or by a longer span")
    return Range(span, since, end)


def check_keys(key_ids: Iterable[str], range_: Range) -> list[str]:
    """Return the keys somebody asks about at once, each once.

    Raises:
        InvalidField: They are over 1000, or over 100,000 times the spans of the range.
    """
    wanted = list(dict.fromkeys(key_ids))
    if len(wanted) > MAX_KEYS:
        raise InvalidField("key_ids", f"are {len(wanted)}; ask about at most {MAX_KEYS} keys at once")
    if len(wanted) * -((range_.since - range_.until) // range_.span.length) > MAX_POINTS_OF_KEYS:
        raise InvalidField("since", "is too long ago for so many keys; ask about fewer or less, or by a longer span")
    return wanted


def check_top(size: int) -> int:
    """Return how many of the top to show.

    Raises:
        InvalidField: Not 1 to 1000.
    """
    if not 1 <= size <= MAX_TOP:
        raise InvalidField("size", f"must be 1 to {MAX_TOP}, not {size}")
    return size
