"""Room keys: what a key may do under its plan. The plan bounds the key: a key narrows its plan and never widens it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar

from ..errors import InvalidField, StoreUnavailable
from .limits import Limit, Quota
from .plans import PlanFields
from .record import Key, KeyFields
from .scopes import Scopes

F = TypeVar("F", bound=KeyFields)


def under_plan(fields: F, plan: PlanFields) -> F:
    """Return the fields of a key with its plan folded in: what it may do, and all limits and quotas it is under.

    Its own scopes count as far as the plan grants them; where it states none, the plan's are its own.
    """
    return replace(fields, **_bounded(fields.scopes, fields.limits, fields.quotas, plan))


def in_force(key: Key) -> Key:
    """Return a key as its requests are judged: with its plan folded in.

    Args:
        key: As a store finds it by a digest, with what it is under.

    Raises:
        StoreUnavailable: The store has no such plan: somebody removed it there, past Keydesk. Nobody can say what the
            key may do.
    """
    if key.plan is None or key.in_force:
        return key
    plan = key.agreed.plan if key.agreed else None
    if plan is not None:
        return replace(key, in_force=True, **_bounded(key.scopes, key.limits, key.quotas, plan))
    if key.revoked_at is not None:  # its plan may be gone, and it may do nothing anyway
        return replace(key, scopes=Scopes(), in_force=True)
    raise StoreUnavailable(
        f"{key.id} has the plan {key.plan}, and the store has no such plan: it was removed there by hand. Make it "
        f"again with `keydesk plans put {key.plan}`, or take it off the key: `keydesk update {key.id} --no-plan`"
    )


# Many keys share a plan and state the same: mostly nothing. The values are immutable.
@lru_cache(maxsize=4096)
def _bounded(
    scopes: Scopes, limits: tuple[Limit, ...], quotas: tuple[Quota, ...], plan: PlanFields
) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "scopes": scopes.within(plan.scopes) if scopes else plan.scopes,
            "limits": tightest((*limits, *plan.limits)),
            "quotas": smallest((*quotas, *plan.quotas)),
        }
    )


def require_granted(fields: KeyFields, plan: PlanFields) -> None:
    """Return if a key states no scopes beyond those of its plan.

    Raises:
        InvalidField: It does.
    """
    beyond = fields.scopes.beyond(plan.scopes)
    if beyond:
        raise InvalidField(
            "scopes",
            f"the plan {fields.plan} does not grant {', '.join(beyond)}; leave that out, state no scopes to have all "
            "of the plan's, or add it to the plan",
        )


def tightest(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """Return one limit for each window: of two with the same one, the tighter holds for both."""
    found: dict[int, Limit] = {}
    for limit in limits:
        other = found.get(limit.window_seconds)
        if other is None or limit.count < other.count:
            found[limit.window_seconds] = limit
    return tuple(found.values())


def smallest(quotas: Iterable[Quota]) -> tuple[Quota, ...]:
    """Return one quota for each period: of two that differ in nothing but their count, the smaller holds for both."""
    found: dict[Quota, Quota] = {}
    for quota in quotas:
        period = replace(quota, count=0)
        other = found.get(period)
        if other is None or quota.count < other.count:
            found[period] = quota
    return tuple(found.values())
