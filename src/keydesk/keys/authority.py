"""Room keys: what one key may give another. Nobody gives more than they hold."""

from __future__ import annotations

from datetime import datetime

from .limits import Limit, Quota
from .plans import PlanFields
from .record import Key, KeyFields, Status

# What a key may do with the keys of the desk itself.
KEYS_READ = "keydesk:keys:read"
KEYS_WRITE = "keydesk:keys:write"
USAGE_READ = "keydesk:usage:read"
EVENTS_READ = "keydesk:events:read"
PLANS_WRITE = "keydesk:plans:write"


def problems_of_caller(caller: Key, owner: str | None, now: datetime) -> list[str]:
    """Return why the caller may not touch any key of this owner; empty when it may."""
    problems = []
    if caller.status_at(now) is not Status.ACTIVE:
        problems.append(f"the caller's own key is {caller.status_at(now)}")
    if not caller.scopes.allow(KEYS_WRITE):
        problems.append(f"the caller needs the scope {KEYS_WRITE}")
    if caller.owner is not None and owner != caller.owner:
        problems.append(f"the caller may touch only keys of the owner {caller.owner!r}")
    return problems


def excess(caller: Key, wanted: KeyFields) -> list[str]:
    """Return in what the wanted fields go beyond what the caller holds; empty when in nothing.

    Args:
        caller, wanted: Both with their plans folded in, see `keydesk.keys.effective`.
    """
    problems = _scopes_beyond(caller, wanted)
    if not wanted.networks.within(caller.networks):
        problems.append(f"networks must lie within the caller's: {', '.join(caller.networks)}")
    if caller.expires_at is not None and (wanted.expires_at is None or wanted.expires_at > caller.expires_at):
        problems.append(f"expires_at must be no later than the caller's, {caller.expires_at.isoformat()}")
    if caller.environment != wanted.environment:
        problems.append(f"environment must be the caller's, {caller.environment}")
    return problems + _limits_beyond(caller, wanted)


def excess_under_same_plan(caller: Key, wanted: KeyFields) -> list[str]:
    """Return what the caller states itself and a key with the same plan would leave to that plan; empty for nothing.

    The plan may give no more than that today. What it will give tomorrow is then not for the caller, nor for the key.

    Args:
        caller, wanted: Both as they are stated, without the plan.
    """
    problems = []
    if caller.scopes and not wanted.scopes:
        problems.append("scopes must be stated, as the caller's are: those of its plan may become more")
    elif caller.scopes:
        problems += _scopes_beyond(caller, wanted)
    return problems + _limits_beyond(caller, wanted)


def problems_of_planner(caller: Key, now: datetime) -> list[str]:
    """Return why the caller may not change plans or owners' terms, which are for many keys; empty when it may."""
    problems = []
    if caller.status_at(now) is not Status.ACTIVE:
        problems.append(f"the caller's own key is {caller.status_at(now)}")
    if not caller.scopes.allow(PLANS_WRITE):
        problems.append(f"the caller needs the scope {PLANS_WRITE}")
    if caller.owner is not None:
        problems.append(f"the caller may touch only keys of the owner {caller.owner!r}")
    return problems


def excess_of_plan(caller: Key, plan: PlanFields) -> list[str]:
    """Return in what a plan goes beyond what the caller holds; empty when in nothing."""
    return _scopes_beyond(caller, plan) + _limits_beyond(caller, plan)


def _scopes_beyond(caller: Key, wanted: KeyFields | PlanFields) -> list[str]:
    scopes = wanted.scopes.beyond(caller.scopes)
    return [f"the caller does not hold {', '.join(scopes)}"] if scopes else []


def _limits_beyond(caller: Key, wanted: KeyFields | PlanFields) -> list[str]:
    problems = []
    for limit in caller.limits:
        if not any(_as_tight(mine, limit) for mine in wanted.limits):
            problems.append(f"limits must hold one at least as tight as the caller's {limit}")
    for quota in caller.quotas:
        if not any(_as_small(mine, quota) for mine in wanted.quotas):
            problems.append(f"quotas must hold one at least as small as the caller's {quota}")
    return problems


def _as_tight(mine: Limit, theirs: Limit) -> bool:
    """At most m in any window of length w admits at most n in any window of length v, if m <= n and w >= v."""
    return mine.count <= theirs.count and mine.window_seconds >= theirs.window_seconds


def _as_small(mine: Quota, theirs: Quota) -> bool:
    return mine.count <= theirs.count and (mine.period, mine.zone) == (theirs.period, theirs.zone)
