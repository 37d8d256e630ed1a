"""Room testing: a clock that stands until it is advanced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class ManualClock:
    """A `keydesk.Clock` for tests.

    Args:
        now: What it shows first; aware.

    Raises:
        ValueError: The moment is naive.
    """

    def __init__(self, now: datetime = START) -> None:
        if now.tzinfo is None:
            raise ValueError("ManualClock needs an aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC)")
        self._now = now.astimezone(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the time it shows."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds it was advanced by."""
        return self._monotonic

    def advance(self, by: timedelta | float) -> datetime:
        """Go on by a duration, or by so many seconds, and return the time it shows then.

        Raises:
            ValueError: The duration is negative; clocks of the real world that do that are corrected, not obeyed.
        """
        by = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if by < timedelta(0):
            raise ValueError(f"a clock goes forwards, not by {by}")
        self._now += by
        self._monotonic += by.total_seconds()
        return self._now
