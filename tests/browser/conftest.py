"""Real Chromium before a real server, whose store is full of made-up keys.

`KEYDESK_TEST_SCREENSHOTS=docs/images` keeps the pictures that the documentation shows.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from keydesk import Desk, IssuedKey
from keydesk.cli.demo_life import make_up_life
from keydesk.server import create_app
from keydesk.testing import ManualClock

from ..conftest import ALL_REQUIRED

NOW = datetime(2026, 11, 20, 10, 40, tzinfo=UTC)
PEPPER = "QmFzZTY0IG9mIHRoaXJ0eS10d28gYnl0ZXMgYXQgbGVhc3Q="
PICTURES = os.environ.get("KEYDESK_TEST_SCREENSHOTS")


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object, **__: object) -> None:
        pass


@contextmanager
def serving(application: Any) -> Iterator[int]:
    """Run a WSGI application until the end of the block, and give its port."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@dataclass
class Site:
    """A server with pages, and somebody who may do everything there."""

    desk: Desk
    clock: ManualClock
    port: int
    admin: IssuedKey = field(repr=False)

    def url(self, path: str = "") -> str:
        """The address of a page; `localhost`, to which browsers give cookies as over TLS."""
        return f"http://localhost:{self.port}/admin/{path}"


def make_site(folder: Path, *, life: bool) -> Iterator[Site]:
    clock = ManualClock(NOW)
    settings = {"KEYDESK_STORE": f"sqlite:///{folder / 'keys.db'}", "KEYDESK_PEPPER": PEPPER}
    server = create_app(settings, clock=clock)
    server.desk.store.upgrade()  # type: ignore[attr-defined]
    if life:
        make_up_life(server.desk)
    admin = server.desk.issue(name="Ada Lindqvist", scopes=["*"], actor="keydesk init")
    with serving(server) as port:
        yield Site(server.desk, clock, port, admin)
    server.close()


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that is only looked at."""
    yield from make_site(tmp_path_factory.mktemp("lively"), life=True)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site of one's own, with nothing but the administrator's key."""
    yield from make_site(tmp_path, life=False)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """The browser. It is ended before other tests come: its loop runs in their thread, where no other one may then."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        (pytest.fail if ALL_REQUIRED else pytest.skip)("chromium is not installed: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


Open = Callable[..., Any]


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens a tab; at the end it fails for whatever a browser complained of, or that a page ran."""
    contexts, complaints = [], list[str]()

    def open_page(*, width: int = 1280, theme: str = "light", scripts: bool = True, **options: Any) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, java_script_enabled=scripts, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda said: said.type == "error" and complaints.append(f"console: {said.text}"))
        page.complaints = complaints
        return page

    yield open_page
    for context in contexts:
        context.close()
    # The status of an answer that is no 200, which Chromium writes down too, is looked at where it matters.
    assert [each for each in complaints if "Failed to load resource" not in each] == []


def follow(page: Any, selector: str) -> None:
    """Click what leads to another page, and wait until all of that is there: a click alone waits for its beginning."""
    with page.expect_navigation():
        page.click(selector)


def sign_in(page: Any, site: Site, secret: str | None = None) -> Any:
    page.goto(site.url("sign-in"))
    page.fill("#secret", secret or site.admin.secret)
    follow(page, "button.main")
    assert page.url == site.url("keys")
    return page


# The pictures in the documentation, and whether the whole page is in them or what one screen shows.
SHOWN = {
    "keys-light-1280": ("keys", False),
    "key-limited-light-1280": ("key", True),
    "refused-dark-1280": ("refused", False),
    "explained": ("explained", True),
    "keys-light-360": ("keys-narrow", False),
}


def keep_picture(page: Any, name: str, folder: Path) -> None:
    """Take a picture of the whole page, to be looked at, and one for the documentation where it is asked for."""
    page.screenshot(path=folder / f"{name}.png", full_page=True)
    if PICTURES and name in SHOWN:
        own_name, whole = SHOWN[name]
        page.screenshot(path=Path(PICTURES) / f"{own_name}.png", full_page=whole)
