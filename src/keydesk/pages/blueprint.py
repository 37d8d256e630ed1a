"""Room pages: the blueprint, and what happens before and after each of its views."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, send_from_directory
from flask_wtf.csrf import generate_csrf
from werkzeug.exceptions import HTTPException

from ..errors import (
    KeydeskError,
    KeyNotFound,
    NotPermitted,
    OwnerNotFound,
    PlanNotFound,
    SettingsError,
    StoreError,
    StoreReadOnly,
)
from ..flask.current import real_app, real_request
from ..flask.extension import NAME
from . import session, texts
from .events import add_events
from .explaining import add_explaining
from .health import add_health
from .issuing import add_issuing
from .keys import add_keys
from .owners import add_owners
from .people import Person, note_visitor, the_desk
from .plans import add_plans
from .refused import add_refused
from .routes import Routes, finish, problem
from .signing_in import add_signing_in
from .tending import add_tending

logger = logging.getLogger("keydesk")

_ASSETS = "static"
_ASSET_SECONDS = 3600


def make_pages(authorize: Callable[[], Person | None] | None = None) -> Blueprint:
    """Return the administration pages of the application's desk, to be registered under a path.

    People sign in with a key that holds some of the scopes `keydesk:*`, and may do here what these say. The
    application needs a `secret_key`, which signs their sessions, and TLS.

    Args:
        authorize: Says who sends the current request where the application has signed them in itself; None for
            somebody it does not know, who may still sign in with a key. It is called for each request.
    """
    pages = Blueprint("keydesk_pages", __name__, template_folder="templates", url_prefix="/admin")
    pages.record_once(lambda state: _require_secret_key(state.app))

    @pages.before_request
    def begin() -> None:
        if NAME not in real_app().extensions:
            raise RuntimeError("The pages need a desk: call keys.init_app(app) before the first request.")
        if not _is_asset():
            person = authorize() if authorize is not None else None
            note_visitor(person or session.person_of(the_desk(), real_request()))

    @pages.after_request
    def end(response: Response) -> Response:
        session.keep(real_request(), response)
        return finish(response)

    @pages.context_processor
    def known() -> dict[str, Any]:
        return {"csrf_token": generate_csrf, "now": the_desk().clock.now(), **_TEXTS}

    pages.register_error_handler(KeydeskError, _tell)
    pages.register_error_handler(HTTPException, _tell_http)
    pages.register_error_handler(Exception, _fail)
    routes = Routes(pages)

    @routes.add_open("/static/<name>")
    def asset(name: str) -> Response:
        return send_from_directory(f"{pages.root_path}/{_ASSETS}", name, max_age=_ASSET_SECONDS)

    @routes.add_open("/<path:elsewhere>")
    def nothing(elsewhere: str) -> Response:  # noqa: ARG001
        return problem(HTTPStatus.NOT_FOUND, "There is no such page.", "Go back to the list.")

    add_signing_in(routes)
    add_keys(routes)
    add_issuing(routes)
    add_tending(routes)
    add_explaining(routes)
    add_owners(routes)
    add_plans(routes)
    add_refused(routes)
    add_events(routes)
    add_health(routes)
    return pages


_TEXTS = {
    "moment": texts.moment,
    "ago": texts.ago,
    "until": texts.until,
    "counted": texts.counted,
}


def _require_secret_key(app: Any) -> None:
    """Return if sessions can be signed.

    Raises:
        SettingsError: They cannot.
    """
    if not app.secret_key:
        fix = "set it to what `openssl rand -hex 32` prints"
        raise SettingsError([f"SECRET_KEY is not set, and the pages sign sessions with it; {fix}"])


def _is_asset() -> bool:
    return (real_request().endpoint or "").endswith(".asset")


def _tell(error: KeydeskError) -> Response:
    """Answer an error that a view does not show on its own page."""
    if isinstance(error, (KeyNotFound, PlanNotFound, OwnerNotFound)):
        return problem(HTTPStatus.NOT_FOUND, str(error), "It may have been deleted. Go back to the list.")
    if isinstance(error, NotPermitted):
        return problem(HTTPStatus.FORBIDDEN, "You may not do this.", str(error))
    if isinstance(error, StoreReadOnly):
        return problem(HTTPStatus.CONFLICT, "Nothing can be changed here.", str(error))
    if isinstance(error, StoreError):
        logger.error("The pages cannot be shown: %s", error)
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "The store does not answer.", "Try again in a moment.")
    return problem(HTTPStatus.CONFLICT, "This was not done.", str(error))


def _tell_http(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST or error.response is not None:
        return error
    return problem(error.code, f"{error.name}.", "Go back to the list of keys.")


def _fail(error: Exception) -> Response:
    """Answer what nobody expected. The log says what it was."""
    logger.error("A page went wrong", exc_info=error)
    if real_app().testing:
        raise error
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "This went wrong.", "The log says why. Try again.")
