"""Core: the quotas of a key, and what each is called in the period that runs."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from .claims import Pool
from .keys.limits import Period, Quota

# A pool that nobody takes from for so long may be lost: part of one lease, of one limiter.
_KEPT_SECONDS = {Period.DAY: 2 * 86_400, Period.MONTH: 32 * 86_400, Period.TOTAL: 366 * 86_400}


class Account(NamedTuple):
    """One quota of one holder in one period, whatever its size: that can be changed meanwhile.

    Attributes:
        holder: `key:` and an id, or `owner:` and an owner.
        period: Of the quota.
        zone: The time zone it begins and ends in.
        start_at: When it began.
    """

    holder: str
    period: str
    zone: str
    start_at: datetime


class Term(NamedTuple):
    """A quota in one of its periods.

    Attributes:
        account, pool: What it is called in the store and in the limiter.
        start_at, end_at: From when, and until when; None where it does not end.
    """

    account: Account
    pool: Pool
    start_at: datetime
    end_at: datetime | None


class Allowance:
    """A quota of a key or of its owner.

    Args:
        quota: So many per period.
        holder: `key:` and an id, or `owner:` and an owner.
        home: What all claims of the key begin with, see `Claim.subject`.
        whose: What the name on the wire ends with.
    """

    __slots__ = ("_home", "_term", "holder", "policy", "quota")

    def __init__(self, quota: Quota, holder: str, home: str, whose: str = "") -> None:
        self.quota = quota
        self.holder = holder
        self.policy = f"{quota} quota{whose}"
        self._home = home
        self._term: Term | None = None

    def at(self, now: datetime) -> Term:
        """Return the term that a moment lies in."""
        term = self._term
        if term is None or now < term.start_at or (term.end_at is not None and now >= term.end_at):
            start_at, end_at = self.quota.period_at(now)
            account = Account(self.holder, str(self.quota.period), self.quota.zone, start_at)
            # With the size: credits that were leased from a larger quota are not for a smaller one.
            name = f"quota:{quote(self.holder, safe='')}:{self.quota}:{start_at:%Y-%m-%dT%H:%MZ}"
            pool = Pool(self.policy, f"{self._home}{name}", _KEPT_SECONDS[self.quota.period])
            term = self._term = Term(account, pool, start_at, end_at)
        return term
