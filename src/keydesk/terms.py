"""Core: the terms of a key: which limits its requests are under, and whose requests each of them counts together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from .allowances import Allowance
from .claims import Claim, Claims
from .keys.effective import smallest, tightest
from .keys.limits import Limit, Quota
from .keys.record import Key, KeyFields


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

    def claims_of(self, key: Key) -> Claims:
        """Return what each request of a key asks of its limits and of those that its owner's keys share.

        Args:
            key: As it is judged, with its plan folded in: see `keydesk.keys.effective`.
        """
        home = _home(key)
        own = _claims(self.limits_of(key), f"{home}{key.id}")
        shared = key.agreed.owner if key.agreed else None
        # No id of a key reads `owner`, so nothing of a key's is counted there.
        return Claims(own + _claims(shared.limits, f"{home}owner", " per owner") if shared else own)

    def limits_of(self, key: KeyFields) -> tuple[Limit, ...]:
        """Return the limits of a key alone: those it states or its plan does, or else the default ones."""
        return key.limits or self._default_limits

    def quotas_of(self, key: Key) -> tuple[tuple[str, Quota], ...]:
        """Return the quotas a key is under, each with who holds it: `key:` and its id, or `owner:` and its owner.

        Args:
            key: As it is judged, with its plan folded in: see `keydesk.keys.effective`.
        """
        own = tuple((f"key:{key.id}", quota) for quota in smallest(key.quotas))
        shared = key.agreed.owner if key.agreed else None
        return (*own, *((f"owner:{key.owner}", quota) for quota in smallest(shared.quotas))) if shared else own

    def allowances_of(self, key: Key) -> tuple[Allowance, ...]:
        """Return the quotas that the requests of a key are taken from: of two for one period, the smaller.

        Args:
            key: As it is judged, with its plan folded in: see `keydesk.keys.effective`.
        """
        home = _home(key)
        return tuple(
            Allowance(quota, holder, home, " per owner" if holder.startswith("owner:") else "")
            for holder, quota in self.quotas_of(key)
        )

    def claims_in_view(self, key: Key, own: Claims, view: ViewLimits) -> Claims:
        """Return what a request of a key asks in one view: of the key's limits and of the view's."""
        subject = f"{_home(key)}{key.id}:{quote(view.view, safe='')}"
        return Claims((*own, *_claims(view.limits, subject, " per view")))


def _home(key: Key) -> str:
    """Return what all claims of a key and of its owner begin with: by this, a cluster keeps them in one place.

    Quoted, so that no owner is taken for another, whatever is in its name.
    """
    return f"{{{key.id}}}" if key.owner is None else f"{{owner:{quote(key.owner, safe='')}}}"


def _claims(limits: Iterable[Limit], subject: str, whose: str = "") -> list[Claim]:
    """Return a claim for each window: of two limits with the same one, the tighter holds for both."""
    return [Claim(f"{limit}{whose}", subject, limit.count, limit.window_seconds) for limit in tightest(limits)]
