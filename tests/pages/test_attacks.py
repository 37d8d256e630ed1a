"""What somebody tries who should not: other sites, stored texts, forms made by hand, more than one may."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from keydesk import Desk
from keydesk.pages.routes import POLICY
from keydesk.pages.session import PROOF_SECONDS
from keydesk.server.app import Server
from keydesk.testing import ManualClock
from keydesk.usage import Batch, Span

from .site import Browser

SignIn = Callable[..., Browser]
SCRIPT = "<script>alert(1)</script>"
BREAKS_OUT = "\"'><img src=x onerror=alert(1)>{{ 7*7 }}"
GETS = ("keys", "keys/new", "owners", "plans", "plans/new", "refused", "events", "explain", "health", "sign-in")


@pytest.mark.parametrize("path", [*GETS, "nowhere", "static/pages.css"])
def test_every_answer_says_what_browsers_may_do_with_it(admin: Browser, path: str) -> None:
    headers = admin.get(f"/admin/{path}").headers
    assert headers["Content-Security-Policy"] == POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert "unsafe" not in POLICY
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ("no-store" in headers["Cache-Control"]) is not path.startswith("static")


def _with_stored_texts(desk: Desk) -> str:
    desk.plans.put("starter", description=SCRIPT, scopes=["orders:read"], limits=["5/minute"], quotas=["9/day"])
    desk.owners.put(BREAKS_OUT, limits=["5/minute"])
    key = desk.issue(name=SCRIPT, owner=BREAKS_OUT, description=BREAKS_OUT + "\n" + SCRIPT, plan="starter").key
    desk.update(key.id, description=SCRIPT, actor=BREAKS_OUT)
    desk.revoke(desk.issue(name=BREAKS_OUT).key.id, reason=SCRIPT, actor=SCRIPT)
    at = Span.HOUR.start_of(desk.clock.now())
    entries = {(Span.HOUR, at, key.id, "allowed"): 5, (Span.HOUR, at, key.id, SCRIPT): 2}
    desk.usage_store.add(Batch(entries, {(Span.HOUR, at, "unknown", "203.0.113.0/24"): 3}))  # type: ignore[union-attr]
    return key.id


def test_stored_texts_are_texts_on_every_page(admin: Browser, desk: Desk) -> None:
    key_id = _with_stored_texts(desk)
    revoked = next(key.id for key in desk.list_keys().keys if key.revoked_at)
    paths = [
        *GETS[:-1],
        *(f"keys/{key_id}{more}" for more in ("", "?by=day", "/edit", "/rotate", "/revoke")),
        *(
            f"keys/{revoked}",
            f"keys/{revoked}/delete",
            "plans/starter",
            f"keys?text={SCRIPT}&owner={SCRIPT}&plan={SCRIPT}",
        ),
        *(f"explain?key={SCRIPT}&scopes={SCRIPT}", "events?check=1", f"keys?done={SCRIPT}", f"owner?owner={SCRIPT}"),
        "owner?owner=" + BREAKS_OUT.replace("=", "%3D").replace("{", "%7B"),
    ]
    seen = 0
    for path in paths:
        answer = admin.get(f"/admin/{path}")
        assert answer.status_code in (200, 422), path
        assert "<script>alert" not in admin.page, path
        assert "<img src=x" not in admin.page, path
        tags = re.findall(r"<[a-z][^>]*>", admin.page)
        assert not [tag for tag in tags if re.search(r'\son[a-z]+="', tag)], path
        assert "onerror=alert(1)&gt;49" not in admin.page, path
        assert re.findall(r"<(?:script|style)\b[^>]*>(?!</script>)", admin.page) == [], path
        assert ' style="' not in admin.page, path
        seen += admin.shows(SCRIPT)
    assert seen > 8


def test_form_of_another_site_does_nothing(admin: Browser, desk: Desk) -> None:
    """A browser sends the cookie to it only where SameSite is not known."""
    key = desk.issue(name="client").key
    for token in ("", "x", "e30.e30.e30"):
        admin.page = ""
        for path in (
            "keys/new",
            f"keys/{key.id}/disable",
            f"keys/{key.id}/revoke",
            "plans/new",
            "owner",
            "explain",
            "sign-out",
        ):
            answer = admin.post(f"/admin/{path}", csrf_token=token, name="x", version="1", owner="x", limits="1/minute")
            assert answer.status_code == 400
            assert admin.shows("This form has gone stale, or does not come from these pages.")
    assert len(desk.list_keys().keys) == 2
    assert desk.get_key(key.id) == key


def test_token_of_one_person_is_of_no_use_to_another(server: Server, admin: Browser, signed_in: SignIn) -> None:
    other = signed_in("keydesk:*")
    other.get("/admin/keys/new")
    admin.page = ""
    assert admin.post("/admin/keys/new", csrf_token=other.token(), name="x").status_code == 400


ASKED = {
    "keydesk:keys:read": {"keys": 200, "keys/new": 403, "refused": 403, "events": 403, "plans": 200, "owners": 200},
    "keydesk:keys:write": {"keys": 403, "keys/new": 200, "explain": 403, "health": 403, "plans": 200, "owners": 403},
    "keydesk:usage:read": {"keys": 403, "refused": 200, "events": 403, "plans": 403, "health": 403},
    "keydesk:events:read": {"keys": 403, "events": 200, "refused": 403, "owners": 403},
    "keydesk:plans:write": {"keys": 403, "plans": 200, "plans/new": 200, "owners": 200, "events": 403},
}


@pytest.mark.parametrize("scope", ASKED)
def test_everybody_sees_what_their_scopes_say(signed_in: SignIn, scope: str) -> None:
    browser = signed_in(scope)
    for path, status in ASKED[scope].items():
        assert browser.get(f"/admin/{path}").status_code == status, path
        if status == 200:
            shown = set(re.findall(r'<li><a href="/admin/([a-z/]+)"', browser.page))
            assert not [path for path in shown if ASKED[scope].get(path) == 403]


ACTIONS = ("edit", "rotate", "revoke", "disable", "enable", "delete")


def test_action_that_one_may_not_use_is_not_shown_and_refused(signed_in: SignIn, desk: Desk) -> None:
    key = desk.issue(name="client").key
    reader = signed_in("keydesk:keys:read")
    reader.get("/admin/keys")
    assert "keys/new" not in reader.page
    reader.get(f"/admin/keys/{key.id}")
    assert not [action for action in ACTIONS if f"{key.id}/{action}" in reader.page]
    for action in ACTIONS:
        reader.get("/admin/explain")
        assert reader.post(f"/admin/keys/{key.id}/{action}", version="1").status_code == 403
    reader.get("/admin/plans")
    assert "plans/new" not in reader.page
    assert desk.get_key(key.id) == key


def test_reader_of_plans_and_owners_changes_none(signed_in: SignIn, desk: Desk) -> None:
    desk.plans.put("starter", limits=["5/minute"])
    reader = signed_in("keydesk:keys:read")
    reader.get("/admin/explain")
    assert reader.post("/admin/plans/starter", limits="9/minute", version="1").status_code == 403
    reader.get("/admin/explain")
    assert reader.post("/admin/plans/starter", delete="1", version="1").status_code == 403
    reader.get("/admin/explain")
    assert reader.post("/admin/owner", owner="acme", limits="9/minute").status_code == 403
    assert str(desk.plans.get("starter").limits[0]) == "5/minute"
    assert desk.owners.find("acme") is None


def test_key_of_one_owner_sees_that_owner_s_alone(signed_in: SignIn, desk: Desk) -> None:
    own, other = (desk.issue(name=f"of {owner}", owner=owner).key for owner in ("acme", "globex"))
    browser = signed_in("keydesk:*", owner="acme")
    browser.get("/admin/keys")
    assert browser.shows("of acme")
    assert not browser.shows("of globex")
    browser.get("/admin/keys?owner=globex")
    assert not browser.shows("of globex")
    assert browser.get(f"/admin/keys/{own.id}").status_code == 200
    for path in (f"keys/{other.id}", *(f"keys/{other.id}/{action}" for action in ACTIONS)):
        assert browser.get(f"/admin/{path}").status_code == 404, path
        browser.get("/admin/explain")
        if "/" in path.removeprefix("keys/"):
            assert browser.post(f"/admin/{path}", version="1").status_code == 404, path
    for path in ("owners", "refused", "health", "owner?owner=acme", "plans/new"):
        assert browser.get(f"/admin/{path}").status_code == 403, path
    browser.get("/admin/events")
    assert other.id not in browser.page
    assert desk.get_key(other.id) == other


def test_key_of_one_owner_explains_that_owner_s_alone(signed_in: SignIn, desk: Desk) -> None:
    others = desk.issue(name="secret project", owner="globex", description="hush")
    browser = signed_in("keydesk:*", owner="acme")
    for fields in ({"secret": others.secret}, {"key": others.key.id}):
        browser.get("/admin/explain")
        browser.post("/admin/explain", **fields)
        assert "secret project" not in browser.page
        assert others.secret not in browser.page


def test_nobody_gives_more_than_they_hold(signed_in: SignIn, desk: Desk) -> None:
    browser = signed_in("keydesk:keys:*", "orders:read")
    browser.get("/admin/keys/new")
    assert browser.post("/admin/keys/new", name="too much", scopes="orders:write").status_code == 422
    assert browser.shows("This was not done.")
    assert [key.name for key in desk.list_keys().keys] == ["Ada"]


# Fresh proof


@pytest.mark.parametrize("action", ["new", "rotate", "revoke", "delete"])
def test_secret_is_asked_for_again_before_what_cannot_be_undone(
    admin: Browser, desk: Desk, clock: ManualClock, action: str
) -> None:
    clock.advance(PROOF_SECONDS + 1)
    key = desk.issue(name="client").key
    if action == "delete":
        key = desk.revoke(key.id)
    path = "/admin/keys/new" if action == "new" else f"/admin/keys/{key.id}/{action}"
    fields = {"name": "another"} if action == "new" else {}
    before = desk.store.position()
    stranger = desk.issue(name="stranger", scopes=["keydesk:*"]).secret
    before = desk.store.position()
    for proof in ("", "wrong", stranger):
        admin.get(path)
        assert 'name="proof"' in admin.page
        assert admin.post(path, proof=proof, **fields).status_code == 422
        assert desk.store.position() == before
    assert admin.post(path, proof=admin.secret, **fields).status_code in (200, 303)  # type: ignore[attr-defined]
    assert desk.store.position() != before
    admin.get("/admin/keys/new")  # it holds for a while
    assert 'name="proof"' not in admin.page


def test_disabling_asks_for_no_proof(admin: Browser, desk: Desk, clock: ManualClock) -> None:
    """Who has to stop a key in a hurry is not held up: it is undone as easily."""
    clock.advance(PROOF_SECONDS + 1)
    key = desk.issue(name="client").key
    admin.get(f"/admin/keys/{key.id}")
    assert admin.post(f"/admin/keys/{key.id}/disable").status_code == 303
    assert desk.get_key(key.id).disabled_at is not None


# Odd requests


@pytest.mark.parametrize(
    "path",
    [
        "keys?cursor=nonsense",
        "keys?status=nonsense",
        "keys?idle=5",
        "keys?scope=*",
        "keys?text=" + "x" * 300,
        "keys?owner=%00",
        "keys/%00",
        "keys/" + "x" * 3000,
        "events?before=-5",
        "events?before=99999999999999999999",
        "events?before=%D9%A3",
        "plans/%2e%2e",
        "plans/UPPER",
        "owner?owner=%0a",
        "owner?owner=" + "x" * 300,
        "keys?by=x",
        "static/../session.py",
        "static/%2e%2e%2fsession.py",
        "refused?by=century",
        "explain?scopes=*",
    ],
)
def test_odd_addresses_are_no_error_of_ours(admin: Browser, path: str) -> None:
    assert admin.get(f"/admin/{path}").status_code in (200, 404, 422)


@pytest.mark.parametrize(
    "field", ["name", "owner", "scopes", "limits", "quotas", "networks", "expires_at", "plan", "environment"]
)
@pytest.mark.parametrize("value", ["\x00", "ü\u202e", "x" * 20_000, "*/*", "9" * 500, "-1"])
def test_odd_fields_are_said_to_be_so(admin: Browser, field: str, value: str) -> None:
    admin.get("/admin/keys/new")
    answer = admin.post("/admin/keys/new", **{"name": "client", field: value})
    assert answer.status_code in (200, 422)


def test_form_that_is_too_large(admin: Browser) -> None:
    admin.get("/admin/keys/new")
    assert admin.post("/admin/keys/new", name="x", description="y" * 300_000).status_code == 413


def test_store_that_does_not_answer(admin: Browser, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from keydesk.errors import StoreUnavailable

    def gone(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database at db://secret-host is gone")

    monkeypatch.setattr(desk.store, "find_key", gone)
    assert admin.get("/admin/keys").status_code == 503
    assert "secret-host" not in admin.page
    assert admin.shows("The store does not answer.")


@pytest.mark.parametrize(("seconds", "status"), [(30, 200), (90, 303)])
def test_clock_of_this_server_is_behind(
    admin: Browser, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, seconds: int, status: int
) -> None:
    """That of the server at which somebody signed in may be a little ahead, and no more."""
    earlier = clock.now() - timedelta(seconds=seconds)
    monkeypatch.setattr(clock, "now", lambda: earlier)
    assert admin.get("/admin/keys").status_code == status
