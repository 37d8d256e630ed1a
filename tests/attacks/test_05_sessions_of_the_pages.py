"""Numbers 1, 5 and 16 of what went wrong elsewhere, on the administration pages.

A key made without a session, by naming an owner; a session that goes on managing keys after its own was revoked; and
an address that mints or reveals when it is only looked at.
"""

from __future__ import annotations

import re

import pytest

from keydesk import Desk
from keydesk.server.app import Server

from ..pages.conftest import admin, desk, server, signed_in  # noqa: F401
from ..pages.site import Browser

ACTIONS = ("edit", "rotate", "revoke", "disable", "enable", "delete")


def _forms(key_id: str) -> list[str]:
    return ["keys/new", *(f"keys/{key_id}/{action}" for action in ACTIONS), "plans/new", "owner", "plans/starter"]


@pytest.fixture
def key_id(desk: Desk) -> str:  # noqa: F811
    desk.plans.put("starter")
    return desk.issue(name="client", owner="acme").key.id


def test_nobody_makes_a_key_by_naming_its_owner(server: Server, desk: Desk, key_id: str) -> None:  # noqa: F811
    browser, before = Browser(server), desk.store.position()
    for path in _forms(key_id):
        browser.get("/admin/sign-in")
        fields = {"name": "mine", "owner": "acme", "scopes": "*", "version": "1", "limits": "1/minute"}
        assert browser.post(f"/admin/{path}", **fields).status_code == 401, path
    assert desk.store.position() == before


def test_session_whose_key_was_revoked_manages_nothing(admin: Browser, desk: Desk, key_id: str) -> None:  # noqa: F811
    pages = {}
    for path in _forms(key_id):
        admin.get(f"/admin/{path}?owner=acme")  # the form is there already when the key is revoked
        pages[path] = admin.page
    desk.revoke(admin.key.id)  # type: ignore[attr-defined]
    before = desk.store.position()
    for path, page in pages.items():
        admin.page = page
        assert admin.post(f"/admin/{path}", name="mine", owner="acme").status_code == 401, path
    assert desk.store.position() == before


def test_looking_changes_nothing_and_reveals_nothing(admin: Browser, desk: Desk, key_id: str) -> None:  # noqa: F811
    before, key = desk.store.position(), desk.get_key(key_id)
    paths = [
        *_forms(key_id),
        "keys",
        f"keys/{key_id}",
        "owners",
        "plans",
        "refused",
        "events",
        "explain",
        "health",
        "sign-out",
    ]
    for path in paths:
        for query in ("", "?owner=acme", "?name=x&issue=1&delete=1&version=1&overlap=0&reason=x&csrf_token=x"):
            admin.get(f"/admin/{path}{query}")
            assert not re.search(r"kd_live_\w{38}", admin.page), path
            assert key.secrets[0].digest not in admin.page, path
    assert desk.store.position() == before
    assert desk.get_key(key_id) == key
