"""Core: the only reader of time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rest of Keydesk asks for the time. Tests hand in `keydesk.testing.ManualClock`."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC, to the microsecond."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        ...


class SystemClock:
    """The operating system's clock; `monotonic` is `time.monotonic`."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC, to the microsecond."""
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)  # itself, since each request calls it several times
