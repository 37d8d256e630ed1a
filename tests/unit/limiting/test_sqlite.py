"""Limits in a file of SQLite: several workers, a machine that went down, files that are not what they should be."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from keydesk.errors import LimiterUnavailable
from keydesk.limiting import sqlite
from keydesk.limiting.ledger import MOST_UNUSED
from keydesk.limiting.sqlite import SqliteLimiter
from keydesk.testing import ManualClock
from keydesk.testing.limiters import claim, credits_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.db"


@pytest.fixture
def limiter(path: Path, clock: ManualClock) -> Iterator[SqliteLimiter]:
    limiter = SqliteLimiter(path, clock)
    yield limiter
    limiter.close()


def _another(path: Path, clock: ManualClock, machine: str, monkeypatch: pytest.MonkeyPatch) -> SqliteLimiter:
    """Return what a worker opens after the machine has started anew."""
    boot_id = path.with_name(machine)
    boot_id.write_text(machine)
    monkeypatch.setattr(sqlite, "_BOOT_ID", boot_id)
    return SqliteLimiter(path, clock)


def test_file_is_made_for_its_owner_when_it_is_needed(limiter: SqliteLimiter, path: Path) -> None:
    """And not by who only looks: root, perhaps."""
    assert limiter.checks()[0].passed
    assert limiter.take([claim(5)], [credits_of()], test=True).violated == ("1000/month",)
    assert limiter.take([claim(5)], test=True, cost=6).violated == ("5/60",)
    assert not path.exists()
    limiter.take([claim(5)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_workers_count_together(limiter: SqliteLimiter, path: Path, clock: ManualClock) -> None:
    other = SqliteLimiter(path, clock)
    outcomes = [bool(each.take([claim(3)], [credits_of(1)]).violated) for each in (limiter, other) * 2]
    assert outcomes == [False, False, False, True]
    assert other.take([], [credits_of()], test=True).held == (1,)
    other.close()


def test_counts_outlive_the_machine_and_credits_do_not(
    limiter: SqliteLimiter, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of what was written last may not have reached the disk: spent credits would be there again."""
    limiter.take([claim(5)], [credits_of(10)], cost=4)
    limiter.close()
    later = ManualClock(clock.now())
    later.advance(30)
    later._monotonic = 5.0  # which begins anew with the machine
    again = _another(path, later, "second", monkeypatch)
    taken = again.take([claim(5)], [credits_of()], test=True, cost=0)
    assert (taken.standings[0].remaining, taken.held) == (1, (0,))
    assert taken.standings[0].reset_seconds == pytest.approx(60 - 30, abs=2)
    again.close()


def test_time_of_day_that_is_set_changes_nothing(limiter: SqliteLimiter, path: Path, clock: ManualClock) -> None:
    limiter.take([claim(5)], cost=5)
    clock._now = clock._now.replace(year=2031)
    other = SqliteLimiter(path, clock)
    assert other.take([claim(5)]).violated
    other.close()


def test_machine_without_a_boot_id(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BOOT_ID", path / "none")
    first, second = SqliteLimiter(path, clock), SqliteLimiter(path, clock)
    first.take([claim(5)], [credits_of(2)])
    clock.advance(1000)
    assert second.take([], [credits_of()]).held == (0,)
    first.close()
    second.close()


def test_what_has_ended_is_removed(limiter: SqliteLimiter, path: Path, clock: ManualClock) -> None:
    for number in range(500):
        limiter.take([claim(5, 10, f"{{{number}}}key")], [credits_of(1, f"{{{number}}}quota", 10)])
    clock.advance(20)
    for _ in range(64 * 10):
        limiter.take([claim(10**6, 60)])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM counters").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM pools").fetchone() == (0,)


def test_refused_and_tested_requests_write_nothing(limiter: SqliteLimiter, path: Path) -> None:
    limiter.take([claim(5)], cost=6)
    limiter.take([claim(5)], test=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM counters").fetchone() == (0,)


def test_refused_request_of_a_subject_that_is_counted_writes_nothing(limiter: SqliteLimiter, path: Path) -> None:
    limiter.take([claim(5)])
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("SELECT * FROM counters").fetchall(), path.with_name("limits.db-wal").stat().st_size
        for cost in (5, 6):
            assert limiter.take([claim(5)], cost=cost).violated
        after = connection.execute("SELECT * FROM counters").fetchall(), path.with_name("limits.db-wal").stat().st_size
    assert before == after
    assert limiter.take([claim(5)], cost=4).standings[0].remaining == 0


def test_request_that_is_broken_off_in_the_middle_takes_nothing(
    limiter: SqliteLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler of signals raises wherever the thread is, and what it raises is not to be lost in SQLite."""
    limiter.take([claim(5)])
    with monkeypatch.context() as patched:
        patched.setattr(sqlite, "settle", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            limiter.take([claim(5)])
    assert limiter.take([claim(5)]).standings[0].remaining == 3


def test_counter_of_a_long_window_is_kept_where_only_a_short_one_is_used(
    limiter: SqliteLimiter, path: Path, clock: ManualClock
) -> None:
    limiter.take([claim(5, 60), claim(100, 3600)])
    for _ in range(64):
        clock.advance(20)
        limiter.take([claim(5, 60)])
        limiter.take([claim(1, 60, "other")])
    assert limiter.take([claim(100, 3600)], test=True).standings[0].remaining == 99


def test_counter_takes_at_most_256_bytes(limiter: SqliteLimiter, path: Path) -> None:
    limiter.take([claim(5)])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT length(subject) + length(packed) + 8 FROM counters").fetchone()[0] <= 256


def test_worker_that_keeps_the_file_to_itself(
    limiter: SqliteLimiter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock ends the waiting, however long each pause comes to be on a busy machine."""
    limiter.take([claim(5)])
    times = count(0, sqlite.WAIT_SECONDS / 3)
    monkeypatch.setattr(sqlite, "_monotonic", lambda: next(times))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LimiterUnavailable, match="other workers had the limiter's file"):
            limiter.take([claim(5)])
    assert next(times) <= 2 * sqlite.WAIT_SECONDS
    assert limiter.take([claim(5)]).standings[0].remaining == 3


class _Turn:
    """A lock that says when somebody waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waited_for = threading.Event()
        self.release = self._lock.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking:
            self.waited_for.set()
        return self._lock.acquire(blocking, timeout)


def _first_and_second(limiter: SqliteLimiter, end: Callable[[], None]) -> list[BaseException | None]:
    """Let a thread take while another one has its turn, which comes to an end as said; return how they fared."""
    turn = _Turn()
    limiter._turn = turn  # type: ignore[assignment]
    taking, take_in_turn = threading.Event(), limiter._take_in_place

    def wait_until_awaited(*request: Any) -> Any:
        taking.set()
        if not turn.waited_for.is_set():
            assert turn.waited_for.wait(10)
            end()
        return take_in_turn(*request)

    limiter._take_in_place = wait_until_awaited  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(limiter.take, [claim(5)])
        assert taking.wait(10)
        second = threads.submit(limiter.take, [claim(5)])
        return [first.exception(10), second.exception(10)]


def test_threads_of_a_process_take_turns(limiter: SqliteLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would find the file locked by each other, and sleep until it is free."""
    limiter.take([claim(5)])
    monkeypatch.setattr(sqlite, "_patiently", lambda *_: pytest.fail("a thread of this process found the file locked"))
    assert _first_and_second(limiter, lambda: None) == [None, None]
    assert limiter.take([claim(5)]).standings[0].remaining == 1


def test_thread_that_waited_for_one_that_failed_fails_with_it(limiter: SqliteLimiter) -> None:
    """With many threads the last one would wait as often for a file that is not to be had."""

    def fail() -> None:
        raise sqlite3.DatabaseError("file is not a database")

    first, second = _first_and_second(limiter, fail)
    assert isinstance(first, LimiterUnavailable)
    assert isinstance(second, LimiterUnavailable)
    assert str(second) == str(first)
    assert "file is not a database" in str(first)
    assert limiter.take([claim(5)]).standings[0].remaining == 4


def test_turn_that_never_comes(limiter: SqliteLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "TURN_SECONDS", 0.01)
    with limiter._make_turn(), pytest.raises(LimiterUnavailable, match="other workers had the limiter's file"):
        limiter.take([claim(5)])
    assert limiter.take([claim(5)]).standings[0].remaining == 4


def test_file_that_others_open_and_close_stays_whole(limiter: SqliteLimiter, path: Path, clock: ManualClock) -> None:
    """A second connection of a process once took its locks away; who closed the file then removed its log."""
    limiter.take([claim(5)])
    second = SqliteLimiter(path, clock)
    second.take([claim(5)])
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM start'); c.close()"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.with_name("limits.db-wal").exists()
    assert limiter.take([claim(5)]).standings[0].remaining == 2
    second.close()


@pytest.mark.parametrize("content", [b"", b"no database" * 100, b"SQLite format 3\0" + b"\0" * 4080])
def test_file_that_is_something_else(path: Path, clock: ManualClock, content: bytes) -> None:
    path.write_bytes(content)
    limiter = SqliteLimiter(path, clock)
    if content:
        with pytest.raises(LimiterUnavailable, match=r"limits\.db cannot be used: .*; mend that"):
            limiter.take([claim(5)])
        assert not limiter.checks()[0].passed
    else:
        assert not limiter.take([claim(5)]).violated
        assert limiter.checks()[0].passed
    limiter.close()


def test_file_that_is_spoilt_is_left(limiter: SqliteLimiter, path: Path, clock: ManualClock) -> None:
    """A connection that was kept once failed after the file had been mended, and the outage began anew with it."""
    limiter.take([claim(5)])
    other = SqliteLimiter(path, clock)
    other.take([claim(5)])  # so that what the first one has in memory is of no use to it any more
    other.close()
    files = [path, path.with_name("limits.db-wal")]
    for file in files:
        with file.open("r+b") as opened:  # in place, as it is open
            opened.truncate(0)
            opened.write(b"nothing of ours" * 1000)
    with pytest.raises(LimiterUnavailable, match="mend that"):
        limiter.take([claim(5)])
    for file in files:
        file.unlink(missing_ok=True)
    assert [limiter.take([claim(5)]).standings[0].remaining for _ in range(2)] == [4, 3]


def test_folder_that_is_not_there(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(LimiterUnavailable, match="No such file"):
        SqliteLimiter(tmp_path / "none" / "limits.db", clock).take([claim(5)])


@pytest.mark.parametrize("packed", ["'x'", "5", "zeroblob(147)", "zeroblob(144)", "zeroblob(148)"])
def test_counter_that_somebody_changed(limiter: SqliteLimiter, path: Path, packed: str) -> None:
    limiter.take([claim(5)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE counters SET packed = {packed}")
    with pytest.raises(LimiterUnavailable, match="delete it"):
        limiter.take([claim(5)])


def test_limits_that_come_and_go_share_a_row(limiter: SqliteLimiter, path: Path, clock: ManualClock) -> None:
    """What was taken of a limit counts when it comes back; of one that does not, nothing is left in the end."""
    minute, hour, day = (claim(5, seconds) for seconds in (60, 3600, 86_400))
    limiter.take([minute, hour])
    limiter.take([day])
    taken = limiter.take([hour, minute])
    assert [each.remaining for each in taken.standings] == [3, 3]

    def size() -> int:
        with closing(sqlite3.connect(path)) as connection:
            ((length,),) = connection.execute("SELECT length(packed) FROM counters").fetchall()
            return int(length)

    assert size() == 3 * 148
    clock.advance(3600 * 33 / 32 + 1)
    assert limiter.take([day]).standings[0].remaining == 3
    assert size() == 148


def test_request_that_costs_nothing_of_a_subject_whose_limits_have_all_ended(
    limiter: SqliteLimiter, clock: ManualClock
) -> None:
    """It was answered with an error of Python: nothing was left to be written down."""
    limiter.take([claim(5, 60), claim(5, 3600)])
    clock.advance(86_400)
    assert limiter.take([claim(5, 60)], cost=0).standings[0].remaining == 5
    assert limiter.take([claim(5, 60)]).standings[0].remaining == 4


def test_row_of_a_subject_does_not_grow_with_each_limit_it_had(limiter: SqliteLimiter, path: Path) -> None:
    """It is read and written with each take: a key whose limits change often would hold up all others."""
    first = claim(5, 86_400)
    limiter.take([first])
    for seconds in range(1, 1000):
        limiter.take([claim(5, 86_400 + seconds)])
        if seconds % 50 == 0:
            limiter.take([first], cost=0)  # a limit that is in use is kept
    with closing(sqlite3.connect(path)) as connection:
        ((length,),) = connection.execute("SELECT length(packed) FROM counters").fetchall()
    assert length <= 148 * (MOST_UNUSED + 1)
    assert limiter.take([first]).standings[0].remaining == 3
    many = [claim(5, seconds) for seconds in range(60, 60 + 2 * MOST_UNUSED)]
    for remaining in (4, 3):
        assert {each.remaining for each in limiter.take(many).standings} == {remaining}


def test_counter_whose_numbers_do_not_fit(limiter: SqliteLimiter, path: Path, clock: ManualClock) -> None:
    """A file that was spoilt in the middle is a limiter that does not answer, and no error of another kind."""
    for _ in range(3):
        limiter.take([claim(5)])
        clock.advance(10)
    with closing(sqlite3.connect(path)) as connection, connection:
        ((packed,),) = connection.execute("SELECT packed FROM counters").fetchall()
        numbers = array("I", packed)
        numbers[3] = 1  # the sum
        connection.execute("UPDATE counters SET packed = ?", (numbers,))
    clock.advance(45)
    with pytest.raises(LimiterUnavailable, match="delete it"):
        limiter.take([claim(5)])
