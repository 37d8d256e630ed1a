"""Room server: what tells whoever runs it how it is: liveness and readiness."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..desk import Desk


class Operation:
    """Answers `/healthz` and `/readyz`. Neither asks for a key: they say nothing about any."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def health(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer that the process lives: 200, whatever becomes of its store. Who restarts it would mend nothing."""
        return _json(environ, start_response, "200 OK", {"status": "ok"})

    def ready(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer whether requests should be sent here: 200, or 503 with what is wrong."""
        checks = [*self._desk.store.checks(), *(self._desk.limiter.checks() if self._desk.limiter else ())]
        passed = all(check.passed is not False for check in checks)
        said = {
            "status": "ready" if passed else "not ready",
            "checks": {check.name: check.passed is not False for check in checks},
        }
        return _json(environ, start_response, "200 OK" if passed else "503 Service Unavailable", said)


def _json(environ: dict[str, Any], start_response: Any, status: str, said: object) -> Iterable[bytes]:
    body = json.dumps(said).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return () if environ["REQUEST_METHOD"] == "HEAD" else (body,)
