"""Room stores: what is known of keys in this process, in front of any store. How old it may be is a promise.

Before a record is used, the store was asked for its position at most `max_staleness` ago, and every change up to there
was taken in. Nothing is trusted for a time: a record stays until a change of its key is seen, or room is needed.
See docs/explanation/consistency.md for each promise and the test that holds it.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import TypeAlias

from ..clock import Clock
from ..errors import StoreError, StoreUnavailable
from ..events import (
    KINDS,
    KeyDeleted,
    KeyDisabled,
    KeyEnabled,
    KeyPruned,
    KeyRevoked,
    KeyUpdated,
    QuotaReached,
    QuotaRefilled,
)
from ..forks import at_fork
from ..keys.record import Status
from ..keys.secret import MAX_SECRET_BYTES
from ..ports import MAX_PAGE, CacheState, FeedEntry, Found, KeyFinder, KeyStore, Mistake, Position

logger = logging.getLogger("keydesk")

WAIT_SECONDS = 2.0  # the longest a request waits for what another one is asking the store
RETRY_SECONDS = 1.0  # a store that did not answer is asked again at least so often, and within half of `max_staleness`
MAX_READS = 32  # of keys that are not known, at once
_MAX_ATTEMPTS = 3
_TOKEN_BYTES = 16

_MAKING = threading.Lock()  # nobody waits for anything while they hold it
_NEVER = -math.inf
_NO_ANSWER = "the store has not answered in time; try again in a moment"
# After these a text that no key had still belongs to none. After any other kind it may.
_NO_NEW_SECRET = frozenset(
    kind.kind
    for kind in (KeyDeleted, KeyDisabled, KeyEnabled, KeyPruned, KeyRevoked, KeyUpdated, QuotaReached, QuotaRefilled)
)

Token: TypeAlias = bytes


class _Read:
    """One read of the store, for all requests that miss the same text, and what changed while it went on."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.done: threading.Event | None = None  # made by the first who waits for it
        self.answered = False
        self.found: Found | Mistake = "unknown"
        self.error: StoreError | None = None
        self.changed: set[str] = set()
        self.new_secrets = False
        self.outdated = False

    def is_outdated(self) -> bool:
        """Return whether a change that has been taken in may have come after what was read."""
        if isinstance(self.found, str):
            return self.outdated or self.new_secrets
        return self.outdated or self.found.key.id in self.changed


class CachedFinder:
    """Finds keys among those known in this process, and asks the store for others.

    Texts are known by a keyed BLAKE2b (RFC 7693) under a random key of this process, which is kept nowhere: it costs
    a tenth of the digest the store needs, and says nothing to who reads the memory of another process.

    Args:
        store: Whose position is asked for.
        finder: What finds a key that is not known.
        clock: What tells the time.
        max_staleness: How old the last answer of the store may be when a record is used, in seconds; 0 asks for each.
        outage_grace: For how many seconds more known keys are good for while the store does not answer.
        size: How many texts are known at most, and how many are known to be nobody's; at least 1.
    """

    def __init__(
        self,
        store: KeyStore,
        finder: KeyFinder,
        clock: Clock,
        *,
        max_staleness: float,
        outage_grace: float,
        size: int,
    ) -> None:
        self._store = store
        self._finder = finder
        self._clock = clock
        self._monotonic = clock.monotonic
        self._max_staleness = max_staleness
        self._outage_grace = outage_grace
        # Sooner than what it answers must be in force: others go on meanwhile with what they know.
        self._retry_after = min(RETRY_SECONDS, max_staleness / 2)
        self._size = size
        self._begin()
        at_fork(self, CachedFinder._begin)

    def _begin(self) -> None:
        """Know nothing. A forked process begins anew: another thread may have been at work in here at that moment."""
        self._hash = blake2b(key=os.urandom(32), digest_size=_TOKEN_BYTES)
        self._known: OrderedDict[Token, Found] = OrderedDict()
        self._unknown: OrderedDict[Token, Mistake] = OrderedDict()
        self._tokens: dict[str, tuple[Token, ...]] = {}  # of each key that is known, by its id
        self._position: Position | None = None
        self._asked_at = _NEVER  # when the store was asked for the position that is known here
        self._due_at = _NEVER  # when it is to be asked again
        self._look_again = False
        self._failed_at = _NEVER  # when it last did not answer; never, if it has since
        self._problem: StoreError = StoreUnavailable(_NO_ANSWER)
        self._reads: dict[Token, _Read] = {}
        self._locked = False

    def _make_locks(self) -> None:
        """Make the locks, with the first request: with `--preload`, gevent puts its own in place after the fork."""
        with _MAKING:
            if not self._locked:
                self._asking = threading.Lock()
                self._changing = threading.Lock()
                self._room = threading.Condition(self._changing)  # for another read
                self._locked = True

    def find(self, text: str) -> Found | Mistake:
        """See `KeyFinder.find`.

        Raises:
            StoreUnavailable: The store does not answer, and the key is not known or the grace is over.
            SchemaMismatch: The tables are not those of this version.
        """
        if len(text) > MAX_SECRET_BYTES:
            return "malformed"
        try:
            presented = text.encode("ascii")
        except UnicodeEncodeError:
            return "malformed"
        hashed = self._hash.copy()
        hashed.update(presented)
        token = hashed.digest()
        due_at = self._due_at  # read first: a record that goes with an older answer of the store is the worse for it
        known = self._known.get(token)
        if known is not None and self._monotonic() < due_at:
            known.used = True
            return known
        return self._find(text, token, self._monotonic())

    def state(self) -> CacheState:
        """See `KeyFinder.state`."""
        never = self._asked_at == _NEVER
        return CacheState(len(self._known), None if never else self._monotonic() - self._asked_at)

    def look_again(self) -> None:
        """See `KeyFinder.look_again`."""
        self._look_again = True
        self._due_at = _NEVER

    def _find(self, text: str, token: Token, arrived: float) -> Found | Mistake:
        if not self._locked:
            self._make_locks()
        # Before what is known is taken: a change that is seen in between takes it away.
        current = arrived < self._due_at or self._look(arrived)
        known = self._known.get(token)
        if not current and (known is not None or not self._is_current(arrived)):
            return self._in_outage(known)
        if known is not None:
            known.used = True
            return known
        return self._unknown.get(token) or self._read(text, token, arrived)

    # How old what is known is

    def _is_current(self, arrived: float) -> bool:
        """Return whether the last answer of the store is young enough, or was asked for since a request arrived."""
        if self._look_again:
            return False
        return self._asked_at >= arrived or self._monotonic() - self._asked_at <= self._max_staleness

    def _look(self, arrived: float) -> bool:
        """Ask the store for its position if that is due, or wait for who does. Return whether it answered in time.

        Where it did not, it has done so within the grace.

        Raises:
            StoreUnavailable: It has never answered, or not for longer than the grace.
            SchemaMismatch: The tables are not those of this version.
        """
        if self._is_current(arrived):
            if self._monotonic() >= self._due_at and self._asking.acquire(blocking=False):
                self._ask_and_release(arrived)
        # In an outage one request asks now and then, and the others need not wait for it.
        elif self._asking.acquire(timeout=WAIT_SECONDS if self._failed_at == _NEVER else 0):
            self._ask_and_release(arrived)
        if self._is_current(arrived):
            return True
        problem = self._problem
        if self._monotonic() - self._asked_at > self._max_staleness + self._outage_grace:
            raise problem
        return False

    def _ask_and_release(self, arrived: float) -> None:
        try:
            if not self._is_current(arrived) or self._monotonic() >= self._due_at:
                self._ask()
        finally:
            self._asking.release()

    def _ask(self) -> None:
        """Ask the store for its position and take in what changed. That it does not answer is noted, not raised."""
        now = self._monotonic()
        if now - self._failed_at < self._retry_after:
            return
        changed_here, self._look_again = self._look_again, False
        try:
            self._take_in(self._store.position())
        except StoreError as error:
            self._look_again = self._look_again or changed_here
            if self._failed_at == _NEVER:
                logger.error("Keydesk goes on for %g seconds with the keys it knows: %s", self._outage_grace, error)
            self._failed_at, self._problem = self._monotonic(), error
            return
        if self._failed_at != _NEVER:
            logger.warning("Keydesk's store answers again; what changed in the meantime was taken in.")
        self._failed_at = _NEVER
        self._asked_at = now
        self._due_at = now + self._max_staleness / 2
        if self._look_again:  # somebody changed a key while this went on
            self._due_at = _NEVER

    def _take_in(self, position: Position) -> None:
        """Drop what is outdated at this position of the store."""
        if position == self._position:
            return
        feed = self._feed_up_to(position)
        with self._changing:
            if feed is None:
                self._forget_everything()
            else:
                position = Position(feed[-1].number, feed[-1].hash)
                if any(_about_many(entry) for entry in feed):
                    self._forget_everything()
                else:
                    changed = {entry.key_id for entry in feed}
                    self._forget(changed, new_secrets=any(entry.kind not in _NO_NEW_SECRET for entry in feed))
        self._position = position

    def _feed_up_to(self, position: Position) -> list[FeedEntry] | None:
        """Return the events since the position known here; None where they are too many or do not follow it."""
        known = self._position
        if known is None or not position.hash:  # which a store without events has not
            return None
        if not 0 < position.number - known.number <= MAX_PAGE:  # a restored backup can be behind
            return None
        feed = self._store.list_feed(after=known.number, size=MAX_PAGE)
        if not feed or feed[0].previous_hash != known.hash or feed[-1].number < position.number:
            return None
        return feed

    def _forget_everything(self) -> None:
        self._known.clear()
        self._tokens.clear()
        self._unknown.clear()
        for read in self._reads.values():
            read.outdated = True

    def _forget(self, changed: set[str], *, new_secrets: bool) -> None:
        for key_id in changed:
            for token in self._tokens.pop(key_id, ()):
                del self._known[token]
        if new_secrets:
            self._unknown.clear()
        for read in self._reads.values():
            read.changed |= changed
            read.new_secrets = read.new_secrets or new_secrets

    def _in_outage(self, known: Found | None) -> Found:
        """Return a key that is good by what was known last.

        Raises:
            StoreUnavailable: It is not known, or was not good: nobody can say what it is now.
        """
        problem = self._problem
        if known is not None:
            key, secret = known.key, known.secret
            now = self._clock.now()
            if key.status_at(now) is Status.ACTIVE and not secret.expired_at(now):
                return known
        raise problem

    # What is not known

    def _read(self, text: str, token: Token, arrived: float) -> Found | Mistake:
        """Read a key, once for all requests that miss it at the same time.

        Raises:
            StoreUnavailable: The store does not answer, or too many reads wait for it.
            SchemaMismatch: The tables are not those of this version.
        """
        oldest = arrived - self._max_staleness
        for _ in range(_MAX_ATTEMPTS):
            read, mine = self._begin_or_join(token)
            if mine:
                self._run(read, text, token)
            elif not (read.done and read.done.wait(WAIT_SECONDS)):
                raise StoreUnavailable(_NO_ANSWER)
            if read.began < oldest:  # somebody else's, from before what this request may still see
                continue
            if not read.answered:
                raise read.error or StoreUnavailable(_NO_ANSWER)
            if not read.is_outdated():
                break
        return read.found

    def _begin_or_join(self, token: Token) -> tuple[_Read, bool]:
        """Return the read of a text, and whether it is this request's to do.

        Raises:
            StoreUnavailable: Too many reads wait for the store.
        """
        reads = self._reads
        with self._changing:
            if len(reads) >= MAX_READS and not self._room.wait_for(
                lambda: token in reads or len(reads) < MAX_READS, WAIT_SECONDS
            ):
                raise StoreUnavailable(f"{MAX_READS} reads of the store wait for its answer; try again in a moment")
            read = reads.get(token)
            if read is None:
                read = reads[token] = _Read(self._monotonic())
                return read, True
            read.done = read.done or threading.Event()
            return read, False

    def _run(self, read: _Read, text: str, token: Token) -> None:
        try:
            found = self._finder.find(text)
            # What took long may be outdated. Changes that came meanwhile are noted with the read.
            slow = 0 < self._max_staleness < self._monotonic() - read.began
            if slow and not self._look(self._monotonic()):
                raise StoreUnavailable(_NO_ANSWER)
            read.found, read.answered = found, True
        except StoreError as error:
            read.error = error
        finally:
            with self._changing:
                if len(self._reads) >= MAX_READS:
                    self._room.notify_all()
                del self._reads[token]
                if read.answered and not read.is_outdated():
                    self._keep(token, read.found)
            if read.done:
                read.done.set()

    def _keep(self, token: Token, found: Found | Mistake) -> None:
        if isinstance(found, str):
            self._unknown[token] = found
            if len(self._unknown) > self._size:
                self._unknown.popitem(last=False)
            return
        self._known[token] = found
        key_id = found.key.id
        self._tokens[key_id] = (*self._tokens.get(key_id, ()), token)
        if len(self._known) > self._size:
            self._make_room()

    def _make_room(self) -> None:
        """Drop the key that was not used for the longest, as far as one bit can tell (the CLOCK of Corbató, 1969)."""
        for _ in range(len(self._known)):
            token, known = next(iter(self._known.items()))
            if not known.used:
                break
            known.used = False
            self._known.move_to_end(token)
        token, known = self._known.popitem(last=False)
        key_id = known.key.id
        others = tuple(other for other in self._tokens[key_id] if other != token)
        if others:
            self._tokens[key_id] = others
        else:
            del self._tokens[key_id]


def _about_many(entry: FeedEntry) -> bool:
    """Return whether an event may be about more keys than one: of a plan, of an owner, or of a kind not known here."""
    return not entry.key_id or entry.kind not in KINDS
