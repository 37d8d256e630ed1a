"""Room stores: counts of requests in a database, and when keys were last used."""

from __future__ import annotations

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, Table, case, column, delete, func, null, or_, select, true, update, values
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..errors import StoreError
from ..usage import (
    ALLOWED,
    MAX_KEYS,
    OTHERS,
    TOP_NETWORKS,
    Batch,
    EarlierEntry,
    EarlierUsage,
    KeyUsage,
    MistakeUsage,
    Range,
    Span,
    Usage,
    spread,
)
from .bulk import BulkAdd, moments_of
from .engines import answering, transaction, writing
from .paging import KEY_ID
from .schema import Moment, earlier, keys, mistakes, usage
from .statements import exactly

logger = logging.getLogger("keydesk")

T = TypeVar("T")

_IDS_AT_ONCE = 1000
_FORGOTTEN_AT_ONCE = 5000
_SEARCHES_AT_ONCE = 10_000  # asked for more, MariaDB reads the hours of all keys
_SPAN_IN = {table.name: list(table.c).index(table.c.span) for table in (mistakes, earlier)}
_NOT_COMMITTED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)


class SqlUsage:
    """Counts in the tables `keydesk_usage`, `keydesk_mistakes` and `keydesk_earlier_secrets`; see `UsageStore`.

    Args:
        engine: Of the database.
        prepare: Returns whether there is a database; raises where its tables are not those of this code.
        reading: Hands out a connection to read with.
    """

    shared = True

    def __init__(
        self, engine: Engine, prepare: Callable[[], bool], reading: Callable[[], AbstractContextManager[Connection]]
    ) -> None:
        self._engine = engine
        self._prepare = prepare
        self._reading = reading
        self._moment = moments_of(engine)
        self._add_usage = BulkAdd(engine, usage)
        self._add_mistakes = BulkAdd(engine, mistakes)
        self._add_earlier = BulkAdd(engine, earlier)

    # Writing

    def add(self, batch: Batch) -> bool:
        """See `UsageStore.add`.

        Raises:
            StoreUnavailable: The database does not answer. Nothing was written.
            SchemaMismatch: The tables are not those of this version. Nothing was written.
        """
        if not self._prepare():
            return True  # no database yet, so no key: what was counted are mistakes from before the first one
        counted, made, used = spread(batch.keys), spread(batch.mistakes), batch.used()
        of_earlier = _in_order(batch.earlier)
        with answering(self._engine), writing(self._engine).connect() as connection:
            begun = connection.begin()
            try:
                self._add_usage.run(connection, self._rows(counted))
                self._add_mistakes.run(connection, self._rows(made))
                self._add_earlier.run(connection, self._rows(of_earlier, _SPAN_IN[earlier.name]))
                # Last, as a change of one of these keys waits from here on, and this changes no more than a minute.
                note_used(connection, used)
            except BaseException:
                begun.rollback()
                raise
            try:
                begun.commit()
            except SQLAlchemyError as error:
                _roll_back(connection)
                if _surely_not_committed(error):
                    raise
                logger.warning("Keydesk does not know whether the last requests counted were written; it drops them")
                return False
        self._fold(mistakes, self._add_mistakes, {row[:-2] for row in made})
        self._fold(earlier, self._add_earlier, {row[:-2] for row in of_earlier})
        return True

    def _rows(self, rows: Sequence[tuple[Any, ...]], place: int = 0) -> list[tuple[Any, ...]]:
        """Return rows as the driver takes them. The span has this place in them, and its beginning the next."""
        then = place + 1
        return [(*row[:place], str(row[place]), self._moment(row[then]), *row[then + 1 :]) for row in rows]

    def _fold(self, table: Table, add: BulkAdd, groups: set[tuple[Any, ...]]) -> None:
        """Where there are twice as many networks as are kept, leave the top ones, and put the rest into one row.

        In a transaction of its own: sums stay the same, so it can be lost, and the locks it takes are not in the order
        of those above. A group is what the primary key begins with, up to the network.
        """
        if not groups:
            return
        try:
            with self._reading() as connection:
                full = [group for part in _parts(sorted(groups)) for group in _many(connection, table, part)]
            for group in full:
                with answering(self._engine), transaction(self._engine) as connection:
                    self._fold_one(connection, table, add, group)
        except StoreError:
            return  # the next one tries again

    def _fold_one(self, connection: Connection, table: Table, add: BulkAdd, group: tuple[Any, ...]) -> None:
        there, place = _of(table, group), _SPAN_IN[table.name]
        rows = select(table.c.network, table.c["count"]).where(*there).order_by(table.c.network)
        # On SQLite nothing is locked before the first write, so it begins with one, which changes nothing.
        add.run(connection, self._rows([(*group, OTHERS, 0)], place))
        counted = sorted(connection.execute(rows.with_for_update()), key=lambda row: (-row[1], row[0]))
        rest = [row for row in counted if row[0] != OTHERS][TOP_NETWORKS:]
        names = [network for network, _ in rest]
        for part in _parts(names):
            connection.execute(delete(table).where(*there, table.c.network.in_(part)))
        add.run(connection, self._rows([(*group, OTHERS, sum(count for _, count in rest))], place))

    def forget(self, span: Span, before: datetime) -> bool:
        """See `UsageStore.forget`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._prepare():
            return False
        more = False
        for table in (usage, mistakes, earlier):
            start_at = table.c.start_at
            old = (table.c.span == span, start_at < before)
            last = select(start_at).where(*old).order_by(start_at).offset(_FORGOTTEN_AT_ONCE).limit(1)
            with self._reading() as connection:
                oldest = connection.execute(select(start_at).where(*old).limit(1)).scalar()
                until = connection.execute(last).scalar()
            if oldest is None:
                continue
            # Whole spans: of one minute there may be more rows than that, as many as keys were used in it.
            old = old if until is None else (table.c.span == span, start_at <= until)
            with answering(self._engine), transaction(self._engine) as connection:
                connection.execute(delete(table).where(*old))
            more = more or until is not None
        return more

    # Reading

    def counts(self, range_: Range, key_id: str | None = None, owner: str | None = None) -> list[Usage]:
        """See `UsageStore.counts`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        columns = usage.c.start_at, usage.c.outcome
        wanted = select(*columns, func.sum(usage.c["count"])).group_by(*columns).order_by(*columns)
        if owner is not None:
            wanted = wanted.where(usage.c.key_id.in_(select(keys.c.id).where(exactly(keys.c.owner, owner))))
        if key_id is None:
            wanted = wanted.where(*_within(usage, range_))
        elif KEY_ID.fullmatch(key_id):
            # One search for each span: the rows of other keys between them are not read.
            at = usage.c.start_at.in_(range_.starts())
            wanted = wanted.where(usage.c.span == range_.span, at, usage.c.key_id == key_id)
        else:
            return []
        return [Usage(start_at, outcome, int(count)) for start_at, outcome, count in self._all(wanted)]

    def counts_of_keys(self, range_: Range, key_ids: Sequence[str]) -> dict[str, list[Usage]]:
        """See `UsageStore.counts_of_keys`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        possible = [key_id for key_id in key_ids if KEY_ID.fullmatch(key_id)]
        starts, found = range_.starts(), defaultdict[str, list[Usage]](list)
        most = _SEARCHES_AT_ONCE // len(starts) + 1 if self._engine.dialect.name in ("mysql", "mariadb") else MAX_KEYS
        for place in range(0, len(possible), most):
            wanted = _of_keys(range_.span, starts, possible[place : place + most], self._engine.dialect.name)
            for key_id, start_at, outcome, count in self._all(wanted):
                found[key_id].append(Usage(start_at, outcome, count))
        return dict(found)

    def top(self, range_: Range, size: int) -> tuple[int, list[KeyUsage]]:
        """See `UsageStore.top`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        number, within = usage.c["count"], _within(usage, range_)
        allowed = func.sum(case((usage.c.outcome == ALLOWED, number), else_=0))
        total = func.sum(number)
        wanted = select(usage.c.key_id, total, allowed).where(*within).group_by(usage.c.key_id)
        found = self._all(wanted.order_by(total.desc(), usage.c.key_id).limit(size))
        whole = self._all(select(total).where(*within)) if len(found) == size else []
        sent = [KeyUsage(key_id, None, int(count), int(good)) for key_id, count, good in found]
        return int(whole[0][0] or 0) if whole else sum(each.count for each in sent), sent

    def mistakes(self, range_: Range, size: int) -> tuple[int, list[MistakeUsage]]:
        """See `UsageStore.mistakes`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        number, within = func.sum(mistakes.c["count"]), _within(mistakes, range_)
        columns = mistakes.c.mistake, mistakes.c.network
        wanted = select(*columns, number).where(*within).group_by(*columns).having(number > 0)
        found = self._all(wanted.order_by(number.desc(), *columns).limit(size))
        whole = self._all(select(number).where(*within)) if len(found) == size else []
        made = [MistakeUsage(mistake, network, int(count)) for mistake, network, count in found]
        return int(whole[0][0] or 0) if whole else sum(each.count for each in made), made

    def mistake_counts(self, range_: Range) -> list[Usage]:
        """See `UsageStore.mistake_counts`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        number, columns = func.sum(mistakes.c["count"]), (mistakes.c.start_at, mistakes.c.mistake)
        wanted = select(*columns, number).where(*_within(mistakes, range_)).group_by(*columns).having(number > 0)
        return [Usage(start_at, made, int(count)) for start_at, made, count in self._all(wanted.order_by(*columns))]

    def earlier_secrets(self, range_: Range, key_id: str, size: int) -> tuple[list[EarlierUsage], dict[int, datetime]]:
        """See `UsageStore.earlier_secrets`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not KEY_ID.fullmatch(key_id):
            return [], {}
        number, columns, own = func.sum(earlier.c["count"]), (earlier.c.secret, earlier.c.network), earlier.c.key_id
        within = select(*columns, number).where(own == key_id, *_within(earlier, range_))
        wanted = within.group_by(*columns).having(number > 0).order_by(number.desc(), *columns).limit(size)
        # A minute never begins before its hour or its day do: the latest beginning is the most exact there is.
        latest = select(earlier.c.secret, func.max(earlier.c.start_at)).where(own == key_id)
        last = latest.group_by(earlier.c.secret).order_by(earlier.c.secret)
        used = [EarlierUsage(secret, network, int(count)) for secret, network, count in self._all(wanted)]
        return used, dict(map(tuple, self._all(last)))

    def _all(self, wanted: Select[Any]) -> Sequence[Any]:
        if not self._prepare():
            return []
        with self._reading() as connection:
            return connection.execute(wanted).all()


def note_used(connection: Connection, used: Mapping[str, datetime]) -> None:
    """Note when keys were last used, in that column alone; see `KeyStore.note_used`."""
    ids: defaultdict[datetime, list[str]] = defaultdict(list)
    for key_id in sorted(used):
        if KEY_ID.fullmatch(key_id):
            ids[used[key_id]].append(key_id)
    if len(ids) > 1:
        # In the order of the ids first, as minutes have another. Within a day two flushes have waited for each other at
        # its rows already; over midnight they may share none.
        for part in _parts([key_id for key_id in sorted(used) if KEY_ID.fullmatch(key_id)]):
            lock = select(keys.c.id).where(keys.c.id.in_(part)).order_by(keys.c.id)
            connection.execute(lock.with_for_update(key_share=True)).all()
    for at in sorted(ids):
        earlier = or_(keys.c.last_used_at.is_(null()), keys.c.last_used_at < at)
        for part in _parts(ids[at]):
            connection.execute(update(keys).where(keys.c.id.in_(part), earlier).values(last_used_at=at))


def _parts(ids: Sequence[T]) -> list[Sequence[T]]:
    return [ids[start : start + _IDS_AT_ONCE] for start in range(0, len(ids), _IDS_AT_ONCE)]


def _within(table: Table, range_: Range) -> tuple[Any, ...]:
    return table.c.span == range_.span, table.c.start_at >= range_.since, table.c.start_at < range_.until


def _of_keys(span: Span, starts: Sequence[datetime], key_ids: Sequence[str], dialect: str) -> Select[Any]:
    """Return what reads the counts of several keys by one search for each span and key."""
    columns = usage.c.key_id, usage.c.start_at, usage.c.outcome
    wanted = select(*columns, usage.c["count"]).where(usage.c.span == span, usage.c.key_id.in_(key_ids))
    if dialect != "postgresql":
        return wanted.where(usage.c.start_at.in_(starts)).order_by(*columns)
    # PostgreSQL takes so many searches for dearer than reading the whole table. By one span after the other, it cannot.
    each = values(column("start_at", Moment), name="starts").data([(start_at,) for start_at in starts])
    found = wanted.where(usage.c.start_at == each.c.start_at).offset(0).lateral("found")
    return select(found).select_from(each.join(found, true())).order_by(*list(found.c)[:3])


def _in_order(entries: Mapping[EarlierEntry, int]) -> list[tuple[str, Span, datetime, int, str, int]]:
    """Return the rows of earlier secrets, in the order of their primary key."""
    rows = spread(entries)
    return sorted((key_id, span, at, number, network, count) for span, at, (key_id, number), network, count in rows)


def _many(connection: Connection, table: Table, groups: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return those of these groups, and of those between them, that have more networks than they should."""
    columns = list(table.c)[:-2]
    there = [column.in_(set(values)) for column, values in zip(columns, zip(*groups, strict=True), strict=True)]
    many = select(*columns).where(*there).group_by(*columns).having(func.count() > 2 * TOP_NETWORKS)
    return [tuple(found) for found in connection.execute(many.order_by(*columns))]


def _of(table: Table, group: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(own == value for own, value in zip(table.c, group, strict=False))  # but for the network and the count


def _roll_back(connection: Connection) -> None:
    """Undo what a commit that failed left of a transaction.

    Where a reader keeps SQLite from it, the transaction stays open. SQLAlchemy takes it for ended, and who is given the
    connection next would commit it with their own.
    """
    if connection.dialect.name == "sqlite" and not connection.invalidated:
        driver_connection = connection.connection.driver_connection
        assert driver_connection is not None
        driver_connection.rollback()


def _surely_not_committed(error: SQLAlchemyError) -> bool:
    """Return whether what went wrong at the commit says that it did not happen.

    An answer of the server says so; a connection that broke off before the answer does not. SQLite is in this process:
    it says so where it could not get its lock, or room on the disk.
    """
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _NOT_COMMITTED
    return not error.connection_invalidated
