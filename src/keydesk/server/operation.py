"""Room server: what tells whoever runs it how it is: liveness and readiness."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from ..desk import Desk
from .messages import json_answer, send

KEPT_SECONDS = 1.0  # to look costs reads of the store, and anybody may ask


class Operation:
    """Answers `/healthz` and `/readyz`. Neither asks for a key: they say nothing about any."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self._passed: dict[str, bool] = {}

    def health(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer that the process lives: 200, whatever becomes of its store. Who restarts it would mend nothing."""
        return send(json_answer({"status": "ok"}), environ, start_response)

    def ready(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer whether requests should be sent here: 200, or 503 with what is wrong.

        The checks may be a second old, and older by as long as it takes to look: one thread waits for a store that
        hangs, and no other. `feed_age_seconds` is how long ago the store last answered a request for a key, or null.
        """
        monotonic = self._desk.clock.monotonic
        if monotonic() - self._looked_at >= KEPT_SECONDS and self._looking.acquire(blocking=False):
            try:
                self._passed = self._look()
                self._looked_at = monotonic()
            finally:
                self._looking.release()
        checks = self._passed
        passed = bool(checks) and all(checks.values())  # empty while another thread looks for the first time
        state = self._desk.cache_state()
        age = state.age_seconds if state else None
        said = {
            "status": "ready" if passed else "not ready",
            "checks": checks,
            "feed_age_seconds": None if age is None else round(age, 3),
        }
        status = HTTPStatus.OK if passed else HTTPStatus.SERVICE_UNAVAILABLE
        return send(json_answer(said, status), environ, start_response)

    def _look(self) -> dict[str, bool]:
        checks = [*self._desk.store.checks(), *(self._desk.limiter.checks() if self._desk.limiter else ())]
        found: dict[str, bool] = {}
        for check in checks:
            found[check.name] = found.get(check.name, True) and check.passed is not False
        return found
