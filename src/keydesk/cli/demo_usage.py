"""Room cli: two weeks of requests for the keys that `serve --demo` makes up, as one batch of counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from ..decision import Reason
from ..keys.record import Key
from ..usage import ALLOWED, Batch, Entry, Span
from .demo_data import ATTACK, HOURS, MISTAKES, WEEKDAYS, MadeUpKey

DAYS = 14
MINUTE_HOURS = 3  # the last hours, by the minute
IDLE_DAYS = 10  # of use, before nobody used it any more
BUSY = 1.2  # from so much above the mean on, limits refuse
HOURS_A_DAY = 24


def requests_until(now: datetime, lives: list[tuple[MadeUpKey, Key]], chance: Random) -> Batch:
    """Return what keys sent in the two weeks before a moment, and what others sent that is no key.

    Args:
        now: The end; its minute is not in it.
        lives: Keys, each as it is now.
        chance: Makes the counts differ.
    """
    spans = list(_spans(now))
    sent: Counter[Entry] = Counter()
    for life, key in lives:
        if life.idle is not None:
            sent.update(_long_ago(life, key, now, chance))
        elif life.per_day:
            for span, at in spans:
                sent.update(_within(life, key, span, at, chance))
    return Batch(sent, _mistakes(now, spans, chance))


def _spans(now: datetime) -> Iterator[tuple[Span, datetime]]:
    """Yield each span of the two weeks: hours, and at the end minutes."""
    at, minutes_from = Span.HOUR.start_of(now) - timedelta(days=DAYS), Span.HOUR.start_of(now) - _hours(MINUTE_HOURS)
    while at < Span.MINUTE.start_of(now):
        span = Span.HOUR if at < minutes_from else Span.MINUTE
        yield span, at
        at += span.length


def _hours(count: float) -> timedelta:
    return timedelta(hours=count)


def _within(life: MadeUpKey, key: Key, span: Span, at: datetime, chance: Random) -> dict[Entry, int]:
    """Return what one key sent in one span, by outcome."""
    if at < key.created_at:
        return {}
    busy = _busy(life.rhythm, at)
    mean = life.per_day / HOURS_A_DAY * busy * (span.length / Span.HOUR.length)
    ended = _ended_at(key, at)
    if ended is not None:
        count = _about(mean * life.goes_on, chance)
        return {(span, at, key.id, ended): count} if count else {}
    count, counts = _about(mean, chance), {}
    for reason, share in life.refused.items():
        if reason != Reason.RATE_LIMITED or busy >= BUSY or life.rhythm == "steady":
            counts[span, at, key.id, reason] = min(count, _about(count * share, chance))
            count -= counts[span, at, key.id, reason]
    counts[span, at, key.id, ALLOWED] = count
    return {entry: number for entry, number in counts.items() if number}


def _ended_at(key: Key, at: datetime) -> str | None:
    """Return why a key that is as it is now was refused at a moment before; None where it was not."""
    ends = (
        (key.revoked_at, Reason.REVOKED),
        (key.disabled_at, Reason.DISABLED),
        (key.expires_at, Reason.EXPIRED),
    )
    return next((str(reason) for moment, reason in ends if moment is not None and moment <= at), None)


def _long_ago(life: MadeUpKey, key: Key, now: datetime, chance: Random) -> dict[Entry, int]:
    """Return what a key sent while somebody used it, by the day."""
    assert life.idle is not None
    last = Span.DAY.start_of(now - timedelta(days=life.idle))
    days = [last - timedelta(days=number) for number in range(IDLE_DAYS)]
    return {(Span.DAY, day, key.id, ALLOWED): 1 + _about(life.per_day, chance) for day in days if day > key.created_at}


def _mistakes(now: datetime, spans: list[tuple[Span, datetime]], chance: Random) -> dict[Entry, int]:
    counts: Counter[Entry] = Counter()
    for mistake, network, per_hour, rhythm in MISTAKES:
        for span, at in spans:
            mean = per_hour * _busy(rhythm, at) * (span.length / Span.HOUR.length)
            counts[span, at, mistake, network] += _about(mean, chance)
    for mistake, network, hours_ago, minutes, per_minute in ATTACK:
        first = Span.MINUTE.start_of(now - _hours(hours_ago))
        for number in range(minutes):
            at = first + number * Span.MINUTE.length
            counts[Span.MINUTE, at, mistake, network] += _about(per_minute, chance)
    return +counts


def _busy(rhythm: str, at: datetime) -> float:
    return HOURS[rhythm][at.hour] * WEEKDAYS[rhythm][at.weekday()]


def _about(mean: float, chance: Random) -> int:
    """Return a whole number near the mean, the mean itself on average."""
    return int(mean * chance.uniform(0.8, 1.2) + chance.random())
