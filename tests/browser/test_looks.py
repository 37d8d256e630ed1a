"""Each page in both themes and at two widths: nothing a browser or axe complains of, nothing wider than the screen."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from keydesk import Desk
from keydesk.keys.record import Key

from .conftest import Open, Site, keep_picture, sign_in

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SCREENS = [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)]
KINDS = ("rotating", "revoked", "limited")


@cache
def _axe() -> str:
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def look_at(page: Any) -> None:
    """See that people can use what is shown, as far as a program can tell.

    axe is put in as the developer's tools of a browser would: the page's own policy lets nobody.
    """
    page.evaluate(_axe())
    found = page.evaluate("async rules => (await axe.run({runOnly: {type: 'tag', values: rules}})).violations", RULES)
    said = [f"{each['id']}: {each['help']}: {[node['html'][:120] for node in each['nodes'][:3]]}" for each in found]
    assert said == []
    wide = page.evaluate(
        "[...document.querySelectorAll('main *, .top *')]"
        ".filter(each => !each.closest('.scroll') && each.getBoundingClientRect().right > innerWidth + 1)"
        ".map(each => each.outerHTML.slice(0, 120))"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"wider than the screen: {wide[:3]}"


def _key(desk: Desk, kind: str) -> Key:
    keys = desk.list_keys(size=1000).keys
    now = desk.clock.now()
    if kind == "rotating":
        return next(key for key in keys if any(each.expires_at and each.expires_at > now for each in key.secrets))
    if kind == "revoked":
        return next(key for key in keys if key.revoked_at)
    return next(key for key in keys if key.plan and key.owner and desk.owners.find(key.owner) and not key.revoked_at)


PAGES = {
    "keys": "keys",
    "keys-disabled": "keys?status=disabled",
    "keys-none": "keys?text=nobody+is+called+so",
    "keys-wrong": "keys?scope=*",
    "issue": "keys/new",
    "explain": "explain",
    "owners": "owners",
    "plans": "plans",
    "plan-new": "plans/new",
    "refused": "refused",
    "refused-days": "refused?by=day",
    "events": "events",
    "events-checked": "events?check=1",
    "health": "health",
    "nothing": "nowhere",
    "key-unknown": "keys/key_unknown",
    **{f"key-{kind}": f"keys/{kind}" for kind in KINDS},
    "key-limited-days": "keys/limited?by=day",
    "key-limited-months": "keys/limited?by=month",
    "edit": "keys/limited/edit",
    "rotate": "keys/limited/rotate",
    "revoke": "keys/limited/revoke",
    "owner": "owner?owner={owner}",
    "plan": "plans/{plan}",
}


def _path(desk: Desk, path: str) -> str:
    for kind in KINDS:
        if path.startswith(f"keys/{kind}"):
            return path.replace(kind, _key(desk, kind).id, 1)
    key = _key(desk, "limited")
    return path.format(owner=key.owner, plan=key.plan)


@pytest.mark.parametrize(("theme", "width"), SCREENS, ids=lambda each: str(each))
def test_pages(open_page: Open, lively: Site, theme: str, width: int, tmp_path: Path) -> None:
    page = open_page(theme=theme, width=width)
    page.goto(lively.url("sign-in"))
    look_at(page)
    keep_picture(page, f"sign-in-{theme}-{width}", tmp_path)
    sign_in(page, lively)
    for name, path in PAGES.items():
        page.goto(lively.url(_path(lively.desk, path)))
        look_at(page)
        keep_picture(page, f"{name}-{theme}-{width}", tmp_path)


@pytest.mark.parametrize(("theme", "width"), SCREENS, ids=lambda each: str(each))
def test_empty_site(open_page: Open, site: Site, theme: str, width: int, tmp_path: Path) -> None:
    """What somebody sees on the first day."""
    page = sign_in(open_page(theme=theme, width=width), site)
    for path in ("keys", "keys?text=nobody", "owners", "plans", "refused", "events", f"keys/{site.admin.key.id}"):
        page.goto(site.url(path))
        look_at(page)
        keep_picture(page, f"empty-{path.partition('?')[0].replace('/', '-')[:10]}-{theme}-{width}", tmp_path)


@pytest.mark.parametrize("width", [1280, 360])
def test_much_of_everything(open_page: Open, site: Site, width: int, tmp_path: Path) -> None:
    """Long names without a place to break them, as many scopes, limits and networks as a key holds."""
    desk = site.desk
    long = "W" * 200
    desk.plans.put("p" * 64, description="d" * 1000, scopes=[f"resource-{n}:read" for n in range(200)])
    many = desk.issue(
        name=long,
        owner="O" * 200,
        plan="p" * 64,
        description="x" * 2000,
        networks=[f"203.0.113.{n}" for n in range(100)],
        limits=[f"{n + 1}/{n + 1} seconds" for n in range(20)],
        quotas=[f"{10**12}/{period}" for period in ("day", "month", "total")],
    )
    desk.owners.put("O" * 200, limits=[f"{n + 1}/{n + 1} minutes" for n in range(20)])
    for number in range(9):
        desk.rotate(many.key.id)
        desk.update(many.key.id, description=str(number) * 1500)
    desk.issue_many([{"name": f"{long[:190]} {number}", "owner": "O" * 200} for number in range(300)])
    page = sign_in(open_page(width=width), site)
    owner = "owner?owner=" + "O" * 200
    for path in (
        "keys",
        f"keys/{many.key.id}",
        f"keys/{many.key.id}/edit",
        "owners",
        owner,
        "plans",
        "events",
        "keys/new",
    ):
        page.goto(site.url(path))
        look_at(page)
        keep_picture(page, f"much-{path.partition('?')[0].replace('/', '-')[:12]}-{width}", tmp_path)


def test_store_that_does_not_answer(
    open_page: Open, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keydesk.errors import StoreUnavailable

    page = sign_in(open_page(), site)

    def gone(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database is gone")

    monkeypatch.setattr(site.desk.store, "find_key", gone)
    page.goto(site.url("keys"))
    assert page.text_content("h1") == "The store does not answer."
    look_at(page)
    keep_picture(page, "store-gone", tmp_path)
