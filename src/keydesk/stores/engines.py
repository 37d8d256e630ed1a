"""Room stores: connections. How each database is opened, asked on the path of a request, and given up on."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Select, create_engine, event, make_url
from sqlalchemy.engine import URL, Connection
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import Pool

from ..errors import SettingsError, StoreUnavailable

CONNECT_SECONDS = 5  # to reach a server, to be given a connection of the pool, and to wait for SQLite's lock
POOL_CONNECTIONS = 5
POOL_OVERFLOW = 50

_EXTRAS = {"psycopg": "postgres", "pymysql": "mysql"}


def open_engine(text: str) -> Engine:
    """Return an engine for a database URL. Nothing is connected to yet.

    Raises:
        SettingsError: The URL cannot be read, names a database Keydesk does not work with, or its driver is missing.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise SettingsError(
            ["KEYDESK_STORE is no database URL; write for example sqlite:////var/lib/app/keydesk.db"]
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        return _open_sqlite(url)
    if backend not in ("postgresql", "mysql", "mariadb"):
        raise SettingsError(
            [f"KEYDESK_STORE names the database {backend!r}; use sqlite, postgresql+psycopg or mysql+pymysql"]
        )
    if url.drivername in ("postgresql", "mysql", "mariadb"):
        url = url.set(drivername=f"{backend}+{'psycopg' if backend == 'postgresql' else 'pymysql'}")
    try:
        # Reads are single statements: without autocommit each would cost a BEGIN and a ROLLBACK of its own.
        engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": CONNECT_SECONDS},
            pool_size=POOL_CONNECTIONS,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=CONNECT_SECONDS,
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        extra = _EXTRAS.get(url.get_driver_name())
        fix = f"install it with: pip install 'keydesk[{extra}]'" if extra else "use psycopg or pymysql"
        raise SettingsError([f"KEYDESK_STORE needs the driver {url.get_driver_name()!r}; {fix}"]) from None
    return engine


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:" or url.query.get("mode") == "memory":
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
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


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
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreUnavailable(describe(engine, error)) from None


def forget_in_child(engine: Engine) -> None:
    """Make a forked worker open its own connections: one used by two processes is broken for both."""
    _engines.add(engine)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_inherited: list[Pool] = []  # kept for good: connections that were collected would be closed, for the parent too


def _forget_inherited() -> None:
    for engine in list(_engines):
        _inherited.append(engine.pool)
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)


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
        raise StoreUnavailable(describe(engine, cause or error)) from None
    except engine.dialect.loaded_dbapi.Error as error:
        raise StoreUnavailable(describe(engine, error)) from None


def place(engine: Engine) -> str:
    """Return where a database is. What follows the `?` of its URL may be a password too, and is left out."""
    return engine.url.set(query={}).render_as_string(hide_password=True)


def describe(engine: Engine, error: BaseException) -> str:
    """Return one line on what went wrong with which database. It names neither password nor values."""
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return f"the database {place(engine)} does not answer: {first_line}. Run `keydesk doctor` to see more."


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Run a block in one transaction, committed at its end."""
    writing = engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="READ COMMITTED")
    with writing.begin() as connection:
        yield connection


class PreparedRead:
    """One SELECT for the path of a request: compiled once, sent straight through the driver.

    SQLAlchemy builds the statement and keeps the connections. Its execution layer in between costs about 250
    microseconds a call where the database itself needs 20, see docs/performance.md.
    """

    def __init__(self, engine: Engine, statement: Select[Any]) -> None:
        dialect = engine.dialect
        compiled = statement.compile(dialect=dialect)
        self._engine = engine
        self._sql = str(compiled)
        self._positions = getattr(compiled, "positiontup", None)
        self._processors = [
            (position, processor)
            for position, column in enumerate(statement.selected_columns)
            if (processor := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        ]

    def rows(self, values: Mapping[str, Any]) -> list[list[Any]]:
        """Return all rows. A connection that turns out to be dead is replaced, once.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        parameters = values if self._positions is None else [values[name] for name in self._positions]
        with answering(self._engine):
            try:
                rows = self._fetch(parameters)
            except _Disconnected:
                self._engine.dispose()
                rows = self._fetch(parameters)
        for row in rows:
            for position, processor in self._processors:
                row[position] = processor(row[position])
        return rows

    def _fetch(self, parameters: Any) -> list[list[Any]]:
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            try:
                cursor.execute(self._sql, parameters)
                return [list(row) for row in cursor.fetchall()]
            finally:
                cursor.close()
        except self._engine.dialect.loaded_dbapi.Error as error:
            if _is_disconnect(self._engine, error, connection):
                connection.invalidate(error)
                raise _Disconnected(str(error)) from None
            raise
        finally:
            connection.close()


class _Disconnected(SQLAlchemyError):
    """The connection was dead when it was used."""


def _is_disconnect(engine: Engine, error: Exception, connection: Any) -> bool:
    dialect = engine.dialect
    assert isinstance(dialect, DefaultDialect)
    return dialect.is_disconnect(error, connection.dbapi_connection, None)  # type: ignore[arg-type]
