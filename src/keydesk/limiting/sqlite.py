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
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ..claims import Claim, Pool, Taken
from ..clock import Clock
from ..decision import Check
from ..errors import LimiterUnavailable
from ..forks import at_fork
from ..private_files import make_private
from .window import BYTES, SLOTS, STEP, STEP_MICROSECONDS, Counter, go_on, new_counter, settle

PAUSE_SECONDS = 0.0005  # on average, before the file is asked for again while another worker has it
PAUSES = 2000  # so a request waits for about a second, and then the limiter counts as not answering
MAX_IDLE = 64
_SWEEP_EVERY = 64  # takes
_SWEPT_AT_ONCE = 128  # entries that are looked at then: twice as many as can have come

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TABLES = (
    "CREATE TABLE IF NOT EXISTS windows (name TEXT PRIMARY KEY, ends_at INTEGER NOT NULL, counter BLOB NOT NULL) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS pools (name TEXT PRIMARY KEY, ends_at INTEGER NOT NULL, credits INTEGER NOT NULL) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS start (id INTEGER PRIMARY KEY CHECK (id = 1), machine TEXT NOT NULL, "
    "began_at INTEGER NOT NULL)",
)


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
        self._idle: deque[sqlite3.Connection] = deque()
        self._began_at: int | None = None  # of the clock of this machine's start, by the time of day; microseconds
        self._takes = 0
        self._swept: dict[str, str] = {"windows": "", "pools": ""}
        at_fork(self, SqliteLimiter._leave, close=SqliteLimiter.close)  # why: see forks.py

    def take(self, claims: Sequence[Claim], pools: Sequence[Pool] = (), *, cost: int = 1, test: bool = False) -> Taken:
        """See `Limiter.take`.

        Raises:
            LimiterUnavailable: The file cannot be used, or other workers had it for a second.
        """
        if test and not self.path.exists():
            # Whoever only looks makes no file: one of root's the workers could not write.
            return settle(
                claims, [new_counter(0) for _ in claims], pools, [0] * len(pools), now=0, cost=cost, test=True
            )
        connection = self._connection()
        try:
            _begin(connection)
            taken = self._take(connection, claims, pools, cost, test)
            connection.execute("COMMIT")
        except BaseException as error:
            connection.close()  # and with it ends the transaction
            if isinstance(error, sqlite3.Error):
                self.close()  # what is wrong with the file is so for all who have it open
                raise LimiterUnavailable(self._problem(error)) from None
            raise
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return taken

    def _take(
        self, connection: sqlite3.Connection, claims: Sequence[Claim], pools: Sequence[Pool], cost: int, test: bool
    ) -> Taken:
        now = self._now()  # not before it is this worker's turn, or another would be further on already
        names = [f"{subject}:{seconds}" for _, subject, _, seconds in claims]  # side by side in the file: one page
        counters = self._counters(connection, claims, names, now) if claims else []
        held = self._held(connection, pools) if pools else []
        taken = settle(claims, counters, pools, held, now=now, cost=cost, test=test)
        if claims and not taken.violated and not test:
            rows: list[Any] = []
            for name, claim, counter in zip(names, claims, counters, strict=True):
                rows += (name, now + claim.window_seconds * STEP_MICROSECONDS * SLOTS, counter)
            connection.execute(_put("windows", len(claims)), rows)
        if pools:
            rows = []
            for pool, credits_ in zip(pools, held, strict=True):
                rows += (pool.subject, now + pool.seconds * 1_000_000, credits_)
            connection.execute(_put("pools", len(pools)), rows)
        self._takes += 1
        if self._takes % _SWEEP_EVERY == 0:
            self._sweep(connection, now)
        return taken

    def _now(self) -> int:
        assert self._began_at is not None
        return self._began_at + round(self._clock.monotonic() * 1_000_000)

    def _counters(
        self, connection: sqlite3.Connection, claims: Sequence[Claim], names: list[str], now: int
    ) -> list[Counter]:
        (found,) = connection.execute(_find("windows", "counter", len(names)), names)
        counters = []
        for claim, packed in zip(claims, found, strict=True):
            step = now // (claim.window_seconds * STEP_MICROSECONDS)
            if packed is None:
                counter = new_counter(step)
            elif isinstance(packed, bytes) and len(packed) == BYTES:
                counter = array("I", packed)
                if counter[STEP] != step:
                    go_on(counter, step)
            else:
                raise LimiterUnavailable(f"somebody changed {self.path}, which counts for limits; delete it")
            counters.append(counter)
        return counters

    def _held(self, connection: sqlite3.Connection, pools: Sequence[Pool]) -> list[int]:
        (found,) = connection.execute(_find("pools", "credits", len(pools)), [pool.subject for pool in pools])
        return [(credits_ or 0) + pool.deposit for pool, credits_ in zip(pools, found, strict=True)]

    def _sweep(self, connection: sqlite3.Connection, now: int) -> None:
        """Remove what has ended among the next few entries, in the order of their names."""
        for table, after in self._swept.items():
            last = f"SELECT name FROM {table} WHERE name > ? ORDER BY name LIMIT 1 OFFSET {_SWEPT_AT_ONCE}"  # noqa: S608
            row = connection.execute(last, (after,)).fetchone()
            until = row[0] if row else "\U0010ffff"
            ended = f"DELETE FROM {table} WHERE name > ? AND name <= ? AND ends_at < ?"  # noqa: S608
            connection.execute(ended, (after, until, now))
            self._swept[table] = until if row else ""

    # The file

    def _connection(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            make_private(self.path)
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
            self._set_up(connection)
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise LimiterUnavailable(self._problem(error)) from None
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        _patiently(connection, "PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        _begin(connection)
        for table in _TABLES:
            connection.execute(table)
        machine, monotonic = self._machine(), round(self._clock.monotonic() * 1_000_000)
        row = connection.execute("SELECT machine, began_at FROM start").fetchone()
        if row is None or row[0] != machine:
            # What was on its way to the disk when the machine went down may be missing: spent credits would be back.
            connection.execute("DELETE FROM pools")
            row = (machine, round(self._clock.now().timestamp() * 1_000_000) - monotonic)
            connection.execute("INSERT OR REPLACE INTO start VALUES (1, ?, ?)", row)
        connection.execute("COMMIT")
        self._began_at = row[1]

    def _machine(self) -> str:
        """Return what names this start of the machine: from another, durations of the clock mean something else."""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:  # no Linux; to the minute, as this moves while the time of day is corrected
            return str((self._clock.now().timestamp() - self._clock.monotonic()) // 60)

    def _problem(self, error: Exception) -> str:
        first_line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return f"the limiter's file {self.path} cannot be used: {first_line}; mend that, or name another limiter"

    def _leave(self) -> Any:
        """Leave the connections to the parent of a forked process; return them."""
        inherited, self._idle = self._idle, deque()
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
        with suppress(IndexError):  # another thread may be at it too
            while True:
                self._idle.pop().close()


@cache
def _find(table: str, value: str, names: int) -> str:
    """Return what finds the values of so many names: one row, with NULL where there is none."""
    # With `WHERE name IN (...)` SQLite makes a table of the names first, which takes half as long again.
    return f"SELECT {', '.join([f'(SELECT {value} FROM {table} WHERE name = ?)'] * names)}"  # noqa: S608 - names of ours


@cache
def _put(table: str, rows: int) -> str:
    marks = ", ".join(["(?, ?, ?)"] * rows)
    return f"INSERT OR REPLACE INTO {table} VALUES {marks}"  # noqa: S608 - a name of ours


def _begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction that no other worker writes in."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        _patiently(connection, "BEGIN IMMEDIATE")


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement, again and again for a second while others have the file.

    SQLite's own waiting grows to a tenth of a second a time, while others come and go within microseconds.

    Raises:
        LimiterUnavailable: They still have it.
    """
    for _ in range(PAUSES):
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            threading.Event().wait(random.uniform(0, 2 * PAUSE_SECONDS))  # noqa: S311 - so that no two keep step
        else:
            return
    raise LimiterUnavailable("other workers had the limiter's file for a second; set KEYDESK_LIMITER to a server")
