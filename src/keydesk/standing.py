"""Core: what a key is under in the end, with its plan and its owner, and where each part of it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .desk import Desk
from .keys.effective import under_plan
from .keys.record import KeyFields
from .keys.scopes import Scopes


@dataclass(frozen=True, slots=True)
class Standing:
    """What a key is under.

    Attributes:
        plan: The name of its plan; None for none.
        lost: Whether the store has no such plan, so that the key is let in nowhere.
        scopes: What it may do, its plan included.
        limits, quotas: Each, with what states it. All of them apply.
    """

    plan: str | None
    lost: bool
    scopes: Scopes
    limits: tuple[tuple[str, str], ...]
    quotas: tuple[tuple[str, str], ...]


def standing_of(desk: Desk, key: KeyFields) -> Standing:
    """Return what a key is under.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    plan = desk.plans.find(key.plan) if key.plan else None
    terms = desk.owners.find(key.owner) if key.owner else None
    lost = key.plan is not None and plan is None
    whole = under_plan(key, plan) if plan else key
    default = desk.terms.limits_of(whole) if not whole.limits else ()
    by_plan, by_owner = f"plan {key.plan}", f"owner {key.owner}, for all its keys together"
    return Standing(
        key.plan,
        lost,
        Scopes() if lost else whole.scopes,
        (
            *_from("key", key.limits),
            *_from(by_plan, plan.limits if plan else ()),
            *_from("KEYDESK_DEFAULT_LIMITS", default),
            *_from(by_owner, terms.limits if terms else ()),
        ),
        (
            *_from("key", key.quotas),
            *_from(by_plan, plan.quotas if plan else ()),
            *_from(by_owner, terms.quotas if terms else ()),
        ),
    )


def _from(source: str, values: Iterable[object]) -> tuple[tuple[str, str], ...]:
    return tuple((str(value), source) for value in values)
