"""Room pages: signing in with a key, and out."""

from __future__ import annotations

from http import HTTPStatus

from flask import redirect, url_for
from werkzeug.wrappers import Response

from ..decision import Denied
from ..flask.current import real_request
from ..keys.scopes import requirement_of
from ..web.refusals import log_refusal
from . import session
from .people import EVERY_PAGE, the_desk, visitor
from .routes import Routes, shown

_SOME_PAGE = requirement_of((), EVERY_PAGE)
_REFUSED = "No page is open to this key. Use one that holds some of the scopes keydesk:*, from here and now."


def add_signing_in(routes: Routes) -> None:
    """Put in the first page, and those on which people sign in and out."""

    @routes.add_open("/")
    def home() -> Response:
        return redirect(url_for(".list_keys" if visitor() else ".sign_in"), HTTPStatus.SEE_OTHER)

    @routes.add_open("/sign-in", post=True)
    def sign_in() -> Response:
        request, desk = real_request(), the_desk()
        back = _back(request.values.get("back", ""))
        if request.method == "GET":
            if visitor() is not None:
                return redirect(back, HTTPStatus.SEE_OTHER)
            lost = "welcome" in request.args  # the browser was sent here with a session, and has none
            return shown("sign_in.html", back=back, lost=lost)
        secret = request.form.get("secret", "").strip()
        decision = desk.verifier.verify(secret, _SOME_PAGE, request.remote_addr, cost=0)
        if isinstance(decision, Denied):
            log_refusal(decision, request.remote_addr, request.endpoint)
            return shown("sign_in.html", HTTPStatus.FORBIDDEN, back=back, problem=_REFUSED)
        answer = redirect(url_for(".sign_in", back=back, welcome=1), HTTPStatus.SEE_OTHER)
        session.put(answer, session.begin(decision, desk.clock.now()))
        return answer

    @routes.add_open("/sign-out", post=True)
    def sign_out() -> Response:
        answer = redirect(url_for(".sign_in"), HTTPStatus.SEE_OTHER)
        if real_request().method == "POST":
            session.end(answer)
        return answer


def _back(path: str) -> str:
    """Return the page somebody came from, if it is one of ours; else the list of keys."""
    ours = path.startswith(url_for(".home")) and path.isprintable()
    return path if ours and "//" not in path and "\\" not in path else url_for(".list_keys")
