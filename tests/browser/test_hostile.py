"""What other sites and stored texts try in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from keydesk.pages.session import COOKIE

from .conftest import Open, Site, follow, serving, sign_in

SCRIPTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "javascript:alert(1)",
    "</title><svg onload=alert(1)>",
    "{{ config }}{% raw %}",
)


@pytest.mark.parametrize("text", SCRIPTS)
def test_stored_texts_run_nowhere(open_page: Open, site: Site, text: str) -> None:
    """`open_page` fails for every dialog, and for whatever the policy of the page had to stop."""
    desk = site.desk
    desk.plans.put("starter", description=text)
    desk.owners.put(text, limits=["5/minute"])
    key = desk.issue(name=text, owner=text, description=text, plan="starter").key
    desk.revoke(key.id, reason=text, actor=text)
    page = sign_in(open_page(), site)
    for path in (
        "keys",
        f"keys/{key.id}",
        f"keys/{key.id}/delete",
        "owners",
        "plans",
        "plans/starter",
        "events",
        "explain",
    ):
        page.goto(site.url(path))
    page.goto(site.url("keys"))
    page.fill("#text", text)
    follow(page, "text=Find")
    page.goto(site.url("owners"))
    page.fill("#owner", text)
    follow(page, "text=Show")
    assert page.text_content("h1") == text
    page.goto(site.url("keys/new"))
    for field in ("name", "owner", "description", "scopes", "limits", "quotas", "networks"):
        page.fill(f"#{field}", text)
    follow(page, "text=See what it will be able to do")
    page.goto(site.url("explain"))
    for field in ("secret", "key", "scopes", "address"):
        page.fill(f"#{field}", text)
    follow(page, "button.main")
    assert page.complaints == [each for each in page.complaints if "Failed to load resource" in each]


def _evil(page_of: str) -> Any:
    def application(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [page_of.encode()]

    return application


def test_form_of_another_site_does_nothing(open_page: Open, site: Site) -> None:
    key = site.desk.issue(name="client").key
    page = sign_in(open_page(), site)
    fields = "".join(f"<input name={name} value={value}>" for name, value in (("version", 1), ("csrf_token", "x")))
    form = f"<form method=post action='{site.url(f'keys/{key.id}/disable')}'>{fields}</form>"
    with serving(_evil(f"{form}<script>document.forms[0].submit()</script>")) as port:
        page.goto(f"http://127.0.0.1:{port}/")  # another site, by its name
        page.wait_for_url(site.url(f"keys/{key.id}/disable"))
    assert page.is_visible("text=Your session has ended.")  # no cookie came with it
    assert site.desk.get_key(key.id).disabled_at is None


def test_page_within_another_site_is_not_shown(open_page: Open, site: Site) -> None:
    page = open_page()
    sign_in(page, site)
    with serving(_evil(f"<iframe src='{site.url('keys')}'></iframe>")) as port:
        for host in ("127.0.0.1", "localhost"):
            page.goto(f"http://{host}:{port}/")
            frame = page.frames[1]
            assert "Keydesk" not in (frame.content() if not frame.is_detached() else "")
    stopped = [each for each in page.complaints if "frame-ancestors" in each or "Refused to" in each]
    assert stopped
    page.complaints[:] = [each for each in page.complaints if each not in stopped]


def test_scripts_do_not_see_the_session(open_page: Open, site: Site) -> None:
    page = sign_in(open_page(), site)
    assert page.evaluate("document.cookie") == ""
    (cookie,) = [each for each in page.context.cookies() if each["name"] == COOKIE]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    assert site.admin.secret not in str(page.context.cookies())


def test_revoked_person_is_out_at_the_next_click(open_page: Open, site: Site) -> None:
    other = site.desk.issue(name="Bob", scopes=["keydesk:*"])
    key = site.desk.issue(name="client").key
    page = sign_in(open_page(), site, other.secret)
    page.goto(site.url(f"keys/{key.id}"))
    site.desk.revoke(other.key.id)
    follow(page, "text=Switch off")
    assert page.is_visible("text=Your session has ended.")
    assert site.desk.get_key(key.id).disabled_at is None
    follow(page, "a:text-is('Sign in')")
    page.fill("#secret", other.secret)
    follow(page, "button.main")
    assert page.is_visible("text=No page is open to this key.")
