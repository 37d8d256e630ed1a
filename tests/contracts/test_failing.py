"""Servers that go away, connections that die, forks, full pools and locked files: nothing lost, nothing stale."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import QueuePool

from keydesk import Desk, Reason, open_desk
from keydesk.errors import KeydeskError, StoreUnavailable
from keydesk.stores import engines
from keydesk.stores.engines import transaction
from keydesk.stores.sql import SqlStore
from keydesk.testing.stores import all_events

from .. import servers
from .processes import run_together, start


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path}/keys.db"
    else:
        found = str(request.getfixturevalue(f"{request.param}_url"))
    upgraded(found)
    return found


def upgraded(url: str) -> None:
    desk = open_desk({"KEYDESK_STORE": url})
    assert isinstance(desk.store, SqlStore)
    desk.store.upgrade()
    desk.close()


@pytest.fixture
def desk(url: str) -> Iterator[Desk]:
    desk = open_desk({"KEYDESK_STORE": url})
    yield desk
    desk.close()


# Several processes


def test_processes_issue_at_once(url: str) -> None:
    run_together([start("issue", url, "15") for _ in range(2)])
    desk = open_desk({"KEYDESK_STORE": url})
    assert len(all_events(desk.store)) == len(desk.list_keys().keys) == 30  # type: ignore[arg-type]
    desk.close()


def test_processes_change_one_key_at_once(url: str, desk: Desk) -> None:
    key = desk.issue(name="counted", description="0").key
    run_together([start("count_up", url, key.id, "15") for _ in range(2)])
    after = desk.get_key(key.id)
    assert (after.description, after.version) == ("30", 31)
    assert len(all_events(desk.store)) == 31  # type: ignore[arg-type]


def test_first_appends_of_processes_at_once(url: str) -> None:
    """The row all appends lock is not there before the first."""
    run_together([start("issue", url, "1") for _ in range(4)])
    desk = open_desk({"KEYDESK_STORE": url})
    assert len(all_events(desk.store)) == 4  # type: ignore[arg-type]
    desk.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_use(url: str) -> None:
    assert run_together([start("fork", url)]) == ["42"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_whose_parent_closes_its_desk(url: str) -> None:
    """SQLite removes its log with the last connection: with inherited locks, the child's would not count as one."""
    run_together([start("fork_and_close", url)])
    desk = open_desk({"KEYDESK_STORE": url})
    names = [key.name for key in desk.list_keys().keys]
    assert names == ["after the parent closed it", "while both use it", "before"]
    assert desk.usage().totals() == {"allowed": 1}
    desk.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_waits_for_what_another_thread_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the thread of the meter does. The child would have its lock of SQLite, and nobody who gives it back."""
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 0.1)
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path}/keys.db"})
    store = desk.store
    assert isinstance(store, SqlStore)
    secret = desk.issue(name="x").secret
    began, asked = threading.Event(), threading.Event()

    def write() -> None:
        with transaction(store.engine) as connection:
            connection.execute(text("UPDATE keydesk_keys SET description = 'written'"))
            began.set()
            asked.wait(10)

    pool = store.engine.pool
    assert isinstance(pool, QueuePool)
    checkedout = pool.checkedout
    monkeypatch.setattr(pool, "checkedout", lambda: [asked.set(), checkedout()][1])
    thread = threading.Thread(target=write)
    thread.start()
    assert began.wait(10)
    child = os.fork()
    if not child:
        status = 1
        try:
            desk.verify(secret)
            desk.issue(name="by the child")
            desk.close()
            status = 0
        finally:
            os._exit(status)
    asked.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert desk.usage().totals() == {"allowed": 1}
    assert {key.description for key in desk.list_keys(text="x").keys} == {"written"}
    desk.close()


# A server that goes away


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_server_goes_away_and_comes_back(kind: str, own_server: Callable[[str], servers.Server]) -> None:
    server = own_server(kind)
    admin = create_engine(server.url("postgres" if kind == "postgres" else "mysql"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE keys_away"))
    admin.dispose()
    url = server.url("keys_away")
    upgraded(url)
    desk = open_desk({"KEYDESK_STORE": url, "KEYDESK_CACHE_KEYS": 0})
    store = desk.store
    assert isinstance(store, SqlStore)
    issued = desk.issue(name="there before")
    old = issued.key.secrets[0].digest

    calls: list[Callable[[], object]] = [
        lambda: store.find_by_digest([old]),
        lambda: desk.get_key(issued.key.id),
        lambda: desk.list_keys(),
        lambda: desk.list_events(),
        lambda: desk.check_chain(),
        store.position,
        lambda: desk.issue(name="another"),
        lambda: desk.update(issued.key.id, description=os.urandom(4).hex()),
        lambda: store.redigest("1" * 64, "2" * 64, ""),
        lambda: list(desk.prune(ended_for=timedelta(0))),
        lambda: store.upgrade(),
    ]
    with_many = [store.engine.connect() for _ in range(4)]  # so that the pool holds several that will die
    for connection in with_many:
        connection.close()
    for first in calls[:-1]:  # each in its turn is the first after the restart
        server.stop()
        server.start()
        first()
    server.stop()
    for call in calls:
        with pytest.raises(StoreUnavailable) as caught:
            call()
        for words in (str(caught.value), repr(caught.value)):
            assert servers.PASSWORD not in words
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE
    assert store.checks()[0].passed is False
    server.start()
    assert desk.verify(issued.secret).allowed
    assert desk.issue(name="after").key.name == "after"
    all_events(store)
    desk.close()


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_connection_killed_while_a_change_is_decided_loses_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    from sqlalchemy.pool import NullPool

    url = request.getfixturevalue(f"{kind}_url")
    upgraded(url)
    desk = open_desk({"KEYDESK_STORE": url})
    key = desk.issue(name="there before").key
    admin = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def decide(_: object) -> None:
        with admin.connect() as connection:
            if kind == "postgres":
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
            else:
                mine = connection.execute(text("SELECT CONNECTION_ID()")).scalar()
                rows = connection.execute(text("SELECT id, db FROM information_schema.processlist")).all()
                for number, database in rows:
                    if database == make_url(url).database and number != mine:
                        connection.execute(text(f"KILL {number}"))
        raise_from_database()

    def raise_from_database() -> None:
        from keydesk.events import KeyUpdated
        from keydesk.ports import Change

        event = KeyUpdated(at=key.updated_at, actor="x", key_id=key.id, owner=None, details={})
        changes.append(Change(key, event))

    changes: list[object] = []

    def decide_and_return(before: object) -> object:
        decide(before)
        return changes[-1]

    with pytest.raises(StoreUnavailable):
        desk.store.change(key.id, decide_and_return)  # type: ignore[attr-defined]
    assert desk.get_key(key.id) == key
    assert len(all_events(desk.store)) == 1  # type: ignore[arg-type]
    admin.dispose()
    desk.close()


def test_no_such_server_is_unavailable_and_tells_no_password() -> None:
    port = servers._free_port()
    for scheme in ("postgresql+psycopg", "mysql+pymysql", "postgresql", "mysql", "mariadb"):
        query = "?application_name=x" if scheme.startswith("postgres") else ""
        desk = open_desk({"KEYDESK_STORE": f"{scheme}://someone:{servers.PASSWORD}@127.0.0.1:{port}/keys{query}"})
        with pytest.raises(StoreUnavailable) as caught:
            desk.issue(name="x")
        assert servers.PASSWORD not in str(caught.value)
        assert f"127.0.0.1:{port}" in str(caught.value)
        (check,) = desk.store.checks()
        assert check.passed is False
        assert servers.PASSWORD not in repr(check)
        assert "does not answer" in check.found
        assert "keydesk doctor" not in check.found + check.fix  # which shows this
        assert "start the database server" in check.fix
        assert "KEYDESK_STORE" in check.fix
        assert "Run `keydesk doctor`" in str(caught.value)
        desk.close()


def test_password_in_the_query_of_the_url_is_not_told() -> None:
    port = servers._free_port()
    desk = open_desk({"KEYDESK_STORE": f"postgresql://someone@127.0.0.1:{port}/keys?password={servers.PASSWORD}"})
    with pytest.raises(StoreUnavailable) as caught:
        desk.issue(name="x")
    assert servers.PASSWORD not in str(caught.value)
    assert servers.PASSWORD not in repr(desk.store.checks())
    desk.close()


# Waiting in vain


def test_pool_exhausted_is_unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CONNECT_SECONDS", 0.2), ("POOL_CONNECTIONS", 1), ("POOL_OVERFLOW", 1)):
        if name != "CONNECT_SECONDS" or url.startswith("sqlite"):
            monkeypatch.setattr(engines, name, value)
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 1)
    first = open_desk({"KEYDESK_STORE": url})
    issued = first.issue(name="there before")
    first.close()
    desk = open_desk({"KEYDESK_STORE": url, "KEYDESK_CACHE_KEYS": 0})  # has no connection yet
    assert isinstance(desk.store, SqlStore)
    held = [desk.store.engine.raw_connection() for _ in range(2)]
    with pytest.raises(StoreUnavailable, match="does not answer"):
        desk.list_keys()
    if url.startswith("sqlite"):
        assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE
    else:  # requests have connections of their own to a server
        assert desk.verify(issued.secret).allowed
    for connection in held:
        connection.close()
    assert desk.verify(issued.secret).allowed
    desk.close()


def test_locked_sqlite_is_unavailable_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 0.2)
    path = tmp_path / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    issued = desk.issue(name="there before")
    process = start("lock_sqlite", str(path))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for call in (
        lambda: desk.issue(name="x"),
        lambda: desk.revoke(issued.key.id),
        lambda: desk.store.redigest(issued.key.secrets[0].digest, "0" * 64, ""),  # type: ignore[attr-defined]
    ):
        with pytest.raises(StoreUnavailable, match="locked"):
            call()
    assert desk.verify(issued.secret).allowed  # reading goes on: the write-ahead log
    process.communicate("go\n", timeout=20)
    desk.issue(name="after")
    assert {key.name for key in desk.list_keys().keys} == {"there before", "after"}
    assert len(all_events(desk.store)) == 2  # type: ignore[arg-type]
    desk.close()


def test_locked_sqlite_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    desk.issue(name="there before")
    process = start("lock_sqlite", str(path))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert process.stdin is not None
    import threading

    timer = threading.Timer(0.2, lambda: process.communicate("go\n"))
    timer.start()
    desk.issue(name="after")
    timer.join()
    assert process.wait(10) == 0
    desk.close()


@pytest.mark.parametrize("place", ["a folder", "below a file", "no database"])
def test_sqlite_file_that_cannot_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("this is no database, " * 100)
    path = {"a folder": tmp_path, "below a file": tmp_path / "file" / "keys.db", "no database": tmp_path / "file"}[
        place
    ]
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    with pytest.raises(StoreUnavailable, match="does not answer"):
        desk.issue(name="x")
    (check,) = desk.store.checks()
    assert check.passed is False
    assert str(path) in check.fix
    assert "keydesk doctor" not in check.found + check.fix
    desk.close()


def test_application_engine_that_does_not_answer_is_the_applications_to_mend() -> None:
    engine = create_engine(f"postgresql+psycopg://someone@127.0.0.1:{servers._free_port()}/keys")
    (check,) = SqlStore(engine, open_desk({"KEYDESK_STORE": "memory://"}).clock).checks()
    assert "the application's engine" in check.fix
    engine.dispose()


def test_sqlite_file_removed_while_open(tmp_path: Path) -> None:
    """What was written into a removed file is lost with it; what matters is that nobody gets in and it says so."""
    path = tmp_path / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    issued = desk.issue(name="there before")
    desk.close()
    path.unlink()
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    assert desk.verify(issued.secret).reason is Reason.INVALID
    desk.close()


def test_errors_of_the_database_are_keydesk_errors(desk: Desk) -> None:
    """Whatever the tables have become."""
    assert isinstance(desk.store, SqlStore)
    issued = desk.issue(name="there before")
    with desk.store.engine.begin() as connection:
        connection.execute(text("DROP TABLE keydesk_secrets"))
    for call in (lambda: desk.get_key(issued.key.id), lambda: desk.list_keys(), lambda: desk.issue(name="x")):
        with pytest.raises(KeydeskError) as caught:
            call()
        assert issued.key.secrets[0].digest not in str(caught.value)
    assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE


if sys.platform == "linux":

    def test_application_engine_is_replaced_in_a_fork(tmp_path: Path) -> None:
        engine = create_engine(f"sqlite:///{tmp_path}/app.db")
        store = SqlStore(engine, open_desk({"KEYDESK_STORE": "memory://"}).clock)
        store.upgrade()
        store.position()
        pool = engine.pool
        child = os.fork()
        if not child:
            os._exit(0 if engine.pool is not pool else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert engine.pool is pool
        engine.dispose()


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_server_away_keeps_what_was_counted(kind: str, own_server: Callable[[str], servers.Server]) -> None:
    server = own_server(kind)
    url = server.url("postgres" if kind == "postgres" else "mysql")
    upgraded(url)
    desk = open_desk({"KEYDESK_STORE": url, "KEYDESK_USAGE_FLUSH_SECONDS": 3600})
    issued = desk.issue(name="there before")
    assert desk.meter is not None
    desk.verify(issued.secret)
    desk.meter.flush()
    now = desk.clock.now()
    server.stop()
    for _ in range(3):
        desk.meter.count(issued.key.id, "allowed", now)
        desk.meter.flush()
    server.start()
    desk.meter.flush()  # on a connection that died in the meantime; what it could not write it keeps
    desk.meter.flush()
    assert desk.usage().totals() == {"allowed": 4}
    desk.close()
