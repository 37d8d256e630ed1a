"""OPTIONS: a browser's preflight carries no key, so Flask's own answer goes out; a view's own code is guarded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Blueprint
from flask.views import MethodView

from .rig import Rig


def _views(rig: Rig) -> Rig:
    @rig.app.route("/automatic", methods=["GET", "POST"])
    @rig.keys.require()
    def automatic() -> str:
        return "ran"

    @rig.app.route("/own", methods=["GET", "OPTIONS"])
    @rig.keys.require("orders:read")
    def own() -> str:
        return "ran"

    @rig.app.route("/optional", methods=["GET", "OPTIONS"])
    @rig.keys.optional
    def optional() -> str:
        return "ran"

    @rig.app.route("/public", methods=["GET", "OPTIONS"])
    @rig.keys.public
    def public() -> str:
        return "ran"

    @rig.keys.require()
    class Orders(MethodView):
        def options(self) -> str:
            return "ran"

        def get(self) -> str:
            return "ran"

    rig.app.add_url_rule("/class", view_func=Orders.as_view("class"))
    blueprint = Blueprint("api", __name__, url_prefix="/api")

    @blueprint.get("/automatic")
    def of_blueprint() -> str:
        return "ran"

    @blueprint.route("/own", methods=["GET", "OPTIONS"])
    def own_of_blueprint() -> str:
        return "ran"

    rig.keys.protect(blueprint)
    rig.app.register_blueprint(blueprint)
    return rig


ALLOWED = {
    "/automatic": {"GET", "HEAD", "OPTIONS", "POST"},
    "/own": {"GET", "HEAD", "OPTIONS"},
    "/class": {"GET", "HEAD", "OPTIONS"},
    "/api/automatic": {"GET", "HEAD", "OPTIONS"},
    "/api/own": {"GET", "HEAD", "OPTIONS"},
}


@pytest.mark.parametrize("path", ALLOWED)
def test_options_without_a_key(rig: Rig, path: str) -> None:
    answer = _views(rig).call(path, method="OPTIONS")
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.allow.as_set(preserve_casing=True) == ALLOWED[path]  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/own", "/class", "/api/own"])
def test_options_of_the_view_with_a_key(rig: Rig, path: str) -> None:
    _views(rig)
    assert rig.call(path, rig.secret("orders:read"), "OPTIONS").text == "ran"
    assert rig.status(path, "wrong-key-wrong-key", "OPTIONS") == 401


def test_options_of_the_view_with_too_little_scope(rig: Rig) -> None:
    _views(rig)
    assert rig.status("/own", rig.secret(), "OPTIONS") == 403


@pytest.mark.parametrize("path", ["/optional", "/public"])
def test_options_of_the_view_that_is_open(rig: Rig, path: str) -> None:
    assert _views(rig).call(path, method="OPTIONS").text == "ran"


@pytest.mark.parametrize("path", ALLOWED)
def test_options_protected(new_rig: Callable[..., Rig], path: str) -> None:
    rig = _views(new_rig(KEYDESK_PROTECT_OPTIONS=True))
    assert rig.status(path, method="OPTIONS") == 401
    assert rig.status(path, "wrong-key-wrong-key", "OPTIONS") == 401
    answer = rig.call(path, rig.secret("orders:read"), "OPTIONS")
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/optional", "/public"])
def test_options_protected_leaves_open_views(new_rig: Callable[..., Rig], path: str) -> None:
    assert _views(new_rig(KEYDESK_PROTECT_OPTIONS=True)).call(path, method="OPTIONS").text == "ran"


def test_options_protected_asks_for_the_scopes(new_rig: Callable[..., Rig]) -> None:
    rig = new_rig(KEYDESK_PROTECT_OPTIONS=True)
    rig.app.add_url_rule("/", "view", rig.keys.require("orders:read")(lambda: ""))
    assert rig.status("/", rig.secret(), "OPTIONS") == 403
    assert rig.status("/nowhere", method="OPTIONS") == 404


def test_options_protected_with_a_handler(new_rig: Callable[..., Rig]) -> None:
    rig = _views(new_rig(KEYDESK_PROTECT_OPTIONS=True))
    rig.app.register_error_handler(401, lambda error: ("own", 401))
    assert rig.call("/automatic", method="OPTIONS").text == "own"
