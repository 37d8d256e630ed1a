"""Room stores: keys in a database, through SQLAlchemy Core. SQLite, PostgreSQL, MariaDB and MySQL.

Every change takes the lock of the one row of `keydesk_chain_head` first and holds it until the commit. So changes
follow one another, events get numbers in the order of the commits, and no two changes can wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Engine, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..clock import Clock
from ..decision import Check
from ..errors import DuplicateSecret, KeyNotFound, StoreUnavailable
from ..events import FIRST_HASH, ChainedEvent, ChainReport, Event, chain, check_chain
from ..forks import at_fork
from ..keys.record import Key
from ..ports import MAX_PAGE, Change, FeedEntry, KeyFilter, Once, Page, Position
from . import condition, migration
from .bulk import BulkInsert, Rows, large_cache, make_indexes, moments_of, take_indexes, taken, written_behind
from .engines import answering, close_pool, for_requests, leave_pool, transaction
from .listing import find_page
from .once import note_once
from .paging import KEY_ID, check_size, decode_cursor
from .plans import SqlPlans, require_plans
from .quotas import SqlQuotas
from .reading import PreparedRead, ReadConnections, WatchedRead
from .rows import KEY_COLUMNS, event_of, event_row, key_row, key_values, secret_row
from .schema import chain_head, events, keys, secrets
from .statements import (
    FAR,
    HEAD_ID,
    ended_keys,
    events_after,
    feed_after,
    key_id_of_digests,
    key_id_of_first,
    key_of_digests,
    key_of_rows,
    key_under_terms,
    key_with_secrets,
    near,
    newest_events,
    position,
)
from .usage import SqlUsage, note_used

_BATCH = 2000
_PLAN_COLUMN = KEY_COLUMNS.index(keys.c.plan)


class SqlStore:
    """A store in a database.

    Args:
        engine: Where. An engine handed in by the application stays the application's to configure and close.
        clock: What `list_keys` calls now.
        own: Whether the engine is ours: then `close` disposes of it, and a SQLite database is made with its first
            key. Until then the store has none; the file may be made by another process at any moment.
    """

    def __init__(self, engine: Engine, clock: Clock, *, own: bool = False) -> None:
        self.engine = engine
        self._clock = clock
        self._own = own
        sqlite = engine.dialect.name == "sqlite"
        at_fork(engine, leave_pool, close=close_pool if own and sqlite else None)
        self._requests = for_requests(engine) if own else engine
        self._connections = ReadConnections(self._requests, own=own)
        self._prepared = False
        self._in_process = sqlite
        self._by_digest: dict[int, PreparedRead] = {}
        self._moment = moments_of(engine)
        self._insert_keys = BulkInsert(engine, keys)
        self._insert_secrets = BulkInsert(engine, secrets)
        self._insert_events = BulkInsert(engine, events)
        self._head = PreparedRead(self._connections, position())
        self._watched_head = WatchedRead(self._connections, self._head) if own and self._in_process else self._head
        self._feed = PreparedRead(self._connections, feed_after(), "after", "size", "skip")
        one_key = key_with_secrets().where(keys.c.id == bindparam("key_id"))
        self._by_id = PreparedRead(self._connections, one_key, "key_id")
        self._under_terms = PreparedRead(self._connections, key_under_terms(), "key_id")
        self.plans = SqlPlans(engine, self._prepare, self._reading, self._appending, self._add_events)

    # Reading, on the path of a request

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        """See `KeyStore.find_by_digest`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._prepared and not self._prepare():
            return None
        read = self._by_digest.get(len(digests)) or self._read_by_digest(len(digests))
        rows = read.rows(*digests)
        if not rows:
            return None
        key_id = key_id_of_first(rows, digests)
        if self._in_process:
            return key_of_rows(self._under_terms.rows(key_id))
        return key_of_rows([row for row in rows if row[0] == key_id])

    def _read_by_digest(self, count: int) -> PreparedRead:
        """Make the read for so many digests.

        SQLite is in this process: for an unknown secret it costs less to ask for the key's id first. Elsewhere each
        statement is a round trip, so one asks for everything.
        """
        names = [f"digest_{number}" for number in range(count)]
        statement = key_id_of_digests(names) if self._in_process else key_of_digests(names)
        read = self._by_digest[count] = PreparedRead(self._connections, statement, *names)
        return read

    def find_key(self, key_id: str) -> Key | None:
        """See `KeyStore.find_key`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not KEY_ID.fullmatch(key_id) or not self._prepare():
            return None
        return key_of_rows(self._by_id.rows(key_id))

    # Changing

    def add(self, keys_: Iterable[tuple[Key, Event]], once: Once | None = None) -> int:
        """See `WritableKeyStore.add`.

        Raises:
            AddedBefore: The same was asked for before, and done.
            OtherRequest: Something else was asked for before, by the same name.
            DuplicateSecret: A digest is in the store already, or twice among these.
            InvalidField: There is no plan of the name that a key has.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        given = iter(keys_)
        first = list(islice(given, _BATCH))  # before anything is made: an import may be refused at its first lines
        if not first:
            return 0
        self._prepare(create=True)
        with self._appending() as (connection, link):
            if once is not None:
                note_once(connection, once, [key.id for key, _ in first])

            def rows_of(batch: Sequence[tuple[Key, Event]]) -> tuple[Rows, Rows, Rows]:
                return (
                    [key_row(key, self._moment) for key, _ in batch],
                    [secret_row(key.id, s, self._moment) for key, _ in batch for s in key.secrets],
                    link(event for _, event in batch),
                )

            def write(rows: tuple[Rows, Rows, Rows]) -> None:
                require_plans(connection, {row[_PLAN_COLUMN] for row in rows[0]})
                self._insert_keys.run(connection, rows[0])
                self._add_secrets(connection, rows[1])
                self._add_events(connection, rows[2])

            if len(first) < _BATCH:
                write(rows_of(first))
                return len(first)
            # An import: while the database writes one batch, this thread makes the rows of the next.
            count, batch = 0, first
            with large_cache(connection):
                indexes = take_indexes(connection, (keys, secrets, events))
                with written_behind(write) as hand_over:
                    while batch:
                        hand_over(rows_of(batch))
                        count += len(batch)
                        batch = list(islice(given, _BATCH))
                make_indexes(connection, indexes)
            return count

    def change(self, key_id: str, decide: Callable[[Key], Change | None]) -> Key | None:
        """See `WritableKeyStore.change`.

        Raises:
            KeyNotFound: No key has this id.
            DuplicateSecret: A new digest is in the store already.
            InvalidField: There is no plan of the name that the key is given.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not KEY_ID.fullmatch(key_id) or not self._prepare():
            raise KeyNotFound(key_id)
        with self._appending() as (connection, link):
            before = key_of_rows(connection.execute(key_with_secrets().where(keys.c.id == key_id)).all())
            if before is None:
                raise KeyNotFound(key_id)
            change = decide(before)
            if change is None:
                return before
            if change.key is None:
                connection.execute(delete(secrets).where(secrets.c.key_id == key_id))
                connection.execute(delete(keys).where(keys.c.id == key_id))
            else:
                self._replace(connection, before, change.key)
            self._add_events(connection, link([change.event]))
            return change.key

    def _replace(self, connection: Connection, before: Key, after: Key) -> None:
        require_plans(connection, {after.plan} - {before.plan})
        connection.execute(update(keys).where(keys.c.id == after.id), key_values(after))
        if after.secrets != before.secrets:
            connection.execute(delete(secrets).where(secrets.c.key_id == after.id))
            self._add_secrets(connection, [secret_row(after.id, s, self._moment) for s in after.secrets])

    def _add_secrets(self, connection: Connection, rows: Rows) -> None:
        # PostgreSQL answers nothing within a transaction after an error in it. SQLite would copy every page it touches.
        postgresql = connection.dialect.name == "postgresql"
        try:
            with connection.begin_nested() if postgresql else nullcontext():
                self._insert_secrets.run(connection, rows)
        except IntegrityError:
            raise DuplicateSecret(taken(connection, rows)) from None

    def _add_events(self, connection: Connection, rows: Rows) -> None:
        try:
            self._insert_events.run(connection, rows)
        except IntegrityError:
            raise StoreUnavailable(condition.NO_APPENDING) from None

    def redigest(self, old: str, new: str, pepper_id: str) -> None:
        """See `WritableKeyStore.redigest`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._prepare():
            return
        # Under the lock that changes take: they rewrite the secrets of a key, so either could undo the other, and
        # InnoDB would have them wait for each other, as they lock the index and the table in opposite orders.
        with answering(self.engine), self._locked(self._requests) as connection:
            connection.execute(update(secrets).where(secrets.c.digest == old).values(digest=new, pepper_id=pepper_id))

    @contextmanager
    def _appending(self) -> Iterator[tuple[Connection, Callable[[Iterable[Event]], Rows]]]:
        """Run a block in a transaction that holds the lock of the chain's head.

        The block gets the connection and what makes rows of the next events, in order; inserting them is up to it.
        """
        with answering(self.engine), self._locked(self.engine) as connection:
            number, own_hash = connection.execute(
                select(chain_head.c.number, chain_head.c.hash).where(chain_head.c.id == HEAD_ID)
            ).one()
            last: ChainedEvent | None = None

            def link(added: Iterable[Event]) -> Rows:
                nonlocal last
                after, previous_hash = (last.number, last.hash) if last else (number, own_hash)
                linked = list(chain(added, after=after, previous_hash=previous_hash))
                last = linked[-1]
                return [event_row(row, self._moment) for row in linked]

            yield connection, link
            if last is not None:
                connection.execute(
                    update(chain_head).where(chain_head.c.id == HEAD_ID).values(number=last.number, hash=last.hash)
                )

    @contextmanager
    def _locked(self, engine: Engine) -> Iterator[Connection]:
        """Begin a transaction whose first statement takes the lock of the chain's head."""
        self._wake()
        lock = update(chain_head).where(chain_head.c.id == HEAD_ID).values(id=HEAD_ID)
        with transaction(engine) as connection:
            found = connection.execute(lock).rowcount
            if found:
                yield connection
        if not found:
            # In a transaction of its own, whose end lets go of all locks: InnoDB leaves one on the row to each that
            # came too late with an insert, and they would wait for each other.
            with suppress(IntegrityError), transaction(engine) as connection:
                connection.execute(insert(chain_head).values(id=HEAD_ID, number=0, hash=FIRST_HASH))
            with transaction(engine) as connection:
                connection.execute(lock)
                yield connection

    def _wake(self) -> None:
        """Replace the connections that died since the last use, while nothing is at stake."""
        self._head.rows()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Give a connection to read with, off the path of a request."""
        with answering(self.engine):
            self._wake()
            with self.engine.connect() as connection:
                yield connection

    # Reading, for people

    def list_keys(self, where: KeyFilter, *, cursor: str | None = None, size: int = 100) -> Page:
        """See `KeyStore.list_keys`.

        Raises:
            InvalidField: The cursor is none of this list, or the size is out of range.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        check_size(size)
        before = decode_cursor(cursor) if cursor is not None else None
        if not self._prepare():
            return Page((), None)
        with self._reading() as connection:
            return find_page(connection, where, now=self._clock.now(), before=before, size=size)

    def list_events(
        self, *, after: int = 0, key_id: str | None = None, owner: str | None = None, size: int = 100
    ) -> list[ChainedEvent]:
        """See `WritableKeyStore.list_events`.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        return self._events(events_after(after, key_id, owner, size), key_id, size)

    def list_newest_events(
        self, *, before: int | None = None, key_id: str | None = None, owner: str | None = None, size: int = 100
    ) -> list[ChainedEvent]:
        """See `WritableKeyStore.list_newest_events`.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        return self._events(newest_events(before, key_id, owner, size), key_id, size)

    def _events(self, wanted: Select[Any], key_id: str | None, size: int) -> list[ChainedEvent]:
        check_size(size)
        if not self._prepare() or (key_id is not None and not KEY_ID.fullmatch(key_id)):
            return []
        with self._reading() as connection:
            return [event_of(row) for row in connection.execute(wanted)]

    def list_feed(self, *, after: int, size: int = 100) -> list[FeedEntry]:
        """See `KeyStore.list_feed`.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        check_size(size)
        return [FeedEntry(*row) for row in self._feed.rows(near(after), size, 0)] if self._prepare() else []

    def position(self) -> Position:
        """See `KeyStore.position`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._prepare():
            return Position(0, FIRST_HASH)
        ((number, own_hash, _),) = self._watched_head.rows()
        return Position(number or 0, own_hash or FIRST_HASH)

    def _position(self) -> tuple[int, str, int]:
        """Return the number and hash at the head, and the highest number of any row, all of one moment."""
        if not self._prepare():
            return 0, FIRST_HASH, 0
        ((number, own_hash, highest),) = self._head.rows()
        return number or 0, own_hash or FIRST_HASH, highest or 0

    def check_chain(self, progress: Callable[[int, int], None] | None = None) -> ChainReport:
        """See `WritableKeyStore.check_chain`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        number, own_hash, _ = self._position()
        report = check_chain(self._rows_to(number, progress), head_number=number, head_hash=own_hash)
        number, own_hash, highest = self._position()
        if report.problem is None and highest > number:
            problem = f"event {number + 1} was inserted after the head of the chain, or the head removed or set back"
            return ChainReport(report.rows, number, own_hash, problem, number + 1)
        return report

    def _rows_to(self, last: int, progress: Callable[[int, int], None] | None) -> Iterator[ChainedEvent]:
        after = -FAR  # a row with a number below 1 can only have been inserted
        while after < last:
            rows = self.list_events(after=after, size=MAX_PAGE)
            if not rows:
                return
            yield from (row for row in rows if row.number <= last)
            after = rows[-1].number
            if progress is not None:
                progress(min(after, last), last)

    def prunable(self, *, ended_before: datetime) -> Iterator[str]:
        """See `WritableKeyStore.prunable`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        statement = ended_keys(ended_before).limit(_BATCH)
        after = ""
        if not self._prepare():
            return
        while True:
            with self._reading() as connection:
                ids = connection.execute(statement.where(keys.c.id > after)).scalars().all()
            yield from ids
            if len(ids) < _BATCH:
                return
            after = ids[-1]

    # What was leased, and what was counted

    @property
    def quotas(self) -> SqlQuotas:
        """Where credits are leased: in the same database."""
        return SqlQuotas(self._requests, self._prepare, self._appending, self._add_events)

    @property
    def usage(self) -> SqlUsage:
        """Where requests are counted: in the same database."""
        return SqlUsage(self.engine, self._prepare, self._reading)

    def note_used(self, used: Mapping[str, datetime]) -> None:
        """See `KeyStore.note_used`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if self._prepare():
            with answering(self.engine), transaction(self.engine) as connection:
                note_used(connection, used)

    # The house

    def _prepare(self, *, create: bool = False) -> bool:
        """Before the first use: see that the tables are there and are ours. Return whether there is a database.

        Threads that come at the same time each look, as processes do: none waits for another's answer.
        """
        if not self._prepared:
            with answering(self.engine):
                self._prepared = migration.prepare(self._requests, own=self._own, create=create)
        return self._prepared

    def absence(self) -> str | None:
        """Return that there is no database yet, and how to make it; None where there is one."""
        return migration.absence(self.engine) if self._own and not self._prepared else None

    def upgrade(self) -> tuple[str | None, str]:
        """Bring the tables to this code's version. Return the revisions before (None: no tables) and after.

        Raises:
            SchemaMismatch: The database is newer than this code, or the application's own migrations made the tables.
            StoreUnavailable: The database does not answer.
        """
        with answering(self.engine):
            return migration.upgrade(self.engine)

    def checks(self) -> list[Check]:
        """See `KeyStore.checks`."""
        return condition.checks_of(self.engine, own=self._own, prepare=self._prepare, reading=self._reading)

    def secrets_by_pepper(self) -> dict[str, int]:
        """Return how many secrets there are under each pepper id; the empty one is none.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._prepare():
            return {}
        with self._reading() as connection:
            rows = connection.execute(select(secrets.c.pepper_id, func.count()).group_by(secrets.c.pepper_id))
            return {pepper: count for pepper, count in rows}  # noqa: C416 - rows are not plain tuples to mypy

    def close(self) -> None:
        """See `KeyStore.close`. An engine of the application's stays open."""
        self._connections.close()
        if isinstance(self._watched_head, WatchedRead):
            self._watched_head.close()
        if self._own:
            self.engine.dispose()
