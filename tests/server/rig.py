"""The server in this process, on a clock that stands still, and short words for what tests ask of it."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.test import Client, TestResponse

from keydesk import Desk, IssuedKey
from keydesk.server import Server, create_app
from keydesk.testing import ManualClock


class ServerRig:
    """One server. Close it when the test is over."""

    def __init__(self, clock: ManualClock, **settings: Any) -> None:
        self.clock = clock
        given = {"KEYDESK_STORE": "memory://", "KEYDESK_DEVELOPMENT": True} | settings
        self.server: Server = create_app(given, clock=clock)

    @property
    def desk(self) -> Desk:
        return self.server.desk

    def issue(self, *scopes: str, name: str = "client", **fields: Any) -> IssuedKey:
        return self.desk.issue(name=name, scopes=scopes, **fields)

    def call(
        self,
        path: str,
        secret: str | None = None,
        method: str = "GET",
        *,
        headers: dict[str, str] | None = None,
        peer: str = "192.0.2.1",
        **more: Any,
    ) -> TestResponse:
        sent = dict(headers or {}) | ({} if secret is None else {"X-API-Key": secret})
        overrides = {"REMOTE_ADDR": peer}
        return Client(self.server).open(path, method=method, headers=sent, environ_overrides=overrides, **more)

    def verify(self, caller: str, **asked: Any) -> TestResponse:
        """Ask `POST /v1/verify`."""
        return self.call("/v1/verify", caller, "POST", data=json.dumps(asked), content_type="application/json")

    def close(self) -> None:
        self.server.close()
