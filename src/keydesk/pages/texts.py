"""Room pages: moments, durations and numbers, as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


def moment(at: datetime | None) -> str:
    """Return a moment in UTC, to the minute; empty for none."""
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else ""


def ago(at: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was: `3 hours ago`, `never` for none."""
    if at is None:
        return "never"
    return "just now" if now - at < timedelta(minutes=1) else f"{_about(now - at)} ago"


def until(at: datetime, now: datetime) -> str:
    """Return how long it is until a moment: `in 3 hours`."""
    return "now" if at <= now else f"in {_about(at - now + timedelta(minutes=1))}"  # not less than is meant


def counted(number: int, noun: str) -> str:
    """Return `1 key`, `2,000 keys`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _about(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for unit, size in _UNITS:
        if seconds >= size:
            return counted(int(seconds // size), unit)
    return "less than a minute"
