"""What counting costs: one request in memory, and one flush of what came together."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from keydesk import SystemClock
from keydesk.metering.buffered import BufferedMeter
from keydesk.stores.engines import open_engine
from keydesk.stores.sql import SqlStore

from .harness import Scale
from .report import Promise, Section, Table

MAX_NANOSECONDS = 1000
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEYS = [f"key_{number:028x}" for number in range(10_000)]
ADDRESSES = [f"203.0.{number % 250}.{number // 250}" for number in range(2000)]
RUNS = 3


def best(act: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some runs: the others were disturbed."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return min(times)


def nanoseconds(meter: BufferedMeter, count: int, *, mistakes: bool) -> float:
    """Return what one count costs in a loop, all that is done for it before a flush counted in."""

    def loop() -> None:
        for number in range(count):
            if mistakes:
                meter.count_mistake("unknown", ADDRESSES[number % 2000], NOW)
            else:
                meter.count(KEYS[number % 1000], "allowed", NOW)

    return best(loop) / count * 1e9


def flush_seconds(meter: BufferedMeter, keys: int) -> float:
    """Return the seconds of one flush of so many keys, two requests each."""
    times = []
    for _ in range(RUNS):
        for key_id in KEYS[:keys] * 2:
            meter.count(key_id, "allowed", NOW)
        began = time.perf_counter()
        meter.flush()
        times.append(time.perf_counter() - began)
    return min(times)


def run(scale: Scale) -> Section:
    """Measure counts and flushes on SQLite."""
    store = SqlStore(open_engine(f"sqlite:///{scale.folder}/usage.db"), SystemClock(), own=True)
    store.upgrade()
    meter = BufferedMeter(store.usage, SystemClock(), flush_seconds=3600)
    count = scale.pairs * 50
    one, mistake = (nanoseconds(meter, count, mistakes=mistakes) for mistakes in (False, True))
    rows = [("a request with a key, in memory", f"{one / 1000:.2f} µs")]
    rows += [("a text that is no key's, in memory", f"{mistake / 1000:.2f} µs")]
    meter.flush()
    rows += [
        (f"a flush of {keys:,} keys", f"{flush_seconds(meter, keys) * 1000:.1f} ms") for keys in (10, 1000, 10_000)
    ]
    meter.close()
    store.close()
    table = Table("Counting, on SQLite", ("what", "fastest of 3"), tuple(rows))
    return Section((table,), (Promise("one request counted", MAX_NANOSECONDS, one, "ns"),))
