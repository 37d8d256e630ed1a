"""Who gets in, with what, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from keydesk import Desk, SettingsError
from keydesk.flask import Keydesk
from keydesk.pages import Person, make_pages
from keydesk.pages.session import COOKIE, IDLE_SECONDS, MOST_SECONDS
from keydesk.server import create_app
from keydesk.server.app import Server
from keydesk.testing import ManualClock

from .conftest import PEPPER
from .site import Browser

SignIn = Callable[..., Browser]
PATHS = ("keys", "keys/new", "owners", "plans", "refused", "events", "explain", "health", "owner?owner=acme")


@pytest.mark.parametrize("path", PATHS)
def test_nobody_gets_in_without_a_session(browser: Browser, path: str) -> None:
    answer = browser.get(f"/admin/{path}")
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/admin/sign-in")


def test_forms_of_nobody_are_refused(browser: Browser, desk: Desk) -> None:
    key = desk.issue(name="client").key
    browser.get("/admin/sign-in")
    assert browser.post(f"/admin/keys/{key.id}/disable", version="1").status_code == 401
    assert desk.get_key(key.id).disabled_at is None


@pytest.mark.parametrize("given", ["", "wrong", "kd_live_" + "a" * 38, "ü", "a\0b", "x" * 10_000])
def test_text_that_is_no_key_does_not_sign_in(browser: Browser, given: str) -> None:
    answer = browser.sign_in(given)
    assert answer.status_code == 403
    assert COOKIE not in answer.headers.get("Set-Cookie", "")
    assert browser.shows("No page is open to this key.")
    assert given[:4] not in browser.page or len(given) < 4 or given == "wrong"


def test_key_of_a_client_does_not_sign_in(browser: Browser, desk: Desk) -> None:
    assert browser.sign_in(desk.issue(name="client", scopes=["orders:read"]).secret).status_code == 403


def test_session_is_in_a_cookie_that_no_script_and_no_other_site_gets(browser: Browser, desk: Desk) -> None:
    issued = desk.issue(name="Ada", scopes=["keydesk:*"])
    answer = browser.sign_in(issued.secret)
    cookies = answer.headers.getlist("Set-Cookie")
    (ours,) = [cookie for cookie in cookies if cookie.startswith(f"{COOKIE}=")]
    assert all(word in ours for word in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"))
    assert "Domain" not in ours
    assert issued.secret not in str(answer.headers)
    form = [cookie for cookie in browser.client._cookies.values() if cookie.key != COOKIE]
    assert {(cookie.key, cookie.secure, cookie.http_only, cookie.same_site) for cookie in form} == {
        ("__Host-keydesk-form", True, True, "Strict")
    }


def test_session_ends_with_its_key(admin: Browser, desk: Desk) -> None:
    assert admin.get("/admin/keys").status_code == 200
    desk.revoke(admin.key.id)  # type: ignore[attr-defined]
    assert admin.get("/admin/keys").headers["Location"].startswith("/admin/sign-in")


@pytest.mark.parametrize("end", ["disable", "expire", "rotate", "narrow", "move"])
def test_session_ends_with_what_the_key_may(admin: Browser, desk: Desk, clock: ManualClock, end: str) -> None:
    key_id = admin.key.id  # type: ignore[attr-defined]
    if end == "disable":
        desk.disable(key_id)
    elif end == "expire":
        desk.update(key_id, expires_at=clock.now() + timedelta(seconds=1))
        clock.advance(1)
    elif end == "rotate":
        desk.rotate(key_id, overlap=timedelta(0))
    elif end == "narrow":
        desk.update(key_id, scopes=["keydesk:plans:write"])
    else:
        desk.update(key_id, networks=["192.0.2.0/24"])
    assert admin.get("/admin/keys").status_code in (303, 403)
    assert admin.get("/admin/keys").status_code == (403 if end == "narrow" else 303)


def test_session_ends_when_nobody_uses_it(admin: Browser, clock: ManualClock) -> None:
    for _ in range(3):
        clock.advance(IDLE_SECONDS - 1)
        assert admin.get("/admin/keys").status_code == 200
    clock.advance(IDLE_SECONDS + 1)
    assert admin.get("/admin/keys").status_code == 303


def test_log_of_the_server_names_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "keydesk.access")
    settings = {"KEYDESK_STORE": f"sqlite:///{tmp_path / 'k.db'}", "KEYDESK_PEPPER": PEPPER, "KEYDESK_ACCESS_LOG": "1"}
    server = create_app(settings)
    server.desk.store.upgrade()  # type: ignore[attr-defined]
    issued = server.desk.issue(name="Ada", scopes=["keydesk:*"])
    browser = Browser(server)
    browser.sign_in(issued.secret)
    browser.get("/admin/keys?text=private")
    last = caplog.messages[-1]
    assert f'"key": "{issued.key.id}"' in last
    assert '"path": "/admin/keys"' in last
    assert "private" not in last
    server.close()


def test_session_ends_after_half_a_day_whoever_uses_it(admin: Browser, clock: ManualClock) -> None:
    for _ in range(MOST_SECONDS // 1200):
        assert admin.get("/admin/keys").status_code == 200
        clock.advance(1200)
    clock.advance(1)
    assert admin.get("/admin/keys").status_code == 303


def test_session_of_another_server_or_of_nobody(server: Server, admin: Browser, browser: Browser) -> None:
    value = admin.client.get_cookie(COOKIE, "desk.example", "/")
    assert value is not None
    # Not the last character: two of its bits are in no byte of the signature.
    changed = f"{value.value[:-2]}{'A' if value.value[-2] != 'A' else 'B'}{value.value[-1]}"
    for forged in ("", "x", changed, "e30.e30", value.value * 2):
        browser.client.set_cookie(COOKIE, forged, domain="desk.example", path="/")
        assert browser.get("/admin/keys").status_code == 303


def test_sign_out_takes_the_session_away(admin: Browser) -> None:
    admin.get("/admin/keys")
    assert admin.post("/admin/sign-out").status_code == 303
    assert admin.get("/admin/keys").status_code == 303


def test_sign_out_by_a_link_does_nothing(admin: Browser) -> None:
    admin.get("/admin/sign-out")
    assert admin.get("/admin/keys").status_code == 200


def test_back_to_where_somebody_came_from(browser: Browser, desk: Desk) -> None:
    secret = desk.issue(name="Ada", scopes=["keydesk:*"]).secret
    answer = browser.get("/admin/plans")
    browser.get(answer.headers["Location"])
    answer = browser.post("/admin/sign-in", secret=secret)
    assert browser.get(answer.headers["Location"]).headers["Location"] == "/admin/plans"


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example/admin/", "/admin//evil", "/admin/\\evil", "/x"]
)
def test_nobody_is_sent_elsewhere(admin: Browser, back: str) -> None:
    assert admin.get(f"/admin/sign-in?back={back}").headers["Location"] == "/admin/keys"


def test_browser_that_keeps_no_cookie_is_told_why(browser: Browser) -> None:
    browser.get("/admin/sign-in?welcome=1")
    assert browser.shows("Your browser did not keep the session.")


# People whom others vouch for


def _behind_proxy(tmp_path: Path, **settings: str) -> Server:
    server = create_app(
        {
            "KEYDESK_STORE": f"sqlite:///{tmp_path / 'proxy.db'}",
            "KEYDESK_PEPPER": PEPPER,
            "KEYDESK_TRUSTED_PROXIES": "192.0.2.1",
            "KEYDESK_ADMIN_HEADER": "X-Forwarded-Email",
            "KEYDESK_ADMINS": "ada@desk.example, bob@desk.example",
            **settings,
        }
    )
    server.desk.store.upgrade()  # type: ignore[attr-defined]
    return server


@pytest.mark.parametrize(
    ("address", "name", "status"),
    [
        ("192.0.2.1", "ada@desk.example", 200),
        ("192.0.2.1", "eve@desk.example", 303),
        ("192.0.2.1", "", 303),
        ("192.0.2.1", "ada@desk.example, eve@desk.example", 303),
        ("203.0.113.7", "ada@desk.example", 303),
    ],
)
def test_proxy_says_who_it_is(tmp_path: Path, address: str, name: str, status: int) -> None:
    server = _behind_proxy(tmp_path)
    browser = Browser(server, address)
    headers = {"X-Forwarded-Email": name}
    assert browser.get("/admin/keys", **headers).status_code == status
    if status == 200:
        browser.get("/admin/keys/new", **headers)
        browser.post("/admin/keys/new", headers, name="client")
        (event,) = server.desk.list_events()
        assert event.event.actor == "ada@desk.example"
    server.close()


def test_header_that_nobody_may_send() -> None:
    with pytest.raises(SettingsError, match="KEYDESK_ADMIN_HEADER is believed from nobody"):
        create_app({"KEYDESK_STORE": "memory://", "KEYDESK_PEPPER": PEPPER, "KEYDESK_ADMIN_HEADER": "X-User"})


def test_application_says_who_it_is(tmp_path: Path) -> None:
    app, keys, who = Flask("shop"), Keydesk(), list[Person | None]()
    app.config.update(SECRET_KEY="x" * 32, KEYDESK_STORE=f"sqlite:///{tmp_path / 'k.db'}")
    keys.init_app(app)
    keys.protect(app)
    app.register_blueprint(make_pages(lambda: who[-1]), url_prefix="/keys-admin")
    with app.app_context():
        keys.desk.store.upgrade()  # type: ignore[attr-defined]
    browser = Browser(app)
    who.append(None)
    assert browser.get("/keys-admin/keys").headers["Location"].startswith("/keys-admin/sign-in")
    assert browser.get("/keys-admin/static/pages.css").status_code == 200
    who.append(Person("ada@shop.example"))
    browser.get("/keys-admin/keys/new")
    assert browser.post("/keys-admin/keys/new", name="Mobile app").status_code == 200
    with app.app_context():
        assert keys.desk.list_events()[0].event.actor == "ada@shop.example"


def test_application_without_a_secret_key(tmp_path: Path) -> None:
    app = Flask("shop")
    Keydesk().init_app(app)
    with pytest.raises(SettingsError, match="SECRET_KEY is not set"):
        app.register_blueprint(make_pages())
