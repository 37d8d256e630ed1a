"""The same request protected by Flask-HTTPAuth and by flask-rebar, and in flask-rebar by its authenticator and ours."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Flask
from flask_httpauth import HTTPTokenAuth  # type: ignore[import-untyped]
from flask_rebar.authenticators.header_api_key import HeaderApiKeyAuthenticator
from flask_rebar.rebar import Rebar
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import select

from keydesk.contrib.rebar import HeaderApiKeyAuthenticator as DigestAuthenticator

from .harness import HEADER, Pair, Result, Scale, compare, route
from .report import Promise, Section, table_of
from .requests import CONFIG_KEYS, SQLITE_KEYS, a_view, plain_app
from .samples import foreign_secrets, unknown_secrets

MAX_REBAR_RATIO = 1.15
REBAR_KEYS = (1, 100, 1000)


def httpauth_dict_app(secrets: list[str]) -> Flask:
    """Return an application with Flask-HTTPAuth over a dict."""
    app, auth = Flask("httpauth"), HTTPTokenAuth(header=HEADER)
    names = {secret: f"Client {number}" for number, secret in enumerate(secrets)}
    auth.verify_token(names.get)
    app.get("/")(auth.login_required(a_view()))
    return app


def httpauth_sqlite_app(path: Path, secrets: list[str]) -> Flask:
    """Return an application with Flask-HTTPAuth over a table of SHA-256 digests, through Flask-SQLAlchemy."""
    app, auth, db = Flask("httpauth_sqlite"), HTTPTokenAuth(header=HEADER), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{path}"
    db.init_app(app)

    class Client(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)
        name = db.Column(db.String(200), nullable=False)
        digest = db.Column(db.String(64), nullable=False, unique=True)

    @auth.verify_token  # type: ignore[untyped-decorator]
    def verify(token: str) -> str | None:
        digest = hashlib.sha256(token.encode()).hexdigest()
        client = db.session.execute(select(Client).where(Client.digest == digest)).scalar_one_or_none()
        return client.name if client else None

    app.get("/")(auth.login_required(a_view()))
    with app.app_context():
        db.create_all()
        for number, secret in enumerate(secrets):
            db.session.add(Client(name=f"Client {number}", digest=hashlib.sha256(secret.encode()).hexdigest()))
        db.session.commit()
    return app


def rebar_app(secrets: list[str], kind: type[HeaderApiKeyAuthenticator] = HeaderApiKeyAuthenticator) -> Flask:
    """Return an application of flask-rebar: `/plain` is open, `/` asks an authenticator of this kind for a key."""
    app, rebar = Flask("rebar"), Rebar()
    registry = rebar.create_handler_registry()
    authenticator = kind(header=HEADER)
    for number, secret in enumerate(secrets):
        authenticator.register_key(secret, f"Client {number}")
    registry.handles(rule="/plain", endpoint="plain")(a_view())
    registry.handles(rule="/", endpoint="protected", authenticators=[authenticator])(a_view())
    rebar.init_app(app)
    return app


def in_rebar(scale: Scale) -> dict[str, Result]:
    """Measure routes of flask-rebar with an authenticator, each against one without in the same application."""
    kinds = {"keydesk.contrib.rebar": DigestAuthenticator, "flask-rebar": HeaderApiKeyAuthenticator}
    pairs = []
    for name, kind in kinds.items():
        for count in REBAR_KEYS:
            secrets = unknown_secrets(count)
            app = rebar_app(secrets, kind)
            called = f"{name}, {count:,} key{'s' if count > 1 else ''}"
            pairs.append(Pair(called, route(app, "/plain"), route(app, "/", secrets=secrets)))
    return compare(pairs, scale.pairs)


def run(scale: Scale) -> Section:
    """Measure the peers."""
    few, many, unknown = unknown_secrets(CONFIG_KEYS), unknown_secrets(SQLITE_KEYS), foreign_secrets(1000)
    plain, in_dict, rebar = route(plain_app(), "/"), httpauth_dict_app(few), rebar_app(few)
    in_sqlite = httpauth_sqlite_app(scale.folder / "httpauth.db", many)
    open_rebar = route(rebar, "/plain")
    pairs = [
        Pair("Flask-HTTPAuth, dict, valid key", plain, route(in_dict, "/", secrets=few)),
        Pair("Flask-HTTPAuth, dict, unknown key", plain, route(in_dict, "/", status=401, secrets=unknown)),
        Pair("Flask-HTTPAuth, SQLite, valid key", plain, route(in_sqlite, "/", secrets=many)),
        Pair("Flask-HTTPAuth, SQLite, unknown key", plain, route(in_sqlite, "/", status=401, secrets=unknown)),
        Pair("flask-rebar, valid key", plain, route(rebar, "/", secrets=few)),
        Pair("flask-rebar, unknown key", plain, route(rebar, "/", status=401, secrets=unknown)),
        Pair("flask-rebar, valid key, to its own plain route", open_rebar, route(rebar, "/", secrets=few)),
        Pair(
            "flask-rebar, unknown key, to its own plain route",
            open_rebar,
            route(rebar, "/", status=401, secrets=unknown),
        ),
    ]
    title = f"The same request elsewhere: {CONFIG_KEYS} keys in a dict or in flask-rebar, {SQLITE_KEYS:,} in SQLite"
    elsewhere, inside = compare(pairs, scale.pairs), in_rebar(scale)
    return Section(
        (
            table_of(title, elsewhere.values()),
            table_of("In flask-rebar: HeaderApiKeyAuthenticator, valid key", inside.values(), baseline="without"),
        ),
        tuple(
            Promise(f"{name}: ratio to the route without", MAX_REBAR_RATIO, found.ratio)
            for name, found in inside.items()
            if name.startswith("keydesk")
        ),
    )
