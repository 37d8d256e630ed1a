"""Four workers of gunicorn on each database: how late a change is in force on the last of them.

The promise has no tolerance. A worker uses a record only if it asked the store for its position at most `max_staleness`
before; so whatever is sent later than that after a commit is decided by what was committed, however slow the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keydesk import Desk, HeldKey, open_desk
from keydesk.build import SQLITE_STALENESS_SECONDS, STALENESS_SECONDS
from keydesk.keys.record import parse_fields

from ..server.serving import served
from .conftest import KINDS
from .serving import Answer, Service, gunicorn, serving

Figures = Callable[[str, float], None]
PATIENCE = 30.0  # seconds, for what is only waited for, not measured


@dataclass
class Scene:
    """Workers on a database, and a desk on the same, in another process than theirs."""

    kind: str
    service: Service
    desk: Desk
    max_staleness: float
    slowest: dict[str, float] = field(default_factory=dict)

    def warm(self, secret: str, path: str = "/", status: int = 200) -> None:
        """Have every worker know a secret, or know that it is nobody's."""
        for _ in range(2):
            for line in self.service.lines:
                answer = line.get(path, secret)
                assert answer.status == status, (answer.status, answer.reason)

    def watch(
        self, secret: str, before: int, after: int, since: float, path: str = "/"
    ) -> tuple[float, set[str | None]]:
        """Ask every worker again and again until what was sent last must be decided anew, and is.

        Args:
            secret: What is presented.
            before, after: The status that may be answered until then, and the one that is due.
            since: When the change was committed, or came into force by the clock.
            path: What is asked for.

        Returns:
            How long after that the last request was sent to which the old answer was given, and the reasons of the new.
        """
        slowest, reasons = 0.0, set()
        settled: set[int] = set()
        end = time.monotonic() + PATIENCE
        while len(settled) < len(self.service.lines):
            assert time.monotonic() < end, "no worker answers"
            for line in self.service.lines:
                answer = line.get(path, secret)
                late = answer.sent_at - since
                assert answer.status in (before, after), (answer.status, answer.reason)
                if answer.status == after:
                    reasons.add(answer.reason)
                else:
                    slowest = max(slowest, late)
                    assert late <= self.max_staleness, f"{self._of(answer)} answered {before} {late:.3f} s after"
                    assert answer.worker not in settled, f"{self._of(answer)} went back to {before}"
                if answer.status == after and late > self.max_staleness:
                    settled.add(answer.worker)
        return slowest, reasons

    def _of(self, answer: Answer) -> str:
        return f"worker {self.service.workers.index(answer.worker)} on {self.kind}"


@pytest.fixture(scope="module", params=[*KINDS, "server"])
def scene(
    request: pytest.FixtureRequest, new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Workers that have a database for their store, or a server of ours that has one."""
    url = new_database("sqlite" if request.param == "server" else request.param)
    desk = open_desk({"KEYDESK_STORE": url})
    staleness = SQLITE_STALENESS_SECONDS if request.param == "sqlite" else STALENESS_SECONDS
    # Servers of databases are where --preload matters: a worker must not use what its parent connected to.
    command = gunicorn("--threads", "4", *(["--preload"] if request.param != "sqlite" else []))
    folder, settings = tmp_path_factory.mktemp("workers"), dict[str, str]()
    with ExitStack() as stack:
        if request.param == "server":
            key = desk.issue(name="application", scopes=["keydesk:sync"])
            server = stack.enter_context(
                served(tmp_path_factory.mktemp("server"), {"KEYDESK_STORE": url}, "--workers", "2")
            )
            url, settings = server.url, {"KEYDESK_SERVER_KEY": key.secret}
        service = stack.enter_context(serving(folder, url, command, settings=settings))
        yield Scene(request.param, service, desk, staleness)
    desk.close()


def _delete(desk: Desk, key_id: str) -> None:
    desk.revoke(key_id)
    desk.delete(key_id)


# The change, what is asked for, and the status and reason that come of it.
CHANGES: dict[str, tuple[Callable[[Desk, str], object], str, int, set[str | None]]] = {
    "revoke": (lambda desk, key: desk.revoke(key), "/", 401, {"revoked"}),
    "disable": (lambda desk, key: desk.disable(key), "/", 401, {"disabled"}),
    "rotate at once": (lambda desk, key: desk.rotate(key, overlap=timedelta(0)), "/", 401, {"expired"}),
    "narrow scopes": (lambda desk, key: desk.update(key, scopes=["orders:write"]), "/orders", 403, {"scope_denied"}),
    "narrow networks": (lambda desk, key: desk.update(key, networks=["203.0.113.7"]), "/", 403, {"network_denied"}),
    "delete": (_delete, "/", 401, {"revoked", "invalid"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_worker_lets_a_changed_key_in_later_than_promised(scene: Scene, name: str, figures: Figures) -> None:
    change, path, status, reasons = CHANGES[name]
    slowest = 0.0
    for _ in range(10 if scene.kind == "sqlite" else 1):
        issued = scene.desk.issue(name=name, scopes=["orders:read"])
        scene.warm(issued.secret, path)
        change(scene.desk, issued.key.id)
        late, seen = scene.watch(issued.secret, 200, status, time.monotonic(), path)
        assert seen <= reasons
        slowest = max(slowest, late)
    figures(f"{scene.kind}: last let in after the commit of {name!r}", slowest)


def test_keys_of_an_owner_deleted(scene: Scene, figures: Figures) -> None:
    """Each is let in no later than promised after its own end, while those of another owner go on."""
    owned = [scene.desk.issue(name="owned", owner="leaver").secret for _ in range(3)]
    other = scene.desk.issue(name="other", owner="stays")
    for secret in (*owned, other.secret):
        scene.warm(secret)
    committed = []
    for key in reversed(scene.desk.list_keys(owner="leaver").keys):
        _delete(scene.desk, key.id)
        committed.append(time.monotonic())
    assert len(committed) == len(owned)
    slowest = max(scene.watch(secret, 200, 401, at)[0] for secret, at in zip(owned, committed, strict=True))
    assert scene.desk.list_keys(owner="leaver").keys == ()
    scene.warm(other.secret)
    figures(f"{scene.kind}: last let in after the deletion of all keys of an owner", slowest)


def test_expiry_needs_no_event(scene: Scene, figures: Figures) -> None:
    """A worker that knows when a key ends lets nobody in from that moment on, to the microsecond."""
    issued = scene.desk.issue(name="expires")
    scene.warm(issued.secret)
    ahead = timedelta(seconds=scene.max_staleness + 0.3)  # so that all have seen by then that it will end
    ends_at = datetime.now(UTC) + ahead
    scene.desk.update(issued.key.id, expires_at=ends_at)
    events = scene.desk.list_events(key_id=issued.key.id)
    figures(f"{scene.kind}: last let in after an expiry", _watch_end(scene, issued.secret, ends_at))
    assert scene.desk.list_events(key_id=issued.key.id) == events


def test_rotation_past_its_overlap(scene: Scene, figures: Figures) -> None:
    """The old secret goes on until the end of the overlap and not a moment longer; the new one works at once."""
    issued = scene.desk.issue(name="rotates")
    scene.warm(issued.secret)
    newer = scene.desk.rotate(issued.key.id, overlap=timedelta(seconds=scene.max_staleness + 0.3))
    scene.warm(newer.secret)
    old = next(secret for secret in newer.key.secrets if secret.expires_at is not None)
    assert old.expires_at is not None
    figures(f"{scene.kind}: last let in after an overlap", _watch_end(scene, issued.secret, old.expires_at))
    scene.warm(newer.secret)


def _watch_end(scene: Scene, secret: str, ends_at: datetime) -> float:
    """See that a secret works until a moment, and on no worker from then on; return how late it was let in last."""
    slowest, let_in, refused = 0.0, 0, 0
    while refused < 3 * len(scene.service.lines):
        for line in scene.service.lines:
            before = datetime.now(UTC)
            answer = line.get("/", secret)
            after = datetime.now(UTC)
            if answer.status == 200:
                assert before < ends_at, f"let in {before - ends_at} after its end"
                let_in += 1
                slowest = max(slowest, (after - ends_at).total_seconds())
            else:
                assert (answer.status, answer.reason) == (401, "expired")
                assert after >= ends_at, f"refused {ends_at - after} before its end"
                refused += 1
    assert let_in
    return slowest


# What lets somebody in


def test_new_key_works_at_once_on_every_worker(scene: Scene) -> None:
    for _ in range(3):
        issued = scene.desk.issue(name="new", scopes=["orders:read"])
        for line in scene.service.lines:
            assert line.get("/orders", issued.secret).status == 200


def test_key_that_was_presented_before_it_was_one(scene: Scene, figures: Figures) -> None:
    """A worker that knows of a text that it is nobody's does not hold on to that."""
    desk = scene.desk
    text = desk.mint.secret_format.mint("live")
    scene.warm(text, status=401)
    secret = desk.mint.secret(text, number=1, now=desk.clock.now())
    desk.import_keys([HeldKey(parse_fields({"name": "held before"}), secret)])
    slowest, _ = scene.watch(text, 401, 200, time.monotonic())
    figures(f"{scene.kind}: last refused after the commit of an import", slowest)


def test_key_that_is_enabled_again(scene: Scene, figures: Figures) -> None:
    issued = scene.desk.issue(name="on and off")
    scene.desk.disable(issued.key.id)
    scene.warm(issued.secret, status=401)
    scene.desk.enable(issued.key.id)
    slowest, _ = scene.watch(issued.secret, 401, 200, time.monotonic())
    figures(f"{scene.kind}: last refused after the commit of 'enable'", slowest)


def test_many_changes_under_load(scene: Scene, tmp_path: Path) -> None:
    """Key after key is revoked while others come and go: of no worker a 200 that is too late, of none a wrong 401."""
    desk = scene.desk
    good = desk.issue(name="good")
    scene.warm(good.secret)
    revoked: list[tuple[str, float]] = []
    for _ in range(10):
        victim = desk.issue(name="victim")
        for line in scene.service.lines:
            assert line.get("/", victim.secret).status == 200
        desk.revoke(victim.key.id)
        revoked.append((victim.secret, time.monotonic()))
        for line in scene.service.lines:
            assert line.get("/", good.secret).status == 200
            for secret, at in revoked:
                answer = line.get("/", secret)
                assert answer.status == 401 or answer.sent_at - at <= scene.max_staleness
    for secret, at in revoked:
        scene.watch(secret, 200, 401, at)
