"""A backend behind a gateway. It knows nothing of keys: the gateway tells it in headers who calls.

    flask --app examples/gateways/backend.py run --port 5000

It must listen where nobody but the gateway can reach it: whoever calls it directly can write these headers himself.
"""

from typing import Any
from urllib.parse import unquote

from flask import Flask, request

app = Flask(__name__)
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@app.route("/orders", methods=METHODS, provide_automatic_options=False)
@app.route("/orders/<path:rest>", methods=METHODS, provide_automatic_options=False)
def orders(rest: str = "") -> dict[str, Any]:
    return {"view": "orders", **received()}


@app.route("/", methods=METHODS, provide_automatic_options=False)
@app.route("/<path:rest>", methods=METHODS, provide_automatic_options=False)
def anything(rest: str = "") -> dict[str, Any]:
    return {"view": "anything", **received()}


def received() -> dict[str, Any]:
    """Return who calls, by the headers that the gateway wrote, and what else came."""
    return {
        "caller": {
            "key": request.headers.get("X-Key-Id", ""),
            "name": unquote(request.headers.get("X-Key-Name", "")),  # UTF-8, percent-encoded
            "owner": unquote(request.headers.get("X-Key-Owner", "")),  # empty: the key has none
            "scopes": [scope for scope in request.headers.get("X-Key-Scopes", "").split(",") if scope],
            "environment": request.headers.get("X-Key-Environment", ""),
        },
        "method": request.method,
        "bytes": len(request.get_data()),
        "headers": dict(request.headers),
    }
