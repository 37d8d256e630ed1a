"""What tells whoever runs the server how it is."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from keydesk.errors import SettingsError
from keydesk.server import create_app
from keydesk.testing import ManualClock

from ..faults.conftest import upgraded
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
    assert rig.call("/readyz").status_code == 503
    assert rig.call("/healthz").status_code == 200  # to restart it would mend nothing
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
