"""Room limiting: counters in one file of SQLite, for all workers of one machine. No server is needed.

The file is not waited for to reach the disk: a crash of a worker loses nothing, one of the machine may lose the last
takes. Counters can bear that. Credits must not come back from before, so those of another start of the machine are
dropped.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from ..claims import Claim, Pool, Taken
from ..clock import Clock, SystemClock
from ..decision import Check
from ..errors import LimiterUnavailable
from ..forks import at_fork
from ..private_files import make_private
from .ledger import Ledger, counter_of, end_of, pack, unpack
from .window import new_counter, settle

PAUSE_SECONDS = 0.0005  # on average, before the file is asked for again while another worker has it
WAIT_SECONDS = 1.0  # the longest a request does so, and then the limiter counts as not answering
TURN_SECONDS = 2.0  # in which whoever has the turn has given up, where the file is not to be had
_SWEEP_EVERY = 64  # takes
_SWEPT_AT_ONCE = 128  # entries that are looked at then: twice as many as can have come

_BUSY = "other workers had the limiter's file for a second; set KEYDESK_LIMITER to a server"
_MAKING = threading.Lock()  # nobody waits for anything while they hold it
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TABLES = (
    "CREATE TABLE IF NOT EXISTS counters (subject TEXT PRIMARY KEY, ends_at INTEGER NOT NULL, packed BLOB NOT NULL) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS pools (subject TEXT PRIMARY KEY, ends_at INTEGER NOT NULL, credits INTEGER NOT NULL) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS start (id INTEGER PRIMARY KEY CHECK (id = 1), machine TEXT NOT NULL, "
    "began_at INTEGER NOT NULL)",
)

# One statement is a transaction of its own, and takes half as long as the same in four. It holds the file from its
# beginning, so both functions see what the time is after that.
_IN_PLACE = "UPDATE counters SET ends_at = later_of(ends_at), packed = taken_from(packed) WHERE subject = ?"

_SUBJECT = attrgetter("subject")
_monotonic = SystemClock().monotonic  # for waits of this world, in tests too


class SqliteLimiter:
    """Limits and credits of the processes that open the same file; see `keydesk.ports.Limiter`.

    Args:
        path: The file. It is made, readable by its owner only, when it is first needed.
        clock: Only durations are asked of it, but for when the machine has started anew.
    """

    shared = True

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._idle: sqlite3.Cursor | None = None  # of the one connection; a new one for each statement costs
        self._row = _Row(clock.monotonic, 0)
        self._turn: threading.Lock | None = None  # of this process to take
        self._failure: LimiterUnavailable | None = None  # the last
        self._takes = 0
        self._swept: dict[str, str] = {"counters": "", "pools": ""}
        at_fork(self, SqliteLimiter._leave, close=SqliteLimiter.close)  # why: see forks.py

    def take(self, claims: Sequence[Claim], pools: Sequence[Pool] = (), *, cost: int = 1, test: bool = False) -> Taken:
        """See `Limiter.take`.

        Raises:
            LimiterUnavailable: The file cannot be used, or other workers had it for a second.
        """
        if test and not self.path.exists():
            # Whoever only looks makes no file: one of root's the workers could not write.
            return settle(claims, [new_counter() for _ in claims], pools, [0] * len(pools), now=0, cost=cost, test=True)
        # Threads of one process would find the file locked by each other, and sleep: who waits here goes on at once.
        turn = self._turn or self._make_turn()
        if not turn.acquire(False):
            self._wait_for(turn)
        try:
            return self._take_in_turn(claims, pools, cost, test)
        except LimiterUnavailable as error:
            self._failure = LimiterUnavailable(str(error))
            raise
        finally:
            turn.release()

    def _wait_for(self, turn: threading.Lock) -> None:
        """Wait until it is this thread's turn.

        Raises:
            LimiterUnavailable: It does not come, or who had it failed: nobody waits a second time for the same.
        """
        failure = self._failure
        if not turn.acquire(timeout=TURN_SECONDS):
            raise LimiterUnavailable(_BUSY)
        if self._failure is not failure:
            turn.release()
            raise LimiterUnavailable(str(self._failure))

    def _make_turn(self) -> threading.Lock:
        """Make the lock, with the first request: with `--preload`, gevent puts its own in place after the fork."""
        with _MAKING:
            self._turn = self._turn or threading.Lock()
        return self._turn

    def _take_in_turn(self, claims: Sequence[Claim], pools: Sequence[Pool], cost: int, test: bool) -> Taken:
        cursor, self._idle = self._idle or self._open(), None
        try:
            taken = None if pools or test else self._take_in_place(cursor, claims, cost)
            if taken is None:
                _begin(cursor)
                taken = self._take(cursor, claims, pools, cost, test)
                cursor.execute("COMMIT")
        except BaseException as error:
            cursor.connection.close()  # and with it ends the transaction
            if isinstance(error, sqlite3.Error):
                raise LimiterUnavailable(self._problem(error)) from None
            if isinstance(error, OverflowError):  # less than nothing would be left: the sum is not that of the steps
                raise LimiterUnavailable(self._changed()) from None
            raise
        self._idle = cursor
        return taken

    def _take_in_place(self, cursor: sqlite3.Cursor, claims: Sequence[Claim], cost: int) -> Taken | None:
        """Take from the counters of one subject, where that is all there is to do and another worker is not at it.

        Returns:
            What became of it; None where nothing was tried, or the subject has no counters yet.
        """
        if not claims or (self._takes + 1) % _SWEEP_EVERY == 0:
            return None
        subject = claims[0][1]
        for claim in claims:
            if claim[1] != subject:
                return None
        row = self._row
        row.claims, row.cost, row.now, row.taken, row.error = claims, cost, None, None, None
        try:
            cursor.execute(_IN_PLACE, (subject,))
        except sqlite3.Error as error:
            if isinstance(row.error, TypeError | ValueError | OverflowError):
                raise LimiterUnavailable(self._changed()) from None
            if row.error is not None:  # such as one that a handler of signals raised
                raise row.error from None
            if row.taken is None and _is_busy(error):
                return None
            if row.taken is None or not row.taken.violated:
                raise
        if row.taken is not None:
            self._takes += 1
        return row.taken

    def _take(
        self, cursor: sqlite3.Cursor, claims: Sequence[Claim], pools: Sequence[Pool], cost: int, test: bool
    ) -> Taken:
        now = self._row.time()  # not before it is this worker's turn, or another would be further on already
        ledgers = self._ledgers(cursor, claims) if claims else {}
        counters = [counter_of(ledgers[subject], seconds) for _, subject, _, seconds in claims]
        held = self._held(cursor, pools) if pools else []
        taken = settle(claims, counters, pools, held, now=now, cost=cost, test=test)
        if claims and not taken.violated and not test:
            rows: list[Any] = []
            for subject, ledger in ledgers.items():
                packed = pack(ledger, claims, now)
                rows += (subject, end_of(max(ledger, default=0), now), packed)
            cursor.execute(_put("counters", "packed", len(ledgers)), rows)
        if pools:
            rows = []
            for pool, credits_ in zip(pools, held, strict=True):
                rows += (pool.subject, now + pool.seconds * 1_000_000, credits_)
            cursor.execute(_put("pools", "credits", len(pools)), rows)
        self._takes += 1
        if self._takes % _SWEEP_EVERY == 0:
            self._sweep(cursor, now)
        return taken

    def _ledgers(self, cursor: sqlite3.Cursor, claims: Sequence[Claim]) -> dict[str, Ledger]:
        subjects = tuple(dict.fromkeys(map(_SUBJECT, claims)))
        found = cursor.execute(_find("counters", "packed", len(subjects)), subjects).fetchone()
        try:
            return dict(zip(subjects, map(unpack, found)))  # noqa: B905 - `strict` takes as long again
        except (TypeError, ValueError):
            raise LimiterUnavailable(self._changed()) from None

    def _held(self, cursor: sqlite3.Cursor, pools: Sequence[Pool]) -> list[int]:
        found = cursor.execute(_find("pools", "credits", len(pools)), [pool.subject for pool in pools]).fetchone()
        return [(credits_ or 0) + pool.deposit for pool, credits_ in zip(pools, found, strict=True)]

    def _sweep(self, cursor: sqlite3.Cursor, now: int) -> None:
        """Remove what has ended among the next few entries, in the order of their subjects."""
        for table, after in self._swept.items():
            last = f"SELECT subject FROM {table} WHERE subject > ? ORDER BY subject LIMIT 1 OFFSET {_SWEPT_AT_ONCE}"  # noqa: S608
            row = cursor.execute(last, (after,)).fetchone()
            until = row[0] if row else "\U0010ffff"
            ended = f"DELETE FROM {table} WHERE subject > ? AND subject <= ? AND ends_at < ?"  # noqa: S608
            cursor.execute(ended, (after, until, now))
            self._swept[table] = until if row else ""

    # The file

    def _open(self) -> sqlite3.Cursor:
        connection = None
        try:
            make_private(self.path)
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
            cursor = connection.cursor()
            self._set_up(cursor)
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise LimiterUnavailable(self._problem(error)) from None
        return cursor

    def _set_up(self, cursor: sqlite3.Cursor) -> None:
        _patiently(cursor, "PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = OFF")
        _begin(cursor)
        for table in _TABLES:
            cursor.execute(table)
        machine, monotonic = self._machine(), round(self._clock.monotonic() * 1_000_000)
        row = cursor.execute("SELECT machine, began_at FROM start").fetchone()
        if row is None or row[0] != machine:
            # What was on its way to the disk when the machine went down may be missing: spent credits would be back.
            cursor.execute("DELETE FROM pools")
            row = (machine, round(self._clock.now().timestamp() * 1_000_000) - monotonic)
            cursor.execute("INSERT OR REPLACE INTO start VALUES (1, ?, ?)", row)
        cursor.execute("COMMIT")
        self._row = _Row(self._clock.monotonic, row[1])
        cursor.connection.create_function("taken_from", 1, self._row.taken_from)
        cursor.connection.create_function("later_of", 1, self._row.later_of)

    def _machine(self) -> str:
        """Return what names this start of the machine: from another, durations of the clock mean something else."""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:  # no Linux; to the minute, as this moves while the time of day is corrected
            return str((self._clock.now().timestamp() - self._clock.monotonic()) // 60)

    def _problem(self, error: Exception) -> str:
        first_line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return f"the limiter's file {self.path} cannot be used: {first_line}; mend that, or name another limiter"

    def _changed(self) -> str:
        return f"somebody changed {self.path}, which counts for limits; delete it"

    def _leave(self) -> Any:
        """Leave the connection to the parent of a forked process; return it."""
        inherited, self._idle, self._turn = self._idle, None, None
        return inherited

    def checks(self) -> list[Check]:
        """See `Limiter.checks`."""
        if not self.path.exists():
            return [Check("limiter", True, f"in {self.path}, which is made with the first request that has limits")]
        try:
            self.take((), cost=0)
        except LimiterUnavailable as error:
            return [Check("limiter", False, str(error), "mend that; until then each worker counts alone")]
        return [Check("limiter", True, f"in {self.path}, shared by the workers of this machine")]

    def close(self) -> None:
        """See `Limiter.close`."""
        cursor, self._idle = self._idle, None
        if cursor is not None:
            cursor.connection.close()


class _Row:
    """The counters of one subject, while SQLite writes them: it calls this in the middle of its statement.

    It knows no connection, which holds it: the two would keep each other.

    Attributes:
        claims, cost: What is to be taken.
        now: When, once it is being taken.
        taken: What became of it; None before.
        error: Why nothing did. SQLite says only that there was something.
    """

    def __init__(self, monotonic: Callable[[], float], began_at: int) -> None:
        self._monotonic = monotonic
        self._began_at = began_at  # of the clock of this machine's start, by the time of day; microseconds
        self.claims: Sequence[Claim] = ()
        self.cost = 1
        self.now: int | None = None
        self.taken: Taken | None = None
        self.error: BaseException | None = None

    def time(self) -> int:
        """Return the time of all workers, in microseconds."""
        return self._began_at + round(self._monotonic() * 1_000_000)

    def taken_from(self, packed: bytes) -> array[int]:
        """Return the counters after the take.

        Raises:
            sqlite3.Error: A limit refuses. SQLite takes the statement back, as after any other error.
            TypeError, ValueError, OverflowError: What stands in the row was not written by a limiter.
        """
        try:
            claims, now = self.claims, self._now()
            ledger = unpack(packed)
            counters = [counter_of(ledger, seconds) for _, _, _, seconds in claims]
            self.taken = settle(claims, counters, (), [], now=now, cost=self.cost, test=False)
            written = pack(ledger, claims, now)
        except BaseException as error:
            self.error = error
            raise
        if self.taken.violated:
            raise sqlite3.Error
        return written

    def later_of(self, ends_at: int) -> int:
        """Return when the last of the counters will have ended, those included that are not taken from."""
        try:
            return max(ends_at, end_of(max(seconds for _, _, _, seconds in self.claims), self._now()))
        except BaseException as error:
            self.error = error
            raise

    def _now(self) -> int:
        now = self.now
        if now is None:
            now = self.now = self.time()
        return now


@cache
def _find(table: str, value: str, subjects: int) -> str:
    """Return what finds the values of so many subjects: one row, with NULL where there is none."""
    # With `WHERE subject IN (...)` SQLite makes a table of them first, which takes half as long again.
    return f"SELECT {', '.join([f'(SELECT {value} FROM {table} WHERE subject = ?)'] * subjects)}"  # noqa: S608 - ours


@cache
def _put(table: str, value: str, rows: int) -> str:
    # Not `INSERT OR REPLACE`: that removes a row and makes it anew, where this writes over it, in half the time.
    return (
        f"INSERT INTO {table} VALUES {', '.join(['(?, ?, ?)'] * rows)} "  # noqa: S608 - names of ours
        f"ON CONFLICT (subject) DO UPDATE SET ends_at = excluded.ends_at, {value} = excluded.{value}"
    )


def _begin(cursor: sqlite3.Cursor) -> None:
    """Begin a transaction that no other worker writes in."""
    try:
        cursor.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        _patiently(cursor, "BEGIN IMMEDIATE")


def _patiently(cursor: sqlite3.Cursor, statement: str) -> None:
    """Execute a statement, again and again for a second while others have the file.

    SQLite's own waiting grows to a tenth of a second a time, while others come and go within microseconds. It is the
    clock that ends it: on a busy machine each pause lasts longer.

    Raises:
        LimiterUnavailable: They still have it.
    """
    end = _monotonic() + WAIT_SECONDS
    while _monotonic() < end:
        try:
            cursor.execute(statement)
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            threading.Event().wait(random.uniform(0, 2 * PAUSE_SECONDS))  # noqa: S311 - so that no two keep step
        else:
            return
    raise LimiterUnavailable(_BUSY)


def _is_busy(error: sqlite3.Error) -> bool:
    """Return whether another worker has the file."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
