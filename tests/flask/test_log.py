"""One log line for each refusal: reason, hint, key id, address, endpoint. Nothing a client sends steers it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Blueprint

from keydesk import StoreUnavailable
from keydesk.decision import Denied
from keydesk.web.refusals import log_refusal

from .rig import Rig


@pytest.fixture
def shop(rig: Rig, caplog: pytest.LogCaptureFixture) -> Rig:
    caplog.set_level(logging.DEBUG, "keydesk")
    blueprint = Blueprint("api", __name__)
    rig.keys.protect(blueprint)

    @blueprint.get("/")
    @rig.keys.require("orders:read")
    def orders() -> str:
        return ""

    rig.app.register_blueprint(blueprint)
    return rig


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "keydesk"]


def test_log_missing(shop: Rig, caplog: pytest.LogCaptureFixture) -> None:
    shop.call()
    assert _lines(caplog) == ["refused: missing, key - (-), from 127.0.0.1, at api.orders"]
    assert caplog.records[0].levelno == logging.WARNING


def test_log_unknown(shop: Rig, caplog: pytest.LogCaptureFixture) -> None:
    secret = shop.desk.mint.secret_format.mint()
    shop.call(secret=secret)
    assert _lines(caplog) == [f"refused: invalid, key kd_live_…{secret[-4:]} (-), from 127.0.0.1, at api.orders"]


def test_log_revoked(shop: Rig, caplog: pytest.LogCaptureFixture) -> None:
    issued = shop.issue()
    shop.desk.revoke(issued.key.id)
    shop.call(secret=issued.secret)
    hint = issued.key.secrets[0].hint
    assert _lines(caplog) == [f"refused: revoked, key {hint} ({issued.key.id}), from 127.0.0.1, at api.orders"]


def test_log_scope(shop: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Refused by the blueprint with the view's scopes joined: one line, not one for each guard."""
    issued = shop.issue()
    shop.call(secret=issued.secret)
    (line,) = _lines(caplog)
    assert line.startswith("refused: scope_denied")
    assert issued.key.id in line


def test_log_network(shop: Rig, caplog: pytest.LogCaptureFixture) -> None:
    secret = shop.secret(networks=["203.0.113.7"])
    shop.call(secret=secret, environ_base={"REMOTE_ADDR": "2001:db8::1%eth0"})
    (line,) = _lines(caplog)
    assert "network_denied" in line
    assert "from 2001:db8::1%eth0," in line


def test_log_unavailable(shop: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(digests: object) -> None:
        raise StoreUnavailable("the database sqlite:///x.db does not answer")

    secret = shop.secret()
    monkeypatch.setattr(shop.desk.store, "find_by_digest", broken)
    assert shop.status(secret=secret) == 503
    error, refused = _lines(caplog)
    assert error == "Keydesk cannot verify keys: the database sqlite:///x.db does not answer"
    assert refused.startswith("refused: unavailable, key kd_live_…")


def test_log_nothing_when_accepted(shop: Rig, caplog: pytest.LogCaptureFixture) -> None:
    assert shop.status(secret=shop.secret("orders:read")) == 200
    assert _lines(caplog) == []


def test_log_one_line_with_a_handler(shop: Rig, caplog: pytest.LogCaptureFixture) -> None:
    shop.app.register_error_handler(401, lambda error: ("no", 401))
    shop.call()
    assert len(_lines(caplog)) == 1


@pytest.mark.parametrize(
    ("address", "logged"),
    [
        ("198.51.100.9\nINFO keydesk: all is well", r"198.51.100.9\nINFO keydesk: all is well"),
        ("\x1b[2J198.51.100.9", r"\x1b[2J198.51.100.9"),
        ("198.51.100.9\r", r"198.51.100.9\r"),
        ("\u202e9.001", r"\u202e9.001"),
        ("\udcff", r"\udcff"),
        ("\u2028", r"\u2028"),
        ("a" * 5000, "a" * 200),
        (None, "-"),
        ("", ""),
    ],
)
def test_log_address_escaped(shop: Rig, caplog: pytest.LogCaptureFixture, address: Any, logged: str) -> None:
    """REMOTE_ADDR is what a proxy middleware made of a header: ProxyFix believes any text."""
    shop.call(environ_base={"REMOTE_ADDR": address})
    assert _lines(caplog) == [f"refused: missing, key - (-), from {logged}, at api.orders"]


@pytest.mark.parametrize(
    "presented", ["abc\ndef" * 4, "\x1b[31mred-and-long-enough", "x" * 300, "é" * 20, "%s%d%n" * 4, "{0.__class__}" * 3]
)
def test_log_presented_text_shows_four_characters_at_most(
    shop: Rig, caplog: pytest.LogCaptureFixture, presented: str
) -> None:
    decision = shop.desk.verify(presented)
    assert isinstance(decision, Denied)
    log_refusal(decision, None, "api.orders")
    (line,) = _lines(caplog)
    assert line.isprintable()
    assert line in ("refused: invalid, key … (-), from -, at api.orders",) or f"key …{presented[-4:]} (-)" in line
