"""The cache: what is read when, what is forgotten when, what happens in an outage, and how much is kept."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keydesk import Desk, HeldKey, Reason, open_desk
from keydesk.errors import StoreUnavailable
from keydesk.events import event_class
from keydesk.keys.record import Key, KeyFields
from keydesk.keys.scopes import Scopes
from keydesk.lookup import StoreFinder
from keydesk.ports import Position
from keydesk.stores import cached
from keydesk.stores.cached import CachedFinder
from keydesk.testing import ManualClock, new_key

STALENESS, GRACE, SIZE = 1.0, 300.0, 10


class Watched:
    """A store in memory that counts what it is asked, and can be made to fail or to do something first."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.reads = self.asks = 0
        self.failing = False
        self.before_read: Callable[[], object] = lambda: None
        self.after_read: Callable[[], object] = lambda: None
        self.before_ask: Callable[[], object] = lambda: None
        self.after_ask: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        self.reads += 1
        self.before_read()
        if self.failing:
            raise StoreUnavailable("it is away")
        found: Key | None = self.store.find_by_digest(digests)
        self.after_read()
        return found

    def position(self) -> Position:
        self.asks += 1
        self.before_ask()
        if self.failing:
            raise StoreUnavailable("it is away")
        position: Position = self.store.position()
        self.after_ask()
        return position


class Bench:
    """A desk that changes keys, and a worker that knows them by what its store tells it."""

    def __init__(self, clock: ManualClock, *, max_staleness: float = STALENESS, size: int = SIZE) -> None:
        self.clock = clock
        self.desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
        self.store = Watched(self.desk.store)
        mint = self.desk.mint
        self.finder = CachedFinder(
            self.store,  # type: ignore[arg-type]
            StoreFinder(self.store, mint),  # type: ignore[arg-type]
            clock,
            max_staleness=max_staleness,
            outage_grace=GRACE,
            size=size,
        )
        self.worker = Desk(store=self.store, mint=mint, clock=clock, finder=self.finder)  # type: ignore[arg-type]

    def issue(self, **fields: Any) -> tuple[str, str]:
        issued = self.desk.issue(**{"name": "client", **fields})
        return issued.key.id, issued.secret

    def outcome(self, secret: str) -> str:
        decision = self.worker.verify(secret)
        return str(decision.reason) if decision.reason else "allowed"

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


@pytest.fixture
def bench(clock: ManualClock) -> Bench:
    return Bench(clock)


# What is read when


def test_known_key_is_read_once(bench: Bench) -> None:
    _, secret = bench.issue()
    assert [bench.outcome(secret) for _ in range(5)] == ["allowed"] * 5
    assert (bench.store.reads, bench.store.asks) == (1, 1)


def test_unknown_text_is_read_once(bench: Bench) -> None:
    texts = [bench.desk.mint.secret_format.mint(), "imported-perhaps"]
    assert [bench.outcome(text) for text in texts * 3] == ["invalid"] * 6
    assert bench.store.reads == 2


@pytest.mark.parametrize("text", ["kd_live_short", "é" * 20, "\ud800", "a b", "x" * 300, "x" * 10**6, "\0"])
def test_impossible_text_is_never_read(bench: Bench, text: str) -> None:
    assert [bench.outcome(text) for _ in range(2)] == ["invalid"] * 2
    assert bench.store.reads == 0


def test_position_is_asked_for_when_it_is_half_as_old_as_allowed(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.outcome(secret)
    bench.wait(STALENESS / 2 - 0.01)
    bench.outcome(secret)
    assert bench.store.asks == 1
    bench.wait(0.01)
    bench.outcome(secret)
    bench.outcome(secret)
    assert bench.store.asks == 2
    assert bench.store.reads == 1


def test_at_half_the_age_the_others_go_on_while_one_asks(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.outcome(secret)
    bench.wait(STALENESS / 2)
    others: list[str] = []
    bench.store.before_ask = lambda: others.append(bench.outcome(secret))
    assert bench.outcome(secret) == "allowed"
    assert others == ["allowed"]
    assert bench.store.asks == 2


def test_age_of_an_answer_counts_from_the_question(bench: Bench) -> None:
    """What changes while an answer is on its way is not in it."""
    key_id, secret = bench.issue()
    bench.outcome(secret)
    bench.wait(STALENESS / 2)

    def slow() -> None:
        bench.store.after_ask = lambda: None
        bench.desk.revoke(key_id)
        bench.wait(0.9 * STALENESS)

    bench.store.after_ask = slow
    assert bench.outcome(secret) == "allowed"
    bench.wait(0.1 * STALENESS + 0.001)
    assert bench.outcome(secret) == "revoked"


def test_beyond_the_age_the_others_wait_for_the_one_that_asks(bench: Bench) -> None:
    key_id, secret = bench.issue()
    bench.outcome(secret)
    bench.desk.revoke(key_id)
    bench.wait(STALENESS + 0.01)
    begun, outcomes = threading.Event(), []

    def other() -> None:
        begun.set()
        outcomes.append(bench.outcome(secret))

    thread = threading.Thread(target=other)

    def while_asking() -> None:
        thread.start()
        begun.wait(10)
        thread.join(0.1)
        assert outcomes == []  # it waits

    bench.store.before_ask = while_asking
    assert bench.outcome(secret) == "revoked"
    thread.join(10)
    assert outcomes == ["revoked"]
    assert bench.store.asks == 2  # it took the answer of the first


def test_zero_asks_on_every_request(clock: ManualClock) -> None:
    bench = Bench(clock, max_staleness=0)
    key_id, secret = bench.issue()
    for asks in range(1, 4):
        assert bench.outcome(secret) == "allowed"
        assert (bench.store.asks, bench.store.reads) == (asks, 1)
    bench.desk.disable(key_id)
    assert bench.outcome(secret) == "disabled"
    bench.desk.enable(key_id)
    assert bench.outcome(secret) == "allowed"


def test_threads_that_miss_one_key_read_it_once(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.outcome("something-else")
    bench.store.reads = 0
    outcomes: list[str] = []
    threads = [threading.Thread(target=lambda: outcomes.append(bench.outcome(secret))) for _ in range(8)]

    def while_reading() -> None:
        bench.store.before_read = lambda: None
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.02)

    bench.store.before_read = while_reading
    assert bench.outcome(secret) == "allowed"
    for thread in threads:
        thread.join(10)
    assert outcomes == ["allowed"] * 8
    assert bench.store.reads == 1


def test_read_that_another_request_began_too_long_ago_is_not_shared(clock: ManualClock) -> None:
    """At 0, what was read from before a request came is not for it."""
    bench = Bench(clock, max_staleness=0)
    key_id, secret = bench.issue()
    outcomes: list[str] = []
    thread = threading.Thread(target=lambda: outcomes.append(bench.outcome(secret)))

    def after_reading() -> None:
        bench.store.after_read = lambda: None
        bench.desk.disable(key_id)
        bench.wait(0.001)
        thread.start()
        thread.join(0.1)

    bench.store.after_read = after_reading
    bench.outcome(secret)
    thread.join(10)
    assert outcomes == ["disabled"]


# What is forgotten when


CHANGES: dict[str, tuple[Callable[[Desk, str], object], str]] = {
    "revoke": (lambda desk, key_id: desk.revoke(key_id), "revoked"),
    "disable": (lambda desk, key_id: desk.disable(key_id), "disabled"),
    "rotate at once": (lambda desk, key_id: desk.rotate(key_id, overlap=timedelta(0)), "expired"),
    "networks": (lambda desk, key_id: desk.update(key_id, networks=["10.0.0.0/8"]), "network_denied"),
    "expire": (lambda desk, key_id: desk.update(key_id, expires_at=desk.clock.now()), "expired"),
    "delete": (lambda desk, key_id: (desk.revoke(key_id), desk.delete(key_id)), "invalid"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_seen_and_touches_no_other_key(bench: Bench, name: str) -> None:
    (key_id, secret), (_, other) = bench.issue(), bench.issue()
    assert (bench.outcome(secret), bench.outcome(other)) == ("allowed", "allowed")
    change, after = CHANGES[name]
    change(bench.desk, key_id)
    bench.wait(STALENESS + 0.001)
    assert bench.outcome(secret) == after
    assert bench.outcome(other) == "allowed"
    assert bench.store.reads == 3


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("moment", ["before_read", "after_read"])
def test_record_read_before_a_change_was_seen_never_enters_after_it(bench: Bench, name: str, moment: str) -> None:
    """The change and its event are taken in by another request, while this one holds what it read before."""
    key_id, secret = bench.issue()
    bench.outcome("something-else")  # so that the position is known
    change, after = CHANGES[name]

    def meanwhile() -> None:
        setattr(bench.store, moment, lambda: None)
        change(bench.desk, key_id)
        bench.wait(STALENESS + 0.001)
        bench.outcome("something-else")

    setattr(bench.store, moment, meanwhile)
    assert bench.outcome(secret) == after
    assert bench.outcome(secret) == after


@pytest.mark.parametrize("how", ["issue", "import", "rotate"])
def test_new_secret_works_as_soon_as_its_event_is_seen(bench: Bench, how: str) -> None:
    key_id, _ = bench.issue()
    text = "0c5b6a2e-6f0e-4a43-9b0f-3a6a3a2d9d11"
    if how == "rotate":
        text = bench.desk.mint.secret_format.mint()
    assert bench.outcome(text) == "invalid"
    secret = bench.desk.mint.secret(text, number=1, now=bench.clock.now())
    if how == "import":
        bench.desk.import_keys([HeldKey(KeyFields(name="imported"), secret)])
    elif how == "issue":
        _, text = bench.issue()
    else:
        text = bench.desk.rotate(key_id).secret
    bench.wait(STALENESS + 0.001)
    assert bench.outcome(text) == "allowed"


def test_text_read_as_unknown_before_the_key_was_issued_does_not_stay_unknown(bench: Bench) -> None:
    bench.outcome("something-else")
    mint = bench.desk.mint
    text = mint.secret_format.mint()

    def meanwhile() -> None:
        bench.store.after_read = lambda: None
        held = HeldKey(KeyFields(name="new"), mint.secret(text, number=1, now=bench.clock.now()))
        bench.desk.import_keys([held])
        bench.wait(STALENESS + 0.001)
        bench.outcome("something-else")

    bench.store.after_read = meanwhile
    assert bench.outcome(text) == "allowed"


def test_change_that_cannot_make_an_unknown_text_known_keeps_it_unknown(bench: Bench) -> None:
    key_id, _ = bench.issue()
    assert bench.outcome("nobodys") == "invalid"
    bench.desk.revoke(key_id)
    bench.wait(STALENESS + 0.001)
    assert bench.outcome("nobodys") == "invalid"
    assert bench.store.reads == 1


def test_change_of_this_process_is_seen_at_once(clock: ManualClock) -> None:
    desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    issued = desk.issue(name="client")
    assert desk.verify(issued.secret).allowed
    desk.revoke(issued.key.id)
    assert desk.verify(issued.secret).reason is Reason.REVOKED


def _set_back(bench: Bench) -> None:
    del bench.desk.store._events[1:]  # type: ignore[attr-defined]


def _rewritten(bench: Bench) -> None:
    """As many events as before, others: a backup was put back, and went on."""
    events = bench.desk.store._events  # type: ignore[attr-defined]
    events[-1] = replace(events[-1], hash="f" * 64)


def _rewritten_and_longer(bench: Bench) -> None:
    _rewritten(bench)
    bench.issue()


def _many(bench: Bench) -> None:
    for _ in range(1001):
        bench.issue()


@pytest.mark.parametrize("happens", [_set_back, _rewritten, _rewritten_and_longer, _many])
def test_events_that_do_not_follow_what_is_known_forget_everything(
    bench: Bench, happens: Callable[[Bench], None]
) -> None:
    secrets = [bench.issue()[1] for _ in range(3)]
    for secret in secrets:
        bench.outcome(secret)
    happens(bench)
    bench.wait(STALENESS + 0.001)
    bench.store.reads = 0
    assert [bench.outcome(secret) for secret in secrets] == ["allowed"] * 3
    assert bench.store.reads == 3


def test_read_that_took_long_asks_whether_it_is_outdated(bench: Bench) -> None:
    key_id, secret = bench.issue()
    bench.outcome("something-else")

    def slow() -> None:
        bench.store.after_read = lambda: None
        bench.desk.revoke(key_id)
        bench.wait(STALENESS + 0.001)  # and no other request comes to see it

    bench.store.after_read = slow
    assert bench.outcome(secret) == "revoked"


# Outages


def test_store_that_never_answered(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.store.failing = True
    assert bench.outcome(secret) == "unavailable"
    bench.store.failing = False
    bench.wait(cached.RETRY_SECONDS)
    assert bench.outcome(secret) == "allowed"


def test_known_keys_work_through_the_grace_and_everything_else_is_unavailable(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    (_, good), (_, unread), (disabled_id, disabled) = bench.issue(), bench.issue(), bench.issue()
    bench.desk.disable(disabled_id)
    _, ending = bench.issue(expires_at=bench.clock.now() + timedelta(seconds=60))
    for secret in (good, disabled, ending, "nobodys"):
        bench.outcome(secret)
    bench.store.failing = True
    bench.wait(STALENESS + 0.001)
    with caplog.at_level(logging.WARNING):
        assert bench.outcome(good) == "allowed"
    assert [r.getMessage() for r in caplog.records] == [
        "Keydesk goes on for 300 seconds with the keys it knows: it is away"
    ]
    everything_else = [unread, disabled, "nobodys", "another", bench.desk.mint.secret_format.mint()]
    assert {bench.outcome(text) for text in everything_else} == {"unavailable"}
    assert bench.outcome(ending) == "allowed"
    bench.wait(60)
    assert bench.outcome(ending) == "unavailable"  # somebody may have given it more time
    bench.wait(GRACE - 60.01)
    assert bench.outcome(good) == "allowed"
    bench.wait(0.02)
    assert bench.outcome(good) == "unavailable"


def test_store_that_does_not_answer_is_asked_now_and_then(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.outcome(secret)
    bench.store.failing = True
    bench.wait(STALENESS + 0.001)
    bench.store.asks = bench.store.reads = 0
    for _ in range(10):
        assert bench.outcome(secret) == "allowed"
        assert bench.outcome("another") == "unavailable"
        bench.wait(0.25)
    assert bench.store.asks == 5  # every half of the staleness allowed, here half a second
    assert bench.store.reads == 0


def test_coming_back_it_reads_the_feed_before_it_trusts_what_it_knows(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    key_id, secret = bench.issue()
    bench.outcome(secret)
    bench.store.failing = True
    bench.wait(STALENESS + 0.001)
    assert bench.outcome(secret) == "allowed"
    bench.desk.revoke(key_id)
    bench.store.failing = False
    bench.wait(cached.RETRY_SECONDS)
    with caplog.at_level(logging.WARNING):
        assert bench.outcome(secret) == "revoked"
    assert "answers again" in caplog.text


def test_in_an_outage_nobody_waits_for_the_one_that_asks(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.outcome(secret)
    bench.store.failing = True
    bench.wait(STALENESS + 0.001)
    bench.outcome(secret)
    bench.wait(cached.RETRY_SECONDS)
    others: list[str] = []
    bench.store.before_ask = lambda: others.append(bench.outcome(secret))
    assert bench.outcome(secret) == "allowed"
    assert others == ["allowed"]


def test_key_whose_change_was_taken_in_at_that_moment_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request finds the store away; before it looks at what is known, another finds it back and drops the key."""
    key_id, secret = bench.issue()
    bench.outcome(secret)
    bench.store.failing = True
    bench.wait(STALENESS + 0.001)
    bench.outcome(secret)
    bench.desk.update(key_id, name="renamed")
    look = bench.finder._look

    def look_and_be_overtaken(arrived: float) -> bool:
        monkeypatch.undo()
        current = look(arrived)
        bench.store.failing = False
        bench.wait(cached.RETRY_SECONDS)
        bench.outcome("something-else")
        return current

    monkeypatch.setattr(bench.finder, "_look", look_and_be_overtaken)
    assert bench.outcome(secret) == "allowed"


def test_change_here_whose_outcome_nobody_knows_keeps_the_grace(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.outcome(secret)
    bench.store.failing = True
    bench.finder.look_again()
    assert bench.outcome(secret) == "allowed"


def test_reads_at_once_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "WAIT_SECONDS", 0.01)
    bench.outcome("something-else")
    texts = [f"made-up-{number}" for number in range(cached.MAX_READS)]
    go, reading = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        reading.release()
        go.wait(20)

    bench.store.before_read = hold
    threads = [threading.Thread(target=bench.outcome, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert reading.acquire(timeout=20)
    assert bench.outcome("one-more") == "unavailable"
    go.set()
    for thread in threads:
        thread.join(20)
    assert bench.outcome("one-more") == "invalid"


# How much is kept


def test_flood_of_made_up_keys_is_bounded_and_drops_no_known_key(bench: Bench) -> None:
    secrets = [bench.issue()[1] for _ in range(SIZE)]
    for secret in secrets:
        bench.outcome(secret)
    bench.store.reads = 0
    for number in range(100 * SIZE):
        assert bench.outcome(f"made-up-{number}") == "invalid"
    assert bench.store.reads == 100 * SIZE
    assert len(bench.finder._unknown) == SIZE
    assert [bench.outcome(secret) for secret in secrets] == ["allowed"] * SIZE
    assert bench.store.reads == 100 * SIZE


def test_key_that_is_used_stays_where_room_is_needed(bench: Bench) -> None:
    used, *others = [bench.issue()[1] for _ in range(5 * SIZE)]
    for other in others:
        assert (bench.outcome(used), bench.outcome(other)) == ("allowed", "allowed")
    assert len(bench.finder._known) == SIZE
    assert sum(map(len, bench.finder._tokens.values())) == SIZE
    bench.store.reads = 0
    assert bench.outcome(used) == "allowed"
    assert bench.store.reads == 0


def test_secrets_of_one_key_are_known_and_forgotten_together(bench: Bench) -> None:
    key_id, first = bench.issue()
    second = bench.desk.rotate(key_id).secret
    assert (bench.outcome(first), bench.outcome(second)) == ("allowed", "allowed")
    bench.desk.revoke(key_id)
    bench.wait(STALENESS + 0.001)
    assert (bench.outcome(first), bench.outcome(second)) == ("revoked", "revoked")


def test_room_is_made_secret_by_secret(clock: ManualClock) -> None:
    bench = Bench(clock, size=2)
    key_id, first = bench.issue()
    texts = [first, *(bench.desk.rotate(key_id).secret for _ in range(3))]
    for text in texts:
        assert bench.outcome(text) == "allowed"
    assert len(bench.finder._known) == len(bench.finder._tokens[key_id]) == 2
    bench.desk.revoke(key_id)
    bench.wait(STALENESS + 0.001)
    assert {bench.outcome(text) for text in texts} == {"revoked"}


def test_request_that_is_ended_while_it_reads_leaves_nothing_behind(bench: Bench) -> None:
    """As gevent's timeouts do."""
    _, secret = bench.issue()
    bench.outcome("something-else")

    class Ended(BaseException):
        pass

    def end() -> None:
        bench.store.before_read = lambda: None
        raise Ended

    bench.store.before_read = end
    with pytest.raises(Ended):
        bench.outcome(secret)
    assert bench.finder._reads == {}
    assert bench.outcome(secret) == "allowed"


def test_no_secret_is_kept(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.outcome(secret)
    for token in (*bench.finder._known, *bench.finder._unknown):
        assert secret.encode() not in token
        assert len(token) == 16
    assert secret not in repr(vars(bench.finder))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_process_begins_anew_even_while_a_thread_holds_the_locks(bench: Bench) -> None:
    _, secret = bench.issue()
    bench.outcome(secret)
    with bench.finder._asking, bench.finder._changing:
        child = os.fork()
        if not child:
            os._exit(0 if bench.outcome(secret) == "allowed" and bench.store.reads == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_cache(clock: ManualClock) -> None:
    desk = open_desk({"KEYDESK_STORE": "memory://", "KEYDESK_CACHE_KEYS": 0}, clock=clock)
    assert isinstance(desk._finder, StoreFinder)
    assert desk.verify(desk.issue(name="client").secret).allowed


# Plans, and events of newer versions


@pytest.mark.parametrize("kind", ["plan", "owner", "newer kind", "newer kind about a key"])
def test_event_that_may_be_about_many_keys_forgets_all(clock: ManualClock, kind: str) -> None:
    bench = Bench(clock)
    bench.desk.plans.put("gold", scopes=["a:read"])
    keys = [bench.desk.issue(name="x", plan="gold", owner="acme"), bench.desk.issue(name="y")]
    for issued in keys:
        assert not isinstance(bench.finder.find(issued.secret), str)
    reads = bench.store.reads
    if kind == "plan":
        bench.desk.plans.put("gold", scopes=["b:read"])
    elif kind == "owner":
        bench.desk.owners.put("acme", limits=["5/minute"])
    else:
        other = new_key()
        made = event_class("key.teleported")(
            at=clock.now(), actor="x", key_id=other.id if kind.endswith("key") else "", owner=None, details={}
        )
        bench.desk.store.add([(other, made)])  # type: ignore[attr-defined]
    clock.advance(STALENESS + 0.01)
    found = [bench.finder.find(issued.secret) for issued in keys]
    assert bench.store.reads == reads + 2
    assert not isinstance(found[0], str)
    assert found[0].key.scopes == Scopes(["b:read" if kind == "plan" else "a:read"])
    agreed = found[0].key.agreed
    assert agreed is not None
    assert (agreed.owner is not None) == (kind == "owner")
    for issued in keys:
        bench.finder.find(issued.secret)
    assert bench.store.reads == reads + 2


def test_plan_costs_a_known_key_nothing(clock: ManualClock) -> None:
    bench = Bench(clock)
    bench.desk.plans.put("gold", scopes=["a:read"])
    issued = bench.desk.issue(name="x", plan="gold")
    bench.finder.find(issued.secret)
    asked = bench.store.reads, bench.store.asks
    for _ in range(10):
        found = bench.finder.find(issued.secret)
        assert not isinstance(found, str)
        assert found.always is not None
        assert found.always.key is found.key
    assert (bench.store.reads, bench.store.asks) == asked
