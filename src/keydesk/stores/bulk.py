"""Room stores: many rows into one table, in one statement sent straight through the driver.

SQLAlchemy builds the statement and converts the values. Its execution layer in between costs an import of a million
keys as much time as the database does, see docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, Table
from sqlalchemy.engine import Connection

from .schema import Moment

CACHE_KIBIBYTES = 64 * 1024


class BulkInsert:
    """An INSERT of whole rows into one table.

    Args:
        engine: Of the database.
        table: Rows are tuples in the order of its columns, with moments as `moments_of` hands them over.
    """

    def __init__(self, engine: Engine, table: Table) -> None:
        compiled = table.insert().compile(dialect=engine.dialect)
        self._sql = str(compiled)
        names = [column.name for column in table.columns]
        positions = getattr(compiled, "positiontup", None)
        assert positions in (None, names)  # positional drivers take the rows as they are
        self._names = None if positions else names

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert the rows.

        Raises:
            sqlalchemy.exc.DBAPIError: As from any other statement.
        """
        if self._names is None:
            connection.exec_driver_sql(self._sql, list(rows))
        else:
            connection.exec_driver_sql(self._sql, [dict(zip(self._names, row, strict=True)) for row in rows])


def moments_of(engine: Engine) -> Callable[[datetime | None], Any]:
    """Return what turns a moment into what the driver of this database takes."""
    convert = Moment().dialect_impl(engine.dialect).bind_processor(engine.dialect)
    # The moments of an import are few: the time it began, and whatever expiries the keys have.
    return lru_cache(maxsize=1024)(convert) if convert else lambda moment: moment


@contextmanager
def large_cache(connection: Connection) -> Iterator[None]:
    """Let SQLite keep 64 MiB of pages while a block runs. Digests go all over their index, page after page."""
    if connection.dialect.name != "sqlite":
        yield
        return
    usual = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
    connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA cache_size = {int(usual)}")
