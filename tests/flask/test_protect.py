"""`keys.protect` on an application and on blueprints; `public` and `optional` in it and alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, redirect, send_from_directory
from flask.views import MethodView

from keydesk.flask import current_key, key_accepted, key_denied

from .rig import Rig


def _whole(rig: Rig, *scopes: str) -> Rig:
    rig.keys.protect(rig.app, *scopes)

    @rig.app.get("/")
    def plain() -> str:
        return current_key.name

    @rig.app.get("/own")
    @rig.keys.require("own:read")
    def own() -> str:
        return "own"

    @rig.app.get("/public")
    @rig.keys.public
    def public() -> str:
        return f"public {bool(current_key)}"

    @rig.app.get("/optional")
    @rig.keys.optional
    def optional() -> str:
        return f"optional {current_key.name if current_key else None}"

    @rig.app.get("/folder/")
    def folder() -> str:
        return "folder"

    @rig.app.get("/moved")
    def moved() -> Any:
        return redirect("/")

    return rig


def test_protect_app(rig: Rig) -> None:
    _whole(rig)
    assert rig.call().get_json()["reason"] == "missing"
    assert rig.call(secret=rig.secret(name="Mobile app")).text == "Mobile app"
    assert rig.status("/moved") == 401


def test_protect_app_scopes_joined_with_those_of_the_view(rig: Rig) -> None:
    _whole(rig, "shop:enter")
    answer = rig.call("/own", rig.secret("own:read"))
    assert answer.get_json()["required_scopes"] == ["shop:enter", "own:read"]
    assert rig.status("/own", rig.secret("shop:enter")) == 403
    assert rig.status("/own", rig.secret("shop:enter", "own:read")) == 200
    assert rig.status("/", rig.secret("own:read")) == 403


def test_protect_app_any_of_of_the_view(rig: Rig) -> None:
    rig.keys.protect(rig.app, "shop:enter")

    @rig.app.get("/")
    @rig.keys.require(any_of=["a:read", "b:read"])
    def view() -> str:
        return ""

    assert rig.status(secret=rig.secret("shop:enter")) == 403
    assert rig.status(secret=rig.secret("b:read")) == 403
    assert rig.status(secret=rig.secret("shop:enter", "b:read")) == 200


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong-key-wrong-key"}, {"X-API-Key": "a,b"}])
def test_protect_app_public(rig: Rig, headers: dict[str, str]) -> None:
    """What callers of a public view present is not looked at, so a stale key does no harm there."""
    assert _whole(rig, "shop:enter").call("/public", headers=headers).text == "public False"


def test_protect_app_optional(rig: Rig) -> None:
    _whole(rig)
    assert rig.call("/optional").text == "optional None"
    assert rig.call("/optional", rig.secret(name="me")).text == "optional me"
    assert rig.status("/optional", "wrong-key-wrong-key") == 401
    assert rig.status("/optional", "a,b") == 400


def test_protect_app_optional_asks_those_with_a_key_for_the_scopes(rig: Rig) -> None:
    _whole(rig, "shop:enter")
    assert rig.call("/optional").text == "optional None"
    assert rig.status("/optional", rig.secret()) == 403
    assert rig.status("/optional", rig.secret("shop:enter")) == 200


def test_protect_app_leaves_what_is_no_view(rig: Rig) -> None:
    """Where there is no view there is nothing to protect: Flask's own answers stay."""
    _whole(rig)
    assert rig.status("/nowhere") == 404
    assert rig.status("/", method="DELETE") == 405
    answer = rig.call("/folder")
    assert (answer.status_code, answer.location) == (308, "http://localhost/folder/")
    assert rig.status("/folder/") == 401


def test_protect_app_static_files(new_rig: Callable[..., Rig], tmp_path: Any) -> None:
    """Files of the application are served by a view, so they are protected; exempt it where they are for all."""
    (tmp_path / "open.txt").write_text("text")
    for exempt, status in ((False, 401), (True, 200)):
        rig = new_rig()
        rig.app.static_folder = str(tmp_path)
        if exempt:
            rig.app.view_functions["static"] = rig.keys.public(lambda filename: send_from_directory(tmp_path, filename))
        rig.keys.protect(rig.app)
        answer = rig.call("/static/open.txt")
        assert answer.status_code == status
        answer.close()


def test_protect_twice(rig: Rig) -> None:
    rig.keys.protect(rig.app, "a:read")
    _whole(rig, "b:read")
    assert rig.status(secret=rig.secret("b:read")) == 403
    assert rig.status(secret=rig.secret("a:read")) == 403
    assert rig.status(secret=rig.secret("a:read", "b:read")) == 200
    assert rig.status("/public") == 200


def test_protect_blueprint_and_no_other(rig: Rig) -> None:
    blueprint = Blueprint("api", __name__, url_prefix="/api")

    @blueprint.get("/orders")
    def orders() -> str:
        return ""

    @rig.app.get("/")
    def home() -> str:
        return ""

    @rig.app.get("/api/outside")
    def outside() -> str:
        return ""

    rig.keys.protect(blueprint, "orders:read")
    rig.app.register_blueprint(blueprint)
    assert rig.status("/api/orders") == 401
    assert rig.status("/api/orders", rig.secret()) == 403
    assert rig.status("/api/orders", rig.secret("orders:read")) == 200
    assert rig.status("/") == 200
    assert rig.status("/api/outside") == 200  # the blueprint decides, not the address
    assert rig.status("/api/nowhere") == 404


def test_protect_nested_blueprints_join_their_scopes(rig: Rig) -> None:
    outer, inner = Blueprint("outer", __name__), Blueprint("inner", __name__)
    rig.keys.protect(outer, "a:read")
    rig.keys.protect(inner, "b:read")

    @inner.get("/deep")
    @rig.keys.require("c:read")
    def deep() -> str:
        return ""

    @outer.get("/shallow")
    def shallow() -> str:
        return ""

    outer.register_blueprint(inner)
    rig.app.register_blueprint(outer)
    for scopes in (["a:read", "b:read"], ["b:read", "c:read"], ["a:read", "c:read"]):
        assert rig.status("/deep", rig.secret(*scopes)) == 403
    assert rig.status("/deep", rig.secret("a:read", "b:read", "c:read")) == 200
    assert rig.status("/shallow", rig.secret("a:read")) == 200


def test_protect_blueprint_of_classes(rig: Rig) -> None:
    blueprint = Blueprint("api", __name__)
    rig.keys.protect(blueprint)

    @rig.keys.require("orders:write")
    class Orders(MethodView):
        def get(self) -> str:
            return ""

    @rig.keys.public
    class Health(MethodView):
        def get(self) -> str:
            return "well"

    @rig.keys.optional
    class News(MethodView):
        def get(self) -> str:
            return "news"

    for name, view in (("orders", Orders), ("health", Health), ("news", News)):
        blueprint.add_url_rule(f"/{name}", view_func=view.as_view(name))
    rig.app.register_blueprint(blueprint)
    assert rig.status("/orders") == 401
    assert rig.status("/orders", rig.secret()) == 403
    assert rig.status("/orders", rig.secret("orders:write")) == 200
    assert rig.call("/health").text == "well"
    assert rig.call("/news").text == "news"
    assert rig.status("/news", "wrong-key-wrong-key") == 401


def test_protect_before_init_app(new_rig: Callable[..., Rig], clock: Any) -> None:
    from flask import Flask

    from keydesk.flask import Keydesk

    keys, app = Keydesk(), Flask("late")
    keys.protect(app)

    @app.get("/")
    def view() -> str:
        return ""

    app.config["KEYDESK_STORE"] = "memory://"
    keys.init_app(app, clock=clock)
    assert app.test_client().get("/").status_code == 401


def test_protect_sends_one_signal(rig: Rig) -> None:
    """A key that passes the blueprint and then the view is accepted once, and refused at most once."""
    _whole(rig)
    seen: list[str] = []

    def note(sender: Any, decision: Any) -> None:
        seen.append(str(decision.reason or "accepted"))

    with key_accepted.connected_to(note, rig.app), key_denied.connected_to(note, rig.app):
        rig.status("/own", rig.secret("own:read"))
        rig.status("/own", rig.secret())
        rig.status("/own")
    assert seen == ["accepted", "scope_denied", "missing"]


# `optional` and `public` alone


def test_optional_alone(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.optional
    def view() -> str:
        return current_key.name if current_key else "nobody"

    issued = rig.issue(name="me")
    assert rig.call().text == "nobody"
    assert rig.call(secret="").text == "nobody"
    assert rig.call(secret=issued.secret).text == "me"
    assert rig.status(secret="wrong-key-wrong-key") == 401
    rig.desk.revoke(issued.key.id)
    assert rig.call(secret=issued.secret).get_json()["reason"] == "revoked"


def test_optional_async(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.optional
    async def view() -> str:
        return current_key.name if current_key else "nobody"

    assert rig.call().text == "nobody"
    assert rig.call(secret=rig.secret(name="me")).text == "me"
    assert rig.status(secret="wrong-key-wrong-key") == 401


def test_public_alone(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.public
    def view() -> str:
        return ""

    assert rig.status() == rig.status(secret="wrong-key-wrong-key") == 200
