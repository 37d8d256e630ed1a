"""Every action, as people do them: with the mouse, with the keyboard alone, and without scripts."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error

from keydesk.keys.record import Status
from keydesk.pages.session import PROOF_SECONDS

from .conftest import Open, Site, follow, keep_picture, sign_in
from .test_looks import look_at


def _status(site: Site, key_id: str) -> Status:
    return site.desk.get_key(key_id).status_at(site.clock.now())


def _issue(page: Any, site: Site, name: str) -> tuple[str, str]:
    """Issue a key, and return its id and its secret."""
    follow(page, "text=Issue a key")
    page.fill("#name", name)
    page.fill("#owner", "Blue Finch Bakery")
    page.fill("#scopes", "orders:read")
    page.fill("#limits", "100/minute\n1000/hour")
    follow(page, "text=Issue the key")
    secret = page.input_value("#secret")
    key = site.desk.verify(secret, scopes=["orders:read"]).key
    assert key is not None
    assert key.name == name
    return key.id, secret


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_life_of_a_key(open_page: Open, site: Site, scripts: bool, tmp_path: Path) -> None:
    page = sign_in(open_page(scripts=scripts), site)
    key_id, secret = _issue(page, site, "Mobile app")
    if scripts:
        look_at(page)
        keep_picture(page, "secret", tmp_path)
    assert page.is_visible("text=Copy the secret now.")
    assert page.is_visible("button[data-copy=secret]") is scripts
    follow(page, "text=I have it: show the key")
    follow(page, "text=Switch off")
    assert _status(site, key_id) is Status.DISABLED
    follow(page, "text=Switch on")
    assert _status(site, key_id) is Status.ACTIVE
    follow(page, "text=Change")
    page.fill("#description", "For the shop at the harbour")
    follow(page, "text=Change it")
    assert site.desk.get_key(key_id).description == "For the shop at the harbour"
    assert page.is_visible("text=The key was changed.")
    follow(page, "text=Rotate")
    page.select_option("#overlap", "3600")
    follow(page, "text=Rotate it")
    newer = page.input_value("#secret")
    assert newer != secret
    assert site.desk.verify(newer).allowed
    follow(page, "text=I have it: show the key")
    follow(page, "a:text('Revoke')")
    page.fill("#reason", "sold the shop")
    follow(page, "text=Revoke it for good")
    assert _status(site, key_id) is Status.REVOKED
    follow(page, "a:text('Delete')")
    follow(page, "text=Delete it")
    assert site.desk.find_key(key_id) is None
    follow(page, "text=Sign out")
    page.goto(site.url("keys"))
    assert page.url.startswith(site.url("sign-in"))


def _press_to(page: Any, selector: str, most: int = 60) -> None:
    """Press Tab until something has the focus, and see that it shows."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            drawn = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert drawn != "none", f"{selector} has the focus, and does not show it"
            return
    raise AssertionError(f"{selector} is not reached with the keyboard")


def _follow_with(page: Any, key: str) -> None:
    """Press a key on what leads to another page, and wait until all of that is there."""
    with page.expect_navigation():
        page.keyboard.press(key)


def test_life_of_a_key_by_keyboard(open_page: Open, site: Site) -> None:
    page = open_page()
    page.goto(site.url("sign-in"))
    _press_to(page, "#secret")
    page.keyboard.type(site.admin.secret)
    _follow_with(page, "Enter")
    assert page.url == site.url("keys")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    _follow_with(page, "Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    _press_to(page, "a.main")
    _follow_with(page, "Enter")
    assert page.url == site.url("keys/new")
    _press_to(page, "#name")
    page.keyboard.type("By hand")
    _press_to(page, "button[name=issue]")
    _follow_with(page, "Enter")
    key = site.desk.verify(page.input_value("#secret")).key
    assert key is not None
    _press_to(page, "a.button")
    _follow_with(page, "Enter")
    assert page.url == site.url(f"keys/{key.id}")
    _press_to(page, "form[action$=disable] button")
    _follow_with(page, "Space")
    assert page.is_visible("text=The key is switched off.")
    _press_to(page, "a.danger")
    _follow_with(page, "Enter")
    assert page.url == site.url(f"keys/{key.id}/revoke")
    _press_to(page, "button.danger")
    _follow_with(page, "Enter")
    assert page.is_visible("text=The key is revoked, for good.")
    assert _status(site, key.id) is Status.REVOKED


def test_secret_is_copied(open_page: Open, site: Site) -> None:
    page = sign_in(open_page(permissions=["clipboard-read", "clipboard-write"]), site)
    _, secret = _issue(page, site, "Mobile app")
    page.click("button[data-copy=secret]")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.click("button[data-copy=curl]")
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"curl -H 'X-API-Key: {secret}'")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_there_is_no_way_back_to_the_secret(open_page: Open, site: Site, scripts: bool) -> None:
    page = sign_in(open_page(scripts=scripts), site)
    _, secret = _issue(page, site, "Mobile app")
    keys = len(site.desk.list_keys().keys)
    page.reload()  # which sends the form again
    assert secret not in page.content()
    assert page.is_visible("text=No second key was issued")
    page.goto(site.url("keys"))
    with suppress(Error):  # Chromium has not kept it, and asks whether to send the form again
        page.go_back()
        assert secret not in page.content()
    page = page.context.new_page()
    page.goto(site.url("keys"))
    assert len(site.desk.list_keys().keys) == keys
    assert secret not in str(page.context.cookies())
    if scripts:
        assert page.evaluate("JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"


def test_preview_plans_and_owners(open_page: Open, site: Site, tmp_path: Path) -> None:
    page = sign_in(open_page(), site)
    follow(page, "nav >> text=Plans")
    follow(page, "text=Make a plan >> nth=0")
    page.fill("#name", "starter")
    page.fill("#scopes", "orders:read")
    page.fill("#quotas", "10000/month")
    follow(page, "text=Make it")
    assert page.is_visible("text=The plan was made.")
    follow(page, "nav >> text=Owners")
    follow(page, "text=Agree on something")
    page.fill("#owner", "Blue Finch Bakery")
    follow(page, "text=Go on")
    page.fill("#limits", "500/minute")
    follow(page, "text=Agree")
    assert page.is_visible("text=This is agreed from now on.")
    follow(page, "text=Issue one")
    assert page.input_value("#owner") == "Blue Finch Bakery"
    page.fill("#name", "Till")
    page.select_option("#plan", "starter")
    follow(page, "text=See what it will be able to do")
    preview = page.text_content("#preview")
    for text in ("orders:read", "10000/month", "500/minute", "owner Blue Finch Bakery"):
        assert text in preview
    look_at(page)
    keep_picture(page, "preview", tmp_path)
    follow(page, "text=Issue the key")
    assert page.is_visible("text=Copy the secret now.")


def test_explain(open_page: Open, lively: Site, tmp_path: Path) -> None:
    page = sign_in(open_page(), lively)
    key = next(key for key in lively.desk.list_keys(size=1000).keys if key.disabled_at and not key.revoked_at)
    follow(page, "nav >> text=Explain")
    page.fill("#key", key.id)
    page.fill("#scopes", "orders:write")
    page.fill("#address", "198.51.100.7")
    follow(page, "button.main")
    assert page.is_visible("text=it is refused")
    assert "keydesk enable" in page.text_content("main")
    look_at(page)
    keep_picture(page, "explained", tmp_path)


def test_find_and_page(open_page: Open, lively: Site) -> None:
    page = sign_in(open_page(), lively)
    first = page.locator("table.keys tbody tr").count()
    assert first == 50
    follow(page, "text=Older keys")
    assert 0 < page.locator("table.keys tbody tr").count() <= 50
    follow(page, "nav >> text=Keys")
    page.select_option("#status", "revoked")
    follow(page, "text=Find")
    badges = page.locator("table.keys .badge").all_text_contents()
    assert badges
    assert set(badges) == {"revoked"}
    follow(page, "text=Clear")
    assert page.locator("table.keys tbody tr").count() == 50


def test_what_cannot_be_used_is_said_where_it_was_written(open_page: Open, site: Site, tmp_path: Path) -> None:
    page = sign_in(open_page(), site)
    page.goto(site.url("keys/new"))
    page.fill("#name", "Mobile app")
    page.fill("#limits", "very often")
    follow(page, "text=Issue the key")
    assert page.get_attribute("#limits", "aria-invalid") == "true"
    assert page.input_value("#name") == "Mobile app"
    look_at(page)
    keep_picture(page, "wrong-field", tmp_path)
    follow(page, ".notice a")
    assert page.url.endswith("#limits")


def test_proof_is_asked_for_after_a_while(open_page: Open, site: Site, tmp_path: Path) -> None:
    page = sign_in(open_page(), site)
    key_id, _ = _issue(page, site, "Mobile app")
    site.clock.advance(timedelta(seconds=PROOF_SECONDS + 1))
    page.goto(site.url(f"keys/{key_id}/revoke"))
    page.fill("#proof", "not it")
    follow(page, "text=Revoke it for good")
    assert page.is_visible("#proof-error")
    look_at(page)
    keep_picture(page, "proof", tmp_path)
    assert _status(site, key_id) is Status.ACTIVE
    page.fill("#proof", site.admin.secret)
    follow(page, "text=Revoke it for good")
    assert _status(site, key_id) is Status.REVOKED
