"""The meter: exact, bounded, never too high, and written in time."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keydesk import Desk, InvalidField, Reason, open_desk
from keydesk.errors import StoreUnavailable
from keydesk.metering import counts as counts_module
from keydesk.metering import ending
from keydesk.metering.buffered import FORGET_EVERY_SECONDS, BufferedMeter
from keydesk.metering.counts import FULL, MOST_ADDRESSES, Counts
from keydesk.metering.memory import MemoryUsage
from keydesk.testing import START, ManualClock
from keydesk.usage import OTHERS, TOP_NETWORKS, Batch, Kept, Range, Span

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ALL_DAYS = Range(Span.DAY, START.replace(hour=0) - DAY, START + 300 * DAY)
FAR = 1e6  # seconds between flushes: none in a test happens by itself


class Store(MemoryUsage):
    """Counts in memory, and can be made to fail before or after it wrote, or to hang."""

    def __init__(self) -> None:
        self.used: dict[str, datetime] = {}
        super().__init__(self.used.update)
        self.batches: list[Batch] = []
        self.forgotten: list[tuple[Span, datetime]] = []
        self.error: Exception | None = None
        self.known = True
        self.more = False

    def add(self, batch: Batch) -> bool:
        if self.error:
            raise self.error
        self.batches.append(batch)
        return super().add(batch) and self.known

    def forget(self, span: Span, before: datetime) -> bool:
        if self.error:
            raise self.error
        self.forgotten.append((span, before))
        return self.more

    def total(self) -> int:
        return self.top(ALL_DAYS, 1)[0]

    def attempts(self) -> int:
        return self.mistakes(ALL_DAYS, 1)[0]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def meter(store: Store, clock: ManualClock) -> Any:
    meter = BufferedMeter(store, clock, flush_seconds=FAR)
    yield meter
    store.error = None
    meter.close()


def minutes(store: Store) -> list[tuple[datetime, str, int]]:
    range_ = Range(Span.MINUTE, START - DAY, START + DAY)
    return [(each.start_at, each.outcome, each.count) for each in store.counts(range_)]


# Counting


def test_count_by_key_outcome_and_minute(meter: BufferedMeter, store: Store) -> None:
    for second in (0, 59.999999, 60, 61):
        meter.count("a", "allowed", START + timedelta(seconds=second))
    meter.count("b", Reason.EXPIRED, START + MINUTE)
    assert store.batches == []  # a request does not write
    meter.flush()
    assert minutes(store) == [(START, "allowed", 2), (START + MINUTE, "allowed", 2), (START + MINUTE, "expired", 1)]
    assert store.used == {"a": START + MINUTE}
    assert type(next(iter(store.batches[0].keys))[3]) is str


def test_count_with_a_clock_that_is_set_back(meter: BufferedMeter, store: Store) -> None:
    """Else one that was wrong by a year would have a process count for a moment in a year until it is there."""
    for at in (START, START - HOUR, START + 2 * MINUTE, START):
        meter.count("a", "allowed", at)
        meter.count_mistake("unknown", None, at)
    meter.flush()
    assert minutes(store) == [
        (START - HOUR, "allowed", 1),
        (START, "allowed", 2),
        (START + 2 * MINUTE, "allowed", 1),
    ]
    assert store.mistakes(Range(Span.MINUTE, START, START + MINUTE), 1)[0] == 2


def test_flush_of_nothing_writes_nothing(meter: BufferedMeter, store: Store) -> None:
    meter.flush()
    meter.count("a", "allowed", START)
    meter.flush()
    meter.flush()
    assert len(store.batches) == 1


def test_one_batch_whatever_the_load(meter: BufferedMeter, store: Store) -> None:
    for number in range(3 * FULL):
        meter.count(f"key {number % 7}", "allowed", START)
    meter.flush()
    (batch,) = store.batches
    assert len(batch.keys) == 7
    assert sum(batch.keys.values()) == 3 * FULL


def test_count_from_many_threads_is_exact(meter: BufferedMeter, store: Store) -> None:
    ended = threading.Event()

    def flush() -> None:
        while not ended.is_set():
            meter.flush()

    def count() -> None:
        for number in range(20_000):
            meter.count("a", "allowed", START + timedelta(seconds=number % 120))
            meter.count_mistake("unknown", f"192.0.2.{number % 9}", START)

    threads = [threading.Thread(target=count) for _ in range(6)]
    flusher = threading.Thread(target=flush)
    for thread in (*threads, flusher):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    flusher.join()
    meter.flush()
    assert (store.total(), store.attempts()) == (120_000, 120_000)


# Networks


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2ff::1", "2001:db8:1:200::/56"),
        ("fe80::1%eth0", "fe80::/56"),
        (None, "unknown"),
        ("", "unknown"),
        ("unix:", "unknown"),
        ("203.0.113.7:80", "unknown"),
        ("\ud800", "unknown"),
        ("1" * 100_000, "unknown"),
        ("' OR 1=1 --", "unknown"),
    ],
)
def test_mistakes_by_network(meter: BufferedMeter, store: Store, address: str | None, network: str) -> None:
    meter.count_mistake("unknown", address, START)
    meter.flush()
    (found,) = store.mistakes(ALL_DAYS, 5)[1]
    assert (found.mistake, found.network, found.count) == ("unknown", network, 1)


# When writing fails


def test_what_could_not_be_written_is_kept(
    meter: BufferedMeter, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = StoreUnavailable("the database is locked")
    for number in range(3):
        meter.count("a", "allowed", START + number * MINUTE)
        meter.count_mistake("malformed", "192.0.2.1", START)
        meter.flush()
    assert store.total() == 0
    assert len([record for record in caplog.records if "cannot write usage" in record.message]) == 1
    store.error = None
    meter.flush()
    meter.flush()
    assert (store.total(), store.attempts(), len(store.batches)) == (3, 3, 1)
    assert [count for _, _, count in minutes(store)] == [1, 1, 1]
    assert "can write usage again" in caplog.text


def test_what_may_be_written_is_not_written_again(meter: BufferedMeter, store: Store) -> None:
    store.known = False
    meter.count("a", "allowed", START)
    meter.flush()
    store.known = True
    meter.flush()
    assert store.total() == 1


def test_what_nobody_expected_is_not_raised_and_not_written_twice(
    meter: BufferedMeter, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = RuntimeError("a mistake of ours")
    meter.count("a", "allowed", START)
    meter.flush()
    store.error = None
    meter.flush()
    assert store.total() == 0
    assert "lost the usage" in caplog.text


# Bounds


def test_many_keys_are_written_before_the_interval_ends(
    meter: BufferedMeter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Event()
    add = store.add
    monkeypatch.setattr(store, "add", lambda batch: add(batch) and (written.set() or True))
    for number in range(3 * FULL):
        meter.count(f"key {number}", "allowed", START)
    assert written.wait(10)


def entries(counts: Counts) -> int:
    return len(counts._kept) + len(counts._counted) + len(counts.requests)


def test_memory_is_bounded_while_nothing_can_be_written(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the hour, by the day, and at last in one; the sum is right all the time."""
    monkeypatch.setattr(counts_module, "MOST", 500)
    counts, sent = Counts(), 0

    def count(key_id: str, at: datetime) -> None:
        nonlocal sent
        sent += 1
        counts.requests.append((key_id, "allowed", at))
        counts.settle()
        assert entries(counts) <= 501

    for number in range(2000):
        count(f"key {number % 10}", START + number * MINUTE)
    batch = counts.take()
    assert {span for span, *_ in batch.keys} <= {Span.MINUTE, Span.HOUR, Span.DAY}
    assert {key for _, _, key, _ in batch.keys} == {f"key {number}" for number in range(10)}  # none lost its name
    counts.give_back(batch)
    for number in range(3000):
        count(f"other {number}", START + 2000 * MINUTE)
    batch = counts.take()
    assert sum(batch.keys.values()) == sent
    assert any(key == OTHERS for _, _, key, _ in batch.keys)
    assert "by the hour or by the day" in caplog.text
    store.add(batch)
    assert store.total() == sent


def test_an_attack_with_made_up_keys_is_seen_and_bounded(meter: BufferedMeter, store: Store) -> None:
    """100,000 texts that are nobody's, of as many networks, and one client that tries more often than the rest."""
    for number in range(100_000):
        address = "198.51.100.9" if number % 20 == 0 else f"2001:db8:{number >> 8:x}:{(number & 255) << 8:x}::1"
        meter.count_mistake("unknown", address, START)
        assert len(meter.writer.counts.mistakes.addresses) <= MOST_ADDRESSES
    meter.flush()
    total, networks = store.mistakes(ALL_DAYS, 1000)
    assert total == 100_000
    assert len(networks) <= 2 * TOP_NETWORKS + 1
    assert {each.network: each.count for each in networks}["198.51.100.0/24"] == 5000


def test_earlier_secrets_by_network(meter: BufferedMeter, store: Store) -> None:
    for address in ("203.0.113.7", "203.0.113.8", "2001:db8:0:1ff::1", None, "x" * 100_000):
        meter.count_earlier("a", 1, address, START)
    meter.count_earlier("a", 2, "203.0.113.7", START + MINUTE)
    assert store.batches == []
    meter.flush()
    found, last = store.earlier_secrets(ALL_DAYS, "a", 9)
    assert [(each.secret, each.network, each.count) for each in found] == [
        (1, "203.0.113.0/24", 2),
        (1, "unknown", 2),
        (1, "2001:db8:0:100::/56", 1),
        (2, "203.0.113.0/24", 1),
    ]
    assert last == {1: START, 2: START + MINUTE}


def test_earlier_secrets_are_kept_while_nothing_can_be_written(
    meter: BufferedMeter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bounded memory; at the very last, keys with few uses are told apart no more."""
    monkeypatch.setattr(counts_module, "MOST_NETWORKS", 100)
    store.error = StoreUnavailable("away")
    for number in range(1000):
        meter.count_earlier(f"key {number}", 1, "203.0.113.7", START + number * HOUR)
        meter.count_earlier("loud", 1, "203.0.113.7", START)
        meter.flush()
    kept = meter.writer.counts.earlier._kept
    assert len(kept) <= 150
    assert sum(kept.values()) == 2000
    store.error = None
    meter.flush()
    (loud,), _ = store.earlier_secrets(ALL_DAYS, "loud", 9)
    assert (loud.network, loud.count) == ("203.0.113.0/24", 1000)


def test_a_secret_that_leaked_is_seen_and_bounded(meter: BufferedMeter, store: Store) -> None:
    for number in range(30_000):
        address = "198.51.100.9" if number % 20 == 0 else f"2001:db8:{number >> 8:x}:{(number & 255) << 8:x}::1"
        meter.count_earlier("a", 1, address, START)
        assert len(meter.writer.counts.earlier.addresses) <= MOST_ADDRESSES
    meter.flush()
    found, _ = store.earlier_secrets(ALL_DAYS, "a", 1000)
    assert sum(each.count for each in found) == 30_000
    assert "198.51.100.0/24" in [each.network for each in found[:2]]
    assert len(found) <= 2 * TOP_NETWORKS + 1


def test_addresses_are_cut_before_they_are_kept(meter: BufferedMeter) -> None:
    meter.count_mistake("unknown", "x" * 100_000, START)
    assert len(meter._mistakes[-1][1]) == 64


# Forgetting


def test_old_counts_are_removed_once_an_hour(meter: BufferedMeter, store: Store, clock: ManualClock) -> None:
    meter.writer.forget()
    assert store.forgotten == [(Span.MINUTE, START - 48 * HOUR), (Span.HOUR, START - 90 * DAY)]
    meter.writer.forget()
    clock.advance(FORGET_EVERY_SECONDS - 1)
    meter.writer.forget()
    assert len(store.forgotten) == 2
    clock.advance(1)
    meter.writer.forget()
    assert len(store.forgotten) == 4


def test_more_old_counts_are_removed_the_next_time(meter: BufferedMeter, store: Store) -> None:
    store.more = True
    meter.writer.forget()
    meter.writer.forget()
    assert len(store.forgotten) == 4
    store.more = False
    meter.writer.forget()
    meter.writer.forget()
    assert len(store.forgotten) == 6


def test_kept_as_long_as_set(store: Store, clock: ManualClock) -> None:
    meter = BufferedMeter(store, clock, flush_seconds=FAR, kept=Kept(HOUR, DAY))
    meter.writer.forget()
    assert store.forgotten == [(Span.MINUTE, START - HOUR), (Span.HOUR, START - DAY)]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a mistake of ours")])
def test_forget_does_not_raise(meter: BufferedMeter, store: Store, error: Exception) -> None:
    store.error = error
    meter.writer.forget()


# Threads and ends


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "keydesk-usage"]


def test_no_thread_before_the_first_count(store: Store, clock: ManualClock) -> None:
    before = len(threads())
    meter = BufferedMeter(store, clock, flush_seconds=FAR)
    meter.flush()
    assert len(threads()) == before
    meter.count("a", "allowed", START)
    assert len(threads()) == before + 1
    meter.close()
    assert len(threads()) == before
    assert store.total() == 1


def test_written_within_the_interval(store: Store, clock: ManualClock) -> None:
    meter = BufferedMeter(store, clock, flush_seconds=0.1)
    written = threading.Event()
    store._note_used = lambda _: written.set()
    meter.count("a", "allowed", START)
    assert written.wait(10)
    meter.close()


def test_close_twice_and_count_after_it(meter: BufferedMeter, store: Store) -> None:
    meter.count("a", "allowed", START)
    meter.close()
    meter.close()
    meter.count("a", "allowed", START + DAY)
    assert store.total() == 1


def test_close_tries_once_more(store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = BufferedMeter(store, clock, flush_seconds=FAR)
    meter.count("a", "allowed", START)
    errors = [StoreUnavailable("the connection died")]
    add = store.add

    def add_once_more(batch: Batch) -> bool:
        if errors:
            raise errors.pop()
        return add(batch)

    monkeypatch.setattr(store, "add", add_once_more)
    meter.close()
    assert store.total() == 1


def test_close_of_a_closed_meter_leaves_nothing_behind(store: Store, clock: ManualClock) -> None:
    meter = BufferedMeter(store, clock, flush_seconds=FAR)
    meter.count("a", "allowed", START)
    writer = weakref.ref(meter.writer)
    assert id(meter.writer) in ending._flushed
    number = id(meter.writer)
    meter.close()
    assert number not in ending._flushed
    del meter
    gc.collect()
    assert writer() is None


def test_a_meter_that_is_collected_writes_the_rest(store: Store, clock: ManualClock) -> None:
    meter = BufferedMeter(store, clock, flush_seconds=FAR)
    meter.count("a", "allowed", START)
    (thread,) = [thread for thread in threads() if thread is meter.writer._thread]
    del meter
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    assert store.total() == 1


def test_a_desk_that_was_dropped_is_collected(clock: ManualClock) -> None:
    desk = open_desk({"KEYDESK_STORE": "memory://", "KEYDESK_USAGE_FLUSH_SECONDS": 3600}, clock=clock)
    desk.verify("some-imported-secret-0123456789")
    gone = weakref.ref(desk)
    del desk
    gc.collect()
    assert gone() is None


def test_a_fork_begins_anew(meter: BufferedMeter, store: Store) -> None:
    """What a child does after a fork, without one: what its parent counted is not counted again."""
    meter.count("a", "allowed", START)
    kept = meter.writer._thread
    meter.begin_anew()
    meter.flush()
    assert store.total() == 0
    meter.count("b", "allowed", START)
    assert meter.writer._thread is not kept
    meter.flush()
    assert store.total() == 1
    assert kept is not None


# A plain model of it

STEPS = st.one_of(
    st.tuples(st.just("count"), st.sampled_from("abc"), st.sampled_from(["allowed", "expired"]), st.integers(0, 9)),
    st.tuples(st.just("mistake"), st.sampled_from(["10.0.0.1", "10.0.0.2", "10.9.0.1", None])),
    st.tuples(st.just("advance"), st.integers(1, 8000)),
    st.tuples(st.sampled_from(["flush", "fails", "unknown", "settle"])),
)


@given(st.lists(STEPS, max_size=60))
def test_any_sequence_of_counts_and_flushes_equals_a_plain_model(steps: list[tuple[Any, ...]]) -> None:
    store, clock = Store(), ManualClock()
    meter = BufferedMeter(store, clock, flush_seconds=FAR)
    expected: Counter[tuple[datetime, str, str]] = Counter()
    mistakes: Counter[str] = Counter()
    acts: dict[str, Callable[[], object]] = {"flush": meter.flush, "settle": meter.writer.settle}
    for step in steps:
        if step[0] == "count":
            meter.count(step[1], step[2], clock.now())
            expected[Span.MINUTE.start_of(clock.now()), step[1], step[2]] += 1
        elif step[0] == "mistake":
            meter.count_mistake("unknown", step[1], clock.now())
            mistakes["unknown" if step[1] is None else step[1][:4] + ".0.0/24"] += 1
        elif step[0] == "advance":
            clock.advance(step[1] / 100)
        elif step[0] in acts:
            acts[step[0]]()
        else:
            store.error = StoreUnavailable("away") if step[0] == "fails" else None
            store.known = step[0] != "unknown"
            meter.flush()
            store.error, store.known = None, True
    meter.close()
    for key_id in "abc":
        found = {
            (each.start_at, key_id, each.outcome): each.count
            for each in store.counts(Range(Span.MINUTE, START, START + DAY), key_id)
        }
        assert found == {each: count for each, count in expected.items() if each[1] == key_id}
    assert store.total() == expected.total()
    assert {each.network: each.count for each in store.mistakes(ALL_DAYS, 9)[1]} == dict(mistakes)


# Through the desk


@pytest.fixture
def desk(clock: ManualClock) -> Any:
    desk = open_desk({"KEYDESK_STORE": "memory://", "KEYDESK_USAGE_FLUSH_SECONDS": 3600}, clock=clock)
    yield desk
    desk.close()


def test_desk_usage(desk: Desk, clock: ManualClock) -> None:
    first, second = desk.issue(name="first", scopes=["a:b"]), desk.issue(name="second")
    for _ in range(3):
        desk.verify(first.secret, scopes=["a:b"])
    desk.verify(second.secret, scopes=["a:b"])
    desk.verify("nobody", client_address="192.0.2.1")
    desk.verify(None)
    report = desk.usage()
    assert report.range.span is Span.HOUR
    assert report.totals() == {"allowed": 3, "scope_denied": 1}
    assert desk.usage(second.key.id).totals() == {"scope_denied": 1}
    top = desk.top_keys()
    assert (top.total, [(each.key, each.count, each.allowed) for each in top.keys]) == (
        4,
        [(first.key, 3, 3), (second.key, 1, 0)],
    )
    assert [(each.network, each.count) for each in desk.mistakes().networks] == [("192.0.2.0/24", 1)]
    assert desk.get_key(first.key.id).last_used_at == START
    assert desk.get_key(second.key.id).last_used_at is None
    clock.advance(25 * HOUR)
    assert desk.usage().counts == ()
    assert desk.usage(since=START - HOUR).totals() == {"allowed": 3, "scope_denied": 1}


def test_desk_usage_of_several_keys(desk: Desk) -> None:
    first, silent = desk.issue(name="first"), desk.issue(name="silent")
    for _ in range(3):
        desk.verify(first.secret)
    since = START - 36 * HOUR
    reports = desk.usage_of_keys([silent.key.id, first.key.id, first.key.id, "key_"], since=since)
    assert list(reports) == [silent.key.id, first.key.id, "key_"]
    assert reports[first.key.id] == desk.usage(first.key.id, since=since)
    assert reports[silent.key.id] == desk.usage(silent.key.id, since=since)
    assert desk.usage_of_keys([]) == {}


def test_desk_usage_of_too_many_keys(desk: Desk) -> None:
    ids = [f"key_{number:028x}" for number in range(1001)]
    assert len(desk.usage_of_keys(ids[:1000], since=START - 36 * HOUR)) == 1000
    with pytest.raises(InvalidField, match="1000"):
        desk.usage_of_keys(ids)
    with pytest.raises(InvalidField, match="so many"):
        desk.usage_of_keys(ids[:1000], since=START - 101 * HOUR, span=Span.HOUR)


def test_desk_mistake_counts(desk: Desk, clock: ManualClock) -> None:
    desk.verify("nobody", client_address="192.0.2.1")
    clock.advance(HOUR)
    for _ in range(2):
        desk.verify("nobody", client_address="198.51.100.1")
    report = desk.mistake_counts()
    assert [(each.start_at, each.outcome, each.count) for each in report.counts] == [
        (START, "unknown", 1),
        (START + HOUR, "unknown", 2),
    ]
    assert report.range == desk.usage().range
    assert report.totals() == {"unknown": 3}


def test_desk_earlier_secrets(desk: Desk, clock: ManualClock) -> None:
    """Each use of a secret that is not the newest, whatever becomes of it, and none of the newest."""
    old = desk.issue(name="client", scopes=["a:b"])
    desk.verify(old.secret, client_address="203.0.113.7")
    assert desk.earlier_secrets(old.key.id).networks == ()
    new = desk.rotate(old.key.id, overlap=HOUR)
    for secret, scopes in ((old.secret, ["a:b"]), (old.secret, ["x:y"]), (new.secret, ["a:b"])):
        desk.verify(secret, scopes=scopes, client_address="203.0.113.7")
    desk.verify(old.secret, client_address="203.0.113.7", test=True)
    report = desk.earlier_secrets(old.key.id)
    assert [(each.secret, each.network, each.count) for each in report.networks] == [(1, "203.0.113.0/24", 2)]
    assert report.last_used == {1: START}
    assert report.range == desk.mistakes().range
    clock.advance(2 * HOUR)
    assert not desk.verify(old.secret, client_address="198.51.100.7").allowed
    report = desk.earlier_secrets(old.key.id)
    assert [(each.network, each.count) for each in report.networks] == [("198.51.100.0/24", 1)]
    assert report.last_used == {1: START + 2 * HOUR}
    desk.rotate(old.key.id)
    desk.verify(new.secret)
    assert set(desk.earlier_secrets(old.key.id).last_used) == {1, 2}


def test_desk_usage_span_that_fits(desk: Desk) -> None:
    for back, span in (
        (HOUR, "minute"),
        (2 * HOUR, "minute"),
        (3 * HOUR, "hour"),
        (48 * HOUR, "hour"),
        (3 * DAY, "day"),
    ):
        assert desk.usage(since=START - back).range.span == span
    for ago, span in ((47 * HOUR, "minute"), (49 * HOUR, "hour"), (91 * DAY, "day")):
        assert desk.usage(since=START - ago, until=START - ago + HOUR).range.span == span
    assert desk.usage(since=START - HOUR, span=Span.DAY).range.since == START.replace(hour=0)


def test_desk_usage_span_that_fits_what_was_said_a_moment_before(desk: Desk, clock: ManualClock) -> None:
    """As the command line does, which asks the clock before the desk does."""
    clock.advance(59.5)
    for back, span in ((2 * HOUR, "minute"), (48 * HOUR, "hour")):
        since = clock.now() - back
        clock.advance(0.001)
        report = desk.usage(since=since)
        assert report.range.span == span
        assert desk.mistakes(since=report.range.since).range == report.range


def test_desk_usage_span_that_is_kept_as_long_as_set(clock: ManualClock) -> None:
    settings = {"KEYDESK_USAGE_MINUTES_KEPT_HOURS": 1, "KEYDESK_USAGE_HOURS_KEPT_DAYS": 1}
    desk = open_desk({"KEYDESK_STORE": "memory://", **settings}, clock=clock)
    for back, span in ((HOUR, "minute"), (2 * HOUR, "hour"), (24 * HOUR, "hour"), (48 * HOUR, "day")):
        assert desk.usage(since=START - back).range.span == span
    assert (
        desk.top_keys(since=START - 2 * HOUR).range.span == desk.mistakes(since=START - 2 * HOUR).range.span == "hour"
    )
    desk.close()


@pytest.mark.parametrize(
    "given",
    [
        {"since": START},
        {"since": START + HOUR},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"since": START - DAY, "until": START - 2 * DAY},
        {"since": START - 30 * DAY, "span": Span.MINUTE},
        {"since": datetime.min},  # noqa: DTZ901
    ],
)
def test_desk_usage_of_a_range_there_is_not(desk: Desk, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        desk.usage(**given)


def test_desk_top_of_a_size_there_is_not(desk: Desk) -> None:
    for size in (0, -1, 1001):
        for ask in (desk.top_keys, desk.mistakes, partial(desk.earlier_secrets, "key_")):
            with pytest.raises(InvalidField, match="size"):
                ask(size=size)


def test_desk_lists_idle_keys(desk: Desk, clock: ManualClock) -> None:
    used, unused = desk.issue(name="used"), desk.issue(name="unused")
    clock.advance(89 * DAY)
    desk.verify(used.secret)
    clock.advance(2 * DAY)
    desk.issue(name="new")
    idle = desk.list_keys(idle_since=clock.now() - 90 * DAY).keys
    assert [key.id for key in idle] == [unused.key.id]
    assert len(desk.list_keys(idle_since=clock.now() + DAY).keys) == 3


def test_desk_without_a_meter_counts_nothing(desk: Desk, clock: ManualClock) -> None:
    other = Desk(store=desk.store, mint=desk.mint, clock=clock)
    other.verify("nobody")
    assert other.usage().counts == other.top_keys().keys == other.mistakes().networks == ()
    assert other.mistake_counts().counts == other.usage_of_keys(["key_"])["key_"].counts == ()
    assert other.earlier_secrets("key_").networks == ()


def test_explain_counts_nothing(desk: Desk) -> None:
    issued = desk.issue(name="first")
    desk.explain(issued.secret)
    assert desk.usage().counts == ()


def test_the_log_says_nothing_while_all_is_well(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "keydesk")
    desk.verify("nobody")
    desk.usage()
    assert caplog.records == []
