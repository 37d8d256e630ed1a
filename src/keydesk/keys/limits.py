"""Room keys: limits and quotas, as people write them: `100/minute`, `5 per 10 seconds`, `10000/month Europe/Rome`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from ..errors import InvalidField
from .secret import shown

MAX_LIMITS = 20
MAX_COST = 1_000_000
MAX_COUNT = 10**12  # of a quota
MAX_LIMIT_COUNT = 2**32 - 1  # counters hold no more
MAX_WINDOW_SECONDS = 366 * 86_400

MAX_CHARACTERS = 64
UTC_ZONE = "UTC"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_FLAGS = re.IGNORECASE | re.ASCII  # without ASCII, `ſecond` would be a second in another case
_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_LIMIT = re.compile(r"(\d{1,13})\s*(?:/|\bper\b)\s*(?:(\d{1,9})\s*)?(second|minute|hour|day)s?", _FLAGS)
_QUOTA = re.compile(r"(\d{1,13})\s*(?:/|\bper\b|\bin\b)\s*(day|month|total)(?:\s+([A-Za-z0-9_+/-]{1,40}))?", _FLAGS)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` requests in any window of `window_seconds` (1 second to 366 days)."""

    count: int
    window_seconds: int

    def __str__(self) -> str:
        for unit, seconds in reversed(_UNIT_SECONDS.items()):
            if self.window_seconds == seconds:
                return f"{self.count}/{unit}"
            if self.window_seconds % seconds == 0:
                return f"{self.count}/{self.window_seconds // seconds} {unit}s"
        raise AssertionError("every whole number of seconds is a multiple of one")  # pragma: no cover


class Period(StrEnum):
    """What a quota is counted over: a calendar day, a calendar month, or the key's whole life."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `count` requests in each calendar period of a time zone, by its IANA name; in total there is but one."""

    count: int
    period: Period
    zone: str = UTC_ZONE

    def __str__(self) -> str:
        return f"{self.count}/{self.period}" + (f" {self.zone}" if self.zone != UTC_ZONE else "")

    def period_at(self, moment: datetime) -> tuple[datetime, datetime | None]:
        """Return when the period began that a moment lies in, and when the next begins; None where there is none."""
        if self.period is Period.TOTAL:
            return _BEGINNING, None
        zone = ZoneInfo(self.zone)
        first = moment.astimezone(zone).date()
        if self.period is Period.MONTH:
            first = first.replace(day=1)
        following = first + timedelta(days=1 if self.period is Period.DAY else 31)
        if self.period is Period.MONTH:
            following = following.replace(day=1)
        start, end = (datetime.combine(day, time(), zone).astimezone(UTC) for day in (first, following))
        return start, end


def check_cost(cost: object) -> int:
    """Return for how many requests one counts.

    Raises:
        InvalidField: It is no whole number from 0 to 1,000,000.
    """
    if not isinstance(cost, int) or isinstance(cost, bool) or not 0 <= cost <= MAX_COST:
        raise InvalidField("cost", f"must be a whole number from 0 to {MAX_COST}")
    return cost


def parse_limit(text: str) -> Limit:
    """Return the limit written as `100/minute`, `100 per minute`, `5/10 seconds` or `5 per 10 seconds`.

    Raises:
        InvalidField: Another shape, a count of zero or over 4,294,967,295, or a window of zero or over 366 days.
    """
    match = _LIMIT.fullmatch(text.strip()) if len(text) <= MAX_CHARACTERS else None
    if match:
        count, window = int(match[1]), int(match[2] or 1) * _UNIT_SECONDS[match[3].lower()]
        if 0 < count <= MAX_LIMIT_COUNT and 0 < window <= MAX_WINDOW_SECONDS:
            return Limit(count, window)
    raise InvalidField("limits", f"{shown(text, 64)} is not a limit; write 100/minute or 5 per 10 seconds")


def parse_quota(text: str) -> Quota:
    """Return the quota written as `10000/day`, `10000/month Europe/Rome` or `10000/total`; without a zone it is UTC's.

    Raises:
        InvalidField: Another shape, a count of zero or over 10**12, or a time zone that is not known here.
    """
    match = _QUOTA.fullmatch(text.strip()) if len(text) <= MAX_CHARACTERS else None
    if match and 0 < int(match[1]) <= MAX_COUNT and not (match[3] and match[2].lower() == Period.TOTAL):
        return Quota(int(match[1]), Period(match[2].lower()), _parse_zone(match[3]) if match[3] else UTC_ZONE)
    raise InvalidField("quotas", f"{shown(text, 64)} is not a quota; write 10000/day, 10000/month or 10000/total")


def _parse_zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError, see below; a folder of zones is an OSError
        problem = f"{shown(name, 40)} is no time zone; write one such as Europe/Rome, or none for UTC"
    except KeyError:
        problem = f"the time zone {shown(name, 40)} is not known here; correct it, or install tzdata"
    raise InvalidField("quotas", problem)
