"""Room stores: the reads on the path of a request. Statements compiled once, on connections that stay at hand."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Select
from sqlalchemy.engine.default import DefaultDialect

from ..forks import at_fork
from .engines import answering

_MAX_IDLE = 64  # more threads than that at once open connections that are closed after use


class ReadConnections:
    """The driver's own connections for reads, each used by one thread at a time and kept for the next.

    They come from the engine, set up as it sets up all of its connections, but do not go back to its pool after each
    use: taking one from the pool and giving it back costs more than reading a key from SQLite, see
    docs/performance.md. An application's own engine keeps them: they may need its pool's rollback.

    Args:
        engine: Where they lead.
        own: Whether the engine is ours, so that each of its connections reads without a transaction around.
    """

    def __init__(self, engine: Engine, *, own: bool) -> None:
        self.engine = engine
        self._own = own
        self._idle: deque[Any] = deque()
        sqlite = engine.dialect.name == "sqlite"
        at_fork(self, ReadConnections._forget, close=ReadConnections.close if own and sqlite else None)

    def read(self, sql: str, parameters: Any) -> list[Any]:
        """Return all rows. A connection that turns out to be dead is replaced, once.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self.open()
        try:
            cursor = connection.cursor()
            cursor.execute(sql, parameters)
            rows: list[Any] = cursor.fetchall()
        except BaseException as error:
            return self._read_again(connection, error, sql, parameters)
        if self._own and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return rows

    def _read_again(self, connection: Any, error: BaseException, sql: str, parameters: Any) -> list[Any]:
        """Give up a connection that failed. Where it was dead, read on a new one; else raise what went wrong."""
        dead = self._is_dead(connection, error)
        self._discard(connection)
        # Where one is dead or hangs the others may, too: after a restart of the server, or a failover, all do.
        self.close()
        with answering(self.engine):
            # One that was given up after a while is dead, too; but a new one would keep the request as long again.
            if not dead or isinstance(error.__context__, TimeoutError):
                raise error
            self.engine.dispose()
            connection = self.open()
            try:
                cursor = connection.cursor()
                cursor.execute(sql, parameters)
                rows: list[Any] = cursor.fetchall()
            finally:
                self._discard(connection)
            return rows

    def _is_dead(self, connection: Any, error: BaseException) -> bool:
        dialect = self.engine.dialect
        assert isinstance(dialect, DefaultDialect)
        driver_connection = connection if self._own else connection.dbapi_connection
        return isinstance(error, dialect.loaded_dbapi.Error) and dialect.is_disconnect(error, driver_connection, None)

    def open(self) -> Any:
        """Return a new connection.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        with answering(self.engine):
            pooled = self.engine.raw_connection()
        if not self._own:
            return pooled
        connection = pooled.dbapi_connection
        pooled.detach()
        return connection

    def _discard(self, connection: Any) -> None:
        """Close a connection whose state is unknown."""
        if self._own:
            connection.close()
        else:
            connection.invalidate()

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def _forget(self) -> Any:
        """Leave the connections to the parent of a forked process; return them."""
        inherited, self._idle = self._idle, deque()
        return inherited


class PreparedRead:
    """One SELECT, compiled once and sent straight through the driver.

    SQLAlchemy builds the statement; its execution layer is left out. It costs several times what SQLite needs to find
    a key, see docs/performance.md.

    Args:
        connections: To read on.
        statement: Its columns make the rows.
        names: Of its parameters, in the order in which they stand in it.
    """

    def __init__(self, connections: ReadConnections, statement: Select[Any], *names: str) -> None:
        dialect = connections.engine.dialect
        compiled = statement.compile(dialect=dialect)
        self._connections = connections
        self._sql = str(compiled)
        positions: Sequence[str] | None = getattr(compiled, "positiontup", None)
        assert positions is None or tuple(positions) == names
        self._names = names if positions is None else None
        self._processors = [
            (position, processor)
            for position, column in enumerate(statement.selected_columns)
            if (processor := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        ]

    def rows(self, *values: str | int) -> list[list[Any]]:
        """Return all rows, for these values of the parameters.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        parameters = values if self._names is None else dict(zip(self._names, values, strict=True))
        found = self._connections.read(self._sql, parameters)
        return self._processed(found) if found else []

    def rows_on(self, connection: Any) -> list[list[Any]]:
        """Return all rows of a read without parameters, over a connection of SQLite's driver."""
        return self._processed(connection.execute(self._sql).fetchall())

    def _processed(self, found: list[Any]) -> list[list[Any]]:
        rows = [list(row) for row in found]
        for row in rows:
            for position, processor in self._processors:
                if row[position] is not None:
                    row[position] = processor(row[position])
        return rows


class WatchedRead:
    """A SELECT on SQLite that is done again only when another connection has changed the database since.

    `PRAGMA data_version` says so, and costs a third of the read. It tells of changes by other connections only, so
    this has one of its own, which changes nothing.

    Args:
        connections: Where it comes from.
        read: What to read; it has no parameters.
    """

    def __init__(self, connections: ReadConnections, read: PreparedRead) -> None:
        self._connections = connections
        self._read = read
        self._start()
        at_fork(self, WatchedRead._forget, close=WatchedRead.close)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None
        self._version: Any = None
        self._rows: list[list[Any]] = []

    def rows(self) -> list[list[Any]]:
        """Return all rows.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        with self._lock, answering(self._connections.engine):
            try:
                if self._connection is None:
                    self._connection = self._connections.open()
                version = self._connection.execute("PRAGMA data_version").fetchone()
                if version != self._version:
                    self._rows = self._read.rows_on(self._connection)
                    self._version = version
            except BaseException:
                self._close()
                raise
            return self._rows

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        connection = self._connection
        self._connection = self._version = None
        if connection is not None:
            connection.close()

    def _forget(self) -> Any:
        """Leave the connection to the parent of a forked process; return it."""
        inherited = self._connection
        self._start()
        return inherited
