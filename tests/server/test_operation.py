"""What tells whoever runs the server how it is."""

from __future__ import annotations

import base64
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from keydesk.errors import SettingsError
from keydesk.server import create_app
from keydesk.server.operation import KEPT_SECONDS
from keydesk.testing import ManualClock

from .. import servers
from ..faults.conftest import upgraded
from ..faults.databases import HELD_SECONDS, Database
from .rig import ServerRig


def test_healthy_and_ready(rig: ServerRig) -> None:
    assert rig.call("/healthz").get_json() == {"status": "ok"}
    ready = rig.call("/readyz")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "ready")
    assert rig.call("/readyz", method="HEAD").data == b""


def test_not_ready_without_its_tables(tmp_path: Path, clock: ManualClock) -> None:
    url = upgraded(f"sqlite:///{tmp_path / 'keys.db'}")
    rig = ServerRig(clock, KEYDESK_STORE=url)
    assert rig.call("/readyz").status_code == 200
    with closing(sqlite3.connect(tmp_path / "keys.db")) as connection, connection:
        connection.execute("DROP TABLE keydesk_secrets")
    clock.advance(KEPT_SECONDS)
    assert rig.call("/readyz").status_code == 503
    assert rig.call("/healthz").status_code == 200  # to restart it would mend nothing
    rig.close()


def test_store_is_looked_at_once_a_second(rig: ServerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask, and to look reads the store."""
    looked: list[int] = []
    checks = rig.desk.store.checks
    monkeypatch.setattr(rig.desk.store, "checks", lambda: looked.append(1) or checks())
    assert {rig.call("/readyz").status_code for _ in range(5)} == {200}
    assert len(looked) == 1
    rig.clock.advance(KEPT_SECONDS)
    rig.call("/readyz")
    assert len(looked) == 2


def test_ready_says_how_old_the_last_answer_of_the_store_is(tmp_path: Path, clock: ManualClock) -> None:
    rig = ServerRig(clock, KEYDESK_STORE=upgraded(f"sqlite:///{tmp_path / 'keys.db'}"))
    assert rig.call("/readyz").get_json()["feed_age_seconds"] is None  # nobody has asked for a key
    assert rig.call("/authz/forwarded", rig.issue().secret).status_code == 200
    clock.advance(7.5)
    assert rig.call("/readyz").get_json()["feed_age_seconds"] == 7.5
    rig.close()


def test_not_ready_while_the_database_is_away(own_server: Callable[[str], servers.Server], clock: ManualClock) -> None:
    """A database that is killed, and one that hangs."""
    database = Database(own_server("postgres"))
    rig = ServerRig(clock, KEYDESK_STORE=database.url)
    secret = rig.issue().secret
    assert (rig.call("/authz/forwarded", secret).status_code, rig.call("/readyz").status_code) == (200, 200)
    for break_it, mend in ((database.kill, database.start), (database.freeze, database.thaw)):
        break_it()
        try:
            clock.advance(KEPT_SECONDS)
            began = time.monotonic()
            answer = rig.call("/readyz")
            assert time.monotonic() - began < HELD_SECONDS
            assert (answer.status_code, answer.get_json()["checks"]["store"]) == (503, False)
            assert answer.get_json()["feed_age_seconds"] >= KEPT_SECONDS
            assert rig.call("/healthz").status_code == 200
        finally:
            mend()
        clock.advance(KEPT_SECONDS)
        assert rig.call("/readyz").status_code == 200
    rig.close()


def test_error_is_answered_and_told(
    rig: ServerRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rig.desk.store, "checks", lambda: fail(None))
    answer = rig.call("/readyz")
    assert (answer.status_code, answer.get_json()["reason"]) == (500, "internal")
    assert "ZeroDivisionError" in caplog.text


def test_unknown_path_says_where_to_look(rig: ServerRig) -> None:
    answer = rig.call("/nowhere")
    assert (answer.status_code, answer.get_json()["reason"]) == (404, "not_found")


def test_no_pepper_no_server(clock: ManualClock) -> None:
    """Number 14 of the list: no default is as good as a secret."""
    with pytest.raises(SettingsError, match=r"KEYDESK_PEPPER is not set.*openssl rand -base64 32"):
        create_app({"KEYDESK_STORE": "memory://"}, clock=clock)
    with pytest.raises(SettingsError, match=r"KEYDESK_PREFIX(.|\n)*KEYDESK_PEPPER is not set"):
        create_app({"KEYDESK_STORE": "memory://", "KEYDESK_PREFIX": "!"}, clock=clock)
    pepper = base64.b64encode(b"p" * 32).decode()
    create_app({"KEYDESK_STORE": "memory://", "KEYDESK_PEPPER": pepper}, clock=clock).close()
