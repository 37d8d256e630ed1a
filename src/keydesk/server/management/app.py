"""Room server: the management API, a Flask application over a desk."""

from __future__ import annotations

import logging
from http import HTTPStatus

from flask import Flask, Response
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from ...desk import Desk
from ...errors import KeydeskError
from ...flask.exceptions import AccessDenied, response_of
from ...flask.extension import NAME, Keydesk
from ...flask.guard import Guard
from ...flask.watch import Watch
from ...settings import Settings
from ...web.credentials import CredentialReader
from ...web.responses import Answers
from . import problems
from .bulk import add_bulk
from .document import add_document
from .history import add_history
from .keys import add_keys
from .plans import add_plans
from .requests import REQUEST_ID, JsonRequest, read_body, request_id
from .routes import Routes

logger = logging.getLogger("keydesk")

_ABOUT = (
    "Makes, changes and ends keys, and shows what was counted and changed. Callers present a key of the same desk. A "
    "caller gives a key no more than it holds, and one that is bound to an owner sees and touches that owner's keys "
    "alone. Errors are problem details (RFC 9457); lists are continued by an opaque cursor."
)


class _Management(OpenAPI):
    request_class = JsonRequest


def make_management(desk: Desk, settings: Settings) -> Flask:
    """Return the management API of a desk: `/v1`, `/openapi.json` and `/docs`, as a Flask application.

    It opens nothing and closes nothing: the desk is the caller's.

    Args:
        desk: Whose keys it manages, and which its callers' keys are of.
        settings: Says where callers put their key, and what a refusal names.
    """
    app = _Management(
        "keydesk.server.management",
        info=Info(title="Keydesk", version="1", description=_ABOUT),
        security_schemes={
            "apiKey": {"type": "apiKey", "in": "header", "name": settings.header},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
        validation_error_callback=_refuse_invalid,
        doc_ui=False,
        static_folder=None,
    )
    app.config["MAX_CONTENT_LENGTH"] = problems.MAX_BODY_BYTES
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.url_map.merge_slashes = False  # which would answer `//` with a redirect
    app.url_map.strict_slashes = True
    app.extensions[NAME] = Guard(
        app=app,
        desk=desk,
        settings=settings,
        credentials=CredentialReader(header=settings.header, query_parameter=None),
        answers=Answers(realm=settings.realm, header=settings.header),
        watch=Watch(app),
    )
    keys = Keydesk()
    keys.protect(app)
    app.before_request(read_body)
    app.after_request(_finish)
    app.register_error_handler(AccessDenied, lambda error: error.get_response())
    app.register_error_handler(KeydeskError, lambda error: response_of(problems.of_error(error)))
    app.register_error_handler(HTTPException, lambda error: response_of(problems.of_http(error)))
    app.register_error_handler(Exception, _fail)
    routes = Routes(app, keys)
    add_keys(routes, desk)
    add_bulk(routes, desk)
    add_history(routes, desk)
    add_plans(routes, desk)
    add_document(app, keys)
    return app


def _refuse_invalid(error: ValidationError) -> Response:
    return response_of(problems.of_validation(error))


def _fail(error: Exception) -> Response:
    """Answer what nobody expected. The log says what it was; its traceback holds no values."""
    logger.error("A request to the management API went wrong, %s %s", REQUEST_ID, request_id(), exc_info=error)
    return response_of(problems.INTERNAL)


def _finish(response: Response) -> Response:
    response.headers[REQUEST_ID] = request_id()
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if response.status_code != HTTPStatus.OK or response.mimetype == "application/json":
        response.headers["Cache-Control"] = "no-store"
    return response
