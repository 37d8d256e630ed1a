"""A server with pages, over a database of its own and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keydesk import Desk
from keydesk.server import create_app
from keydesk.server.app import Server
from keydesk.testing import ManualClock

from .site import Browser

PEPPER = "QmFzZTY0IG9mIHRoaXJ0eS10d28gYnl0ZXMgYXQgbGVhc3Q="
EVERYTHING = ("keydesk:*", "orders:*")


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Iterator[Server]:
    settings = {"KEYDESK_STORE": f"sqlite:///{tmp_path / 'keys.db'}", "KEYDESK_PEPPER": PEPPER}
    server = create_app(settings, clock=clock)
    server.desk.store.upgrade()  # type: ignore[attr-defined]
    yield server
    server.close()


@pytest.fixture
def desk(server: Server) -> Desk:
    return server.desk


@pytest.fixture
def browser(server: Server) -> Browser:
    """Of somebody nobody knows."""
    return Browser(server)


@pytest.fixture
def signed_in(server: Server) -> Callable[..., Browser]:
    """Makes the browser of somebody who signed in with a new key that has these scopes."""

    def sign_in(*scopes: str, owner: str | None = None, plan: str | None = None) -> Browser:
        issued = server.desk.issue(name="Ada", scopes=scopes, owner=owner, plan=plan)
        browser = Browser(server)
        assert browser.sign_in(issued.secret).status_code == 303
        browser.key = issued.key  # type: ignore[attr-defined]
        browser.secret = issued.secret  # type: ignore[attr-defined]
        return browser

    return sign_in


@pytest.fixture
def admin(signed_in: Callable[..., Browser]) -> Browser:
    """The browser of somebody who may do everything."""
    return signed_in(*EVERYTHING)
