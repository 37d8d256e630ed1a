"""`check_chain` finds what somebody did to the rows, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from keydesk.errors import StoreUnavailable
from keydesk.ports import Change
from keydesk.stores.engines import open_engine
from keydesk.stores.sql import SqlStore
from keydesk.testing import START, ManualClock, new_key
from keydesk.testing.stores import issued

EVENTS = 6


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    kind = request.param
    url = f"sqlite:///{tmp_path}/keys.db" if kind == "sqlite" else request.getfixturevalue(f"{kind}_url")
    store = SqlStore(open_engine(url), ManualClock(), own=True)
    store.upgrade()
    store.add(issued(new_key(name=f"key {n}", owner="acme"), reason="none", n=n) for n in range(EVENTS))
    yield store
    store.close()


def change_column(column: str, value: object) -> Callable[[Connection], Any]:
    return lambda c: c.execute(text(f"UPDATE keydesk_events SET {column} = :v WHERE number = 3"), {"v": value})


def run(*statements: str) -> Callable[[Connection], Any]:
    return lambda c: [c.execute(text(statement)) for statement in statements]


COPY = (
    "INSERT INTO keydesk_events SELECT {number}, kind, at, actor, key_id, owner, details, previous_hash, hash "
    "FROM keydesk_events WHERE number = {of}"
)
SWAP = (
    "UPDATE keydesk_events SET number = 99 WHERE number = 3",
    "UPDATE keydesk_events SET number = 3 WHERE number = 4",
    "UPDATE keydesk_events SET number = 4 WHERE number = 99",
)
TAMPERINGS: dict[str, tuple[Callable[[Connection], Any], int, str]] = {
    "number": (change_column("number", 77), 3, "removed"),
    "kind": (change_column("kind", "key.revoked"), 3, "changed"),
    "kind of no class": (change_column("kind", ""), 3, "changed"),
    "at": (change_column("at", START + timedelta(microseconds=1)), 3, "changed"),
    "actor": (change_column("actor", "python "), 3, "changed"),
    "key_id": (change_column("key_id", "key_" + "0" * 28), 3, "changed"),
    "owner": (change_column("owner", "ACME"), 3, "changed"),
    "owner to none": (change_column("owner", None), 3, "changed"),
    "details": (change_column("details", '{"n":2,"reason":"leaked"}'), 3, "changed"),
    "details to no mapping": (change_column("details", "[]"), 3, "changed"),
    "details to no JSON": (change_column("details", "{"), 3, "changed"),
    "details nested without end": (change_column("details", "[" * 5000), 3, "changed"),
    "previous_hash": (change_column("previous_hash", "0" * 64), 3, "does not follow"),
    "hash": (change_column("hash", "f" * 64), 3, "changed"),
    "first removed": (run("DELETE FROM keydesk_events WHERE number = 1"), 1, "event 1 was removed"),
    "middle removed": (run("DELETE FROM keydesk_events WHERE number = 3"), 3, "event 3 was removed"),
    "two removed": (run("DELETE FROM keydesk_events WHERE number IN (3, 4)"), 3, "event 3 was removed"),
    "last removed": (run("DELETE FROM keydesk_events WHERE number = 6"), 6, "event 6 was removed"),
    "all removed": (run("DELETE FROM keydesk_events"), 1, "event 1 was removed"),
    "inserted before the first": (run(COPY.format(number=0, of=1)), 0, "event 0 was inserted"),
    "inserted far before": (run(COPY.format(number=-5, of=1)), -5, "event -5 was inserted"),
    "inserted after the last": (run(COPY.format(number=7, of=6)), 7, "event 7 was inserted"),
    "inserted far after": (run(COPY.format(number=70, of=6)), 7, "inserted"),
    "swapped": (run(*SWAP), 3, "does not follow"),
    "head's number": (run("UPDATE keydesk_chain_head SET number = 7"), 7, "removed"),
    "head's number back": (run("UPDATE keydesk_chain_head SET number = 5"), 5, "head"),
    "head's hash": (lambda c: c.execute(text("UPDATE keydesk_chain_head SET hash = :h"), {"h": "f" * 64}), 6, "head"),
    "head removed": (run("DELETE FROM keydesk_chain_head"), 1, "head"),
}


def test_check_chain_finds_each(store: SqlStore) -> None:
    def snapshot() -> list[list[dict[str, Any]]]:
        with store.engine.connect() as connection:
            return [
                [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]
                for table in ("keydesk_events", "keydesk_chain_head")
            ]

    def restore(rows: list[list[dict[str, Any]]]) -> None:
        with store.engine.begin() as connection:
            for table, content in zip(("keydesk_events", "keydesk_chain_head"), rows, strict=True):
                connection.execute(text(f"DELETE FROM {table}"))
                names = list(content[0])
                values = ", ".join(f":{name}" for name in names)
                connection.execute(text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"), content)

    untouched = snapshot()
    assert store.check_chain().problem is None
    for name, (tamper, at, words) in TAMPERINGS.items():
        with store.engine.begin() as connection:
            if name == "at" and store.engine.dialect.name != "postgresql":
                connection.execute(text("UPDATE keydesk_events SET at = '2026-01-01 12:00:00.000001' WHERE number = 3"))
            else:
                tamper(connection)
        report = store.check_chain()
        assert report.problem is not None, name
        assert words in report.problem, (name, report.problem)
        assert report.broken_at == at, (name, report)
        restore(untouched)
        assert store.check_chain().problem is None, name


def test_check_chain_unreadable_time_on_sqlite(tmp_path: Path) -> None:
    store = SqlStore(open_engine(f"sqlite:///{tmp_path}/keys.db"), ManualClock(), own=True)
    store.add(issued(new_key()) for _ in range(3))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE keydesk_events SET at = 'yesterday' WHERE number = 2"))
    try:
        assert store.check_chain().broken_at == 2
    finally:
        store.close()


def test_check_chain_rewritten_whole_shows_in_the_head(store: SqlStore) -> None:
    """Somebody who may write everything can write another chain; a head noted down elsewhere shows it."""
    before = store.check_chain()
    assert (before.head_number, before.rows) == (EVENTS, EVENTS)
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM keydesk_events"))
        connection.execute(text("DELETE FROM keydesk_chain_head"))
    store.add(issued(new_key()) for _ in range(EVENTS))
    after = store.check_chain()
    assert after.problem is None
    assert after.head_number == before.head_number
    assert after.head_hash != before.head_hash


def test_append_after_the_head_was_removed_is_refused(store: SqlStore) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM keydesk_chain_head"))
    with pytest.raises(StoreUnavailable, match="keydesk events --verify") as caught:
        store.add([issued(new_key())])
    assert "chain of events is damaged" in str(caught.value)
    assert "does not answer" not in str(caught.value)
    with store.engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM keydesk_keys")).scalar() == EVENTS


@pytest.mark.parametrize("many", [False, True])
def test_change_behind_the_rows_is_refused(store: SqlStore, many: bool) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE keydesk_chain_head SET number = 3"))
        (key_id,) = connection.execute(text("SELECT min(id) FROM keydesk_keys")).one()
    _, event = issued(new_key())

    def write() -> None:
        if many:  # in batches, in a thread
            store.add(issued(new_key()) for _ in range(4001))
        else:
            store.change(key_id, lambda before: Change(before, event))

    with pytest.raises(StoreUnavailable, match="chain of events is damaged"):
        write()
    with store.engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM keydesk_keys")).scalar() == EVENTS


HEADS = {
    "removed": ("DELETE FROM keydesk_chain_head", "keydesk_chain_head has no row"),
    "set back": ("UPDATE keydesk_chain_head SET number = 4", "the head was removed or set back"),
    "set to nothing": ("UPDATE keydesk_chain_head SET number = 0", "the head was removed or set back"),
}


def test_checks_find_a_head_behind_the_rows_and_mend_it(store: SqlStore) -> None:
    assert [check.passed for check in store.checks()] == [True, True]
    for name, (tampering, words) in HEADS.items():
        with store.engine.begin() as connection:
            connection.execute(text(tampering))
        (check,) = [check for check in store.checks() if check.name == "events"]
        assert check.passed is False, name
        assert words in check.found, (name, check.found)
        assert "keydesk events --verify" in check.fix
        (statement,) = [line for line in check.fix.splitlines() if line.endswith(";")]
        with store.engine.begin() as connection:
            connection.execute(text(statement.removesuffix(";")))
        assert [check.passed for check in store.checks()] == [True, True], name
        assert store.check_chain().problem is None, name
    store.add([issued(new_key())])


def test_checks_find_a_head_beside_the_rows(store: SqlStore) -> None:
    for tampering, words in (
        ("DELETE FROM keydesk_events WHERE number = 6", "events were removed"),
        ("UPDATE keydesk_chain_head SET number = 5, hash = 'x'", "the hash of event 5"),
    ):
        with store.engine.begin() as connection:
            connection.execute(text(tampering))
        (check,) = [check for check in store.checks() if check.name == "events"]
        assert check.passed is False
        assert words in check.found
        assert "keydesk events --verify" in check.fix


def test_check_chain_while_others_append(store: SqlStore) -> None:
    stop, problems, checked = threading.Event(), [], 0

    def append() -> None:
        while not stop.is_set():
            store.add([issued(new_key())])

    writers = [threading.Thread(target=append) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        while checked < 30:
            report = store.check_chain()
            problems += [report.problem] if report.problem else []
            checked += 1
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert problems == []
    assert store.position().number > EVENTS
