"""Room stores: many rows into one table, in one statement sent straight through the driver.

SQLAlchemy builds the statement and converts the values; its execution layer, which looks at every row, is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Engine, Index, Table, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, DropIndex

from ..errors import DuplicateSecret
from .rows import SECRET_COLUMNS
from .schema import Moment, keys, secrets
from .statements import repeated_digests

CACHE_KIBIBYTES = 32 * 1024
MAX_PARAMETERS = 32_766  # that SQLite takes in one statement, since 3.32 of 2020
_ADDED_AT_ONCE = 2000  # rows in one statement: of five columns, a third of those parameters

T = TypeVar("T")
Rows: TypeAlias = Sequence[tuple[Any, ...]]


class BulkInsert:
    """An INSERT of whole rows into one table.

    Args:
        engine: Of the database.
        table: Rows are tuples in the order of its columns, without those that the database works out, and with moments
            as `moments_of` hands them over.
    """

    def __init__(self, engine: Engine, table: Table) -> None:
        names = [column.name for column in table.columns if column.computed is None]
        compiled = table.insert().compile(dialect=engine.dialect, column_keys=names)
        self._sql = str(compiled)
        positions = getattr(compiled, "positiontup", None)
        assert positions in (None, names)  # positional drivers take the rows as they are
        self._names = None if positions else names
        self._many = engine.dialect.name == "sqlite"

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert the rows.

        Raises:
            sqlalchemy.exc.DBAPIError: As from any other statement.
        """
        if self._names is not None:
            connection.exec_driver_sql(self._sql, [dict(zip(self._names, row, strict=True)) for row in rows])
        elif self._many and len(rows) > 1:
            # SQLite works in this process, and lets its other threads run while a statement does: so few, large ones.
            step = MAX_PARAMETERS // len(rows[0])
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                connection.exec_driver_sql(_many_rows(self._sql, len(part)), tuple(chain.from_iterable(part)))
        else:
            connection.exec_driver_sql(self._sql, list(rows))


class BulkAdd:
    """An INSERT of rows that adds their last column, a number, to that of the row with the same key if there is one.

    Args:
        engine: Of the database.
        table: Rows are tuples in the order of its columns, of which all but the last are its primary key.
    """

    def __init__(self, engine: Engine, table: Table) -> None:
        *key, number = (column.name for column in table.columns)
        name = engine.dialect.identifier_preparer.format_table(table)
        mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
        self._row = f"({', '.join([mark] * (len(key) + 1))})"
        self._head = f"INSERT INTO {name} ({', '.join([*key, number])}) VALUES "  # noqa: S608 - names of ours
        # MySQL has another word for the new row than MariaDB; this one both know.
        self._tail = (
            f" ON DUPLICATE KEY UPDATE {number} = {name}.{number} + VALUES({number})"
            if engine.dialect.name in ("mysql", "mariadb")
            else f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {number} = {name}.{number} + excluded.{number}"
        )

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert the rows, or add to those that are there.

        Raises:
            sqlalchemy.exc.DBAPIError: As from any other statement.
        """
        for start in range(0, len(rows), _ADDED_AT_ONCE):
            part = rows[start : start + _ADDED_AT_ONCE]
            statement = self._head + ", ".join([self._row] * len(part)) + self._tail
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(part)))


@lru_cache(maxsize=16)
def _many_rows(insert: str, count: int) -> str:
    """Return an INSERT of one row as one of many."""
    head, values, row = insert.partition(" VALUES ")
    return head + values + ", ".join([row] * count)


@contextmanager
def written_behind(write: Callable[[T], None]) -> Iterator[Callable[[T], None]]:
    """Hand out what writes in a thread of its own, one thing at a time: it returns while the last is being written.

    Raises:
        Exception: Whatever `write` raises, when the next thing is handed over or at the end of the block.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="keydesk-write") as thread:
        pending: Future[None] | None = None

        def hand_over(thing: T) -> None:
            nonlocal pending
            if pending is not None:
                pending.result()
            pending = thread.submit(write, thing)

        yield hand_over
        if pending is not None:
            pending.result()


def moments_of(engine: Engine) -> Callable[[datetime | None], Any]:
    """Return what turns a moment into what the driver of this database takes."""
    convert = Moment().dialect_impl(engine.dialect).bind_processor(engine.dialect)
    # The moments of an import are few: the time it began, and whatever expiries the keys have.
    return lru_cache(maxsize=1024)(convert) if convert else lambda moment: moment


@contextmanager
def large_cache(connection: Connection) -> Iterator[None]:
    """Let SQLite keep 32 MiB of pages while a block runs. Digests go all over their index, page after page."""
    if connection.dialect.name != "sqlite":
        yield
        return
    usual = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
    connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA cache_size = {int(usual)}")


def take_indexes(connection: Connection, tables: Sequence[Table]) -> list[Index]:
    """Take the indexes off those of the tables that are empty, on SQLite, and return them, to be made at the end.

    Sorting all digests once and writing their index from end to end takes a fifth of putting each in its place.
    """
    if connection.dialect.name != "sqlite":
        return []
    empty = [table for table in tables if connection.execute(select(table).limit(1)).first() is None]
    indexes = [index for table in empty for index in sorted(table.indexes, key=lambda index: str(index.name))]
    for index in indexes:
        connection.execute(DropIndex(index, if_exists=True))
    return indexes


def make_indexes(connection: Connection, indexes: Iterable[Index]) -> None:
    """Make the indexes that `take_indexes` took; let PostgreSQL look at what came in, as its plans need that.

    Raises:
        DuplicateSecret: Two of the secrets that came in meanwhile are the same.
    """
    try:
        for index in indexes:
            connection.execute(CreateIndex(index))
    except IntegrityError:
        raise DuplicateSecret(connection.execute(repeated_digests()).scalars().all()) from None
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"ANALYZE {keys.name}, {secrets.name}"))


def taken(connection: Connection, rows: Rows) -> list[str]:
    """Return those of the digests of new secrets that other keys have, or that are twice among themselves."""
    ids, digests = {row[0] for row in rows}, [row[SECRET_COLUMNS.index(secrets.c.digest)] for row in rows]
    found = connection.execute(select(secrets.c.digest, secrets.c.key_id).where(secrets.c.digest.in_(digests)))
    there = [digest for digest, key_id in found if key_id not in ids]  # those before the one that failed may be there
    twice = (digest for digest, count in Counter(digests).items() if count > 1)
    return list(dict.fromkeys([*there, *twice]))
