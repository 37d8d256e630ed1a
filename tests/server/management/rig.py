"""The management API in this process, on a clock that stands still, and short words for what tests ask of it."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from keydesk import Desk, IssuedKey, open_desk
from keydesk.server.management import make_management
from keydesk.settings import read_settings
from keydesk.testing import ManualClock

ALL = ("keydesk:*", "*")
PROBLEM = "application/problem+json"


class ManagementRig:
    """One desk and its management API. Close it when the test is over."""

    def __init__(self, clock: ManualClock, **settings: Any) -> None:
        given = {"KEYDESK_STORE": "memory://", "KEYDESK_MAX_STALENESS_SECONDS": 0} | settings
        self.clock = clock
        self.desk: Desk = open_desk(given, clock=clock)
        self.app: Flask = make_management(self.desk, read_settings(given, default_store=""))
        self._admin: IssuedKey | None = None

    @property
    def admin(self) -> IssuedKey:
        """The key of a caller who may do everything."""
        if self._admin is None:
            self._admin = self.desk.issue(name="admin", scopes=ALL)
        return self._admin

    def call(
        self, method: str, path: str, body: Any = None, *, by: str | IssuedKey | None = None, **headers: str
    ) -> TestResponse:
        """Send a request: as the administrator, or `by` another key; with an empty text, by nobody."""
        secret = by.secret if isinstance(by, IssuedKey) else by
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if secret != "":
            sent["X-API-Key"] = secret or self.admin.secret
        given: dict[str, Any] = {}
        if isinstance(body, (bytes, str)):
            given["data"] = body
        elif body is not None:
            given["json"] = body
        return self.app.test_client().open(path, method=method, headers=sent, **given)

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> TestResponse:
        return self.call("POST", path, body, **more)

    def issue(self, **fields: Any) -> IssuedKey:
        """Make a key past the API."""
        return self.desk.issue(**{"name": "client"} | fields)

    def close(self) -> None:
        self.desk.close()


def problem_of(response: TestResponse, status: int, reason: str) -> dict[str, Any]:
    """Return a refusal, having seen that it is one as all are."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == PROBLEM
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-Id"]
    body = response.get_json()
    assert isinstance(body, dict)
    assert {"type", "title", "status", "detail", "reason"} <= body.keys()
    assert (body["status"], body["reason"]) == (status, reason)
    assert body["detail"].endswith(".")
    return body
