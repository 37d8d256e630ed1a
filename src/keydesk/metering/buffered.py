"""Room metering: the meter. A request costs one tuple in memory; a thread writes what came together, in batches."""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty

from ..clock import Clock
from ..errors import StoreError
from ..ports import Mistake, UsageStore
from ..usage import Kept, Span
from . import ending
from .counts import FULL, Counts

logger = logging.getLogger("keydesk")

FORGET_EVERY_SECONDS = 3600
MAX_ADDRESS_CHARACTERS = 64
_NEVER = datetime.min.replace(tzinfo=UTC)
_NOT_BEGUN = (_NEVER, _NEVER)


class BufferedMeter:
    """Counts in memory and writes in the background; see `keydesk.ports.Meter`.

    Nothing is written and no thread is started before the first request of a process. A forked process begins anew.

    Args:
        store: Where counts are written.
        clock: What tells the time.
        flush_seconds: How often they are; as much is lost at most where a process is killed.
        kept: For how long counts are kept.
    """

    def __init__(self, store: UsageStore, clock: Clock, *, flush_seconds: float = 2, kept: Kept | None = None) -> None:
        self.writer = Writer(store, clock, flush_seconds, kept or Kept())
        self._begin()
        # A meter that is collected unclosed has its thread write the rest: here, inside of the collection, is no place.
        weakref.finalize(self, self.writer.end).atexit = False
        ending.begin_anew_in_forks(self)
        ending.watch_sigterm()

    def _begin(self) -> None:
        self._current = _NOT_BEGUN  # the end of this minute, and its beginning
        counts = self.writer.counts
        self._requests, self._mistakes, self._earlier = counts.requests, counts.mistakes.waiting, counts.earlier.waiting

    def count(self, key_id: str, outcome: str, now: datetime) -> None:
        """See `Meter.count`."""
        end, minute = self._current
        if not minute <= now < end:  # clocks are set back, too
            minute = self._turn(now)
        self._requests.append((key_id, outcome, minute))
        if len(self._requests) >= FULL:
            self.writer.settle()

    def count_mistake(self, mistake: Mistake, client_address: str | None, now: datetime) -> None:
        """See `Meter.count_mistake`."""
        end, minute = self._current
        if not minute <= now < end:
            minute = self._turn(now)
        self._mistakes.append((mistake, (client_address or "")[:MAX_ADDRESS_CHARACTERS], minute))
        if len(self._mistakes) >= FULL:
            self.writer.settle()

    def count_earlier(self, key_id: str, number: int, client_address: str | None, now: datetime) -> None:
        """See `Meter.count_earlier`."""
        end, minute = self._current
        if not minute <= now < end:
            minute = self._turn(now)
        self._earlier.append(((key_id, number), (client_address or "")[:MAX_ADDRESS_CHARACTERS], minute))
        if len(self._earlier) >= FULL:
            self.writer.settle()

    def _turn(self, now: datetime) -> datetime:
        """Go to the minute of a moment, and return its beginning."""
        minute = Span.MINUTE.start_of(now)
        self._current = (minute + Span.MINUTE.length, minute)
        self.writer.start()
        return minute

    def flush(self) -> None:
        """See `Meter.flush`."""
        self.writer.flush()

    def close(self) -> None:
        """See `Meter.close`."""
        self.writer.close()

    def begin_anew(self) -> None:
        """Forget everything, in a forked process: its parent has counted it."""
        self.writer.begin_anew()
        self._begin()


class Writer:
    """Writes what a meter counted, in a thread. The thread holds on to this and not to the meter.

    Args:
        store, clock, flush_seconds, kept: See `BufferedMeter`.
    """

    def __init__(self, store: UsageStore, clock: Clock, flush_seconds: float, kept: Kept) -> None:
        self._store = store
        self._clock = clock
        self._seconds = flush_seconds
        self._kept = kept
        self._closed = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Have nothing counted and no thread; in a forked process, its parent has both."""
        self.counts = Counts()
        self._thread: threading.Thread | None = None
        # Both may be asked for by the thread that holds them: what is collected while it does may end a desk.
        self._starting = threading.Lock()
        self._flushing = threading.RLock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._away = False
        self._forget_at: float | None = None

    def start(self) -> None:
        """Start the thread of this process, unless it runs."""
        if self._thread is not None or self._closed:
            return
        with self._starting:
            if self._thread is None:
                # Anew, as with `--preload` gevent puts its own in place only after the fork.
                self._wake, self._flushing = queue.SimpleQueue(), threading.RLock()
                thread = threading.Thread(target=self._run, name="keydesk-usage", daemon=True)
                ending.flush_at_end(self)
                with suppress(RuntimeError):  # at the exit of the process there are no new threads; nor need there be
                    thread.start()
                self._thread = thread

    def _run(self) -> None:
        while not self._closed:
            with suppress(Empty):
                self._wake.get(timeout=self._seconds)
            self.flush()
            self.forget()

    def settle(self) -> None:
        """Count what waits, and have it written soon if it is much."""
        if self.counts.settle() and self._wake.empty():
            self._wake.put(None)

    def flush(self) -> None:
        """Write what was counted. What is surely not written is kept; what may be written is not written again."""
        with self._flushing:
            batch = self.counts.take()
            if not batch:
                return
            try:
                self._store.add(batch)
            except StoreError as error:
                self.counts.give_back(batch)
                if not self._away:
                    logger.warning("Keydesk cannot write usage; it keeps it and tries again: %s", error)
                self._away = True
            except Exception:
                logger.exception("Keydesk lost the usage of the last seconds")
            else:
                if self._away:
                    logger.warning("Keydesk can write usage again")
                self._away = False

    def forget(self) -> None:
        """Remove counts that are old enough: some, once an hour, and some more each time while there are more."""
        monotonic = self._clock.monotonic()
        if self._closed or (self._forget_at is not None and monotonic < self._forget_at):
            return
        more, now = False, self._clock.now()
        try:
            for span, kept in self._kept.of():
                more = self._store.forget(span, now - kept) or more
        except StoreError as error:
            logger.info("Keydesk could not remove old usage; it tries again: %s", error)
        except Exception:
            logger.exception("Keydesk could not remove old usage")
        self._forget_at = monotonic if more else monotonic + FORGET_EVERY_SECONDS

    def end(self) -> None:
        """Have the thread write what is left, and end. It returns at once."""
        self._closed = True
        self._wake.put(None)

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self.end()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()
        self.flush()
        if self._away:  # the connection may have died in the meantime, and a new one be had
            self.flush()
        ending.leave(self)
