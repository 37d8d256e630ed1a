"""Refusals as exceptions: taken over by class, by base class, by status, per blueprint; raised only where taken."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from flask import Blueprint, Response
from werkzeug.exceptions import Forbidden, HTTPException, Unauthorized
from werkzeug.test import EnvironBuilder

from keydesk import KeydeskError, Reason, Refused, StoreUnavailable
from keydesk.flask import (
    AccessDenied,
    CredentialsDuplicated,
    CredentialsInvalid,
    CredentialsMissing,
    LimitExceeded,
    NetworkDenied,
    ScopeDenied,
)
from keydesk.flask import StoreUnavailable as StoreUnavailableAnswer
from keydesk.flask.exceptions import EXCEPTIONS

from .rig import Rig

CHALLENGES = {
    "missing": ['Bearer realm="api"', 'ApiKey realm="api", header="X-API-Key"'],
    "invalid": ['Bearer realm="api", error="invalid_token"'],
    "scope": ['Bearer realm="api", error="insufficient_scope", scope="orders:read"'],
}


@pytest.fixture
def shop(rig: Rig) -> Rig:
    @rig.app.get("/")
    @rig.keys.require("orders:read")
    def orders() -> str:
        return "orders"

    blueprint = Blueprint("inner", __name__, url_prefix="/inner")

    @blueprint.get("/")
    @rig.keys.require("orders:read")
    def inner() -> str:
        return "inner"

    rig.app.register_blueprint(blueprint)
    return rig


def _refusals(rig: Rig) -> dict[str, dict[str, Any]]:
    """Return a request for each kind of refusal there is."""
    here = {"REMOTE_ADDR": "198.51.100.9"}
    return {
        "CredentialsMissing": {},
        "CredentialsInvalid": {"secret": "not-a-key-of-anybody"},
        "CredentialsDuplicated": {"secret": "one,two"},
        "ScopeDenied": {"secret": rig.secret()},
        "NetworkDenied": {"secret": rig.secret("*", networks=["203.0.113.7"]), "environ_base": here},
    }


STATUS = {
    "CredentialsMissing": 401,
    "CredentialsInvalid": 401,
    "CredentialsDuplicated": 400,
    "ScopeDenied": 403,
    "NetworkDenied": 403,
}


@pytest.mark.parametrize("name", STATUS)
@pytest.mark.parametrize(
    "taken",
    [
        lambda name: EXCEPTION_BY_NAME[name],
        lambda name: AccessDenied,
        lambda name: Refused,
        lambda name: KeydeskError,
        lambda name: STATUS[name],
        lambda name: EXCEPTION_BY_NAME[name].__mro__[-5],  # werkzeug's own class of the status
        lambda name: HTTPException,
        lambda name: Exception,
    ],
    ids=["class", "AccessDenied", "Refused", "KeydeskError", "status", "werkzeug", "HTTPException", "Exception"],
)
def test_handler_takes_over(shop: Rig, name: str, taken: Callable[[str], Any]) -> None:
    seen: list[Exception] = []

    def handler(error: Exception) -> tuple[str, int]:
        seen.append(error)
        return "own words", 418

    shop.app.register_error_handler(taken(name), handler)
    answer = shop.call(**_refusals(shop)[name])
    assert (answer.status_code, answer.text) == (418, "own words")
    (error,) = seen
    assert type(error) is EXCEPTION_BY_NAME[name]
    assert isinstance(error, AccessDenied)
    assert error.code == STATUS[name]
    assert EXCEPTIONS[error.decision.reason] is type(error)


EXCEPTION_BY_NAME: dict[str, type[AccessDenied]] = {
    cls.__name__: cls
    for cls in (CredentialsMissing, CredentialsInvalid, CredentialsDuplicated, ScopeDenied, NetworkDenied)
}


def test_handler_of_another_status_is_left_alone(shop: Rig) -> None:
    shop.app.register_error_handler(404, lambda error: ("lost", 404))
    shop.app.register_error_handler(Forbidden, lambda error: ("no", 403))
    assert shop.call().get_json()["reason"] == "missing"


def test_every_reason_has_an_exception_of_its_status() -> None:
    from keydesk.web.responses import _STATUS

    assert set(EXCEPTIONS) == set(Reason)
    for reason, exception in EXCEPTIONS.items():
        assert exception.code == _STATUS[reason]
    assert LimitExceeded.code == 429
    assert StoreUnavailableAnswer.code == 503


def test_handler_most_specific_first(shop: Rig) -> None:
    shop.app.register_error_handler(HTTPException, lambda error: ("http", 400))
    shop.app.register_error_handler(CredentialsMissing, lambda error: ("missing", 401))
    assert shop.call().text == "missing"
    assert shop.call(secret="not-a-key-of-anybody").text == "http"


def test_handler_missing_and_invalid_apart(shop: Rig) -> None:
    shop.app.register_error_handler(CredentialsMissing, lambda error: ({"error": "API key is missing"}, 401))
    shop.app.register_error_handler(CredentialsInvalid, lambda error: ({"error": "API key is not valid"}, 403))
    assert shop.call().get_json() == {"error": "API key is missing"}
    answer = shop.call(secret="not-a-key-of-anybody")
    assert (answer.status_code, answer.get_json()) == (403, {"error": "API key is not valid"})


def test_handler_of_a_blueprint(shop: Rig) -> None:
    """A handler of a blueprint shapes the refusals of its views, and only those."""
    blueprint = Blueprint("own", __name__, url_prefix="/own")

    @blueprint.get("/")
    @shop.keys.require()
    def own() -> str:
        return ""

    @blueprint.errorhandler(401)
    def handler(error: AccessDenied) -> tuple[str, int]:
        return "of the blueprint", 401

    shop.app.register_blueprint(blueprint)
    for _ in range(2):  # the second time from what was remembered of the first
        assert shop.call("/own/").text == "of the blueprint"
        assert shop.call("/").get_json()["reason"] == "missing"
        assert shop.call("/inner/").get_json()["reason"] == "missing"


def test_handler_of_an_outer_blueprint(shop: Rig) -> None:
    outer, inner = Blueprint("outer", __name__), Blueprint("deep", __name__)

    @inner.get("/deep")
    @shop.keys.require()
    def deep() -> str:
        return ""

    @outer.errorhandler(CredentialsMissing)
    def handler(error: AccessDenied) -> tuple[str, int]:
        return "of the outer", 401

    outer.register_blueprint(inner)
    shop.app.register_blueprint(outer)
    assert shop.call("/deep").text == "of the outer"
    assert shop.call("/deep", "not-a-key-of-anybody").get_json()["reason"] == "invalid"


def test_handler_of_the_app_for_all_blueprints(shop: Rig) -> None:
    blueprint = Blueprint("own", __name__)

    @blueprint.app_errorhandler(401)
    def handler(error: AccessDenied) -> tuple[str, int]:
        return "everywhere", 401

    shop.app.register_blueprint(blueprint)
    assert shop.call("/inner/").text == shop.call("/").text == "everywhere"


def test_handler_generic_recipe_of_flask(shop: Rig) -> None:
    """The recipe of Flask's docs: take `e.get_response()` and put JSON into it."""

    @shop.app.errorhandler(HTTPException)
    def handler(e: HTTPException) -> Any:
        response = e.get_response()
        response.data = json.dumps({"code": e.code, "name": e.name, "description": e.description})
        response.content_type = "application/json"
        return response

    answer = shop.call()
    assert answer.status_code == 401
    assert answer.get_json() == {
        "code": 401,
        "name": "Unauthorized",
        "description": "Send your key in the header X-API-Key, or as Authorization: Bearer.",
    }
    assert answer.headers.getlist("WWW-Authenticate") == CHALLENGES["missing"]
    assert answer.headers["Content-Type"] == "application/json"
    assert shop.call("/nowhere").get_json()["code"] == 404


def test_handler_returns_the_error(shop: Rig) -> None:
    """`return e` is what a handler does that only wanted to look."""

    @shop.app.errorhandler(Exception)
    def handler(error: Exception) -> Any:
        return error

    answer = shop.call()
    assert (answer.status_code, answer.get_json()["reason"]) == (401, "missing")
    assert answer.headers.getlist("WWW-Authenticate") == CHALLENGES["missing"]


def test_exception_of_its_own(shop: Rig) -> None:
    shop.app.register_error_handler(CredentialsMissing, lambda error: "")
    with shop.app.test_request_context("/"), pytest.raises(CredentialsMissing) as raised:
        shop.app.view_functions["orders"]()
    error = raised.value
    assert error.get_body().startswith("{")
    assert ("Cache-Control", "no-store") in error.get_headers()
    assert str(error).startswith("401 Unauthorized: Send your key")
    assert isinstance(error, Unauthorized)


@pytest.mark.parametrize(
    ("secret", "challenge"), [(None, "missing"), ("not-a-key-of-anybody", "invalid")], ids=["missing", "invalid"]
)
def test_challenge_put_back(shop: Rig, secret: str | None, challenge: str) -> None:
    """RFC 9110 asks for WWW-Authenticate on every 401; a handler that makes its own response forgets it."""
    shop.app.register_error_handler(401, lambda error: ({"status": 401, "message": "no"}, 401))
    answer = shop.call(secret=secret)
    assert answer.headers.getlist("WWW-Authenticate") == CHALLENGES[challenge]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"


def test_challenge_of_a_handler_stays(shop: Rig) -> None:
    shop.app.register_error_handler(401, lambda error: Response("no", 401, {"www-authenticate": "Own"}))
    assert shop.call().headers.getlist("WWW-Authenticate") == ["Own"]


def test_challenge_not_on_another_status(shop: Rig) -> None:
    shop.app.register_error_handler(401, lambda error: ("", 302, {"Location": "/login"}))
    answer = shop.call()
    assert answer.status_code == 302
    assert "WWW-Authenticate" not in answer.headers


def test_retry_after_put_back(shop: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(digests: object) -> None:
        raise StoreUnavailable("the database does not answer")

    monkeypatch.setattr(shop.desk.store, "find_by_digest", broken)
    shop.app.register_error_handler(StoreUnavailableAnswer, lambda error: ("later", 503))
    answer = shop.call(secret=shop.secret())
    assert (answer.text, answer.headers["Retry-After"]) == ("later", "5")


def test_handler_that_raises_is_no_way_in(shop: Rig) -> None:
    def handler(error: Exception) -> str:
        raise ZeroDivisionError

    shop.app.testing = False
    shop.app.register_error_handler(401, handler)
    assert shop.status() == 500


def test_trapped_http_exceptions(new_rig: Callable[..., Rig]) -> None:
    """TRAP_HTTP_EXCEPTIONS raises what no handler takes; a refusal is none of these."""
    rig = new_rig(TRAP_HTTP_EXCEPTIONS=True, TRAP_BAD_REQUEST_ERRORS=True)

    @rig.app.get("/")
    @rig.keys.require()
    def view() -> str:
        return ""

    assert rig.status() == 401
    assert rig.status(secret="a,b") == 400
    rig.app._got_first_request = False
    rig.app.extensions["keydesk"].handled.clear()
    rig.app.register_error_handler(CredentialsDuplicated, lambda error: ("twice", 400))
    assert rig.call(secret="a,b").text == "twice"


def test_nothing_raised_where_nobody_handles_it(shop: Rig) -> None:
    """A refusal must not cost an exception: peers pay 61 microseconds for one. Every frame is watched."""
    raised: list[str] = []

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "exception":
            raised.append(f"{frame.f_code.co_qualname}: {argument[0].__name__}")
        return trace

    requests = _refusals(shop)
    client = shop.app.test_client()
    for name, request in requests.items():  # once to fill what is remembered
        secret = request.pop("secret", None)
        request["headers"] = {} if secret is None else {"X-API-Key": secret}
        assert client.get("/", **request).status_code == STATUS[name]
    before = sys.gettrace()
    try:
        for request in requests.values():
            environ = EnvironBuilder("/", **request).get_environ()
            sys.settrace(trace)
            shop.app.wsgi_app(environ, lambda *_: lambda _: None)
            sys.settrace(None)
    finally:
        sys.settrace(before)
    assert [line for line in raised if not line.endswith(("StopIteration", "GeneratorExit"))] == []


def test_nothing_made_where_nobody_handles_it(shop: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise AssertionError("an exception was made that nobody takes")

    monkeypatch.setattr(AccessDenied, "__init__", explode)
    for name, request in _refusals(shop).items():
        assert shop.status(**request) == STATUS[name]


def test_handler_that_streams_gets_the_challenge_and_no_length_of_ours(rig: Rig) -> None:
    """The length of our answer would cut off theirs."""

    rig.app.get("/any")(rig.keys.require()(lambda: "ok"))

    @rig.app.errorhandler(401)
    def stream(error: AccessDenied) -> Response:
        return Response(iter(["no ", "key"]), 401)

    response = rig.call("/any")
    assert response.text == "no key"
    assert "Bearer" in response.headers["WWW-Authenticate"]
    assert "Content-Length" not in response.headers
