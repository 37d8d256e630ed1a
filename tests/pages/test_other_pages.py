"""Plans, owners, what was refused, events, health, and why a request is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from keydesk import Desk
from keydesk.server import create_app
from keydesk.testing import ManualClock
from keydesk.usage import Batch, Span

from .conftest import PEPPER
from .site import Browser


def _by_hand(tmp_path: Path, statement: str) -> None:
    """Change the database past Keydesk."""
    with closing(sqlite3.connect(tmp_path / "keys.db")) as connection, connection:
        connection.execute(statement)


def test_plan_is_made_changed_and_deleted(admin: Browser, desk: Desk) -> None:
    admin.get("/admin/plans")
    assert admin.shows("There is no plan")
    admin.get("/admin/plans/new")
    fields = {"name": "starter", "scopes": "orders:read", "limits": "5/minute\n9/hour", "quotas": "10/day"}
    assert admin.post("/admin/plans/new", **fields).headers["Location"] == "/admin/plans/starter?done=made"
    admin.get("/admin/plans/new")
    assert admin.post("/admin/plans/new", name="starter").status_code == 409
    admin.get("/admin/plans/starter")
    assert admin.post("/admin/plans/starter", limits="7/minute", scopes="orders:read").status_code == 303
    assert [str(limit) for limit in desk.plans.get("starter").limits] == ["7/minute"]
    assert desk.plans.get("starter").quotas == ()
    key = desk.issue(name="client", plan="starter").key
    admin.get("/admin/plans/starter")
    assert admin.post("/admin/plans/starter", delete="1").status_code == 409
    assert admin.shows("This was not done.")
    desk.update(key.id, plan=None)
    admin.get("/admin/plans/starter")
    assert admin.post("/admin/plans/starter", delete="1").status_code == 303
    assert desk.plans.find("starter") is None


def test_plan_that_somebody_changed_meanwhile(admin: Browser, desk: Desk) -> None:
    desk.plans.put("starter", limits=["5/minute"])
    admin.get("/admin/plans/starter")
    desk.plans.put("starter", limits=["6/minute"])
    assert admin.post("/admin/plans/starter", limits="7/minute").status_code == 409
    assert str(desk.plans.get("starter").limits[0]) == "6/minute"


@pytest.mark.parametrize(
    ("field", "value"), [("name", "Not Lower"), ("limits", "often"), ("scopes", "x"), ("quotas", "5")]
)
def test_plan_that_cannot_be(admin: Browser, desk: Desk, field: str, value: str) -> None:
    admin.get("/admin/plans/new")
    assert admin.post("/admin/plans/new", **{"name": "starter", field: value}).status_code == 422
    assert f'id="{field}-error"' in admin.page
    assert desk.plans.list() == ()


def test_owner_is_agreed_with_and_not(admin: Browser, desk: Desk) -> None:
    desk.issue(name="client", owner="ac/me & co")
    admin.get("/admin/owners")
    assert admin.shows("Nothing was agreed with any owner.")
    admin.get("/admin/owner?owner=ac/me+%26+co")
    assert admin.shows("client")
    answer = admin.post("/admin/owner", limits="100/minute", quotas="")
    assert answer.status_code == 303
    admin.get(answer.headers["Location"])
    assert admin.shows("This is agreed from now on.")
    assert [str(limit) for limit in desk.owners.get("ac/me & co").limits] == ["100/minute"]
    admin.get("/admin/owners")
    assert admin.shows("ac/me & co")
    admin.get("/admin/owner?owner=ac/me+%26+co")
    assert admin.post("/admin/owner", limits="often").status_code == 422
    admin.get("/admin/owner?owner=ac/me+%26+co")
    assert admin.post("/admin/owner", delete="1").status_code == 303
    assert desk.owners.find("ac/me & co") is None


def test_refused_by_reason_and_by_network(admin: Browser, desk: Desk) -> None:
    key = desk.issue(name="client").key
    at = Span.HOUR.start_of(desk.clock.now() - timedelta(hours=2))
    keys = {
        (Span.HOUR, at, key.id, outcome): n for outcome, n in (("allowed", 50), ("scope_denied", 12), ("expired", 3))
    }
    mistakes = {(Span.HOUR, at, "unknown", "203.0.113.0/24"): 1500, (Span.HOUR, at, "malformed", "2001:db8::/56"): 4}
    assert desk.usage_store is not None
    desk.usage_store.add(Batch(keys, mistakes))
    for by in ("hour", "day", "month"):
        admin.get(f"/admin/refused?by={by}")
        for text in (
            "scope denied",
            "expired",
            "unknown",
            "malformed",
            "1,500",
            "203.0.113.0/24",
            "2001:db8::/56",
            "client",
        ):
            assert admin.shows(text), (by, text)
        assert "allowed" not in admin.page.partition("<main")[2]


def test_events_newest_first_and_the_state_of_the_chain(admin: Browser, desk: Desk, tmp_path: Path) -> None:
    for number in range(70):
        desk.plans.put(f"plan-{number}")
    admin.get("/admin/events")
    assert admin.page.index("plan-69") < admin.page.index("plan-68")
    assert "plan-5&" not in admin.page
    assert "Earlier events" in admin.page
    admin.get("/admin/events?before=22")
    assert "plan-19" in admin.page
    assert "plan-40" not in admin.page
    admin.get("/admin/events?check=1")
    assert admin.shows("The chain is whole: 71 events.")
    _by_hand(tmp_path, "UPDATE keydesk_events SET actor = 'nobody' WHERE number = 5")
    admin.get("/admin/events?check=1")
    assert admin.shows("The chain is broken at event 5")


def test_health_shows_settings_and_nothing_secret(tmp_path, clock: ManualClock) -> None:
    settings = {
        "KEYDESK_STORE": f"sqlite:///{tmp_path / 'keys.db'}",
        "KEYDESK_PEPPER": PEPPER,
        "KEYDESK_LIMITER": "redis://limits:hunter2hunter2@127.0.0.1:1/0",
    }
    server = create_app(settings, clock=clock)
    server.desk.store.upgrade()  # type: ignore[attr-defined]
    browser = Browser(server)
    browser.sign_in(server.desk.issue(name="Ada", scopes=["keydesk:*"]).secret)
    assert browser.get("/admin/health").status_code == 200
    assert PEPPER not in browser.page
    assert "hunter" not in browser.page
    assert browser.shows("set, not shown")
    assert browser.shows("redis://…@127.0.0.1:1/0")
    assert browser.shows("wrong")  # nobody listens there
    server.close()


def test_explain_shows_every_check_with_its_fix(admin: Browser, desk: Desk) -> None:
    issued = desk.issue(name="client", networks=["192.0.2.0/24"])
    desk.disable(issued.key.id)
    asked = {"scopes": "orders:read", "address": "203.0.113.9"}
    for what in ({"secret": issued.secret}, {"key": issued.key.id}):
        admin.get("/admin/explain")
        assert admin.post("/admin/explain", **asked, **what).status_code == 200
        for text in ("it is refused", "disabled since", "is not on the list", "missing: orders:read", "keydesk enable"):
            assert admin.shows(text), (what, text)
        assert issued.secret not in admin.page
    desk.enable(issued.key.id)
    admin.get("/admin/explain")
    admin.post("/admin/explain", key=issued.key.id, address="192.0.2.1")
    assert admin.shows("it passes")


def test_explain_takes_nothing_and_counts_nothing(admin: Browser, desk: Desk) -> None:
    issued = desk.issue(name="client", limits=["1/hour"])
    for _ in range(3):
        for what in ({"secret": issued.secret}, {"key": issued.key.id}):
            admin.get("/admin/explain")
            admin.post("/admin/explain", **what)
            assert admin.shows("it passes")
    assert desk.usage(issued.key.id).counts == ()
    assert desk.verify(issued.secret).allowed


def test_explain_of_nothing_says_what_to_do(admin: Browser) -> None:
    admin.get("/admin/explain")
    assert admin.post("/admin/explain").status_code == 422
    assert 'id="secret-error"' in admin.page
    admin.get("/admin/explain")
    assert admin.post("/admin/explain", key="key_nowhere").status_code == 404


def test_key_whose_plan_was_removed_by_hand(admin: Browser, desk: Desk, tmp_path: Path) -> None:
    desk.plans.put("starter")
    key = desk.issue(name="client", plan="starter").key
    _by_hand(tmp_path, "DELETE FROM keydesk_plans")
    assert admin.get("/admin/keys").status_code == 200
    assert admin.get(f"/admin/keys/{key.id}").status_code == 200
    assert admin.shows("The store has no plan starter")
    admin.get("/admin/explain")
    assert admin.post("/admin/explain", key=key.id).status_code == 200
    assert admin.shows("it is refused")
