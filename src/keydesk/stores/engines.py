"""Room stores: connections. How each database is opened, asked on the path of a request, and given up on."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool, Pool, QueuePool, SingletonThreadPool, StaticPool

from ..errors import SettingsError, StoreUnavailable
from ..private_files import make_private

T = TypeVar("T")

CONNECT_SECONDS = 5  # to reach a server, to be given a connection of the pool, and to wait for SQLite's lock
ANSWER_SECONDS = 2  # the longest a request waits for an answer of a server, and then for a connection to it
FORK_SECONDS = 1  # the longest a fork waits for what other threads have begun
POOL_CONNECTIONS = 5
POOL_OVERFLOW = 50

_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_SEE_MORE = "Run `keydesk doctor` to see more."
_EXTRAS = {"psycopg": "postgres", "pymysql": "mysql"}


def open_engine(text: str) -> Engine:
    """Return an engine for a database URL. Nothing is connected to yet.

    Raises:
        SettingsError: The URL cannot be read, names a database Keydesk does not work with, or its driver is missing.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise SettingsError(
            ["KEYDESK_STORE is no database URL; write for example sqlite:////var/lib/app/keydesk.db"]
        ) from None
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise SettingsError(
            [f"KEYDESK_STORE names the database {backend!r}; use sqlite, postgresql+psycopg or mysql+pymysql"]
        )
    if "+" not in url.drivername:
        url = url.set(drivername=f"{backend}+{_DRIVERS[backend]}")
    elif url.get_driver_name() != _DRIVERS[backend]:
        # Others may be asynchronous, or know a broken connection by other signs: none is tested.
        raise SettingsError(
            [f"KEYDESK_STORE names the driver {url.get_driver_name()!r}; write {backend}+{_DRIVERS[backend]}://..."]
        )
    return _open_sqlite(url) if backend == "sqlite" else _open_server(url)


def _open_server(url: URL) -> Engine:
    try:
        # Reads are single statements: without autocommit each would cost a BEGIN and a ROLLBACK of its own.
        return create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": CONNECT_SECONDS},
            pool_size=POOL_CONNECTIONS,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,  # the path of a request keeps connections of its own, see reading.py
        )
    except ModuleNotFoundError:
        extra = _EXTRAS[url.get_driver_name()]
        raise SettingsError(
            [f"KEYDESK_STORE needs the driver {url.get_driver_name()}; install it: pip install 'keydesk[{extra}]'"]
        ) from None


def for_requests(engine: Engine) -> Engine:
    """Return an engine of ours to the same database, whose connections give up on a server that does not answer.

    Others wait for as long as it takes: an import, or a change behind one. SQLite is in this process, and waits for
    nobody when it reads.
    """
    if engine.dialect.name == "sqlite":
        return engine
    timeouts = {"connect_timeout": ANSWER_SECONDS}
    if engine.driver == "pymysql":
        timeouts |= {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    bounded = create_engine(engine.url, isolation_level="AUTOCOMMIT", connect_args=timeouts, poolclass=NullPool)
    if engine.driver == "psycopg":
        # Before SQLAlchemy asks its own questions of the first connection.
        event.listen(bounded, "connect", _bound_waits, insert=True)
    return bounded


def _bound_waits(connection: Any, _record: object) -> None:
    """Give a connection of psycopg an end to its waits, for which it has no setting: libpq waits for ever."""
    connection.wait = partial(connection.wait, timeout=ANSWER_SECONDS)


def _open_sqlite(url: URL) -> Engine:
    if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
        raise SettingsError(["KEYDESK_STORE names a SQLite database in memory; use memory:// instead"])
    engine = create_engine(
        url,
        connect_args={"timeout": CONNECT_SECONDS},
        pool_size=POOL_CONNECTIONS,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=CONNECT_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # FULL, not NORMAL: a revoke that was confirmed must survive a power cut.
        _write_ahead(connection)
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging, once in its life.

    SQLite does not wait for its lock here: of two processes that open a new file at once, one is told that it is
    locked. So it is asked again, for as long as it would have waited.
    """
    pause, attempts = 0.02, max(1, int(CONNECT_SECONDS / 0.02))
    for attempt in range(1, attempts + 1):
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError:
            if attempt == attempts:
                raise
            threading.Event().wait(pause)
        else:
            return


def is_in_memory(engine: Engine) -> bool:
    """Return whether a SQLite database is in memory, as that of an application's tests can be.

    It is there for one connection only: threads share it, and the transaction of whoever uses it, or do not see it.
    """
    return isinstance(engine.pool, (StaticPool, SingletonThreadPool))


def sqlite_file(engine: Engine) -> Path | None:
    """Return the absolute path of a SQLite database; None of any other."""
    name = engine.url.database or ""
    if engine.dialect.name != "sqlite" or not name:
        return None
    if name.startswith("file:") and "uri" in engine.url.query:
        name = unquote(urlsplit(name).path)
    return Path(name).absolute()


def create_sqlite_file(engine: Engine) -> None:
    """Make the file of a SQLite database, and its folder, readable by their owner only, unless they are there.

    Raises:
        StoreUnavailable: They cannot be made.
    """
    path = Path(engine.url.database or "")
    if not path.name or str(path).startswith("file:"):  # in memory, or a URI whose owner knows why
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(path)
    except OSError as error:
        raise unavailable(engine, error) from None


def leave_pool(engine: Engine) -> Pool:
    """Give an engine a new pool, and return the old one with its connections still open."""
    inherited = engine.pool
    engine.dispose(close=False)
    return inherited


def close_pool(engine: Engine) -> None:
    """Close the connections of a SQLite engine of ours before a fork, once nobody uses them: the meter's thread, say.

    A transaction that goes on during the fork would hold its lock in the child, where nobody ends it.
    """
    pool, pause = engine.pool, 0.001
    assert isinstance(pool, QueuePool)
    for _ in range(int(FORK_SECONDS / pause)):
        if not pool.checkedout():
            break
        threading.Event().wait(pause)
    engine.dispose()


@contextmanager
def answering(engine: Engine) -> Iterator[None]:
    """Turn what a database that does not answer raises into `StoreUnavailable`, without the statement's values.

    Raises:
        StoreUnavailable: The database refused, broke off or did not answer in time.
    """
    try:
        yield
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise unavailable(engine, cause or error) from None
    except engine.dialect.loaded_dbapi.Error as error:
        raise unavailable(engine, error) from None


def place(engine: Engine) -> str:
    """Return where a database is. What follows the `?` of its URL may be a password too, and is left out."""
    path = sqlite_file(engine)
    if path is not None:  # whole: people look for it from other folders than the process was started in
        return f"sqlite:///{path}"
    return engine.url.set(query={}).render_as_string(hide_password=True)


def unavailable(engine: Engine, error: BaseException) -> StoreUnavailable:
    """Return in one line what went wrong with which database. It names neither password nor values."""
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return StoreUnavailable(f"the database {place(engine)} does not answer: {first_line}", _SEE_MORE)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Run a block in one transaction, committed at its end."""
    with writing(engine).begin() as connection:
        yield connection


def writing(engine: Engine) -> Engine:
    """Return an engine whose connections write in transactions, each statement of which sees what others committed."""
    return engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="READ COMMITTED")
