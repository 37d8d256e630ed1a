"""Room server: the administration pages under `/admin/`, as a Flask application of their own."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from flask import Flask, Response, request

from ..desk import Desk
from ..flask.extension import NAME
from ..flask.guard import Guard
from ..flask.watch import Watch
from ..pages import Person, make_pages
from ..pages.people import visitor
from ..pages.routes import MAX_FORM_BYTES
from ..settings import Settings
from ..web.credentials import CredentialReader
from ..web.responses import Answers
from .access_log import KEY_ID

PERSON = "keydesk.person"  # in an environ: whom a trusted proxy says that it has signed in
_FORM_COOKIE = "__Host-keydesk-form"


def make_admin(desk: Desk, settings: Settings) -> Flask:
    """Return the administration pages of a desk, as a Flask application.

    It opens nothing and closes nothing: the desk is the caller's.

    Args:
        desk: Whose keys are administered, and with whose keys people sign in.
        settings: Say whom a proxy may vouch for, and hold what sessions are signed with.
    """
    app = Flask("keydesk.server.admin", static_folder=None)
    app.secret_key = _secret_key(settings)
    app.config.update(
        SESSION_COOKIE_NAME=_FORM_COOKIE,
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.extensions[NAME] = Guard(
        app=app,
        desk=desk,
        settings=settings,
        credentials=CredentialReader(header=settings.header, query_parameter=None),
        answers=Answers(realm=settings.realm, header=settings.header),
        watch=Watch(app),
    )

    def vouched_for() -> Person | None:
        name = request.environ.get(PERSON)
        return Person(name) if name is not None and name in settings.admins else None

    app.register_blueprint(make_pages(vouched_for), url_prefix="/admin")

    @app.after_request
    def name_key(response: Response) -> Response:
        person = visitor()
        if person is not None and person.key is not None:
            request.environ[KEY_ID] = person.key.id
        return response

    return app


def _secret_key(settings: Settings) -> bytes:
    """Return what sessions are signed with: the same for all workers and servers with one pepper.

    Without a pepper, which is so in development alone, each process has its own, and its sessions end with it.
    """
    if settings.pepper is None:
        return secrets.token_bytes(32)
    return hmac.digest(settings.pepper, b"keydesk sessions of the administration pages", hashlib.sha256)
