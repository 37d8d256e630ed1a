from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keydesk import SystemClock
from keydesk.testing import START, ManualClock


def test_manual_clock_stands_until_advanced() -> None:
    clock = ManualClock()
    assert clock.now() == clock.now() == START
    assert clock.advance(timedelta(hours=1)) == clock.now() == START + timedelta(hours=1)
    assert clock.monotonic() == 3600.0
    clock.advance(0.5)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(hours=1, seconds=0.5), 3600.5)


def test_manual_clock_refuses_what_no_clock_does() -> None:
    with pytest.raises(ValueError, match="forwards"):
        ManualClock().advance(-1)
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001


def test_system_clock_is_aware_and_goes_on() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    first = clock.monotonic()
    assert clock.monotonic() >= first
