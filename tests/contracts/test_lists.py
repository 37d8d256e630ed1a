"""Lists of a SQL store say what a list of all keys in memory says, and one call looks at a bounded number of keys."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text, update

from keydesk.keys.record import Key, Status, mint_key_ids
from keydesk.keys.scopes import Scopes
from keydesk.ports import KeyFilter, KeyStore, every_key
from keydesk.stores import listing
from keydesk.stores.engines import open_engine
from keydesk.stores.memory import MemoryStore
from keydesk.stores.schema import keys
from keydesk.stores.sql import SqlStore
from keydesk.testing import ManualClock, new_key
from keydesk.testing.clock import START
from keydesk.testing.plans import new_plan, put_plan
from keydesk.testing.stores import issued

DAY = timedelta(days=1)
LOOKED_AT = 3
SINCE = START - 5 * DAY
FEW, MANY = 500, 1500


@pytest.fixture(scope="module")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with tables, to be copied: that is faster than making them for each test."""
    path = tmp_path_factory.mktemp("migrated") / "keys.db"
    store = SqlStore(open_engine(f"sqlite:///{path}"), ManualClock(), own=True)
    store.upgrade()
    store.close()
    return path


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def store(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path, migrated_file: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        url = f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'keys.db')}"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    store = SqlStore(open_engine(url), clock, own=True)
    store.upgrade()
    yield store
    store.close()


def one_of_each() -> list[Key]:
    """Return a key of each owner, plan, scope, status and use, in no order that any filter knows."""
    states: tuple[dict[str, Any], ...] = (
        {},
        {"expires_at": START + DAY},
        {"expires_at": START - DAY},
        {"disabled_at": START},
        {"revoked_at": START},
        {"disabled_at": START, "revoked_at": START, "expires_at": START - DAY},
    )
    fields = product((None, "acme"), (None, "gold"), ((), ("a:b",)), (None, SINCE - DAY, START), states)
    made = [
        new_key(id=key_id, owner=owner, plan=plan, scopes=Scopes(scopes), last_used_at=used, name=f"n{place}", **state)
        for place, (key_id, (owner, plan, scopes, used, state)) in enumerate(
            zip(mint_key_ids(START), fields, strict=False)
        )
    ]
    return [
        key if place % 5 else new_key(**{**fields_of(key), "created_at": SINCE - DAY}) for place, key in enumerate(made)
    ]


def fields_of(key: Key) -> dict[str, Any]:
    return {name: getattr(key, name) for name in Key.__dataclass_fields__}


def filters() -> Iterator[KeyFilter]:
    """Yield filters of no condition, of each one, of each two and of all six."""
    conditions: tuple[dict[str, Any], ...] = (
        {"owner": "acme"},
        {"plan": "gold"},
        {"scope": "a:b"},
        {"text": "N1"},
        {"idle_since": SINCE},
        *({"status": status} for status in Status),
    )
    for one, other in combinations(({}, {}, *conditions), 2):
        if not one or one.keys() != other.keys():
            yield KeyFilter(**one, **other)
    for status in Status:
        yield KeyFilter(owner="acme", plan="gold", status=status, scope="a:b", text="N1", idle_since=SINCE)


def fill(store: Any, given: list[Key]) -> None:
    put_plan(store, new_plan(scopes=Scopes(["a:*"])))
    store.add([issued(key) for key in given])


def ids(store: KeyStore, where: KeyFilter, *, size: int) -> list[str]:
    return [key.id for key in every_key(store, where, size=size)]


def test_every_filter_finds_what_it_finds_in_memory(
    store: SqlStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few keys one call looks at: no key is left out, and none comes twice."""
    expected, given = MemoryStore(clock), one_of_each()
    fill(expected, given)
    fill(store, given)
    monkeypatch.setattr(listing, "KEYS_LOOKED_AT", 20)
    for where in filters():
        assert ids(store, where, size=7) == ids(expected, where, size=1000), where


def test_a_page_that_looked_at_enough_says_where_to_go_on(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "KEYS_LOOKED_AT", LOOKED_AT)
    oldest, *others = (new_key(id=key_id) for key_id in some_ids(8))
    store.add([issued(key) for key in (oldest, *others)])
    where, pages, cursor = KeyFilter(text=oldest.id), 1, None
    while not (page := store.list_keys(where, cursor=cursor)).keys:
        assert page.next_cursor is not None
        cursor, pages = page.next_cursor, pages + 1
    assert page.keys == (oldest,)
    assert page.next_cursor is None
    assert pages == 3


def some_ids(count: int) -> list[str]:
    return [key_id for _, key_id in zip(range(count), mint_key_ids(START), strict=False)]


def test_status_of_keys_that_were_changed_by_hand(store: SqlStore) -> None:
    key_id, other = some_ids(2)
    store.add([issued(new_key(id=key_id)), issued(new_key(id=other))])
    with store.engine.begin() as connection:
        connection.execute(update(keys).where(keys.c.id == key_id).values(revoked_at=START))
    assert ids(store, KeyFilter(status=Status.REVOKED), size=10) == [key_id]
    assert ids(store, KeyFilter(status=Status.ACTIVE), size=10) == [other]


def test_import_leaves_statistics(store: SqlStore) -> None:
    """Without them PostgreSQL reads the whole table for most filters."""
    store.add([issued(new_key(id=key_id, owner="acme")) for key_id in some_ids(2000)])
    if store.engine.dialect.name == "postgresql":
        known = text("SELECT count(*) FROM pg_stats WHERE tablename = 'keydesk_keys' AND attname = 'stopped'")
        with store.engine.connect() as connection:
            assert connection.execute(known).scalar() == 1


# What a page costs: steps of SQLite's machine, which are the same in every run.


def large(path: Path, count: int, **changes: Any) -> SqlStore:
    """Return a store of so many keys, of which the oldest is unlike the others."""
    store = SqlStore(open_engine(f"sqlite:///{path}"), ManualClock(), own=True)
    put_plan(store, new_plan())
    put_plan(store, new_plan("silver", scopes=Scopes()))
    first, *rest = some_ids(count)
    oldest = new_key(id=first, owner="solo", plan="silver", name="needle")
    usual = {"owner": "acme", "plan": "gold", "last_used_at": START, **changes}
    store.add([issued(oldest), *(issued(new_key(id=key_id, **usual)) for key_id in rest)])
    return store


def steps(store: SqlStore, where: KeyFilter, size: int) -> int:
    """Return how many tens of steps SQLite takes for the first page."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    def watch(connection: Any, *_: object) -> None:
        connection.set_progress_handler(step, 10)

    store.list_keys(where, size=size)  # what is asked before the first page of a store is asked once
    event.listen(store.engine, "checkout", watch)
    try:
        store.list_keys(where, size=size)
    finally:
        event.remove(store.engine, "checkout", watch)
    with store.engine.connect() as connection:
        connection.connection.driver_connection.set_progress_handler(None, 0)  # type: ignore[union-attr]
    return taken


OTHERS: tuple[dict[str, Any], ...] = (
    {},
    {"revoked_at": START},
    {"disabled_at": START},
    {"expires_at": START - DAY},
    {"expires_at": START + DAY},
)


@pytest.mark.parametrize("changes", OTHERS, ids=["active", "revoked", "disabled", "expired", "ending"])
def test_first_page_costs_the_same_among_three_times_as_many_keys(
    changes: dict[str, Any], tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With any one or two conditions, whether no key, the oldest one or all keys meet them."""
    monkeypatch.setattr(listing, "KEYS_LOOKED_AT", 50)
    conditions: tuple[dict[str, Any], ...] = (
        *({"owner": owner} for owner in ("acme", "nobody")),
        *({"plan": plan} for plan in ("gold", "bare")),
        *({"status": status} for status in Status),
        *({"text": words} for words in ("needle", "nothing")),
        {"scope": "x:y"},
        *({"idle_since": since} for since in (START - DAY, START)),
    )
    stores = [large(shutil.copy(migrated_file, tmp_path / f"{count}.db"), count, **changes) for count in (FEW, MANY)]
    dear = {}
    for one, other in combinations(({}, *conditions), 2):
        if one.keys() != other.keys():
            where = KeyFilter(**one, **other)
            few, many = (steps(store, where, 10) for store in stores)
            if many > few * 1.1 + 10:
                dear[where] = (few, many)
    for store in stores:
        store.close()
    assert dear == {}
