"""Beyond the numbers: what else a caller, a table or a neighbour in the process may do to the door."""

from __future__ import annotations

import gc
import logging
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Response

from keydesk import Desk
from keydesk.errors import OwnerNotFound, PlanNotFound
from keydesk.flask import current_key
from keydesk.testing import ManualClock

from ..flask.rig import Rig


def test_memory_does_not_grow_with_made_up_keys(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Architecture, rule 6. What is remembered goes by views and error handlers, never by what callers send."""
    monkeypatch.setattr(logging.getLogger("keydesk"), "disabled", True)  # pytest would keep the records
    client, guard = rig.app.test_client(), rig.app.extensions["keydesk"]

    def ask(numbers: range) -> int:
        for number in numbers:
            client.get("/", headers={"X-API-Key": f"made-up-for-this-request-{number}"})
            client.get(f"/nowhere/{number}", headers={"X-API-Key": f"made-up-{number}"})
            client.get("/", headers={"Authorization": f"Bearer kd_live_{number:038}", "Host": f"h{number}.example"})
        guard.desk.meter.flush()  # what was counted waits for its thread
        gc.collect()
        return len(gc.get_objects())

    ask(range(300))
    held = [ask(range(begin, begin + 200)) for begin in range(300, 1100, 200)]
    # What grew with the callers would grow each time; a statement that is compiled for once does not.
    assert min(after - before for before, after in pairwise(held)) < 100
    assert len(guard.handled) <= 2
    assert set(guard.watch.seen) == set(rig.app.view_functions)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("scopes", "non sense!!"), ("networks", "999.1.1.1"), ("networks", "10.0.0.0/8,x"), ("limits", "zzz"),
        ("quotas", "1"), ("environment", "production"), ("expires_at", "soon"), ("scopes", b"\xff"),
    ],
)  # fmt: skip
def test_a_row_that_was_damaged_lets_nobody_in(clock: ManualClock, tmp_path: Path, column: str, value: Any) -> None:
    """Somebody edited the table. What cannot be read gives nothing away: not even the rest of the record counts."""
    rig = Rig(clock, TESTING=False, KEYDESK_STORE=f"sqlite:///{tmp_path / 'keys.db'}")
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    secret, other = rig.secret(), rig.secret(name="other")
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        connection.execute(f"UPDATE keydesk_keys SET {column} = ? WHERE name = 'client'", (value,))
    connection.close()
    assert rig.status(secret=secret) in (401, 500, 503)
    assert rig.status(secret=other) == 200
    rig.close()


def test_handlers_cannot_let_a_refused_request_in(rig: Rig) -> None:
    """A handler shapes the answer. Whatever it returns, the view behind did not run."""
    ran: list[bool] = []
    rig.app.add_url_rule("/ran", "ran", rig.keys.require()(lambda: ran.append(True) or "in"))  # type: ignore[func-returns-value]
    for answer in ("in", ("in", 200), Response("in"), {"in": 1}):
        rig.app._got_first_request = False
        rig.app.register_error_handler(401, lambda error, answer=answer: answer)
        assert rig.status("/ran") == 200
    assert ran == []


def test_after_request_sees_the_refusal(rig: Rig) -> None:
    """Hooks of the application run on refusals as on any answer, and may add to them."""
    rig.app.after_request(lambda response: response.headers.update({"X-Frame-Options": "DENY"}) or response)
    answer = rig.call()
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert len(answer.headers.getlist("WWW-Authenticate")) == 2


def test_before_request_of_the_app_answers_first(rig: Rig) -> None:
    """What the application answers itself before any view, such as maintenance, is not ours to refuse."""
    rig.app.before_request(lambda: ("maintenance", 503))
    assert rig.call().text == "maintenance"


@pytest.mark.parametrize(("order", "status"), [("endpoint above", 401), ("require above", 500)])
def test_view_by_endpoint_decorator(rig: Rig, order: str, status: int) -> None:
    """`@app.endpoint` puts views in place without `@app.route`."""
    rig.app.add_url_rule("/there", endpoint="there")
    decorators = [rig.keys.require(), rig.app.endpoint("there")]
    view: Any = lambda: "in"  # noqa: E731
    for decorate in decorators if order == "endpoint above" else reversed(decorators):
        view = decorate(view)
    assert rig.status("/there") == status


def test_blueprint_whose_name_looks_like_anothers(new_rig: Callable[..., Rig]) -> None:
    """Names of blueprints are compared whole: `api` protects neither `api2` nor loses `api.inner`."""
    rig = new_rig()
    for name in ("api", "api2"):
        blueprint = Blueprint(name, __name__, url_prefix=f"/{name}")
        if name == "api":
            rig.keys.protect(blueprint)
            inner = Blueprint("api2", __name__, url_prefix="/api2")
            inner.add_url_rule("/", "view", lambda: "in")
            blueprint.register_blueprint(inner)
        blueprint.add_url_rule("/", "view", lambda: "in")
        rig.app.register_blueprint(blueprint)
    assert (rig.status("/api/"), rig.status("/api/api2/"), rig.status("/api2/")) == (401, 401, 200)


@pytest.mark.parametrize(
    "name", ["_keydesk_allowed", "keydesk.allowed", "werkzeug.request", "flask.request", "keydesk"]
)
def test_environ_says_nothing_about_the_caller(rig: Rig, name: str) -> None:
    """Middleware and headers fill the environ; who the caller is comes from nowhere but the verification."""
    rig.app.add_url_rule("/who", "who", rig.keys.optional(lambda: str(bool(current_key))))
    admin = rig.desk.verify(rig.secret("*"))
    for value in (admin, admin.key, "admin", True):
        assert rig.status(environ_overrides={name: value}) == 401
        assert rig.call("/who", environ_overrides={name: value}).text == "False"


def test_arguments_of_the_address_do_not_reach_the_guard(rig: Rig) -> None:
    """Views take names such as `access`, `view` or `self` from the address; the guard has no parameter to clash."""

    @rig.app.get("/clash/<access>/<view>/<args>/<kwargs>/<self>")
    @rig.keys.require()
    def clash(**given: str) -> dict[str, str]:
        return given

    assert rig.status("/clash/1/2/3/4/5") == 401
    assert rig.call("/clash/1/2/3/4/5", rig.secret()).get_json()["access"] == "1"


def test_scopes_from_the_address_are_not_evaluated(rig: Rig) -> None:
    rig.app.add_url_rule("/s", "s", rig.keys.require("orders:read")(lambda: "in"))
    secret = rig.secret("orders:rea", "orders:readx", "orders:read:x", "ORDERS:READ", "xorders:read")
    for query in ("", "?scope=orders:read", "?required_scopes=&missing_scopes="):
        assert rig.status(f"/s{query}", secret, headers={"X-Scope": "orders:read"}) == 403


@pytest.mark.parametrize(
    "name",
    ["a\0b", "\ud800", "x" * 10_000, "acme ", "ACME", "gold ", "GOLD", "a\u0301cme", "", "\n", "%", "\U0001f600" * 200],
)
def test_names_that_are_none_are_those_of_no_plan_and_no_owner(everywhere: Callable[..., Desk], name: str) -> None:
    """One with half a character once ended a command with an error of Python, and white space may not be all there is
    between two names that a database takes for the same.
    """
    desk = everywhere()
    desk.plans.put("gold", limits=["5/minute"])
    desk.owners.put("acme", limits=["5/minute"])
    for ask in (desk.plans.get, desk.plans.delete):
        with pytest.raises(PlanNotFound):
            ask(name)
    for ask in (desk.owners.get, desk.owners.delete):
        with pytest.raises(OwnerNotFound):
            ask(name)
    assert [plan.name for plan in desk.plans.list()] == ["gold"]
    assert [terms.owner for terms in desk.owners.list()] == ["acme"]
