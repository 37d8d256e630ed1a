"""A request to a Flask application that Keydesk protects, compared with a plain Flask route."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Flask, current_app, request

from keydesk import HeldKey
from keydesk.flask import Keydesk
from keydesk.keys.record import parse_fields

from .harness import HEADER, Pair, Scale, Timed, compare, route
from .report import Promise, Section, table_of
from .samples import foreign_secrets, unknown_secrets

CONFIG_KEYS = 100
SQLITE_KEYS = 1000
PEPPER = base64.b64encode(bytes(range(32))).decode()

# Name of a row, and what the ratio must not go above.
LIMITS = {
    "config, valid key": 1.20,
    "SQLite, valid key": 1.20,
    "config, missing key": 1.5,
    "config, unknown key of our shape": 1.5,
    "config, unknown key of another shape": 1.5,
    "SQLite, missing key": 1.5,
    "SQLite, unknown key of our shape": 1.5,
    "SQLite, unknown key of another shape": 1.5,
}


def a_view() -> Callable[[], dict[str, str]]:
    """Return a new view that does what every measured view does."""

    def view() -> dict[str, str]:
        return {"status": "ok"}

    return view


def plain_app() -> Flask:
    """Return an application with one open route, `/`, and nothing else."""
    app = Flask("plain")
    app.get("/")(a_view())
    return app


def compared_app() -> Flask:
    """Return an application whose view compares the header with one key in `app.config`, as people begin."""
    app = Flask("compared")
    app.config["API_KEY"] = "my-secret-api-key"

    def require_key(guarded: Callable[[], Any]) -> Callable[[], Any]:
        @functools.wraps(guarded)
        def wrapper() -> Any:
            if request.headers.get(HEADER) != current_app.config["API_KEY"]:
                return {"error": "unauthorized"}, 401
            return guarded()

        return wrapper

    app.get("/")(require_key(a_view()))
    return app


def keydesk_app(settings: dict[str, Any], *, handler: bool = False) -> tuple[Flask, Keydesk]:
    """Return an application protected by Keydesk: `/` for any key, `/write` for those with `orders:write`."""
    app = Flask("protected")
    app.config.update(settings)
    keys = Keydesk(app)
    app.get("/")(keys.require()(a_view()))
    app.get("/write", endpoint="write")(keys.require("orders:write")(a_view()))
    if handler:
        app.errorhandler(401)(lambda _error: ({"error": "unauthorized"}, 401))
    return app, keys


def config_app(*, handler: bool = False, **settings: Any) -> tuple[Flask, list[str]]:
    """Return an application with 100 keys in its configuration, and their secrets."""
    secrets = unknown_secrets(CONFIG_KEYS)
    api_keys = {secret: f"Client {number}" for number, secret in enumerate(secrets)}
    return keydesk_app({"API_KEYS": api_keys, **settings}, handler=handler)[0], secrets


def sqlite_app(path: Path, **settings: Any) -> tuple[Flask, list[str]]:
    """Return an application with 1,000 keys in a new SQLite database, and their secrets."""
    app, keys = keydesk_app({"KEYDESK_STORE": f"sqlite:///{path}", **settings})
    with app.app_context():
        desk, secrets = keys.desk, unknown_secrets(SQLITE_KEYS)
        fields = parse_fields({"name": "Client", "scopes": ["orders:read"]})
        desk.import_keys(HeldKey(fields, desk.mint.secret(text, number=1, now=desk.clock.now())) for text in secrets)
    return app, secrets


def refusals(name: str, app: Flask, plain: Timed) -> Iterable[Pair]:
    """Return the pairs of everything that is refused before a key is known."""
    yield Pair(f"{name}, missing key", plain, route(app, "/", status=401))
    ours, others = unknown_secrets(1000), foreign_secrets(1000)
    yield Pair(f"{name}, unknown key of our shape", plain, route(app, "/", status=401, secrets=ours))
    yield Pair(f"{name}, unknown key of another shape", plain, route(app, "/", status=401, secrets=others))


def run(scale: Scale) -> Section:
    """Measure requests."""
    plain = route(plain_app(), "/")
    compared = compared_app()
    config, config_secrets = config_app()
    peppered, peppered_secrets = config_app(KEYDESK_PEPPER=PEPPER)
    handled, _ = config_app(handler=True)
    sqlite, sqlite_secrets = sqlite_app(scale.folder / "requests.db")
    both, both_secrets = sqlite_app(scale.folder / "peppered.db", KEYDESK_PEPPER=PEPPER)
    new = unknown_secrets(2 * scale.pairs + 2000)  # more than there are requests
    pairs = [
        Pair("plain route", plain, route(plain_app(), "/")),
        Pair("string compare, valid key", plain, route(compared, "/", secrets=["my-secret-api-key"])),
        Pair("string compare, unknown key", plain, route(compared, "/", status=401, secrets=["another"])),
        Pair("config, valid key", plain, route(config, "/", secrets=config_secrets)),
        Pair("config with pepper, valid key", plain, route(peppered, "/", secrets=peppered_secrets)),
        *refusals("config", config, plain),
        Pair("config, scope missing", plain, route(config, "/write", status=403, secrets=config_secrets)),
        Pair("config, missing key, own error handler", plain, route(handled, "/", status=401)),
        Pair("SQLite, valid key", plain, route(sqlite, "/", secrets=sqlite_secrets)),
        Pair("SQLite with pepper, valid key", plain, route(both, "/", secrets=both_secrets)),
        *refusals("SQLite", sqlite, plain),
        Pair("SQLite, unknown key for the first time", plain, route(sqlite, "/", status=401, secrets=new)),
        Pair("SQLite, scope missing", plain, route(sqlite, "/write", status=403, secrets=sqlite_secrets)),
    ]
    results = compare(pairs, scale.pairs)
    promises = tuple(
        Promise(f"{name}: ratio to the plain route", limit, results[name].ratio) for name, limit in LIMITS.items()
    )
    title = f"A request: {CONFIG_KEYS} keys in the configuration, {SQLITE_KEYS:,} in SQLite"
    return Section((table_of(title, results.values()),), promises)
