"""Limits of keys and of views: who is let in how often, and what is said to whom."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Blueprint
from flask.views import MethodView

from keydesk import InvalidField
from keydesk.errors import StoreUnavailable
from keydesk.flask import LimitExceeded

from .rig import Rig


@pytest.fixture
def shop(rig: Rig) -> Rig:
    @rig.app.get("/")
    @rig.keys.require()
    def index() -> str:
        return "index"

    @rig.app.get("/dear")
    @rig.keys.require(cost=3)
    def dear() -> str:
        return "dear"

    @rig.app.get("/later")
    @rig.keys.require(cost=0)
    def later() -> str:
        return "later"

    @rig.app.get("/search")
    @rig.keys.require("orders:read")
    @rig.keys.limit("2/minute", "3/hour")
    def search() -> str:
        return "search"

    return rig


def _statuses(rig: Rig, path: str, secret: str, count: int) -> list[int]:
    return [rig.status(path, secret) for _ in range(count)]


# Limits of keys


def test_key_without_limits_hears_of_none(shop: Rig) -> None:
    answer = shop.call("/", shop.secret())
    assert not [name for name, _ in answer.headers if name.startswith(("RateLimit", "Retry"))]


def test_permitted_request_says_what_is_left(shop: Rig) -> None:
    secret = shop.secret(limits=["3/minute", "100/day"])
    headers = shop.call("/", secret).headers
    assert headers["RateLimit-Policy"] == '"3/minute";q=3;w=60, "100/day";q=100;w=86400'
    assert headers["RateLimit"].startswith('"3/minute";r=2;t=')
    assert ', "100/day";r=99;t=' in headers["RateLimit"]


def test_limit_used_up(shop: Rig) -> None:
    secret = shop.secret(limits=["3/minute"])
    assert _statuses(shop, "/", secret, 5) == [200, 200, 200, 429, 429]
    answer = shop.call("/", secret)
    problem = answer.get_json()
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (problem["reason"], problem["status"]) == ("rate_limited", 429)
    assert problem["violated_policies"] == ["3/minute"]
    assert answer.headers["RateLimit-Policy"] == '"3/minute";q=3;w=60'
    assert answer.headers["RateLimit"].startswith('"3/minute";r=0;t=')


def test_retry_after_is_when_the_same_request_passes(shop: Rig) -> None:
    secret = shop.secret(limits=["2/minute"])
    shop.clock.advance(0.3)
    _statuses(shop, "/", secret, 2)
    wait = int(shop.call("/", secret).headers["Retry-After"])
    assert wait >= int(shop.call("/", secret).headers["RateLimit"].rpartition("t=")[2])
    shop.clock.advance(wait - 1)
    assert shop.status("/", secret) == 429
    shop.clock.advance(1)
    assert shop.status("/", secret) == 200


def test_cost(shop: Rig) -> None:
    secret = shop.secret(limits=["7/minute"])
    assert _statuses(shop, "/dear", secret, 3) == [200, 200, 429]
    assert _statuses(shop, "/", secret, 2) == [200, 429]
    assert shop.status("/later", secret) == 200


def test_cost_above_the_limit_names_no_time(shop: Rig) -> None:
    answer = shop.call("/dear", shop.secret(limits=["2/minute"]))
    assert answer.status_code == 429
    assert "Retry-After" not in answer.headers


def test_keys_are_counted_apart(shop: Rig) -> None:
    first, second = shop.secret(limits=["1/minute"], owner="acme"), shop.secret(limits=["1/minute"], owner="acme")
    assert _statuses(shop, "/", first, 2) == [200, 429]
    assert _statuses(shop, "/", second, 2) == [200, 429]


def test_rotation_keeps_the_count(shop: Rig) -> None:
    issued = shop.issue(limits=["2/minute"])
    shop.status("/", issued.secret)
    rotated = shop.desk.rotate(issued.key.id)
    assert [shop.status("/", issued.secret), shop.status("/", rotated.secret)] == [200, 429]


def test_changed_limit_counts_on(shop: Rig) -> None:
    issued = shop.issue(limits=["2/minute"])
    _statuses(shop, "/", issued.secret, 2)
    shop.desk.update(issued.key.id, limits=["3/minute"])
    assert _statuses(shop, "/", issued.secret, 2) == [200, 429]


@pytest.mark.parametrize("wrong", ["scope", "disabled", "network"])
def test_refused_request_takes_nothing(shop: Rig, wrong: str) -> None:
    """Number 17 of what went wrong elsewhere."""
    issued = shop.issue(*(["orders:read"] if wrong != "scope" else []), limits=["1/minute"])
    if wrong == "disabled":
        shop.desk.disable(issued.key.id)
    if wrong == "network":
        shop.desk.update(issued.key.id, networks=["10.0.0.0/8"])
    assert set(_statuses(shop, "/search", issued.secret, 5)) <= {401, 403}
    shop.desk.update(issued.key.id, scopes=["orders:read"], networks=[])
    if wrong == "disabled":
        shop.desk.enable(issued.key.id)
    assert _statuses(shop, "/search", issued.secret, 2) == [200, 429]


def test_guessed_keys_take_nothing_from_anybody(shop: Rig) -> None:
    secret = shop.secret(limits=["1/minute"], owner="acme")
    for _ in range(5):
        shop.status("/", f"{secret[:-1]}x")
        shop.status("/", shop.desk.mint.secret_format.mint())
    assert _statuses(shop, "/", secret, 2) == [200, 429]


def test_default_limits_are_for_keys_that_state_none(new_rig: Callable[..., Rig]) -> None:
    rig = new_rig(KEYDESK_DEFAULT_LIMITS=["1/minute"])
    rig.app.get("/")(rig.keys.require()(lambda: "index"))
    assert _statuses(rig, "/", rig.secret(), 2) == [200, 429]
    assert _statuses(rig, "/", rig.secret(limits=["2/minute"]), 3) == [200, 200, 429]


def test_error_handler_takes_it(shop: Rig) -> None:
    taken: list[Any] = []

    @shop.app.errorhandler(LimitExceeded)
    def handler(error: LimitExceeded) -> tuple[str, int]:
        taken.append(error.decision.taken)
        return "slow down", 429

    secret = shop.secret(limits=["1/minute"])
    shop.call("/", secret)
    answer = shop.call("/", secret)
    assert (answer.status_code, answer.text) == (429, "slow down")
    assert answer.headers["Retry-After"]
    assert taken[0].violated == ("1/minute",)


def test_usage_tells_of_it(shop: Rig) -> None:
    issued = shop.issue(limits=["1/minute"])
    _statuses(shop, "/", issued.secret, 3)
    counted = {str(each.outcome): each.count for each in shop.desk.usage(issued.key.id).counts}
    assert counted == {"allowed": 1, "rate_limited": 2}


# Limits of views


def test_view_limit_is_for_each_key(shop: Rig) -> None:
    first, second = shop.secret("orders:read"), shop.secret("orders:read")
    assert _statuses(shop, "/search", first, 3) == [200, 200, 429]
    assert shop.call("/search", first).get_json()["violated_policies"] == ["2/minute per view"]
    assert _statuses(shop, "/search", second, 3) == [200, 200, 429]
    shop.clock.advance(timedelta(minutes=2))
    assert _statuses(shop, "/search", first, 2) == [200, 429]
    assert shop.call("/search", first).get_json()["violated_policies"] == ["3/hour per view"]


def test_view_limit_and_key_limit_are_taken_together_or_not_at_all(shop: Rig) -> None:
    secret = shop.secret("orders:read", limits=["5/minute"])
    assert _statuses(shop, "/search", secret, 4) == [200, 200, 429, 429]
    assert _statuses(shop, "/", secret, 4) == [200, 200, 200, 429]


def test_view_limit_alone_asks_for_a_key(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.limit("1/minute")
    def index() -> str:
        return "index"

    assert rig.status("/") == 401
    assert _statuses(rig, "/", rig.secret(), 2) == [200, 429]


def test_view_limit_in_a_protected_blueprint(rig: Rig) -> None:
    blueprint = Blueprint("shop", __name__)
    rig.keys.protect(blueprint, "orders:read")

    @blueprint.get("/")
    @rig.keys.limit("1/minute")
    def index() -> str:
        return "index"

    rig.app.register_blueprint(blueprint)
    assert rig.status("/", rig.secret()) == 403
    assert _statuses(rig, "/", rig.secret("orders:read", limits=["5/minute"]), 2) == [200, 429]


def test_view_limit_in_a_class(rig: Rig) -> None:
    class Search(MethodView):
        decorators = [rig.keys.limit("1/minute"), rig.keys.require("orders:read")]

        def get(self) -> str:
            return "search"

    rig.app.add_url_rule("/", view_func=Search.as_view("search"))
    assert rig.status("/", rig.secret()) == 403
    assert _statuses(rig, "/", rig.secret("orders:read"), 2) == [200, 429]


def test_view_limit_on_an_async_view(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.require()
    @rig.keys.limit("1/minute")
    async def index() -> str:
        return "index"

    assert _statuses(rig, "/", rig.secret(), 2) == [200, 429]


def test_view_limit_behind_another_decorator(rig: Rig) -> None:
    called = []

    def logged(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper() -> Any:
            called.append(view)
            return view()

        return wrapper

    @rig.app.get("/")
    @rig.keys.require()
    @logged
    @rig.keys.limit("1/minute")
    def index() -> str:
        return "index"

    assert _statuses(rig, "/", rig.secret(limits=["9/minute"]), 2) == [200, 429]
    assert len(called) == 1


def test_view_limit_that_a_decorator_hides_is_an_error(rig: Rig) -> None:
    @rig.app.get("/")
    @rig.keys.require()
    @lambda view: lambda: view()
    @rig.keys.limit("1/minute")
    def index() -> str:
        return "index"

    with pytest.raises(RuntimeError, match=r"limits of the view .* are hidden"):
        rig.call("/", rig.secret())


def test_view_limit_above_the_scopes_is_an_error(rig: Rig) -> None:
    with pytest.raises(TypeError, match=r"@keys\.limit\(\.\.\.\) below @keys\.require"):
        rig.keys.limit("1/minute")(rig.keys.require("a:b")(lambda: "x"))


@pytest.mark.parametrize("limits", [(), (lambda: "view",)])
def test_view_limit_without_a_limit(rig: Rig, limits: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r'Write @keys\.limit\("10/minute"\)'):
        rig.keys.limit(*limits)


def test_view_limit_that_is_none(rig: Rig) -> None:
    with pytest.raises(InvalidField, match="write 100/minute"):
        rig.keys.limit("often")


def test_applications_that_share_a_limiter_share_no_view(new_rig: Callable[..., Rig], tmp_path: Any) -> None:
    """Number 20 of what went wrong elsewhere. The limits of the key itself are shared."""
    config = {"KEYDESK_STORE": f"sqlite:///{tmp_path}/keydesk.db"}
    rigs = [new_rig(name=name, **config) for name in ("shop", "billing")]
    for rig in rigs:
        rig.app.get("/", endpoint="index")(rig.keys.require()(rig.keys.limit("2/minute")(lambda: "index")))
    secret = rigs[0].secret(limits=["5/minute"])
    assert [_statuses(rig, "/", secret, 3) for rig in rigs] == [[200, 200, 429], [200, 200, 429]]
    rigs[0].clock.advance(62)
    rigs[0].desk.update(rigs[0].desk.list_keys().keys[0].id, limits=["4/hour"])
    assert [_statuses(rig, "/", secret, 1) for rig in rigs] == [[200], [200]]


# Quotas


def test_quota_used_up(shop: Rig) -> None:
    secret = shop.secret(quotas=["3/day"], limits=["100/minute"])
    assert _statuses(shop, "/", secret, 4) == [200, 200, 200, 429]
    answer = shop.call("/", secret)
    problem = answer.get_json()
    assert (problem["reason"], problem["violated_policies"]) == ("quota_exceeded", ["3/day quota"])
    assert answer.headers["Retry-After"] == str(12 * 3600)
    assert answer.headers["RateLimit"].startswith('"100/minute";r=97;t=')


def test_quota_in_total_names_no_time(shop: Rig) -> None:
    secret = shop.secret(quotas=["1/total"])
    assert _statuses(shop, "/", secret, 2) == [200, 429]
    answer = shop.call("/", secret)
    assert "Retry-After" not in answer.headers
    assert "RateLimit" not in answer.headers
    assert answer.get_json()["detail"] == "This key has used up 1/total quota."


@pytest.fixture
def model(rig: Rig) -> Rig:
    @rig.app.get("/answer/<int:most>/<int:used>")
    @rig.keys.require(cost=0)
    def answer(most: int, used: int) -> str:
        with rig.keys.reserve(most) as reservation:
            if used > most:
                raise RuntimeError("the model broke off")
            reservation.settle(used)
        return "42"

    rig.app.config["PROPAGATE_EXCEPTIONS"] = False
    rig.app.config["TESTING"] = False
    return rig


def test_reservation_in_a_view(model: Rig) -> None:
    secret = model.secret(quotas=["1000/day"])
    assert model.status("/answer/900/100", secret) == 200
    assert model.status("/answer/900/901", secret) == 500
    assert model.status("/answer/900/900", secret) == 200
    answer = model.call("/answer/1/1", secret)
    assert (answer.status_code, answer.get_json()["reason"]) == (429, "quota_exceeded")
    assert answer.headers["Retry-After"]


def test_reservation_while_the_store_is_away(model: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = model.secret(quotas=["1000/day"])

    def fail(*_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(model.desk.store, "lease", fail)
    answer = model.call("/answer/9/1", secret)
    assert (answer.status_code, answer.get_json()["reason"]) == (503, "unavailable")


def test_reservation_without_a_key(rig: Rig) -> None:
    rig.app.get("/")(lambda: rig.keys.reserve(1))
    with pytest.raises(RuntimeError, match="no key on this request"):
        rig.call("/")
