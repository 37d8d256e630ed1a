"""Keys on the pages: found, shown, issued once, and what is done with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import event

from keydesk import Desk
from keydesk.keys.record import Status
from keydesk.server import create_app
from keydesk.testing import ManualClock
from keydesk.usage import Batch, Span

from .site import Browser

SignIn = Callable[..., Browser]
SECRET = re.compile(r"kd_(?:live|test)_[0-9A-Za-z]{38}")


def _rows(browser: Browser) -> list[str]:
    return [re.sub(r"\s+", " ", row) for row in re.findall(r"<tr>\n(<th scope=\"row\">.*?)</tr>", browser.page, re.S)]


def _names(browser: Browser) -> list[str]:
    return re.findall(r"<th scope=\"row\"><a [^>]*><bdi>([^<]*)</bdi>", browser.page)


def _badges(browser: Browser, name: str) -> set[str]:
    browser.get(f"/admin/keys?text={name}")
    (row,) = _rows(browser)
    return set(re.findall(r'class="badge \w+">([^<]+)<', row))


def _count(desk: Desk, key_id: str, outcome: str, count: int, hours_ago: int = 1) -> None:
    at = Span.HOUR.start_of(desk.clock.now() - timedelta(hours=hours_ago))
    assert desk.usage_store is not None
    desk.usage_store.add(Batch({(Span.HOUR, at, key_id, outcome): count}))


def test_keys_are_found_by_every_condition(admin: Browser, desk: Desk, clock: ManualClock) -> None:
    desk.plans.put("starter", scopes=["orders:read"])
    desk.issue(name="old", owner="acme")
    clock.advance(timedelta(days=40))
    desk.issue(name="planned", plan="starter")
    desk.issue(name="writer", scopes=["orders:write"], owner="globex")
    desk.disable(desk.issue(name="off").key.id)
    admin = _again(admin, desk)
    for query, names in {
        "": ["Ada", "off", "writer", "planned", "old", "Ada"],
        "text=PLAN": ["planned"],
        "owner=acme": ["old"],
        "plan=starter": ["planned"],
        "scope=orders:write": ["Ada", "writer", "Ada"],
        "status=disabled": ["off"],
        "idle=30": ["old", "Ada"],
        "text=nobody": [],
    }.items():
        assert admin.get(f"/admin/keys?{query}").status_code == 200
        assert sorted(_names(admin)) == sorted(names), query
    assert admin.shows("No key is like that")


def _again(browser: Browser, desk: Desk) -> Browser:
    """Sign in anew, after a time in which every session has ended."""
    assert browser.sign_in(desk.issue(name="Ada", scopes=["keydesk:*", "orders:*"]).secret).status_code == 303
    return browser


def test_many_keys_are_paged(admin: Browser, desk: Desk) -> None:
    desk.issue_many([{"name": f"client {number}"} for number in range(120)])
    seen, path = list[str](), "/admin/keys?text=client"
    while path:
        admin.get(path)
        assert len(_names(admin)) <= 50
        seen += _names(admin)
        following = re.search(r'rel="next" href="([^"]+)"', admin.page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert len(seen) == len(set(seen)) == 120


def test_state_of_a_key_in_words(admin: Browser, desk: Desk, clock: ManualClock) -> None:
    ids = {name: desk.issue(name=name).key.id for name in ("active", "rotating", "off", "revoked", "refused", "idle")}
    desk.issue(name="expiring", expires_at=clock.now() + timedelta(days=100))
    desk.issue(name="over", expires_at=clock.now() + timedelta(days=1))
    near = desk.issue(name="near", limits=["5/day"])
    spent = desk.issue(name="spent", quotas=["5/total"])
    desk.disable(ids["off"])
    desk.revoke(ids["revoked"])
    clock.advance(timedelta(days=89))
    for name in ("active", "rotating", "refused"):
        _count(desk, ids[name], "allowed", 20)
    _count(desk, ids["refused"], "scope_denied", 30)
    desk.rotate(ids["rotating"], overlap=timedelta(days=7))
    for issued in (near, spent):
        for _ in range(4):
            assert desk.verify(issued.secret).allowed
    clock.advance(timedelta(days=1))
    for issued in (near, spent):
        _count(desk, issued.key.id, "allowed", 1)
    for _ in range(4):
        desk.verify(near.secret)
    admin = _again(admin, desk)
    assert _badges(admin, "active") == {"active"}
    assert _badges(admin, "rotating") == {"active", "rotating"}
    assert _badges(admin, "off") == {"disabled"}
    assert _badges(admin, "revoked") == {"revoked"}
    assert _badges(admin, "refused") == {"active", "refused often"}
    assert _badges(admin, "idle") == {"active", "idle"}
    assert _badges(admin, "expiring") == {"active", "expiring", "idle"}
    assert _badges(admin, "over") == {"expired"}
    assert _badges(admin, "near") == {"active", "near its limit"}
    assert _badges(admin, "spent") == {"active", "near its limit"}


def test_default_limits_are_limits_too(clock: ManualClock) -> None:
    server = create_app(
        {"KEYDESK_STORE": "memory://", "KEYDESK_DEFAULT_LIMITS": "5/day", "KEYDESK_DEVELOPMENT": "true"}, clock=clock
    )
    issued = server.desk.issue(name="near")
    for _ in range(4):
        assert server.desk.verify(issued.secret).allowed
    browser = Browser(server)
    browser.sign_in(server.desk.issue(name="Ada", scopes=["keydesk:*"]).secret)
    assert _badges(browser, "near") == {"active", "near its limit"}
    server.close()


def test_list_reads_each_plan_and_each_owner_once(admin: Browser, desk: Desk) -> None:
    desk.plans.put("starter", limits=["100/day"])
    desk.owners.put("acme", limits=["1000/day"])
    statements: list[str] = []
    event.listen(desk.store.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))  # type: ignore[attr-defined]

    def asked(count: int) -> int:
        desk.issue_many([{"name": "client", "plan": "starter", "owner": "acme"}] * count)
        statements.clear()
        assert admin.get("/admin/keys?text=client").status_code == 200
        assert len(_names(admin)) > count - 1
        return len(statements)

    asked(1)  # the first reads who is asking
    assert asked(2) == asked(40)


def test_sparkline_is_of_36_hours(admin: Browser, desk: Desk) -> None:
    key = desk.issue(name="client").key
    for hours_ago, count in ((0, 5), (35, 7), (36, 11), (50, 13)):
        _count(desk, key.id, "allowed", count, hours_ago)
    _count(desk, key.id, "rate_limited", 3, 2)
    admin.get("/admin/keys?text=client")
    assert "15 in 36 hours, 3 refused" in admin.page


def test_key_is_shown_with_all_there_is_to_know(admin: Browser, desk: Desk) -> None:
    desk.plans.put("starter", scopes=["orders:read"], limits=["100/minute"])
    desk.owners.put("acme", quotas=["1000/month"])
    issued = desk.issue(
        name="client",
        owner="acme",
        plan="starter",
        description="of the shop",
        networks=["203.0.113.0/24"],
        limits=["5/hour"],
    )
    desk.verify(issued.secret, client_address="203.0.113.9")
    desk.disable(issued.key.id)
    assert admin.get(f"/admin/keys/{issued.key.id}").status_code == 200
    for text in (
        *("client", "acme", "of the shop", "orders:read", "203.0.113.0/24", "5/hour", "100/minute", "1000/month"),
        *(
            "plan starter",
            "owner acme, for all its keys together",
            "disabled",
            "key.disabled",
            "key.issued",
            "Switch on",
        ),
        issued.key.secrets[0].hint,
    ):
        assert admin.shows(text), text
    assert issued.secret not in admin.page
    assert issued.key.secrets[0].digest not in admin.page


@pytest.mark.parametrize(("by", "rows"), [("hour", 1), ("day", 2), ("month", 2)])
def test_chart_has_a_table_of_the_same_numbers(admin: Browser, desk: Desk, by: str, rows: int) -> None:
    key = desk.issue(name="client").key
    for hours_ago, outcome, count in ((1, "allowed", 1234), (1, "scope_denied", 5), (24 * 20, "allowed", 77)):
        _count(desk, key.id, outcome, count, hours_ago)
    admin.get(f"/admin/keys/{key.id}?by={by}")
    numbers = re.search(r'aria-label="Requests in numbers">.*?<tbody>(.*?)</tbody>', admin.page, re.S)
    assert numbers is not None
    assert numbers[1].count("<tr>") == rows
    assert "1,234" in numbers[1]
    assert f"Requests of {key.name}" in admin.page
    assert "<title>" in admin.page.partition("</head>")[2]


# Issuing


def test_secret_is_shown_once_and_nowhere_else(admin: Browser, desk: Desk) -> None:
    admin.get("/admin/keys/new")
    form = admin.page
    answer = admin.post("/admin/keys/new", name="client", scopes="orders:read")
    assert answer.status_code == 200
    secret = SECRET.search(admin.page)
    assert secret is not None
    assert desk.verify(secret[0], scopes=["orders:read"]).allowed
    assert f"curl -H 'X-API-Key: {secret[0]}'" in admin.page
    assert answer.headers["Cache-Control"] == "no-store"
    assert secret[0] not in str(answer.headers)
    assert not [c for c in admin.client._cookies.values() if secret[0] in c.value]
    key = desk.verify(secret[0]).key
    assert key is not None
    for path in ("keys", f"keys/{key.id}", "events", "keys/new"):
        admin.get(f"/admin/{path}")
        assert not SECRET.search(admin.page)
    admin.page = form  # the answer loaded anew: the same form once more
    assert admin.post("/admin/keys/new", name="client", scopes="orders:read").status_code == 409
    assert not SECRET.search(admin.page)
    assert admin.shows("No second key was issued")
    admin.page = form
    assert admin.post("/admin/keys/new", name="another").status_code == 422
    assert [key.name for key in desk.list_keys().keys].count("client") == 1


def test_preview_shows_what_the_plan_brings_and_issues_nothing(admin: Browser, desk: Desk) -> None:
    desk.plans.put("starter", scopes=["orders:read"], limits=["100/minute"], quotas=["9000/month"])
    before = desk.store.position()
    admin.get("/admin/keys/new?plan=starter")
    answer = admin.post("/admin/keys/new", name="client", plan="starter", limits="5/hour", look="1")
    assert answer.status_code == 200
    preview = admin.page[admin.page.index('id="preview"') :].partition("</section>")[0]
    for text in ("orders:read", "100/minute", "5/hour", "9000/month", "plan starter"):
        assert text in preview
    assert desk.store.position() == before
    assert 'value="client"' in admin.page


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "", "must be one line of text"),
        ("scopes", "orders", "is not a scope"),
        ("limits", "often", "limit"),
        ("networks", "203.0.113.0/99", "network"),
        ("expires_at", "2000-01-01T00:00:00", "is not in the future"),
        ("expires_at", "soon", "is not a time"),
        ("plan", "nowhere", "plan"),
    ],
)
def test_what_cannot_be_used_is_said_at_its_field(admin: Browser, field: str, value: str, said: str) -> None:
    admin.get("/admin/keys/new")
    answer = admin.post("/admin/keys/new", **{"name": "client", "description": "kept", field: value})
    assert answer.status_code == 422
    error = re.search(rf'id="{field}-error">([^<]+)<', admin.page)
    assert error is not None
    assert said in error[1]
    assert f'href="#{field}"' in admin.page
    assert "kept" in admin.page


# Changing


def test_key_is_changed(admin: Browser, desk: Desk) -> None:
    key = desk.issue(name="client", limits=["5/hour"]).key
    admin.get(f"/admin/keys/{key.id}/edit")
    fields = {"name": "renamed", "scopes": "orders:read\norders:write", "limits": "", "expires_at": "2030-01-31T12:00"}
    assert admin.post(f"/admin/keys/{key.id}/edit", **fields).status_code == 303
    changed = desk.get_key(key.id)
    assert (changed.name, list(changed.scopes), changed.limits) == ("renamed", ["orders:read", "orders:write"], ())
    assert changed.expires_at is not None
    assert changed.expires_at.isoformat() == "2030-01-31T12:00:00+00:00"
    assert desk.list_events(key_id=key.id)[-1].event.actor == admin.key.id  # type: ignore[attr-defined]


def test_what_somebody_else_changed_meanwhile_stays(admin: Browser, desk: Desk) -> None:
    key = desk.issue(name="client").key
    admin.get(f"/admin/keys/{key.id}/edit")
    desk.update(key.id, name="of somebody else")
    assert admin.post(f"/admin/keys/{key.id}/edit", name="mine").status_code == 409
    assert desk.get_key(key.id).name == "of somebody else"
    for action in ("rotate", "revoke", "disable"):
        page = f"/admin/keys/{key.id}" if action == "disable" else f"/admin/keys/{key.id}/{action}"
        admin.get(page)
        desk.update(key.id, description=action)
        assert admin.post(f"/admin/keys/{key.id}/{action}").status_code == 409
    assert len(desk.get_key(key.id).secrets) == 1


def test_key_goes_through_its_life(admin: Browser, desk: Desk) -> None:
    key_id = desk.issue(name="client").key.id
    page = f"/admin/keys/{key_id}"
    for action, status in (("disable", Status.DISABLED), ("enable", Status.ACTIVE)):
        admin.get(page)
        answer = admin.post(f"{page}/{action}")
        assert answer.status_code == 303
        assert desk.get_key(key_id).status_at(desk.clock.now()) is status
        assert 'role="status"' in admin.get(answer.headers["Location"]).get_data(as_text=True)
    admin.get(f"{page}/rotate")
    assert admin.post(f"{page}/rotate", overlap="3600").status_code == 200
    secret = SECRET.search(admin.page)
    assert secret is not None
    assert desk.verify(secret[0]).allowed
    ends = desk.get_key(key_id).secrets[0].expires_at
    assert ends is not None
    assert ends - desk.clock.now() == timedelta(hours=1)
    admin.get(page)
    assert "delete" not in admin.page
    admin.get(f"{page}/revoke")
    assert admin.post(f"{page}/revoke", reason="sold").status_code == 303
    assert desk.get_key(key_id).revoke_reason == "sold"
    admin.get(f"{page}/delete")
    assert admin.post(f"{page}/delete").headers["Location"].startswith("/admin/keys?done=deleted")
    assert desk.find_key(key_id) is None
    assert admin.get(page).status_code == 404


def test_who_still_uses_the_secret_before_a_rotation(admin: Browser, desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="client")
    page = f"/admin/keys/{issued.key.id}"
    desk.rotate(issued.key.id, overlap=timedelta(hours=24))
    admin.get(page)
    assert admin.shows("Nobody used it since there is a newer one.")
    for _ in range(40):
        assert desk.verify(issued.secret, client_address="203.0.113.9").allowed
    assert desk.verify(issued.secret, client_address="198.51.100.1").allowed
    admin.get(page)
    assert admin.shows("from 203.0.113.0/24, 40 times in the last hour")
    assert admin.shows("from 198.51.100.0/24, 1 time in the last hour")
    clock.advance(timedelta(hours=2))
    admin = _again(admin, desk)
    admin.get(page)
    assert admin.shows("Nobody used it in the last hour; last used 2 hours ago.")


def test_answer_of_a_rotation_loaded_anew_rotates_nothing(admin: Browser, desk: Desk) -> None:
    key_id = desk.issue(name="client").key.id
    admin.get(f"/admin/keys/{key_id}/rotate")
    form = admin.page
    assert admin.post(f"/admin/keys/{key_id}/rotate").status_code == 200
    admin.page = form
    assert admin.post(f"/admin/keys/{key_id}/rotate").status_code == 409
    assert len(desk.get_key(key_id).secrets) == 2


@pytest.mark.parametrize("overlap", ["-1", "abc", "99999999999", ""])
def test_overlap_that_is_not_of_the_list(admin: Browser, desk: Desk, overlap: str) -> None:
    key_id = desk.issue(name="client").key.id
    admin.get(f"/admin/keys/{key_id}/rotate")
    assert admin.post(f"/admin/keys/{key_id}/rotate", overlap=overlap).status_code == 422
    assert len(desk.get_key(key_id).secrets) == 1


def test_keys_of_a_file_are_shown_and_not_changed(tmp_path, clock: ManualClock) -> None:
    from keydesk.server import create_app

    from .conftest import PEPPER

    settings = {
        "KEYDESK_STORE": "config://",
        "KEYDESK_PEPPER": PEPPER,
        "API_KEYS": {"a-first-secret-of-thirty-two-bytes": {"name": "Ada", "scopes": ["keydesk:*"]}},
    }
    server = create_app(settings, clock=clock)
    browser = Browser(server)
    assert browser.sign_in("a-first-secret-of-thirty-two-bytes").status_code == 303
    assert browser.get("/admin/keys").status_code == 200
    assert "keys/new" not in browser.page
    key_id = server.desk.list_keys().keys[0].id
    assert browser.get(f"/admin/keys/{key_id}").status_code == 200
    assert "/revoke" not in browser.page
    assert browser.get("/admin/keys/new").status_code == 409
    assert browser.shows("KEYDESK_STORE")
    for path in ("owners", "plans", "refused", "health", "explain"):
        assert browser.get(f"/admin/{path}").status_code == 200, path
    assert browser.get("/admin/events").status_code == 409
    server.close()
