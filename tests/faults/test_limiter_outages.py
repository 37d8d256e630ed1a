"""A limiter that is killed, halted, emptied, locked or spoilt under load, behind workers of gunicorn.

With `KEYDESK_LIMITER_FAILURE=open` callers go on, by the same limits for each worker alone; with `closed` keys with
limits get 503. Nobody waits for long, keys without limits notice nothing, and each worker says it once.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from keydesk import open_desk
from keydesk.limiting.failover import RETRY_SECONDS
from keydesk.limiting.nodes import ANSWER_SECONDS
from keydesk.limiting.sqlite import WAIT_SECONDS

from ..servers import Server, Valkey
from .conftest import upgraded
from .databases import Load
from .serving import Service, gunicorn, serving

Figures = Callable[[str, float], None]
WORKERS = 2
MOST = 40  # of the key `tight`, in an hour
BUSY = 1.0  # seconds more, for a machine that has too much to do
OUT_SECONDS = 2.5  # so that a limiter that is away is asked again, in vain
AWAY = {
    "open": "Keydesk's limiter is away, and each worker counts alone: ",
    "closed": "Keydesk's limiter is away, and keys with limits are refused: ",
}
BACK = "Keydesk's limiter answers again"


@dataclass
class Stage:
    """Workers whose limiter fails, and the load on them: keys without limits, with wide and with tight ones."""

    service: Service
    load: Load
    log: Path

    def statuses(self, name: str, began_at: float = 0.0, ended_at: float = float("inf")) -> set[int]:
        return {answer.status for answer in self.load.during(name, began_at, ended_at)}

    def admitted(self, name: str) -> int:
        return sum(answer.status == 200 for answer in self.load.answers[name])

    def said(self, line: str) -> int:
        return sum(each.startswith(line) for each in self.log.read_text().splitlines())


@contextmanager
def on_stage(folder: Path, limiter: str, policy: str) -> Iterator[Stage]:
    """Run workers over a limiter, under load, with keys that everybody knows."""
    store = upgraded(f"sqlite:///{folder / 'keys.db'}")
    limits = {"free": (), "wide": ("1000000/hour", "9000000/day"), "tight": (f"{MOST}/hour",)}
    desk = open_desk({"KEYDESK_STORE": store})
    secrets = {name: desk.issue(name=name, limits=each).secret for name, each in limits.items()}
    desk.close()
    settings = {"KEYDESK_LIMITER": limiter, "KEYDESK_LIMITER_FAILURE": policy}
    command = gunicorn("--threads", "8", "--preload", workers=WORKERS)
    with serving(folder, store, command, workers=WORKERS, settings=settings) as service:
        asked = {name: lambda secret=secret: secret for name, secret in secrets.items()}  # type: ignore[misc]
        with Load(service, asked, lines=3) as load:
            load.go_on_until("wide", 200)
            load.go_on_until("tight", 429)
            yield Stage(service, load, folder / "server.log")


def end(stage: Stage) -> None:
    """Let the load go on until all is well again, and for a moment."""
    stage.load.go_on_until("wide", 200)
    wait = time.monotonic() + RETRY_SECONDS + 5
    while stage.said(BACK) < WORKERS and time.monotonic() < wait:
        stage.load.go_on(0.05)
    stage.load.go_on(0.2)


def judge(stage: Stage, policy: str, out_at: float, back_at: float, *, noticed: float) -> None:
    """See that everybody was told what was promised.

    Args:
        stage: The load, which has ended.
        policy: `open` or `closed`.
        out_at, back_at: Between these the limiter was away for certain.
        noticed: The seconds after which each worker has noticed for certain.
    """
    assert stage.statuses("free") == {200}
    during = (out_at + noticed, back_at)
    if policy == "open":
        assert stage.statuses("wide") == {200}
        assert stage.statuses("tight") == {200, 429}
        assert stage.load.during("wide", *during)
        # Before, by each worker alone, and after where nothing was kept.
        assert MOST <= stage.admitted("tight") <= MOST * (1 + WORKERS + 1)
    else:
        assert stage.statuses("wide") == {200, 503}
        assert stage.statuses("wide", *during) == {503}
        assert stage.statuses("tight", *during) == {503}
        assert stage.admitted("tight") <= MOST * 2
    # Once for each outage. On a busy machine a server that starts can need longer than a request waits: one more.
    times = stage.said(AWAY[policy])
    assert WORKERS <= times <= 3 * WORKERS
    assert stage.said(BACK) == times


def kill(server: Server) -> None:
    server.stop(signal.SIGKILL)


WAYS = {"killed, and back with nothing": (kill, Server.start), "halted": (Server.halt, Server.go_on)}


@pytest.mark.parametrize("policy", ["open", "closed"])
@pytest.mark.parametrize("way", WAYS)
def test_valkey_away_under_load(
    own_server: Callable[[str], Server], way: str, policy: str, tmp_path: Path, figures: Figures
) -> None:
    begin, mend = WAYS[way]
    server = own_server("valkey")
    try:
        with on_stage(tmp_path, server.url(""), policy) as stage:
            begin(server)
            out_at, back_at = stage.load.go_on(OUT_SECONDS)
            mend(server)
            end(stage)
    finally:
        server.go_on()
    judge(stage, policy, out_at, back_at, noticed=2 * ANSWER_SECONDS)
    figures(f"Valkey {way}, {policy}: the longest a request was held", stage.load.longest())
    # Once on a connection there was, which a server that is halted does not answer. A cluster may take longer.
    assert stage.load.longest() <= ANSWER_SECONDS + BUSY


def test_valkey_started_again_at_once_with_nothing(own_server: Callable[[str], Server], tmp_path: Path) -> None:
    """What that costs: as much as one more limit, in a window that holds the start."""
    server = own_server("valkey")
    assert isinstance(server, Valkey)
    with on_stage(tmp_path, server.url(""), "closed") as stage:
        stage.load.go_on_until_answered()
        assert stage.admitted("tight") == MOST
        kill(server)
        server.start()
        stage.load.go_on_until("tight", 200, workers=1)  # who is back first may take it all
        stage.load.go_on_until("tight", 429)
    assert stage.admitted("tight") == 2 * MOST
    assert stage.statuses("free") == {200}


LOCKED_SECONDS = 2 * WAIT_SECONDS  # of a request, and of the one that it waited for


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_file_that_another_process_keeps_to_itself(policy: str, tmp_path: Path, figures: Figures) -> None:
    path = tmp_path / "limits.db"
    with on_stage(tmp_path, f"sqlite:///{path}", policy) as stage:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as other:
            other.execute("BEGIN IMMEDIATE")
            out_at, back_at = stage.load.go_on(LOCKED_SECONDS + 2)
        end(stage)
    judge(stage, policy, out_at, back_at, noticed=LOCKED_SECONDS + BUSY)
    figures(f"SQLite locked, {policy}: the longest a request was held", stage.load.longest())
    assert stage.load.longest() <= LOCKED_SECONDS + BUSY


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_file_that_is_spoilt_and_then_removed(policy: str, tmp_path: Path, figures: Figures) -> None:
    path = tmp_path / "limits.db"
    with on_stage(tmp_path, f"sqlite:///{path}", policy) as stage:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as other:
            # Who is the last to write could go on for a while by what it has in memory.
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE start SET began_at = began_at")
            # Not `limits.db-shm`: it is mapped into the memory of the workers, and where it ends, so do they (SIGBUS).
            for name in ("limits.db", "limits.db-wal"):
                with (tmp_path / name).open("r+b") as file:  # in place, as it is open
                    file.truncate(0)
                    file.write(b"nothing of ours" * 1000)
            other.execute("COMMIT")
        out_at, back_at = stage.load.go_on(OUT_SECONDS)
        for name in ("limits.db-wal", "limits.db-shm", "limits.db"):  # nobody begins a new log before it is gone
            (tmp_path / name).unlink(missing_ok=True)
        end(stage)
    judge(stage, policy, out_at, back_at, noticed=BUSY)
    figures(f"SQLite spoilt, {policy}: the longest a request was held", stage.load.longest())
    assert stage.load.longest() <= BUSY


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_file_that_cannot_be_opened_until_it_can(policy: str, tmp_path: Path) -> None:
    """As where its rights are wrong: for root they never are, so a folder stands in its place."""
    path = tmp_path / "limits.db"
    path.mkdir()
    store = upgraded(f"sqlite:///{tmp_path / 'keys.db'}")
    desk = open_desk({"KEYDESK_STORE": store})
    wide = desk.issue(name="wide", limits=["1000000/hour"]).secret
    desk.close()
    settings = {"KEYDESK_LIMITER": f"sqlite:///{path}", "KEYDESK_LIMITER_FAILURE": policy}
    log = tmp_path / "server.log"
    with (
        serving(
            tmp_path, store, gunicorn("--threads", "4", workers=WORKERS), workers=WORKERS, settings=settings
        ) as run,
        Load(run, {"wide": lambda: wide}) as load,
    ):
        load.go_on_until("wide", 200 if policy == "open" else 503)
        began_at, ended_at = load.go_on(0.5)
        path.rmdir()
        load.go_on_until("wide", 200)
        load.go_on(RETRY_SECONDS + 0.5)
        stage = Stage(run, load, log)
        assert stage.said(BACK) == WORKERS
        assert stage.said(AWAY[policy]) == WORKERS
    assert stage.statuses("wide", began_at, ended_at) == {200 if policy == "open" else 503}


def test_file_that_is_removed_while_it_is_in_use(tmp_path: Path) -> None:
    """Connections that are open go on with the file that has no name any more; new ones begin with nothing."""
    path = tmp_path / "limits.db"
    with on_stage(tmp_path, f"sqlite:///{path}", "closed") as stage:
        for name in ("limits.db", "limits.db-wal", "limits.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        stage.load.go_on(1)
    assert stage.statuses("free") == stage.statuses("wide") == {200}
    assert stage.statuses("tight") == {200, 429}
    assert MOST <= stage.admitted("tight") <= 2 * MOST
