"""`keys.require` on functions: who is let in, and what is said to the others."""

from __future__ import annotations

import pytest

from keydesk import InvalidField
from keydesk.flask import current_key

from .rig import Rig


@pytest.fixture
def shop(rig: Rig) -> Rig:
    @rig.app.get("/any")
    @rig.keys.require()
    def any_key() -> str:
        return current_key.name

    @rig.app.get("/read")
    @rig.keys.require("orders:read")
    def read() -> str:
        return "read"

    @rig.app.get("/both")
    @rig.keys.require("orders:read", "orders:write")
    def both() -> str:
        return "both"

    @rig.app.get("/either")
    @rig.keys.require(any_of=["orders:read", "orders:write"])
    def either() -> str:
        return "either"

    @rig.app.get("/mixed/<int:number>")
    @rig.keys.require("shop:enter", any_of=["orders:read", "orders:write"], cost=3)
    def mixed(number: int) -> str:
        return str(number)

    return rig


def test_require_no_key(shop: Rig) -> None:
    answer = shop.call("/any")
    assert answer.status_code == 401
    assert answer.mimetype == "application/problem+json"
    assert answer.get_json()["reason"] == "missing"
    assert answer.headers.getlist("WWW-Authenticate") == [
        'Bearer realm="api"',
        'ApiKey realm="api", header="X-API-Key"',
    ]
    assert answer.headers["Cache-Control"] == "no-store"


def test_require_any_key(shop: Rig) -> None:
    answer = shop.call("/any", shop.secret(name="Mobile app"))
    assert (answer.status_code, answer.text) == (200, "Mobile app")


def test_require_unknown_key(shop: Rig) -> None:
    assert shop.call("/any", shop.desk.mint.secret_format.mint()).get_json()["reason"] == "invalid"
    assert shop.call("/any", "something-else-entirely").get_json()["reason"] == "invalid"


def test_require_bearer(shop: Rig) -> None:
    assert shop.status("/any", headers={"Authorization": f"Bearer {shop.secret()}"}) == 200
    assert shop.status("/any", headers={"Authorization": f"bEARER {shop.secret()}"}) == 200


@pytest.mark.parametrize(
    ("path", "scopes", "missing"),
    [
        ("/read", ["orders:read"], None),
        ("/read", ["orders:*"], None),
        ("/read", ["*"], None),
        ("/read", [], ["orders:read"]),
        ("/read", ["orders:write"], ["orders:read"]),
        ("/both", ["orders:read", "orders:write"], None),
        ("/both", ["orders:write"], ["orders:read"]),
        ("/both", [], ["orders:read", "orders:write"]),
        ("/either", ["orders:read"], None),
        ("/either", ["orders:write"], None),
        ("/either", ["orders:delete"], ["orders:read", "orders:write"]),
        ("/mixed/7", ["shop:enter", "orders:write"], None),
        ("/mixed/7", ["orders:write"], ["shop:enter"]),
        ("/mixed/7", ["shop:enter"], ["orders:read", "orders:write"]),
    ],
)
def test_require_scopes(shop: Rig, path: str, scopes: list[str], missing: list[str] | None) -> None:
    answer = shop.call(path, shop.secret(*scopes))
    if missing is None:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 403
        assert answer.get_json()["missing_scopes"] == missing


def test_require_scope_challenge(shop: Rig) -> None:
    answer = shop.call("/both", shop.secret("orders:read"))
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="api", error="insufficient_scope", scope="orders:read orders:write"'
    )
    assert answer.get_json()["required_scopes"] == ["orders:read", "orders:write"]


def test_require_network(shop: Rig) -> None:
    secret = shop.secret(networks=["203.0.113.0/24"])
    assert shop.status("/any", secret, environ_base={"REMOTE_ADDR": "203.0.113.9"}) == 200
    answer = shop.call("/any", secret, environ_base={"REMOTE_ADDR": "198.51.100.9"})
    assert (answer.status_code, answer.get_json()["reason"]) == (403, "network_denied")
    # The address is the socket's: nothing a client writes into a header moves it.
    moved = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
    assert shop.status("/any", secret, headers=moved, environ_base={"REMOTE_ADDR": "198.51.100.9"}) == 403


def test_require_head(shop: Rig) -> None:
    refused = shop.call("/any", method="HEAD")
    assert (refused.status_code, refused.data) == (401, b"")
    assert "WWW-Authenticate" in refused.headers
    assert shop.status("/any", shop.secret(), method="HEAD") == 200


@pytest.mark.parametrize("cost", [-1, 1_000_001, True, 1.5, "1", None])
def test_require_cost_out_of_range(rig: Rig, cost: object) -> None:
    with pytest.raises(InvalidField, match="cost"):
        rig.keys.require(cost=cost)  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", [0, 1, 1_000_000])
def test_require_cost_in_range(rig: Rig, cost: int) -> None:
    rig.keys.require(cost=cost)


@pytest.mark.parametrize("scope", ["orders", "orders:*", "*", "", "orders:read ", "orders:read,x:y", "a:b\n"])
def test_require_scope_that_is_none(rig: Rig, scope: str) -> None:
    with pytest.raises(InvalidField):
        rig.keys.require(scope)
    with pytest.raises(InvalidField):
        rig.keys.require(any_of=[scope])
    with pytest.raises(InvalidField):
        rig.keys.protect(rig.app, scope)


def test_require_any_of_as_text(rig: Rig) -> None:
    """A string is a sequence of its letters; taken for scopes it would ask for nonsense."""
    with pytest.raises(InvalidField, match="any_of"):
        rig.keys.require(any_of="orders:read")


def test_require_keeps_the_view(rig: Rig) -> None:
    def orders() -> str:
        """List the orders."""
        return ""

    guarded = rig.keys.require()(orders)
    assert (guarded.__name__, guarded.__doc__) == ("orders", "List the orders.")
    assert guarded.__wrapped__ is orders  # type: ignore[attr-defined]


def test_require_tuples_and_responses_pass_through(rig: Rig) -> None:
    @rig.app.get("/tuple")
    @rig.keys.require()
    def a_tuple() -> tuple[dict[str, int], int, dict[str, str]]:
        return {"n": 1}, 202, {"X-Own": "1"}

    answer = rig.call("/tuple", rig.secret())
    assert (answer.status_code, answer.get_json(), answer.headers["X-Own"]) == (202, {"n": 1}, "1")


def test_require_two_scopes_from_two_decorators(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.require("a:read")
    @rig.keys.require("b:read")
    def view() -> str:
        return ""

    assert rig.status(secret=rig.secret("a:read")) == 403
    assert rig.status(secret=rig.secret("b:read")) == 403
    assert rig.status(secret=rig.secret("a:read", "b:read")) == 200


def test_require_the_same_function_twice(rig: Rig) -> None:
    """One function at two addresses with two requirements: each keeps its own."""

    def view() -> str:
        return ""

    rig.app.add_url_rule("/a", "a", rig.keys.require("a:read")(view))
    rig.app.add_url_rule("/b", "b", rig.keys.require("b:read")(view))
    secret = rig.secret("a:read")
    assert (rig.status("/a"), rig.status("/a", secret), rig.status("/b", secret)) == (401, 200, 403)


def test_require_without_init_app(rig: Rig) -> None:
    from flask import Flask

    app = Flask("bare")
    app.testing = True

    @app.get("/")
    @rig.keys.require()
    def view() -> str:
        return ""

    with pytest.raises(RuntimeError, match=r"keys\.init_app\(app\)"):
        app.test_client().get("/")


def test_require_expires_header(rig: Rig) -> None:
    from datetime import timedelta

    @rig.app.get("/")
    @rig.keys.require()
    def view() -> str:
        return ""

    now = rig.clock.now()
    near, far = now + timedelta(days=14), now + timedelta(days=14, microseconds=1)
    assert rig.call(secret=rig.secret(expires_at=near)).headers["API-Key-Expires"] == f"@{int(near.timestamp())}"
    assert "API-Key-Expires" not in rig.call(secret=rig.secret(expires_at=far)).headers
    assert "API-Key-Expires" not in rig.call(secret=rig.secret()).headers


def test_require_expires_header_while_a_rotation_phases_the_secret_out(rig: Rig) -> None:
    from datetime import timedelta

    @rig.app.get("/")
    @rig.keys.require()
    def view() -> str:
        return ""

    old = rig.issue()
    new = rig.desk.rotate(old.key.id, overlap=timedelta(days=30))
    end = rig.clock.now() + timedelta(days=30)
    assert rig.call(secret=old.secret).headers["API-Key-Expires"] == f"@{int(end.timestamp())}"
    assert "API-Key-Expires" not in rig.call(secret=new.secret).headers


def test_require_view_called_by_a_view(rig: Rig) -> None:
    """A guarded view called as a function asks the caller of the request all the same."""

    @rig.keys.require("inner:read")
    def inner() -> str:
        return "inner"

    @rig.app.get("/")
    def outer() -> str:
        return inner()

    assert rig.status() == 401
    assert rig.status(secret=rig.secret("inner:read")) == 200
