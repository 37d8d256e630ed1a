"""The server as a process: how it starts, how it stops, and what it bears meanwhile."""

from __future__ import annotations

import base64
import ctypes
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from keydesk import open_desk
from keydesk.build import SQLITE_STALENESS_SECONDS
from keydesk.cli.serving import STOP_SECONDS

from ..faults.conftest import upgraded
from .serving import START_SECONDS, environment, free_port, served

COMMAND = [sys.executable, "-c", "from keydesk.cli import main; main()", "serve"]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return upgraded(f"sqlite:///{tmp_path / 'keys.db'}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_counted_is_written_down_at_the_end(store: str, tmp_path: Path, number: signal.Signals) -> None:
    desk = open_desk({"KEYDESK_STORE": store})
    issued = desk.issue(name="client")
    settings = {"KEYDESK_STORE": store, "KEYDESK_USAGE_FLUSH_SECONDS": "3600"}
    with served(tmp_path, settings, "--workers", "2") as server:
        assert [server.status("/authz/forwarded", issued.secret) for _ in range(20)] == [200] * 20
        assert server.status("/authz/forwarded", "made up") == 401
        server.process.send_signal(number)
        assert server.process.wait(15) == 0
    assert desk.usage(issued.key.id).totals() == {"allowed": 20}
    desk.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_that_is_still_starting_stops_too(store: str, tmp_path: Path, number: signal.Signals) -> None:
    """A worker inherits the handler of the process that made it, which would only take a note of the signal."""
    process = subprocess.Popen(
        [*COMMAND, "--port", str(free_port()), "--workers", "2"],
        env=environment({"KEYDESK_STORE": store, "KEYDESK_DEVELOPMENT": "1"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + START_SECONDS
    while len(workers := children.read_text().split()) < 2:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(number)
    process.wait(STOP_SECONDS - 2)
    assert [pid for pid in workers if Path("/proc", pid).exists()] == []


@pytest.mark.parametrize("whose", ["main process", "worker"])
def test_signal_that_wakes_nobody_stops_it_too(store: str, tmp_path: Path, whose: str) -> None:
    """A signal that comes just before Python's main thread begins to wait leaves it waiting, as one to another thread.

    Python runs handlers in the main thread alone. So the signal is sent to another one here, which is that very state.
    """
    with served(tmp_path, {"KEYDESK_STORE": store}) as server:
        main = server.process.pid
        worker = int(Path(f"/proc/{main}/task/{main}/children").read_text().split()[0])
        told = main if whose == "main process" else worker
        other = next(int(task.name) for task in Path(f"/proc/{told}/task").iterdir() if int(task.name) != told)
        began_at = time.monotonic()
        assert ctypes.CDLL(None, use_errno=True).tgkill(told, other, signal.SIGTERM) == 0
        while Path("/proc", str(worker)).exists():
            assert time.monotonic() - began_at < STOP_SECONDS - 2
            time.sleep(0.01)
        if whose == "main process":
            assert server.process.wait(STOP_SECONDS) == 0


def test_revoked_key_is_refused_by_every_worker(store: str, tmp_path: Path) -> None:
    """Number 15 of the list, and rule 2, behind a server."""
    desk = open_desk({"KEYDESK_STORE": store})
    issued = desk.issue(name="client")
    with served(tmp_path, {"KEYDESK_STORE": store, "KEYDESK_MAX_STALENESS_SECONDS": "0"}, "--workers", "2") as server:
        assert {server.status("/authz/forwarded", issued.secret) for _ in range(20)} == {200}
        desk.revoke(issued.key.id)
        assert {server.status("/authz/forwarded", issued.secret) for _ in range(20)} == {401}
    desk.close()


def test_key_revoked_through_one_server_is_refused_by_another(store: str, tmp_path: Path) -> None:
    """Number 15 of the list across two servers: no later than `max_staleness` after the first has answered."""
    desk = open_desk({"KEYDESK_STORE": store})
    issued, administrator = desk.issue(name="client"), desk.issue(name="administrator", scopes=["keydesk:*"])
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with served(folders[0], {"KEYDESK_STORE": store}) as one, served(folders[1], {"KEYDESK_STORE": store}) as other:
        assert other.status("/authz/forwarded", issued.secret) == 200
        headers = {"X-API-Key": administrator.secret, "Content-Type": "application/json"}
        url = f"{one.url}/v1/keys/{issued.key.id}/revoke"
        with urlopen(Request(url, b"{}", headers, method="POST"), timeout=10) as answer:
            assert answer.status == 200
        answered_at = time.monotonic()
        while True:
            sent_at = time.monotonic()
            if other.status("/authz/forwarded", issued.secret) == 401:
                break
            assert sent_at - answered_at <= SQLITE_STALENESS_SECONDS
    desk.close()


def _refused(settings: dict[str, str], *options: str) -> str:
    run = subprocess.run([*COMMAND, *options], env=environment(settings), capture_output=True, text=True, timeout=60)
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


def test_server_that_cannot_start_says_why(store: str) -> None:
    good = {"KEYDESK_STORE": store, "KEYDESK_DEVELOPMENT": "1"}
    assert "openssl rand -base64 32" in _refused({"KEYDESK_STORE": store})
    assert "set KEYDESK_STORE" in _refused({**good, "KEYDESK_STORE": "memory://"}, "--workers", "2")
    assert "choose another --host" in _refused(good, "--host", "203.0.113.77")
    assert "choose another --host" in _refused(good, "--host", "nowhere.invalid")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = _refused(good, "--port", str(taken.getsockname()[1]))
        assert "Address already in use; choose another --host or --port" in said


def test_server_without_its_tables_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    pepper = base64.b64encode(b"p" * 32).decode()
    said = _refused({"KEYDESK_STORE": f"sqlite:///{tmp_path / 'empty.db'}", "KEYDESK_PEPPER": pepper})
    assert "has no tables of Keydesk; `keydesk issue NAME` makes them" in said


def test_server_says_how_to_call_it(store: str, tmp_path: Path) -> None:
    with served(tmp_path, {"KEYDESK_STORE": store}) as server:
        said = server.log.read_text()
        assert f"{server.url}/authz/forwarded" in said
        assert f"{server.url}/readyz" in said


def test_server_that_is_tried_out_makes_what_is_missing(tmp_path: Path) -> None:
    """A fresh folder, one command: a database, and a key that may make others. The second start makes no other."""
    settings = {"KEYDESK_STORE": f"sqlite:///{tmp_path / 'new.db'}"}
    with served(tmp_path, settings) as server:
        secrets = re.findall(r"^kd_live_\w+$", server.log.read_text(), re.MULTILINE)
        assert len(secrets) == 1
        assert server.status("/v1/keys", secrets[0]) == 200
        assert server.status("/docs") in (200, 308)
    with served(tmp_path, settings) as server:
        assert "kd_live_" not in server.log.read_text()
        assert server.status("/v1/keys", secrets[0]) == 200


def test_server_begins_with_made_up_keys(tmp_path: Path) -> None:
    """The second start with them is refused; without, it serves what is there."""
    settings = {"KEYDESK_STORE": f"sqlite:///{tmp_path / 'new.db'}"}
    with served(tmp_path, settings, "--demo", "--workers", "2") as server:
        said = server.log.read_text()
        assert "12 owners, 4 plans" in said
        assert f"{server.url}/admin/" in said
        (secret,) = re.findall(r"^kd_live_\w+$", said, re.MULTILINE)
        with urlopen(Request(f"{server.url}/v1/keys", headers={"X-API-Key": secret}), timeout=10) as answer:
            assert "Bookshop frontend" in answer.read().decode()
    refused = _refused({**settings, "KEYDESK_DEVELOPMENT": "1"}, "--demo", "--port", str(free_port()))
    assert "the store is not empty" in refused
    with served(tmp_path, settings) as server:
        assert server.status("/v1/keys", secret) == 200
