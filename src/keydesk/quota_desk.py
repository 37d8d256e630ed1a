"""Core: the half of a desk that deals with quotas: reserving, refilling, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .allowances import Allowance
from .clock import Clock
from .errors import InvalidField, LimiterUnavailable, StoreReadOnly
from .events import QuotaRefilled
from .keys.limits import MAX_COUNT, Period, check_cost
from .keys.record import Key, parse_actor
from .keys.secret import shown
from .lookup import get_in_force
from .ports import Balance, KeyStore, QuotaStore
from .quotas import Credits, Reservation
from .terms import Terms


@dataclass(frozen=True, slots=True)
class QuotaBalance:
    """What is left of one quota in the period that runs.

    Attributes:
        policy: The name of the quota on the wire, such as `10000/month quota`.
        count: How many credits there are in each period.
        refilled: How many more there are in this one.
        leased: How many were handed out to workers. All of these are spent, or will be, or are lost.
        resets_at: When the next period begins; None where none does.
    """

    policy: str
    count: int
    refilled: int
    leased: int
    resets_at: datetime | None

    @property
    def left(self) -> int:
        """How many are left to be handed out."""
        return max(0, self.count + self.refilled - self.leased)


class QuotaDesk:
    """What a desk does with quotas; its `quotas`.

    Args:
        store: Of the keys.
        quotas: Of the credits; None where this store has none.
        credits_: Takes credits from limiter and store; None where nothing is limited.
        terms: Says what quotas a key has.
        clock: What tells the time.
    """

    def __init__(
        self, store: KeyStore, quotas: QuotaStore | None, credits_: Credits | None, terms: Terms, clock: Clock
    ) -> None:
        self._store = store
        self._quotas = quotas
        self._credits = credits_
        self._terms = terms
        self._clock = clock

    def reserve(self, key: Key | str, credits_: int) -> Reservation:
        """Take credits from all quotas of a key, for work whose cost is known afterwards.

        Args:
            key: The key or its id.
            credits_: The most that the work can cost; 0 to 1,000,000.

        Raises:
            InvalidField: The number is out of range.
            Refused: A quota has not as many left. Its `decision` says which, and when there are more.
            KeyNotFound: No key has this id.
            LimiterUnavailable: The limiter does not answer, or this store has no quotas.
            StoreUnavailable: The store does not answer.
        """
        check_cost(credits_)
        if self._credits is None:
            raise LimiterUnavailable("this desk has no limiter; open it with keydesk.open_desk")
        key = self._judged(key)
        return self._credits.reserve(key, self._terms.allowances_of(key), credits_, self._clock.now())

    def refill(self, key_id: str, credits_: int, *, period: str = Period.TOTAL, actor: str = "python") -> QuotaBalance:
        """Add credits to a quota of a key, for the period that runs.

        Args:
            key_id: Which key.
            credits_: 1 to 10**12.
            period: Which of its quotas: `day`, `month` or `total`; where it has several of them, what one is called,
                such as `10000/month Europe/Rome` or `100000/month quota per owner`.
            actor: Who does so.

        Raises:
            InvalidField: The number, the period or the actor cannot be used, or the key has no such quota, or several.
            KeyNotFound: No key has this id.
            StoreReadOnly: This store has no quotas.
            StoreUnavailable: The store does not answer.
        """
        if not isinstance(credits_, int) or isinstance(credits_, bool) or not 1 <= credits_ <= MAX_COUNT:
            raise InvalidField("credits", f"must be a whole number from 1 to {MAX_COUNT}, not {credits_!r}")
        actor, key, now = parse_actor(actor), get_in_force(self._store, key_id), self._clock.now()
        allowance = _the_one(key, self._terms.allowances_of(key), period)
        term = allowance.at(now)
        details = {
            "quota": str(allowance.quota),
            "holder": allowance.holder,
            "credits": credits_,
            "period_start_at": term.start_at.isoformat(),
        }
        event = QuotaRefilled(at=now, actor=actor, key_id=key.id, owner=key.owner, details=details)
        return _balance(allowance, now, self._writable().refill(term.account, credits_, event))

    def balances(self, key: Key | str) -> list[QuotaBalance]:
        """Return what is left of each quota of a key.

        Args:
            key: The key or its id.

        Raises:
            KeyNotFound: No key has this id.
            StoreReadOnly: This store has no quotas.
            StoreUnavailable: The store does not answer.
        """
        now = self._clock.now()
        allowances = self._terms.allowances_of(self._judged(key))
        return [_balance(each, now, self._writable().balance(each.at(now).account)) for each in allowances]

    def _judged(self, key: Key | str) -> Key:
        if isinstance(key, str) or (key.agreed is None and (key.plan or key.owner)):  # as `get_key` returns it
            return get_in_force(self._store, key if isinstance(key, str) else key.id)
        return key

    def _writable(self) -> QuotaStore:
        if self._quotas is None:
            raise StoreReadOnly("Quotas need a store that counts them: set KEYDESK_STORE to a database.")
        return self._quotas


def _the_one(key: Key, allowances: Sequence[Allowance], named: str) -> Allowance:
    """Return the quota of a period, or of a name.

    Raises:
        InvalidField: The key has none, or several.
    """
    found = [each for each in allowances if named in (each.quota.period, each.policy, _short(each))]
    if not found:
        problem = f"{key.id} has no quota {shown(str(named), 64)}; `keydesk quotas` shows which it has"
        raise InvalidField("period", problem)
    if len(found) > 1:
        several = ", ".join(map(_short, found))
        raise InvalidField("period", f"{key.id} has several quotas per {named}; name one of {several}")
    return found[0]


def _short(allowance: Allowance) -> str:
    return allowance.policy.removesuffix(" quota")


def _balance(allowance: Allowance, now: datetime, balance: Balance) -> QuotaBalance:
    end_at = allowance.at(now).end_at
    return QuotaBalance(allowance.policy, allowance.quota.count, balance.refilled, balance.leased, end_at)
