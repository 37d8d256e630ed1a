"""Every place where requests are counted, through one contract."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, func, select
from sqlalchemy.exc import OperationalError

from keydesk.errors import StoreUnavailable
from keydesk.metering.memory import MOST_ROWS, MemoryUsage
from keydesk.ports import KeyStore, UsageStore
from keydesk.stores import usage as sql_usage
from keydesk.stores.engines import open_engine
from keydesk.stores.memory import MemoryStore
from keydesk.stores.schema import REVISIONS, earlier, metadata, mistakes
from keydesk.stores.sql import SqlStore
from keydesk.testing import START, ManualClock, new_key
from keydesk.testing.stores import issued
from keydesk.usage import (
    OTHERS,
    TOP_NETWORKS,
    Batch,
    EarlierEntry,
    EarlierUsage,
    Entry,
    KeyUsage,
    MistakeUsage,
    Range,
    Span,
    Usage,
)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
A, B = "key_" + "a" * 28, "key_" + "b" * 28
KINDS = ["memory", "sqlite", "postgres", "mariadb"]


@pytest.fixture(scope="module")
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Give a store of each kind, made once: emptying tables takes a hundredth of the time that making them does."""
    made: dict[str, SqlStore] = {}
    open_now: list[Any] = []

    def store(kind: str) -> Any:
        if kind == "memory":
            return MemoryStore(ManualClock())
        if kind not in made:
            if kind == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('usage')}/keys.db"
            else:
                fresh = request.getfixturevalue(kind).fresh()
                url = fresh.__enter__()
                open_now.append(fresh)
            made[kind] = SqlStore(open_engine(url), ManualClock(), own=True)
            made[kind].upgrade()
        with made[kind].engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
        return made[kind]

    yield store
    for each in made.values():
        each.close()
    for fresh in open_now:
        fresh.__exit__(None, None, None)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, stores: Callable[[str], Any]) -> Any:
    return stores(request.param)


@pytest.fixture
def counted(store: Any) -> UsageStore:
    return MemoryUsage(store.note_used, store.find_key) if isinstance(store, MemoryStore) else store.usage


@pytest.fixture(params=KINDS[1:])
def database(request: pytest.FixtureRequest, stores: Callable[[str], Any]) -> SqlStore:
    store = stores(request.param)
    assert isinstance(store, SqlStore)
    return store


def entry(at: datetime, first: str = A, second: str = "allowed", span: Span = Span.MINUTE) -> Entry:
    return span, at, first, second


def around(span: Span = Span.MINUTE, since: datetime = START - DAY, until: datetime = START + DAY) -> Range:
    return Range(span, span.start_of(since), until)


def rows(store: UsageStore, span: Span = Span.MINUTE, key_id: str | None = None) -> list[tuple[datetime, str, int]]:
    return [(each.start_at, each.outcome, each.count) for each in store.counts(around(span), key_id)]


# Counting


def test_add_counts_in_minutes_hours_and_days(counted: UsageStore) -> None:
    at = START + 12 * MINUTE
    assert counted.add(Batch({entry(at): 2, entry(at + MINUTE): 3, entry(at + HOUR, second="expired"): 5}))
    assert rows(counted) == [(at, "allowed", 2), (at + MINUTE, "allowed", 3), (at + HOUR, "expired", 5)]
    assert rows(counted, Span.HOUR) == [(START, "allowed", 5), (START + HOUR, "expired", 5)]
    midnight = START.replace(hour=0)
    assert rows(counted, Span.DAY) == [(midnight, "allowed", 5), (midnight, "expired", 5)]


def test_add_again_adds_up(counted: UsageStore) -> None:
    for _ in range(3):
        assert counted.add(Batch({entry(START): 2, entry(START, B): 1}, {entry(START, "unknown", "192.0.2.0/24"): 4}))
    assert rows(counted) == [(START, "allowed", 9)]
    assert rows(counted, key_id=A) == [(START, "allowed", 6)]
    assert counted.mistakes(around(), 10) == (12, [MistakeUsage("unknown", "192.0.2.0/24", 12)])


def test_add_of_a_longer_span_counts_from_there_on(counted: UsageStore) -> None:
    midnight = START.replace(hour=0)
    counted.add(Batch({entry(START, span=Span.HOUR): 2, entry(midnight, span=Span.DAY): 3}))
    assert rows(counted) == []
    assert rows(counted, Span.HOUR) == [(START, "allowed", 2)]
    assert rows(counted, Span.DAY) == [(midnight, "allowed", 5)]


def test_add_nothing(counted: UsageStore) -> None:
    assert counted.add(Batch())
    assert rows(counted) == []
    assert counted.top(around(), 10) == (0, [])
    assert counted.mistakes(around(), 10) == (0, [])


def test_add_of_many_keys(counted: UsageStore) -> None:
    ids = [f"key_{number:028x}" for number in range(3000)]
    for _ in range(2):
        counted.add(Batch({entry(START, key_id): 1 for key_id in ids}))
    assert rows(counted) == [(START, "allowed", 6000)]
    assert rows(counted, Span.DAY, ids[2999]) == [(START.replace(hour=0), "allowed", 2)]


def test_add_large_numbers(counted: UsageStore) -> None:
    counted.add(Batch({entry(START): 2**40}))
    counted.add(Batch({entry(START): 2**40}))
    assert rows(counted) == [(START, "allowed", 2**41)]


def test_add_from_many_threads_is_exact(counted: UsageStore) -> None:
    """In one order on every table, so that writers wait for each other and never in a circle."""
    keys = [f"key_{number:028x}" for number in range(20)]

    def add(worker: int) -> None:
        for number in range(10):
            own = keys[(worker + number) % 3 :]
            used: dict[EarlierEntry, int] = {(Span.MINUTE, START, (key, 1), OFFICE): 1 for key in own}
            mistaken = {entry(START, "unknown", f"10.0.{worker}.0/24"): 1}
            batch = Batch({entry(START, key): 1 for key in own}, mistaken, used)
            while True:
                try:
                    counted.add(batch)
                    break
                except StoreUnavailable:  # SQLite, where the others held the lock for too long
                    continue

    threads = [threading.Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sum(len(keys[(worker + number) % 3 :]) for worker in range(4) for number in range(10))
    assert rows(counted) == [(START, "allowed", expected)]
    assert counted.mistakes(around(), 10)[0] == 40
    assert counted.earlier_secrets(around(), keys[19], 1)[0] == [EarlierUsage(1, OFFICE, 40)]


# Reading


def test_counts_of_a_range(counted: UsageStore) -> None:
    counted.add(Batch({entry(START + number * MINUTE): 1 for number in range(5)}))
    range_ = Range(Span.MINUTE, START + MINUTE, START + 3 * MINUTE)
    assert counted.counts(range_) == counted.counts(range_, A)
    assert [each.start_at for each in counted.counts(range_)] == [START + MINUTE, START + 2 * MINUTE]


def test_counts_of_odd_ids(counted: UsageStore) -> None:
    counted.add(Batch({entry(START): 1}))
    for key_id in ("", "x", A.upper(), A + "\n", "key_\0" + "a" * 27, "é", "' OR 1=1 --", "💥"):
        assert counted.counts(around(), key_id) == []


def test_counts_of_one_key_over_the_longest_range(counted: UsageStore) -> None:
    counted.add(Batch({entry(START, B): 1, entry(START): 1}))
    assert counted.counts(Range(Span.MINUTE, START - 4999 * MINUTE, START + MINUTE), A) == [Usage(START, "allowed", 1)]


def test_top_is_what_sent_most(counted: UsageStore) -> None:
    ids = [f"key_{number:028x}" for number in range(30)]
    entries = {entry(START, key_id): number + 1 for number, key_id in enumerate(ids)}
    counted.add(Batch(entries | {entry(START + MINUTE, ids[0], "expired"): 100}))
    total = sum(range(1, 31)) + 100
    first, second, third = (
        KeyUsage(ids[0], None, 101, 1),
        KeyUsage(ids[29], None, 30, 30),
        KeyUsage(ids[28], None, 29, 29),
    )
    assert counted.top(around(), 3) == (total, [first, second, third])
    assert counted.top(around(Span.HOUR), 1) == (total, [first])
    found, keys = counted.top(around(), 1000)
    assert (found, len(keys)) == (total, 30)


def test_top_of_equals_is_in_order_of_ids(counted: UsageStore) -> None:
    counted.add(Batch({entry(START, B): 1, entry(START, A): 1}))
    assert [each.key_id for each in counted.top(around(), 2)[1]] == [A, B]


def test_counts_of_several_keys(counted: UsageStore) -> None:
    entries = {entry(START + number * MINUTE, key_id): number + 1 for number in range(3) for key_id in (A, B)}
    counted.add(Batch({**entries, entry(START, A, "expired"): 9, entry(START, OTHERS): 5}))
    range_ = Range(Span.MINUTE, START, START + 2 * MINUTE)
    expected = [Usage(START, "allowed", 1), Usage(START, "expired", 9), Usage(START + MINUTE, "allowed", 2)]
    silent = "key_" + "c" * 28
    assert counted.counts_of_keys(range_, [B, A, silent]) == {A: expected, B: [expected[0], expected[2]]}
    assert counted.counts_of_keys(range_, [A]) == {A: counted.counts(range_, A)}
    assert counted.counts_of_keys(range_, []) == {}
    assert counted.counts_of_keys(around(Span.DAY), [B]) == {B: [Usage(START.replace(hour=0), "allowed", 6)]}


def test_counts_of_several_odd_ids(counted: UsageStore) -> None:
    counted.add(Batch({entry(START): 1}))
    odd = ["x", A.upper(), A + "\n", "key_\0" + "a" * 27, "é", "' OR 1=1 --", "\ud800"]
    assert counted.counts_of_keys(around(), odd) == {}
    assert list(counted.counts_of_keys(around(), [*odd, A])) == [A]


def test_counts_of_as_many_keys_as_fit_on_a_page(counted: UsageStore) -> None:
    ids = [f"key_{number:028x}" for number in range(1000)]
    counted.add(Batch({entry(START - hours * HOUR, key_id): 1 for hours in (0, 1, 35) for key_id in ids}))
    found = counted.counts_of_keys(Range(Span.HOUR, START - 36 * HOUR, START + HOUR), ids)
    assert set(found) == set(ids)
    assert {tuple(each) for each in found.values()} == {
        (Usage(START - 35 * HOUR, "allowed", 1), Usage(START - HOUR, "allowed", 1), Usage(START, "allowed", 1))
    }


def test_counts_of_several_keys_reads_no_rows_of_others(database: SqlStore) -> None:
    """One search for each key and hour, by the primary key."""
    ids = [f"key_{number:028x}" for number in range(2000)]
    database.usage.add(Batch({entry(START - hours * HOUR, key_id): 1 for hours in range(5) for key_id in ids}))
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "keydesk_usage" in statement:
            asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        database.usage.counts_of_keys(Range(Span.HOUR, START - 3 * HOUR, START), ids[:20])
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    ((statement, parameters),) = asked
    with database.engine.connect() as connection:
        analyze = {"mysql": "ANALYZE TABLE keydesk_usage", "mariadb": "ANALYZE TABLE keydesk_usage"}
        connection.exec_driver_sql(analyze.get(connection.dialect.name, "ANALYZE keydesk_usage"))
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = str(connection.exec_driver_sql(explain + statement, parameters).all())
    wanted = {
        "sqlite": "SEARCH keydesk_usage USING PRIMARY KEY (span=? AND start_at=? AND key_id=?)",
        "postgresql": "pk_keydesk_usage",
    }
    assert wanted.get(database.engine.dialect.name, "'range'") in plan


def test_mistake_counts(counted: UsageStore) -> None:
    made = {entry(START, "unknown", f"10.0.{place}.0/24"): 2 for place in range(3)}
    made |= {entry(START, "malformed", "unknown"): 1, entry(START + MINUTE, "unknown", OTHERS): 4}
    counted.add(Batch({entry(START): 7}, made))
    expected = [
        Usage(START, "malformed", 1),
        Usage(START, "unknown", 6),
        Usage(START + MINUTE, "unknown", 4),
    ]
    assert counted.mistake_counts(around()) == expected
    assert counted.mistake_counts(Range(Span.MINUTE, START, START + MINUTE)) == expected[:2]
    assert counted.mistake_counts(around(Span.HOUR)) == [Usage(START, "malformed", 1), Usage(START, "unknown", 10)]
    assert counted.mistake_counts(Range(Span.MINUTE, START + HOUR, START + DAY)) == []


# Who still uses earlier secrets

OFFICE, PHONE = "203.0.113.0/24", "2001:db8:0:100::/56"


def test_earlier_secrets_by_network(counted: UsageStore) -> None:
    def used(at: datetime, number: int, network: str, key_id: str = A) -> EarlierEntry:
        return Span.MINUTE, at, (key_id, number), network

    made = {used(START, 1, PHONE): 2, used(START, 1, OFFICE): 2, used(START + MINUTE, 2, OFFICE): 5}
    for _ in range(2):
        assert counted.add(Batch(earlier={**made, used(START + 2 * MINUTE, 1, OFFICE, B): 9}))
    found = [EarlierUsage(2, OFFICE, 10), EarlierUsage(1, PHONE, 4), EarlierUsage(1, OFFICE, 4)]
    last = {1: START, 2: START + MINUTE}
    assert counted.earlier_secrets(around(), A, 10) == (found, last)
    assert counted.earlier_secrets(around(), A, 1) == (found[:1], last)
    assert counted.earlier_secrets(around(Span.DAY), B, 5) == ([EarlierUsage(1, OFFICE, 18)], {1: START + 2 * MINUTE})
    assert counted.earlier_secrets(Range(Span.MINUTE, START, START + MINUTE), A, 5)[0] == [
        EarlierUsage(1, PHONE, 4),
        EarlierUsage(1, OFFICE, 4),
    ]
    assert counted.earlier_secrets(Range(Span.MINUTE, START - HOUR, START), A, 5) == ([], last)
    assert rows(counted) == []
    assert counted.mistakes(around(), 5) == (0, [])


def test_earlier_secrets_of_odd_ids(counted: UsageStore) -> None:
    counted.add(Batch(earlier={(Span.MINUTE, START, (A, 1), OFFICE): 1, (Span.DAY, START, (OTHERS, 0), OTHERS): 1}))
    for key_id in ("x", A.upper(), A + "\n", "key_\0" + "a" * 27, "é", "' OR 1=1 --", "\ud800"):
        assert counted.earlier_secrets(around(), key_id, 5) == ([], {})


def test_earlier_secrets_only_the_top_networks_have_a_row(counted: UsageStore, store: KeyStore) -> None:
    """A secret that is all over the world takes no more room than one mistake does, and each key has its own top."""
    for number in range(6):
        quiet = {(Span.MINUTE, START, (A, 1), f"10.{number}.{place}.0/24"): 1 for place in range(99)}
        loud = {(Span.MINUTE, START, (key_id, 1), OFFICE): 5 for key_id in (A, B)}
        counted.add(Batch(earlier=quiet | loud))
    networks, _ = counted.earlier_secrets(around(), A, 1000)
    assert sum(each.count for each in networks) == 6 * (99 + 5)
    assert {OFFICE, OTHERS} <= {each.network for each in networks[:3]}
    assert len(networks) <= 2 * TOP_NETWORKS + 2
    assert counted.earlier_secrets(around(), B, 1000)[0] == [EarlierUsage(1, OFFICE, 30)]
    if isinstance(store, SqlStore):
        with store.engine.connect() as connection:
            there = connection.execute(select(func.count()).select_from(earlier)).scalar_one()
        assert there <= 3 * (2 * TOP_NETWORKS + 3)


def test_earlier_secrets_of_many_keys_are_few_statements(database: SqlStore) -> None:
    """While all keys of a site are rotated, a flush is as many statements as for one."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    used = {(Span.MINUTE, START, (f"key_{number:028x}", 1), OFFICE): 1 for number in range(600)}
    event.listen(database.engine, "before_cursor_execute", note)
    try:
        database.usage.add(Batch(earlier=used))
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert len(asked) < 20


def test_earlier_secrets_are_forgotten_with_the_rest(counted: UsageStore) -> None:
    """When a secret was last used is known by the hour and the day from then on."""
    at = START + 12 * MINUTE
    counted.add(Batch(earlier={(Span.MINUTE, at, (A, 1), OFFICE): 3}))
    assert counted.earlier_secrets(around(), A, 5) == ([EarlierUsage(1, OFFICE, 3)], {1: at})
    assert not counted.forget(Span.MINUTE, START + HOUR)
    assert counted.earlier_secrets(around(), A, 5) == ([], {1: START})
    assert not counted.forget(Span.HOUR, START + HOUR)
    assert counted.earlier_secrets(around(Span.HOUR), A, 5) == ([], {1: START.replace(hour=0)})
    assert counted.earlier_secrets(around(Span.DAY), A, 5)[0] == [EarlierUsage(1, OFFICE, 3)]


# When keys were last used


def test_last_used_is_noted_to_the_minute_and_never_set_back(store: Any, counted: UsageStore) -> None:
    keys = [new_key(START - DAY) for _ in range(3)]
    store.add(map(issued, keys))
    counted.add(Batch({entry(START + MINUTE, keys[0].id): 1, entry(START, keys[0].id): 7}))
    counted.add(Batch({entry(START, keys[0].id): 1, entry(START, keys[1].id, "expired"): 1}))
    found = [store.find_key(key.id) for key in keys]
    assert [key.last_used_at for key in found] == [START + MINUTE, None, None]
    assert found == keys  # and nothing else
    assert len(store.list_events()) == 3


def test_last_used_of_keys_that_are_gone(store: Any, counted: UsageStore) -> None:
    counted.add(Batch({entry(START, OTHERS): 1, entry(START, A): 1}))
    assert store.find_key(A) is None
    assert counted.top(around(), 5)[0] == 2


# Bounds


def test_mistakes_only_the_top_networks_have_a_row(counted: UsageStore, store: KeyStore) -> None:
    """However many an attack comes from; what came from the others is one number, and none is lost."""
    loud = "203.0.113.0/24"
    for number in range(12):
        quiet = {entry(START, "unknown", f"10.{number}.{place}.0/24"): 1 for place in range(99)}
        counted.add(Batch({}, {**quiet, entry(START, "unknown", loud): 5, entry(START, "malformed", loud): 1}))
    total, networks = counted.mistakes(around(), 1000)
    assert total == 12 * (99 + 5 + 1)
    assert networks[0] in (MistakeUsage("unknown", loud, 60), MistakeUsage("unknown", OTHERS, networks[0].count))
    assert {loud, OTHERS} <= {each.network for each in networks[:3]}
    assert len(networks) <= 2 * TOP_NETWORKS + 2
    if isinstance(store, SqlStore):
        with store.engine.connect() as connection:
            assert connection.execute(select(func.count()).select_from(mistakes)).scalar_one() <= 3 * (
                2 * TOP_NETWORKS + 3
            )


def test_forget_removes_what_is_older(counted: UsageStore) -> None:
    for number in range(4):
        at = START + number * MINUTE
        counted.add(Batch({entry(at): 1}, {entry(at, "unknown", "unknown"): 1}))
    assert not counted.forget(Span.MINUTE, START + 2 * MINUTE)
    assert [start_at for start_at, _, _ in rows(counted)] == [START + 2 * MINUTE, START + 3 * MINUTE]
    assert rows(counted, Span.HOUR) == [(START, "allowed", 4)]
    assert counted.mistakes(around(), 5)[0] == 2
    assert counted.mistakes(around(Span.DAY), 5)[0] == 4
    assert not counted.forget(Span.HOUR, START + DAY)
    assert rows(counted, Span.HOUR) == []
    assert rows(counted, Span.DAY) == [(START.replace(hour=0), "allowed", 4)]


def test_forget_some_at_a_time(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_usage, "_FORGOTTEN_AT_ONCE", 10)
    counted = database.usage
    for number in range(5):
        counted.add(Batch({entry(START + number * MINUTE, f"key_{key:028x}"): 1 for key in range(4)}))
    assert counted.forget(Span.MINUTE, START + DAY)
    assert [start_at for start_at, _, _ in rows(counted)] == [START + 3 * MINUTE, START + 4 * MINUTE]
    assert not counted.forget(Span.MINUTE, START + DAY)
    assert rows(counted) == []


def test_memory_drops_the_oldest_minutes_first() -> None:
    counted = MemoryUsage(lambda _: None)
    per_minute = MOST_ROWS // 20
    for number in range(25):
        at = START + number * MINUTE
        counted.add(Batch({entry(at, f"key_{key:028x}"): 1 for key in range(per_minute)}))
    left = counted.counts(around())
    assert left[-1].start_at == START + 24 * MINUTE
    assert 10 < len(left) < 20
    assert sum(each.count for each in counted.counts(around(Span.DAY))) == 25 * per_minute


# What goes wrong


def test_add_is_all_or_nothing(database: SqlStore) -> None:
    key = new_key()
    database.add([issued(key)])
    used = {(Span.MINUTE, START, (key.id, 1), OFFICE): 1}

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE keydesk_keys"):
            raise database.engine.dialect.loaded_dbapi.OperationalError("the wire was cut")

    event.listen(database.engine, "before_cursor_execute", fail)
    try:
        with pytest.raises(StoreUnavailable):
            database.usage.add(Batch({entry(START, key.id): 1}, {entry(START, "unknown", "unknown"): 1}, used))
    finally:
        event.remove(database.engine, "before_cursor_execute", fail)
    assert rows(database.usage) == []
    assert database.usage.mistakes(around(), 1) == (0, [])
    assert database.usage.earlier_secrets(around(), key.id, 1) == ([], {})


def commit_breaks_off(store: SqlStore, monkeypatch: pytest.MonkeyPatch, *, written: bool, lost: bool) -> None:
    """Have the next commit of a store fail as if its connection broke, before or after the database did it."""
    from sqlalchemy.engine import Connection

    commit = Connection._commit_impl

    def broken(self: Connection) -> None:
        monkeypatch.setattr(Connection, "_commit_impl", commit)
        if written:
            commit(self)
        else:
            self._rollback_impl()
        error = OperationalError("COMMIT", {}, store.engine.dialect.loaded_dbapi.OperationalError("gone"))
        error.connection_invalidated = lost
        raise error

    monkeypatch.setattr(Connection, "_commit_impl", broken)


@pytest.mark.parametrize("written", [True, False])
def test_add_whose_commit_nobody_answered(database: SqlStore, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    """It may be there or not: so it says that nobody knows, and is not to be added again."""
    commit_breaks_off(database, monkeypatch, written=written, lost=True)
    assert database.usage.add(Batch({entry(START): 1})) is False
    assert rows(database.usage) == ([(START, "allowed", 1)] if written else [])


def test_add_whose_commit_was_refused(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    if database.engine.dialect.name == "sqlite":
        return  # see below: it says what happened by its error codes
    commit_breaks_off(database, monkeypatch, written=False, lost=False)
    with pytest.raises(StoreUnavailable):
        database.usage.add(Batch({entry(START): 1}))


def test_add_to_sqlite_whose_readers_are_in_the_way(tmp_path: Path) -> None:
    """Without a write-ahead log, as an application may have it, a reader can keep a commit from happening."""
    import sqlite3

    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{tmp_path}/app.db", connect_args={"timeout": 0.05})
    metadata.create_all(engine)
    store = SqlStore(engine, ManualClock())
    assert store.usage.add(Batch({entry(START): 1}))
    reader = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM keydesk_usage").fetchone()
    with pytest.raises(StoreUnavailable, match="locked"):
        store.usage.add(Batch({entry(START): 1}))
    reader.execute("ROLLBACK")
    assert store.usage.add(Batch({entry(START): 1}))
    assert rows(store.usage) == [(START, "allowed", 2)]
    reader.close()
    engine.dispose()


def test_no_database_yet_is_not_made(tmp_path: Path) -> None:
    store = SqlStore(open_engine(f"sqlite:///{tmp_path}/keys.db"), ManualClock(), own=True)
    assert store.usage.add(Batch({}, {entry(START, "unknown", "unknown"): 1}))
    assert rows(store.usage) == []
    assert not store.usage.forget(Span.MINUTE, START)
    assert list(tmp_path.iterdir()) == []
    store.close()


def test_add_while_a_key_is_changed(database: SqlStore) -> None:
    """A flush and a change wait for each other's row, and never in a circle."""
    from keydesk.events import KeyUpdated
    from keydesk.ports import Change
    from keydesk.testing.stores import event_of

    keys = [new_key() for _ in range(5)]
    database.add(map(issued, keys))
    ended = threading.Event()

    def count() -> None:
        number = 0
        while not ended.is_set() and number < 500:
            number += 1
            try:
                database.usage.add(Batch({entry(START + number * MINUTE, key.id): 1 for key in keys}))
            except StoreUnavailable:
                continue

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for key in keys * 4:
            database.change(key.id, lambda k: Change(k, event_of(k, KeyUpdated)))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert len(database.list_events()) == 25
    assert all(key.last_used_at is not None for key in map(database.find_key, [key.id for key in keys]) if key)


def test_add_of_two_workers_at_midnight(database: SqlStore) -> None:
    """One used these keys before and those after it, the other those before and these after: no row is in both days."""
    keys = [new_key() for _ in range(200)]
    database.add(map(issued, keys))
    ids = sorted(key.id for key in keys)
    barrier, errors = threading.Barrier(2), []

    def count(before: list[str], after: list[str]) -> None:
        for day in range(1, 31):
            midnight = START.replace(hour=0) + day * DAY
            barrier.wait(30)
            try:
                batch = {entry(midnight - MINUTE, key_id): 1 for key_id in before}
                database.usage.add(Batch({**batch, **{entry(midnight, key_id): 1 for key_id in after}}))
            except StoreUnavailable as error:
                errors.append(error)

    threads = [
        threading.Thread(target=count, args=halves) for halves in ((ids[:100], ids[100:]), (ids[100:], ids[:100]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = [database.find_key(key_id) for key_id in ids]
    assert {key.last_used_at for key in found if key} == {START.replace(hour=0) + 30 * DAY}


def test_copy_of_an_older_database_is_upgraded(tmp_path: Path) -> None:
    """From the revision before this one, with keys in it."""
    from alembic import command
    from alembic.config import Config

    from keydesk.stores import migration

    store = SqlStore(open_engine(f"sqlite:///{tmp_path}/keys.db"), ManualClock(), own=True)
    store.upgrade()
    key = new_key()
    store.add([issued(key)])
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    with store.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    store.close()
    shutil.copy(tmp_path / "keys.db", tmp_path / "copy.db")
    copy = SqlStore(open_engine(f"sqlite:///{tmp_path}/copy.db"), ManualClock(), own=True)
    assert copy.upgrade() == ("0001", REVISIONS[-1])
    assert copy.find_key(key.id) == key
    copy.usage.add(Batch({entry(START, key.id): 1}))
    found = copy.find_key(key.id)
    assert found is not None
    assert found.last_used_at == START
    copy.close()


def test_counts_of_an_owner(store: Any, counted: UsageStore) -> None:
    keys = [new_key(owner=owner) for owner in ("acme", "other", None, "acme", "ACME")]
    store.add(map(issued, keys))
    counted.add(Batch({entry(START, key.id): place + 1 for place, key in enumerate(keys)}))
    assert [each.count for each in counted.counts(around(), None, "acme")] == [1 + 4]
    assert [each.count for each in counted.counts(around(), keys[0].id, "acme")] == [1]
    assert counted.counts(around(), keys[1].id, "acme") == []
    for owner in ("acm", "acme ", "%", "\0", "\ud800", ""):
        assert counted.counts(around(), None, owner) == [], owner
