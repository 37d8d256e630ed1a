"""An application with Keydesk in it, and short words for what tests do to it."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from keydesk import Desk, IssuedKey
from keydesk.flask import Keydesk
from keydesk.testing import ManualClock


class Rig:
    """One application on a clock that stands still. Close it when the test is over."""

    def __init__(self, clock: ManualClock, *, name: str = "app", keys: Keydesk | None = None, **config: Any) -> None:
        self.clock = clock
        self.keys = keys or Keydesk()
        engine, instance = config.pop("engine", None), config.pop("instance_path", None)
        self.app = Flask(name, instance_path=instance)
        self.app.config.update({"TESTING": True} | ({} if engine else {"KEYDESK_STORE": "memory://"}) | config)
        self.keys.init_app(self.app, clock=clock, engine=engine)

    @property
    def desk(self) -> Desk:
        with self.app.app_context():
            return self.keys.desk

    def issue(self, *scopes: str, name: str = "client", **fields: Any) -> IssuedKey:
        return self.desk.issue(name=name, scopes=scopes, **fields)

    def secret(self, *scopes: str, **fields: Any) -> str:
        return self.issue(*scopes, **fields).secret

    def call(self, path: str = "/", secret: str | None = None, method: str = "GET", **kwargs: Any) -> TestResponse:
        headers = dict(kwargs.pop("headers", {})) | ({} if secret is None else {"X-API-Key": secret})
        return self.app.test_client().open(path, method=method, headers=headers, **kwargs)

    def status(self, path: str = "/", secret: str | None = None, method: str = "GET", **kwargs: Any) -> int:
        return self.call(path, secret, method, **kwargs).status_code

    def close(self) -> None:
        self.desk.close()
