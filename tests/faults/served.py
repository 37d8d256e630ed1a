"""The application that the servers of these tests run. Its settings are in the environment."""

from __future__ import annotations

import os
import threading
from typing import Any

from flask import Flask, Response, request

from keydesk.decision import Allowed
from keydesk.flask import Keydesk, current_key

app = Flask(__name__)
app.config.update({name: value for name, value in os.environ.items() if name.startswith("KEYDESK_")})
keys = Keydesk(app)


@app.get("/")
@keys.require()
def protected() -> str:
    return current_key.name


@app.get("/orders")
@keys.require("orders:read")
def orders() -> str:
    return current_key.name


@app.get("/decision")
def decision() -> dict[str, Any]:
    """Say what is decided about a key, and who says it."""
    decided = keys.desk.verify(request.headers.get("X-API-Key"), client_address=request.remote_addr)
    name = decided.key.name if isinstance(decided, Allowed) else None
    return {"pid": os.getpid(), "allowed": decided.allowed, "reason": decided.reason, "name": name}


@app.get("/worker")
def worker() -> dict[str, Any]:
    """Say who answers, and with which threads."""
    return {"pid": os.getpid(), "threads": sorted(thread.name for thread in threading.enumerate())}


@app.after_request
def signed(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response


if os.environ.get("SERVED_WARM"):  # a parent that has used the store before it forks: its workers inherit all of that
    with app.app_context():
        keys.desk.verify(os.environ["SERVED_WARM"])
        keys.desk.list_keys()
