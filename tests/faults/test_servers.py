"""Each kind of server: keys work on all of its workers, changes are seen by all, and no connection has two users."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from keydesk import open_desk
from keydesk.build import SQLITE_STALENESS_SECONDS, STALENESS_SECONDS
from keydesk.usage import ALLOWED

from ..server.serving import served
from .serving import Service, granian, gunicorn, serving

SERVERS = {
    "gunicorn --preload": gunicorn("--threads", "4", "--preload", workers=2),
    "gevent": gunicorn("--worker-class", "gevent", workers=2),
    "gevent --preload": gunicorn("--worker-class", "gevent", "--preload", workers=2),
    "granian": granian(workers=2),
}
# Of each worker, at most: those of the server, and one of ours, which is none of the kernel's with gevent.
THREADS = {"gunicorn --preload": 1 + 4 + 1, "gevent": 1, "gevent --preload": 1}  # Granian's runtime takes what it wants


def _sockets_to(port: int, pid: int) -> set[int]:
    """Return the own ports of the connections that a process has open to a port of this machine."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{name}")
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    found = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(address.partition(":")[2], 16) for address in fields[1:3])
        if remote == port and fields[9] in inodes:
            found.add(local)
    return found


def _check_threads(service: Service, most: int | None) -> None:
    """See that the one thread of ours is the one that writes usage."""
    for line in service.lines:
        names = json.loads(line.get("/worker").body)["threads"]
        assert [name for name in names if name.startswith("keydesk")] == ["keydesk-usage"]
        assert most is None or len(os.listdir(f"/proc/{line.worker}/task")) <= most


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "server"])
@pytest.mark.parametrize("name", SERVERS)
def test_server(
    name: str, kind: str, new_database: Callable[[str], str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """On a file, on two servers, and on a server of ours."""
    url, settings = new_database("sqlite" if kind == "server" else kind), dict[str, str]()
    desk = open_desk({"KEYDESK_STORE": url})
    issued = desk.issue(name="client", scopes=["orders:read"], limits=["100000/hour"])
    staleness = SQLITE_STALENESS_SECONDS if kind == "sqlite" else STALENESS_SECONDS
    warm = issued.secret if "preload" in name else ""
    with ExitStack() as stack:
        if kind == "postgres":
            settings["KEYDESK_LIMITER"] = request.getfixturevalue("valkey").url()
        if kind == "server":
            settings["KEYDESK_SERVER_KEY"] = desk.issue(
                name="application", scopes=["keydesk:sync", "keydesk:keys:read"]
            ).secret
            (tmp_path / "server").mkdir()
            url = stack.enter_context(served(tmp_path / "server", {"KEYDESK_STORE": url})).url
        service = stack.enter_context(serving(tmp_path, url, SERVERS[name], workers=2, warm=warm, settings=settings))
        assert len(set(service.workers)) == 2
        for line in service.lines:
            assert line.get("/orders", issued.secret).status == 200
            assert line.get("/", desk.mint.secret_format.mint("live")).status == 401
        for line in service.lines:
            for _ in range(20):
                assert line.get("/", issued.secret).status == 200
                decided = json.loads(line.get("/decision", issued.secret).body)
                assert decided == {"pid": line.worker, "allowed": True, "reason": None, "name": "client"}
        looking_up = kind != "sqlite" and "gevent" in name  # names, which gevent does in a thread
        _check_threads(service, THREADS[name] + looking_up if name in THREADS else None)
        if kind == "postgres":
            _check_connections(url, service, preloaded="preload" in name)
        newer = desk.rotate(issued.key.id)
        for line in service.lines:
            assert line.get("/", newer.secret).status == 200
        desk.revoke(issued.key.id)
        committed_at = time.monotonic()
        while time.monotonic() <= committed_at + staleness:
            for line in service.lines:
                answer = line.get("/", newer.secret)
                assert answer.status == 401 or answer.sent_at <= committed_at + staleness
        for line in service.lines:
            for secret in (issued.secret, newer.secret):
                assert (line.get("/", secret).status, line.get("/", secret).reason) == (401, "revoked")
    used = desk.usage(issued.key.id).totals()
    assert used[ALLOWED] >= 2 * 41
    assert used["revoked"] >= 2
    assert desk.check_chain().problem is None
    desk.close()


def _check_connections(url: str, service: Service, *, preloaded: bool) -> None:
    """See that each worker has a connection of its own, and that what it has from its parent was never used again."""
    port = make_url(url).port
    assert port is not None
    parents = _sockets_to(port, service.process.pid)
    assert bool(parents) is preloaded
    own = [_sockets_to(port, pid) - parents for pid in service.workers]
    assert all(own), "a worker has no connection of its own"
    assert sum(map(len, own)) == len(set().union(*own)), "two workers share a connection"
    engine = create_engine(url)
    with engine.connect() as connection:
        first_own = connection.execute(
            text("SELECT min(backend_start) FROM pg_stat_activity WHERE client_port = ANY(:ports)"),
            {"ports": sorted(set().union(*own))},
        ).scalar()
        used = connection.execute(
            text("SELECT client_port FROM pg_stat_activity WHERE client_port = ANY(:ports) AND state_change > :since"),
            {"ports": sorted(parents), "since": first_own},
        ).all()
    engine.dispose()
    assert used == [], "a connection of the parent was used after its workers had their own"
