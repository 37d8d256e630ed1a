"""What was counted is written when a process ends, however it does, and never twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keydesk import Desk, open_desk

from .processes import start as start_process

ENDING = Path(__file__).with_name("ending.py")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/keys.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def desk(url: str) -> Iterator[Desk]:
    desk = open_desk({"KEYDESK_STORE": url})
    desk.store.upgrade()  # type: ignore[attr-defined]
    yield desk
    desk.close()


def start(what: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ENDING), what, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first == "ready\n", first + process.stdout.read()


def ended(process: subprocess.Popen[str]) -> int:
    out, _ = process.communicate(timeout=30)
    assert "Error" not in out, out
    return process.returncode


def test_exit_writes_what_was_counted(desk: Desk, url: str) -> None:
    assert ended(start("exits", url, desk.issue(name="x").secret)) == 0
    assert desk.usage().totals() == {"allowed": 5}


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize(("what", "code"), [("waits", -signal.SIGTERM), ("own_handler", 7)])
def test_sigterm_writes_what_was_counted(desk: Desk, url: str, what: str, code: int) -> None:
    process = start(what, url, desk.issue(name="x").secret)
    ready(process)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == code
    assert desk.usage().totals() == {"allowed": 5}


def test_sigterm_with_nothing_counted_kills_at_once(desk: Desk, url: str) -> None:
    process = start("counted_nothing", url, "key_" + "0" * 28)
    ready(process)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == -signal.SIGTERM


def test_kill_loses_no_more_than_an_interval(desk: Desk, url: str) -> None:
    process = start("writes_and_waits", url, desk.issue(name="x").secret)
    ready(process)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    assert desk.usage().totals() == {"allowed": 5}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no fork on this system")
def test_fork_counts_nothing_twice(desk: Desk, url: str) -> None:
    assert ended(start("forks", url, desk.issue(name="x").secret)) == 0
    assert desk.usage().totals() == {"allowed": 9}


def test_locked_sqlite_keeps_what_was_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As during an import, which holds the lock for as long as it takes."""
    from keydesk.stores import engines

    monkeypatch.setattr(engines, "CONNECT_SECONDS", 0.1)
    path = tmp_path / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}", "KEYDESK_USAGE_FLUSH_SECONDS": 3600})
    secret = desk.issue(name="x").secret
    process = start_process("lock_sqlite", str(path))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert desk.meter is not None
    for _ in range(3):
        assert desk.verify(secret).allowed
        desk.meter.flush()
    assert desk.usage().totals() == {}
    process.communicate("go\n", timeout=20)
    desk.meter.flush()
    assert desk.usage().totals() == {"allowed": 3}
    desk.close()
