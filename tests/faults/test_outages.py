"""A database that is killed, stopped, hung and started again while requests come in, and what they are told.

Keys that were good stay good for the grace, nobody else gets in, nobody is told that a good key is none, and nobody
waits for longer than is promised. When the database is back, what changed meanwhile counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from keydesk import Desk, IssuedKey, open_desk
from keydesk.stores.engines import ANSWER_SECONDS

from .. import servers
from .databases import HELD_SECONDS, Database, Load
from .serving import Service, gunicorn, serving

Figures = Callable[[str, float], None]
STALENESS = 0.2


WAYS: dict[str, tuple[Callable[[Database], None], Callable[[Database], None]]] = {
    "killed": (Database.kill, Database.start),
    "stopped": (Database.stop_at_once, Database.start),
    "hung": (Database.freeze, Database.thaw),
}


@pytest.fixture
def database(request: pytest.FixtureRequest, own_server: Callable[[str], servers.Server]) -> Iterator[Database]:
    database = Database(own_server(getattr(request, "param", "postgres")))
    yield database
    database.thaw()


def _served(folder: Path, database: Database, **settings: str) -> AbstractContextManager[Service]:
    return serving(
        folder,
        database.url,
        gunicorn("--threads", "8", "--preload", workers=2),
        workers=2,
        settings={"KEYDESK_MAX_STALENESS_SECONDS": str(STALENESS), **settings},
    )


def _warm(service: Service, *secrets: str) -> None:
    for line in service.lines:
        for secret in secrets:
            for _ in range(2):
                line.get("/", secret)


class Cast:
    """Keys in each state an outage can meet them in."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.known, self.revoked = desk.issue(name="known"), desk.issue(name="revoked")
        self._never_seen = [desk.issue(name="never seen").secret for _ in range(40)]
        self._turn = 0
        self.out = False

    def asked(self) -> dict[str, Callable[[], str]]:
        return {
            "known": lambda: self.known.secret,
            "revoked": lambda: self.revoked.secret,
            "unknown": lambda: self.desk.mint.secret_format.mint("live"),
            "not known yet": self._next,
        }

    def _next(self) -> str:
        """Return a good key that no worker has met; until the outage has begun, one that all have."""
        if not self.out:
            return self.known.secret
        self._turn += 1
        return self._never_seen[self._turn % len(self._never_seen)]


@pytest.mark.parametrize(
    ("database", "way"),
    [*(("postgres", way) for way in WAYS), ("mariadb", "killed"), ("mariadb", "hung")],
    indirect=["database"],
)
def test_outage_under_load(database: Database, way: str, tmp_path: Path, figures: Figures) -> None:
    begin, end = WAYS[way]
    desk = open_desk({"KEYDESK_STORE": database.url})
    cast = Cast(desk)
    with _served(tmp_path, database) as service:
        _warm(service, cast.known.secret, cast.revoked.secret)
        desk.revoke(cast.revoked.key.id)
        revoked_at = time.monotonic()
        with Load(service, cast.asked()) as load:
            load.go_on_until("revoked", 401)
            begin(database)
            cast.out = True
            out_at, _ = load.go_on(ANSWER_SECONDS + 2.5 if way == "hung" else 1.5)
            answers_at = time.monotonic()
            end(database)
            back_at = time.monotonic()
            load.go_on_until("unknown", 401)
            load.go_on_until("not known yet", 200)
            load.go_on(0.2)
    desk.close()
    assert {answer.status for answer in load.answers["known"]} == {200}
    late = [answer for answer in load.answers["revoked"] if answer.sent_at > revoked_at + STALENESS]
    assert {answer.status for answer in late} <= {401, 503}
    assert {answer.status for answer in load.answers["unknown"]} <= {401, 503}
    assert {answer.status for answer in load.answers["not known yet"]} == {200, 503}
    # From then on nothing of before the outage may count as what the store says.
    for name in ("unknown", "not known yet", "revoked"):
        during = load.during(name, out_at + STALENESS, answers_at)
        assert {answer.status for answer in during} == {503}, name
    back = load.during("unknown", back_at + STALENESS + 2 * ANSWER_SECONDS, time.monotonic())
    assert {answer.status for answer in back} <= {401}
    assert load.longest() <= HELD_SECONDS
    figures(f"{type(database.server).__name__} {way}: the longest a request was held", load.longest())


def test_connections_that_hang_are_left_for_new_ones(database: Database, tmp_path: Path, figures: Figures) -> None:
    """As after a failover, or behind a firewall that has forgotten them: who connects anew is answered."""
    desk = open_desk({"KEYDESK_STORE": database.url})
    cast = Cast(desk)
    with _served(tmp_path, database) as service:
        _warm(service, cast.known.secret)
        desk.close()
        asked = cast.asked()
        del asked["revoked"]
        with Load(service, asked, lines=4) as load:
            load.go_on(0.3)
            began_at = time.monotonic()
            database.freeze_backends()
            cast.out = True
            load.go_on_until("unknown", 401)
            again_at = load.go_on_until("not known yet", 200)
            database.thaw()
    assert {answer.status for answer in load.answers["known"]} == {200}
    assert {answer.status for answer in load.answers["unknown"]} <= {401, 503}
    assert {answer.status for answer in load.answers["not known yet"]} <= {200, 503}
    assert load.longest() <= HELD_SECONDS
    assert again_at - began_at <= 2 * HELD_SECONDS
    figures("Postgres with hung connections: until all is answered again", again_at - began_at)


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_key_revoked_while_nobody_could_ask(database: Database, tmp_path: Path, figures: Figures) -> None:
    """The server comes up where no worker looks for it, a key is revoked there, and only then does it come back."""
    staleness = 1.0  # it is asked again after half of that; the other half is for a machine that has too much to do
    desk = open_desk({"KEYDESK_STORE": database.url})
    victim, other = desk.issue(name="victim"), desk.issue(name="other")
    desk.close()
    port = database.server.port
    asked = {"victim": lambda: victim.secret, "other": lambda: other.secret}
    with _served(tmp_path, database, KEYDESK_MAX_STALENESS_SECONDS=str(staleness)) as service:
        _warm(service, victim.secret, other.secret)
        with Load(service, asked) as load:
            database.kill()
            load.go_on(2 * staleness)
            _revoke_elsewhere(database, victim)
            load.go_on_until("victim", 200)  # nobody knows yet, and within the grace it is let in
            database.server.port = port
            database.start()
            back_at = time.monotonic()
            load.go_on_until("victim", 401)
            load.go_on(2 * staleness)
    let_in = [answer.sent_at for answer in load.answers["victim"] if answer.status == 200]
    # 503 is what a key that has changed may get in the moment in which that is taken in.
    assert {200, 401} <= {answer.status for answer in load.answers["victim"]} <= {200, 401, 503}
    assert {answer.status for answer in load.answers["other"]} == {200}
    slowest = max(let_in) - back_at
    figures(f"{type(database.server).__name__} back: last let in with a key revoked meanwhile", max(0.0, slowest))
    assert slowest <= staleness


def _revoke_elsewhere(database: Database, victim: IssuedKey) -> None:
    database.server.port = servers._free_port()
    database.start()
    desk = open_desk({"KEYDESK_STORE": database.server.url("keys_faults")})
    desk.revoke(victim.key.id)
    desk.close()
    database.kill()


def test_after_the_grace_nobody_is_let_in(database: Database, tmp_path: Path) -> None:
    grace = 0.6
    desk = open_desk({"KEYDESK_STORE": database.url})
    known = desk.issue(name="known")
    desk.close()
    with _served(tmp_path, database, KEYDESK_OUTAGE_GRACE_SECONDS=str(grace)) as service:
        _warm(service, known.secret)
        with Load(service, {"known": lambda: known.secret}) as load:
            load.go_on(0.2)
            began_at = time.monotonic()
            database.kill()
            out_at = time.monotonic()
            load.go_on_until("known", 503)
            load.go_on(0.3)
            database.start()
            load.go_on_until("known", 200)
    answers = load.answers["known"]
    assert {answer.status for answer in answers} == {200, 503}
    ends_at = out_at + STALENESS + grace
    last = load.during("known", ends_at, ends_at + 0.2)
    assert last
    assert {answer.status for answer in last} == {503}
    # The grace counts from when the store was last asked: for a request that was let in, at most the staleness before.
    let_in: dict[int, float] = {}
    for answer in answers:
        if answer.answered_at < began_at:
            let_in[answer.worker] = max(answer.sent_at, let_in.get(answer.worker, 0.0))
    until = min(let_in.values()) - STALENESS + grace
    assert all(answer.status == 200 for answer in answers if answer.answered_at < until)


@pytest.mark.parametrize("hung", [False, True], ids=["refuses", "hangs"])
def test_started_while_the_database_does_not_answer(
    database: Database, tmp_path: Path, hung: bool, figures: Figures
) -> None:
    """The store never answered: nobody can say who is who, until it does."""
    desk = open_desk({"KEYDESK_STORE": database.url})
    good = desk.issue(name="good")
    desk.close()
    begin, end = WAYS["hung" if hung else "killed"]
    begin(database)
    asked = {"good": lambda: good.secret, "unknown": lambda: desk.mint.secret_format.mint("live")}
    with _served(tmp_path, database) as service, Load(service, asked) as load:
        load.go_on(ANSWER_SECONDS + 0.5 if hung else 0.3)
        answers_at = time.monotonic()
        end(database)
        load.go_on_until("good", 200)
        load.go_on_until("unknown", 401)
    for name in asked:
        assert {answer.status for answer in load.during(name, 0, answers_at)} == {503}
    assert {answer.status for answer in load.answers["good"]} == {200, 503}
    assert {answer.status for answer in load.answers["unknown"]} == {401, 503}
    assert load.longest() <= HELD_SECONDS
    if hung:
        figures("Postgres hung from the start: the longest a request was held", load.longest())
