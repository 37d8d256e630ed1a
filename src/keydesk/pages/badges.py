"""Room pages: the state of a key in a word, and what deserves a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..desk import Desk
from ..errors import KeydeskError
from ..keys.record import Key, Status
from ..usage import ALLOWED, Usage
from ..web.responses import EXPIRY_NOTICE

IDLE = timedelta(days=90)
NEAR = 5  # a fifth of a limit or a quota is left
OFTEN = 10  # refused requests, and
OFTEN_PART = 0.2  # of all of them

_TONES = {Status.ACTIVE: "good", Status.EXPIRED: "ended", Status.DISABLED: "ended", Status.REVOKED: "ended"}


@dataclass(frozen=True, slots=True)
class Badge:
    """A word about a key.

    Attributes:
        word: What is shown.
        tone: `good`, `look` or `ended`. The colour follows it; what it means stands in the word.
    """

    word: str
    tone: str


def badges_of(key: Key, now: datetime, counts: Sequence[Usage] = (), *, near: bool = False) -> tuple[Badge, ...]:
    """Return the words for a key: its state first.

    Args:
        key: The key.
        now: The present.
        counts: Its requests of the last hours.
        near: Whether little of one of its limits or quotas is left.
    """
    status = key.status_at(now)
    words = [Badge(status.value, _TONES[status])]
    if status is not Status.ACTIVE:
        return tuple(words)
    if key.expires_at is not None and key.expires_at - now <= EXPIRY_NOTICE:
        words.append(Badge("expiring", "look"))
    if any(secret.expires_at is not None and secret.expires_at > now for secret in key.secrets):
        words.append(Badge("rotating", "look"))
    if near:
        words.append(Badge("near its limit", "look"))
    if _is_refused_often(counts):
        words.append(Badge("refused often", "look"))
    if now - (key.last_used_at or key.created_at) >= IDLE:
        words.append(Badge("idle", "look"))
    return tuple(words)


def _is_refused_often(counts: Sequence[Usage]) -> bool:
    total = sum(usage.count for usage in counts)
    refused = sum(usage.count for usage in counts if usage.outcome != ALLOWED)
    return refused >= OFTEN and refused >= OFTEN_PART * total


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a limit or a quota.

    Attributes:
        policy: Its name, such as `100/minute`.
        most: How many there are in all.
        left: How many of them are left now.
        ends_at: When a quota begins anew; None for a limit, and where it never does.
    """

    policy: str
    most: int
    left: int
    ends_at: datetime | None = None

    @property
    def near(self) -> bool:
        """Whether little is left."""
        return self.left * NEAR <= self.most


def left_of(desk: Desk, key: Key) -> tuple[Left, ...]:
    """Return what is left of each limit and each quota of a key; nothing where nobody can say.

    Args:
        desk: Of the key.
        key: As it is judged.
    """
    found: list[Left] = []
    claims = desk.terms.claims_of(key)
    try:
        if claims and desk.limiter is not None:
            for standing in desk.limiter.take(claims, test=True).standings:
                found.append(Left(standing.claim.policy, standing.claim.most, standing.remaining))
        if desk.terms.allowances_of(key):
            for balance in desk.quotas.balances(key):
                most = balance.count + balance.refilled
                found.append(Left(balance.policy, most, balance.left, balance.resets_at))
    except KeydeskError:  # a page about a key is of use without it
        return tuple(found)
    return tuple(found)
