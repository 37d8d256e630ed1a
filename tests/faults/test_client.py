"""Workers of an application whose store is a server, while that server hangs, is killed, and comes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from keydesk import Desk, open_desk
from keydesk.client.connection import ANSWER_SECONDS, CONNECT_SECONDS

from ..server.serving import Served, served
from ..servers import halt
from .conftest import upgraded
from .serving import Service, children_of, gunicorn, serving

STALENESS = 0.2
# One request asks the server, and another waits for its answer; and the machine has other things to do.
HELD = ANSWER_SECONDS + CONNECT_SECONDS + 1.5
WORKERS = 2


@dataclass
class Stage:
    """A server, and the workers of an application that has it for a store."""

    desk: Desk
    server: Served
    service: Service
    log: Path

    def statuses(self, secret: str) -> set[int]:
        """Return what each worker answers, and see that none holds the request for longer than is stated."""
        answers = [line.get("/", secret) for line in self.service.lines]
        assert max(answer.took for answer in answers) <= HELD
        return {answer.status for answer in answers}

    def until(self, secret: str, status: int) -> None:
        """Ask until all workers answer so."""
        end = time.monotonic() + 30
        while self.statuses(secret) != {status}:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    store = upgraded(f"sqlite:///{tmp_path / 'keys.db'}")
    desk = open_desk({"KEYDESK_STORE": store})
    key = desk.issue(name="application", scopes=["keydesk:sync"])
    settings = {"KEYDESK_SERVER_KEY": key.secret, "KEYDESK_MAX_STALENESS_SECONDS": str(STALENESS)}
    folder, workers = tmp_path / "server", tmp_path / "workers"
    folder.mkdir()
    workers.mkdir()
    with (
        served(folder, {"KEYDESK_STORE": store}) as server,
        serving(workers, server.url, gunicorn(workers=WORKERS), workers=WORKERS, settings=settings) as service,
    ):
        yield Stage(desk, server, service, workers / "server.log")
    assert key.secret not in (workers / "server.log").read_text()
    desk.close()


def _hang(server: Served) -> Callable[[], None]:
    pids = [server.process.pid, *children_of(server.process.pid)]
    for pid in pids:
        halt(pid)

    def go_on() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    return go_on


def _restart(server: Served) -> Callable[[], None]:
    """Kill what answers; the main process puts another in its place."""
    for pid in children_of(server.process.pid):
        os.kill(pid, signal.SIGKILL)
    return lambda: None


def test_server_hangs(stage: Stage) -> None:
    """Rule 3: known keys go on, what was never seen gets 503, and nobody is held for longer than stated."""
    known, unseen = stage.desk.issue(name="known").secret, stage.desk.issue(name="unseen").secret
    stage.until(known, 200)
    go_on = _hang(stage.server)
    try:
        time.sleep(STALENESS)
        assert stage.statuses(known) == {200}
        assert stage.statuses(unseen) == {503}
        assert stage.statuses(known) == {200}
    finally:
        go_on()
    stage.until(unseen, 200)
    assert stage.log.read_text().count("goes on for 300 seconds with the keys it knows") == WORKERS


def test_server_is_killed_and_comes_back(stage: Stage) -> None:
    """What changed meanwhile is taken in before anything that is known is trusted again."""
    keys = [stage.desk.issue(name="client") for _ in range(2)]
    for key in keys:
        stage.until(key.secret, 200)
    _restart(stage.server)
    stage.desk.revoke(keys[0].key.id)
    stage.until(keys[0].secret, 401)
    assert stage.statuses(keys[1].secret) == {200}
    assert stage.statuses(keys[0].secret) == {401}


def test_limits_are_never_over_across_workers_and_the_server(stage: Stage) -> None:
    """Counted in the server: by all workers of the application, and by those who ask the server itself."""
    secret = stage.desk.issue(name="limited", limits=["10/hour"]).secret
    answered = [line.get("/", secret).status for _ in range(6) for line in stage.service.lines]
    assert answered.count(200) == 10
    assert stage.server.status("/authz/forwarded", secret) == 429


def test_usage_arrives_at_the_server(stage: Stage) -> None:
    key = stage.desk.issue(name="counted")
    for _ in range(5):
        assert stage.statuses(key.secret) == {200}
    end = time.monotonic() + 30
    while stage.desk.usage(key.key.id).totals() != {"allowed": 5 * WORKERS}:
        assert time.monotonic() < end, stage.desk.usage(key.key.id)
        time.sleep(0.1)
