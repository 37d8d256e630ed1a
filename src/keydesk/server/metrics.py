"""Room server: what Prometheus is told: decisions, latencies, the cache, how far behind the feed is, limiter failures.

Counting is a few steps in memory that all workers share: one small file for each process, in one folder, mapped into
memory. Whichever worker is asked adds them up. No key is named: a label for each would be a series for each.
"""

from __future__ import annotations

import mmap
import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from ..decision import Reason
from ..desk import Desk
from ..forks import at_fork
from ..usage import ALLOWED

OUTCOMES = (ALLOWED, *(reason.value for reason in Reason))
DOORS = ("authz", "verify", "sync", "leaks", "management", "pages", "operation")
# Seconds. A known key takes microseconds, a database that hangs two seconds.
BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_DECIDED = {outcome: slot for slot, outcome in enumerate(OUTCOMES)}
_PER_DOOR = len(BUCKETS) + 2  # the buckets, what is above them, and the sum in nanoseconds
_DOOR = {door: len(OUTCOMES) + number * _PER_DOOR for number, door in enumerate(DOORS)}
_LIMITER_FAILURES = len(OUTCOMES) + len(DOORS) * _PER_DOOR
_SLOTS = _LIMITER_FAILURES + 1
_BYTES = 8 * _SLOTS
_SUFFIX = ".counts"


class Metrics:
    """Counts what one process does, and tells what all have done.

    Args:
        desk: Whose cache and limiter are looked at.
        folder: Where the processes of one server count; None counts for this one alone. It must be empty when the
            server starts: what ended processes counted stays in it.
    """

    def __init__(self, desk: Desk, folder: Path | None) -> None:
        self._desk = desk
        self._folder = folder
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._begin()
        at_fork(self, Metrics._begin)

    def _begin(self) -> None:
        """Begin with a file of this process; a forked one has its parent's, who counts in it."""
        self._lock = threading.Lock()
        self._slots = self._mapped()

    def _mapped(self) -> memoryview:
        if self._folder is None:
            return memoryview(bytearray(_BYTES)).cast("Q")
        handle = os.open(self._folder / f"{os.getpid()}{_SUFFIX}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.truncate(handle, _BYTES)  # a process that had this number before counted in the same slots
            return memoryview(mmap.mmap(handle, _BYTES)).cast("Q")
        finally:
            os.close(handle)

    def count(self, outcome: str) -> None:
        """Count one decision: `allowed`, or why not."""
        slot = _DECIDED[outcome]
        with self._lock:
            self._slots[slot] += 1

    def time(self, door: str, seconds: float) -> None:
        """Count one request by how long it took. `door` is one of `DOORS`."""
        first = _DOOR[door]
        slot = first + bisect_left(BUCKETS, seconds)
        with self._lock:
            self._slots[slot] += 1
            self._slots[first + _PER_DOOR - 1] += int(seconds * 1e9)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer `/metrics` (PEP 3333)."""
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        body: bytes = encode(self._registry)
        start_response("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _totals(self) -> list[int]:
        self._slots[_LIMITER_FAILURES] = getattr(self._desk.limiter, "failures", 0)
        if self._folder is None:
            return self._slots.tolist()
        totals = [0] * _SLOTS
        for path in self._folder.glob(f"*{_SUFFIX}"):
            counted = path.read_bytes()
            if len(counted) == _BYTES:  # one that is being made is empty
                totals = [total + more for total, more in zip(totals, memoryview(counted).cast("Q"), strict=True)]
        return totals

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as the library of Prometheus asks for them."""
        totals = self._totals()
        decisions = CounterMetricFamily("keydesk_decisions", "Decisions about presented keys.", labels=["reason"])
        for outcome, slot in _DECIDED.items():
            decisions.add_metric([outcome], totals[slot])
        yield decisions
        durations = HistogramMetricFamily(
            "keydesk_request_duration_seconds", "How long requests to the server took.", labels=["door"]
        )
        for door, first in _DOOR.items():
            counts = accumulate(totals[first : first + _PER_DOOR - 1])
            buckets = list(zip([*map(str, BUCKETS), "+Inf"], counts, strict=True))
            durations.add_metric([door], buckets, totals[first + _PER_DOOR - 1] / 1e9)
        yield durations
        yield CounterMetricFamily(
            "keydesk_limiter_failures", "Requests that the limiter did not answer.", value=totals[_LIMITER_FAILURES]
        )
        yield from self._of_this_worker()

    def _of_this_worker(self) -> Iterator[Metric]:
        state = self._desk.cache_state()
        if state is None:
            return
        yield GaugeMetricFamily("keydesk_known_keys", "Keys in the memory of the worker that answers.", state.known)
        if state.age_seconds is not None:
            yield GaugeMetricFamily(
                "keydesk_feed_age_seconds",
                "How long ago the worker that answers last heard from the store.",
                state.age_seconds,
            )
