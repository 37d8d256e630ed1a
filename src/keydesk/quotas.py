"""Core: quotas. Credits are leased from the store in blocks, and spent from the limiter in one step with the limits."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from datetime import datetime

from .allowances import Allowance, Term
from .claims import Claim, Pool, Taken
from .clock import Clock
from .decision import Denied, Reason, Refused
from .errors import InvalidField, LimiterUnavailable, StoreError
from .events import QuotaReached
from .keys.record import Key
from .leases import percent_to_tell
from .ports import Limiter, QuotaStore

logger = logging.getLogger("keydesk")

ACTOR = "keydesk"  # of events that nobody caused by hand
USED_UP_SECONDS = 1.0  # for so long the store is not asked again whether there is more
_MOST_USED_UP = 10_000
_MAX_ATTEMPTS = 4  # others may take from a pool between two steps


class Credits:
    """Takes what a request costs from all limits and quotas of a key, or from none.

    Args:
        limiter: Where limits are counted and credits are spent.
        store: Where credits are leased; None where it has none: then no key with a quota is let in.
        clock: What tells the time.
    """

    def __init__(self, limiter: Limiter, store: QuotaStore | None, clock: Clock) -> None:
        self.limiter = limiter
        self._store = store
        self._clock = clock
        self._used_up: dict[str, tuple[float, int]] = {}  # by pool: until when, and what could not be had
        self._lock = threading.Lock()

    def take(
        self,
        key: Key,
        claims: Sequence[Claim],
        allowances: Sequence[Allowance],
        *,
        cost: int,
        test: bool,
        now: datetime,
    ) -> Taken:
        """Take a cost, or say what is in the way. Where only credits are missing, some are leased first.

        In what it returns `violated` names either limits or quotas that are used up.

        Raises:
            LimiterUnavailable: The limiter does not answer.
            StoreUnavailable: The store does not answer, and credits are needed.
            SchemaMismatch: The tables are not those of this version.
        """
        terms = [allowance.at(now) for allowance in allowances]
        pools = [term.pool for term in terms]
        for _ in range(_MAX_ATTEMPTS):
            taken = self.limiter.take(claims, pools, cost=cost, test=test)
            if not taken.violated:
                return taken
            short = [place for place, held in enumerate(taken.held) if held < cost]
            if len(taken.violated) > len(short):  # limits too: credits are not worth a question then
                return taken._replace(violated=taken.violated[: len(taken.violated) - len(short)])
            pools = [term.pool for term in terms]
            for place in short:
                credits_ = self._lease(key, allowances[place], terms[place], cost - taken.held[place], test)
                if credits_:
                    pools[place] = pools[place]._replace(deposit=credits_)
            missing = [place for place in short if not pools[place].deposit]
            if missing:
                self._put([pool for pool in pools if pool.deposit and not test])
                return _used_up(taken, [(allowances[place], terms[place]) for place in missing], cost, now)
            if test:
                return taken._replace(violated=(), retry_after=0.0)
        raise LimiterUnavailable("others take credits of this quota as fast as they come; try again in a moment")

    def reserve(self, key: Key, allowances: Sequence[Allowance], credits_: int, now: datetime) -> Reservation:
        """Take credits for work whose cost is known afterwards.

        Raises:
            Refused: A quota has not as many left.
            LimiterUnavailable: The limiter does not answer.
            StoreUnavailable: The store does not answer, and credits are needed.
            SchemaMismatch: The tables are not those of this version.
        """
        taken = self.take(key, (), allowances, cost=credits_, test=False, now=now)
        if taken.violated:
            raise Refused(Denied(Reason.QUOTA_EXCEEDED, key, taken=taken))
        return Reservation(self, [allowance.at(now).pool for allowance in allowances], credits_)

    def give_back(self, pools: Sequence[Pool], credits_: int) -> None:
        """Put credits back that were taken and not used. Where the limiter does not answer, they are lost."""
        self._put([pool._replace(deposit=credits_) for pool in pools])

    def _put(self, pools: Sequence[Pool]) -> None:
        if pools:
            try:
                self.limiter.take((), pools, cost=0)
            except LimiterUnavailable as error:
                logger.warning("Keydesk lost %d credits: %s", sum(pool.deposit for pool in pools), error)

    def _lease(self, key: Key, allowance: Allowance, term: Term, least: int, test: bool) -> int:
        """Return credits of the store's, at least so many, or 0; for a test, only whether there are any.

        Raises:
            LimiterUnavailable: This store has no quotas.
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if self._store is None:
            raise LimiterUnavailable("quotas need a store that counts them: set KEYDESK_STORE to a database")
        name, now = term.pool.subject, self._clock.monotonic()
        until, missed = self._used_up.get(name, (0.0, 0))
        if now < until and least >= missed:
            return 0
        count = allowance.quota.count
        if test:
            balance = self._store.balance(term.account)
            return max(0, count + balance.refilled - balance.leased - least + 1)
        granted, balance = self._store.lease(term.account, count, least)
        percent = percent_to_tell(balance, count, used_up=not granted)
        if percent:
            self._tell(key, allowance, term, percent)
        if not granted:
            with self._lock:
                if len(self._used_up) >= _MOST_USED_UP:
                    self._used_up.clear()
                self._used_up[name] = (now + USED_UP_SECONDS, least)
        return granted

    def _tell(self, key: Key, allowance: Allowance, term: Term, percent: int) -> None:
        """Write an event. Where that fails the next lease tries again."""
        assert self._store is not None
        details = {
            "quota": str(allowance.quota),
            "holder": allowance.holder,
            "percent": percent,
            "period_start_at": term.start_at.isoformat(),
        }
        event = QuotaReached(at=self._clock.now(), actor=ACTOR, key_id=key.id, owner=key.owner, details=details)
        try:
            self._store.tell(term.account, percent, event)
        except StoreError as error:
            logger.warning("Keydesk could not tell of a quota that is used up to %d%%: %s", percent, error)


class Reservation:
    """Credits that were taken for work whose cost is known afterwards, such as the tokens of a language model.

    As a context manager it keeps everything where nobody says otherwise, and gives everything back on an exception.
    What a process takes with it when it is killed stays taken. Only the process that reserved gives anything back: one
    that was forked from it meanwhile has the same reservation, and would give the same credits back once more.

    Args:
        credits_: Where they are from.
        pools: One for each quota they were taken from.
        reserved: How many.
    """

    def __init__(self, credits_: Credits, pools: Sequence[Pool], reserved: int) -> None:
        self.reserved = reserved
        self._credits = credits_
        self._pools = pools
        self._open = True
        self._process = os.getpid()
        self._lock = threading.Lock()

    def settle(self, cost: int) -> None:
        """Say what the work has cost in the end. The rest goes back; a second time nothing happens.

        Raises:
            InvalidField: It is no whole number from 0 to what was reserved.
        """
        if not isinstance(cost, int) or isinstance(cost, bool) or not 0 <= cost <= self.reserved:
            problem = f"must be a whole number from 0 to the {self.reserved} reserved, not {cost!r}"
            raise InvalidField("cost", f"{problem}; reserve the most that the work can cost")
        self._end(cost)

    def refund(self) -> None:
        """Give everything back: the work was not done. After `settle` nothing happens."""
        self._end(0)

    def _end(self, cost: int) -> None:
        if os.getpid() != self._process:
            return
        with self._lock:
            was_open, self._open = self._open, False
        if was_open and cost < self.reserved:
            self._credits.give_back(self._pools, self.reserved - cost)

    def __enter__(self) -> Reservation:
        """Return this."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        """Keep everything, or give it back where the work broke off."""
        self._end(0 if kind is not None else self.reserved)


def reason_of(taken: Taken) -> Reason:
    """Return why what `Credits.take` returned is a refusal."""
    limits = {claim.policy for claim in taken.claims}
    return Reason.RATE_LIMITED if limits.intersection(taken.violated) else Reason.QUOTA_EXCEEDED


def _used_up(taken: Taken, missing: Sequence[tuple[Allowance, Term]], cost: int, now: datetime) -> Taken:
    """Return a refusal that says until when; of a cost that is more than there is in a whole period, for good."""
    ends = [term.end_at if cost <= allowance.quota.count else None for allowance, term in missing]
    wait = None if None in ends else max((end - now).total_seconds() for end in ends if end is not None)
    return taken._replace(violated=tuple(allowance.policy for allowance, _ in missing), retry_after=wait)
