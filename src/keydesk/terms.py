"""Core: the terms of a key: which limits its requests are under, and whose requests each of them counts together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from .allowances import Allowance
from .claims import Claim
from .keys.limits import Limit, Quota
from .keys.record import Key


@dataclass(frozen=True, slots=True)
class ViewLimits:
    """The limits of one view, for each key that calls it.

    Attributes:
        view: What names the view among all that share a limiter, such as application and endpoint.
        limits: So many per sliding window.
    """

    view: str
    limits: tuple[Limit, ...]


class Terms:
    """What is agreed for all keys of a desk.

    Args:
        default_limits: For keys that state none.
    """

    def __init__(self, default_limits: tuple[Limit, ...] = ()) -> None:
        self._default_limits = default_limits

    def claims_of(self, key: Key) -> tuple[Claim, ...]:
        """Return what each request of a key asks of its limits."""
        return tuple(_claims(key.limits or self._default_limits, f"{_home(key)}{key.id}"))

    def allowances_of(self, key: Key) -> tuple[Allowance, ...]:
        """Return the quotas that the requests of a key are taken from: of two for one period, the smaller."""
        smallest: dict[tuple[str, str], Quota] = {}
        for quota in key.quotas:
            period = (str(quota.period), quota.zone)
            if period not in smallest or quota.count < smallest[period].count:
                smallest[period] = quota
        return tuple(Allowance(quota, f"key:{key.id}", _home(key)) for quota in smallest.values())

    def claims_in_view(self, key: Key, own: tuple[Claim, ...], view: ViewLimits) -> tuple[Claim, ...]:
        """Return what a request of a key asks in one view: of the key's limits and of the view's."""
        subject = f"{_home(key)}{key.id}:{quote(view.view, safe='')}"
        return (*own, *_claims(view.limits, subject, " per view"))


def _home(key: Key) -> str:
    """Return what all claims of a key and of its owner begin with: by this, a cluster keeps them in one place.

    Quoted, so that no owner is taken for another, whatever is in its name.
    """
    return f"{{{key.id}}}" if key.owner is None else f"{{owner:{quote(key.owner, safe='')}}}"


def _claims(limits: Iterable[Limit], subject: str, whose: str = "") -> list[Claim]:
    """Return a claim for each window: of two limits with the same one, the tighter holds for both."""
    tightest: dict[int, Limit] = {}
    for limit in limits:
        other = tightest.get(limit.window_seconds)
        if other is None or limit.count < other.count:
            tightest[limit.window_seconds] = limit
    return [Claim(f"{limit}{whose}", subject, limit.count, limit.window_seconds) for limit in tightest.values()]
