"""Room cli: what a key is under in the end, with its plan and its owner, and where each part of it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from ..desk import Desk
from ..keys.effective import under_plan
from ..keys.record import Key
from ..keys.scopes import Scopes
from .text import cell


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


def standing_of(desk: Desk, key: Key) -> Standing:
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


def standing_json(standing: Standing) -> dict[str, Any]:
    """Return what a key is under as JSON values."""
    return {
        "scopes": list(standing.scopes),
        "limits": [{"limit": value, "from": source} for value, source in standing.limits],
        "quotas": [{"quota": value, "from": source} for value, source in standing.quotas],
    }


def add_standing(table: Table, standing: Standing) -> None:
    """Add what a key is under to the table of a key, where that is more than the key states itself."""
    if standing.lost:
        table.add_row("in force", cell(f"nothing: there is no plan {standing.plan}, and the key is let in nowhere"))
    elif standing.plan is not None:
        table.add_row("may do", cell("\n".join(standing.scopes) or "nothing that needs a scope"))
    for name, values in (("limits", standing.limits), ("quotas", standing.quotas)):
        if any(source != "key" for _, source in values):
            lines = "\n".join(f"{value} ({source})" for value, source in values)
            table.add_row(f"all {name}", cell(lines))
