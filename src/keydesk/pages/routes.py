"""Room pages: how a page is put in: who may see it, and what every answer carries."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Blueprint, Response, make_response, redirect, render_template, url_for
from flask_wtf.csrf import validate_csrf
from werkzeug.wrappers import Response as AnyResponse
from wtforms.validators import ValidationError

from ..flask.access import Access, note
from ..flask.current import real_request
from ..keys.scopes import Requirement
from .people import visitor

V = TypeVar("V", bound=Callable[..., Any])

# No code and no style but from our own files, and no page of ours within another's (CSP 3).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
MAX_FORM_BYTES = 262_144


class Routes:
    """Puts views into the blueprint, each behind what it asks of a person.

    Args:
        pages: The blueprint.
    """

    def __init__(self, pages: Blueprint) -> None:
        self._pages = pages

    def add(self, path: str, *scopes: str, post: bool = False, for_all_owners: bool = False) -> Callable[[V], V]:
        """Return a decorator that puts a view in.

        Args:
            path: Where.
            scopes: One of them is needed.
            post: Whether it takes a form. No form is read before it is known to be of a page of ours.
            for_all_owners: Whether it shows what is nobody's in particular, which a key of one owner does not see.
        """

        def decorate(view: V) -> V:
            def guarded(**values: Any) -> Any:
                return _check(scopes, for_all_owners) or view(**values)

            self._put(path, view.__name__, guarded, post=post)
            return view

        return decorate

    def add_open(self, path: str, *, post: bool = False) -> Callable[[V], V]:
        """Return a decorator that puts a view in for everybody."""

        def decorate(view: V) -> V:
            def checked(**values: Any) -> Any:
                return _check_form() or view(**values)

            self._put(path, view.__name__, checked, post=post)
            return view

        return decorate

    def _put(self, path: str, name: str, view: Callable[..., Any], *, post: bool) -> None:
        note(view, Access(Requirement(), public=True))  # they ask for a session, and never for a key in a header
        self._pages.add_url_rule(path, name, view, methods=["GET", "POST"] if post else ["GET"])


def _check(scopes: tuple[str, ...], for_all_owners: bool) -> AnyResponse | None:
    """Return why the sender of this request does not get the page; None if they do."""
    request, sender = real_request(), visitor()
    if sender is None:
        if request.method == "GET":
            return redirect(url_for(".sign_in", back=request.script_root + request.path), HTTPStatus.SEE_OTHER)
        return problem(HTTPStatus.UNAUTHORIZED, "Your session has ended.", "Sign in again. Nothing was changed.")
    if not sender.may(*scopes):
        wanted = " or ".join(scopes)
        return problem(HTTPStatus.FORBIDDEN, "You may not see this.", f"It takes the scope {wanted}.")
    if for_all_owners and sender.owner is not None:
        return problem(HTTPStatus.FORBIDDEN, "You may not see this.", "It is not of your owner's keys alone.")
    return _check_form()


def _check_form() -> AnyResponse | None:
    """Return what a form is answered with that no page of ours was sent from; None where all is well."""
    request = real_request()
    if request.method != "POST":
        return None
    try:
        validate_csrf(request.form.get("csrf_token"))
    except ValidationError:
        found = "This form has gone stale, or does not come from these pages."
        return problem(HTTPStatus.BAD_REQUEST, found, "Go back, load the page anew and send it again.")
    return None


def shown(template: str, code: int = 200, **values: Any) -> Response:
    """Return a page, with a status."""
    return make_response(render_template(f"keydesk/{template}", person=visitor(), **values), code)


def problem(status: int, found: str, fix: str) -> Response:
    """Return a page that says what is wrong, and what to do."""
    return shown("problem.html", status, found=found, fix=fix, phrase=HTTPStatus(status).phrase)


def done(what: str, endpoint: str, **values: Any) -> AnyResponse:
    """Go on to a page that says what was done."""
    return redirect(url_for(endpoint, done=what, **values), HTTPStatus.SEE_OTHER)


def finish(response: Response) -> Response:
    """Give every answer the headers that keep it from other sites, and out of every cache."""
    headers = response.headers
    headers["Content-Security-Policy"] = POLICY
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if real_request().endpoint is None or not (real_request().endpoint or "").endswith(".asset"):
        headers["Cache-Control"] = "no-store"
    return response
