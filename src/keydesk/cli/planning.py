"""Room cli: `plans`, bundles of scopes, limits and quotas that many keys share, and `owners`, who share some too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.console import RenderableType
from rich.table import Table

from ..keys.plans import OwnerTerms, Plan
from ..ports import MAX_PAGE
from .command import Group, command
from .context import Run, actor
from .options import OWNER, PLAN, bundle_options, changed_lists, description_option
from .presence import existing_desk
from .text import cell, iso, listing, moment, record

_PLAN_LISTS = ("scopes", "limits", "quotas")
_OWNER_LISTS = ("limits", "quotas")


@click.group("plans", cls=Group, examples=("keydesk plans list", "keydesk plans put gold --limit 100/minute"))
def plans() -> None:
    """Look after plans: named bundles of scopes, limits and quotas that many keys share.

    A change of a plan is in force for all its keys at once. A key may state less than its plan, never more.
    """


@command(
    "put",
    examples=(
        "keydesk plans put gold --scope orders:read --limit 100/minute --quota 10000/month",
        "keydesk plans put gold --limit 200/minute",
        "keydesk plans put gold --no-quotas",
    ),
)
@click.argument("name", type=PLAN)
@description_option("What it is for; at most 2000 characters.")
@bundle_options(
    scopes="Something its keys may do, such as orders:read, orders:* or *.",
    limits="So many requests per time for each of its keys, such as 100/minute.",
    quotas="So many requests per calendar period for each of its keys, such as 10000/month.",
)
def put_plan(run: Run, name: str, description: str | None, **given: Any) -> None:
    """Make the plan NAME, or change it. What is not named stays.

    A list that is named is replaced as a whole: give every scope that the plan is to grant. The change is in force for
    all keys of the plan.
    """
    fields = changed_lists(given, _PLAN_LISTS)
    with run.open_desk() as desk:
        plan = desk.plans.put(name, description=description, actor=actor(), **fields)
    run.show(_plan_json(plan), lambda: _plan_table(plan))


@command("list", examples=("keydesk plans list", "keydesk plans list --json"))
@click.option(
    "--size", type=click.IntRange(1, MAX_PAGE), default=100, show_default=True, help="How many plans to show at most."
)
@click.option("--after", default="", help="Only plans whose names come after this one.")
def list_plans(run: Run, size: int, after: str) -> None:
    """List plans, in the order of their names. With --json, a document with the member `plans`."""
    with existing_desk(run) as desk:
        found = desk.plans.list(after=after, size=size)
    rows = [[plan.name, _joined(plan.scopes), _joined(plan.limits), _joined(plan.quotas)] for plan in found]
    if rows or run.as_json:
        answer = {"plans": [_plan_json(plan) for plan in found]}
        run.show(answer, lambda: _table(("Name", "Scopes", "Limits", "Quotas"), rows))
    else:
        run.note("There are no plans. `keydesk plans put NAME` makes one." if not after else "There are no more plans.")
    if len(found) == size and not run.as_json:
        run.note(f"There may be more: keydesk plans list --size {size} --after {found[-1].name}")


@command("show", examples=("keydesk plans show gold",))
@click.argument("name", metavar="NAME")
def show_plan(run: Run, name: str) -> None:
    """Show one plan. `keydesk list --plan NAME` shows its keys."""
    with existing_desk(run) as desk:
        plan = desk.plans.get(name)
    run.show(_plan_json(plan), lambda: _plan_table(plan))


@command("delete", examples=("keydesk plans delete gold",))
@click.argument("name", metavar="NAME")
def delete_plan(run: Run, name: str) -> None:
    """Remove a plan that no key has. Its events stay."""
    with existing_desk(run) as desk:
        desk.plans.delete(name, actor=actor())
    run.show({"name": name, "deleted": True}, lambda: cell(f"The plan {name} is deleted; its events stay."))


@click.group("owners", cls=Group, examples=("keydesk owners list", "keydesk owners put acme --limit 1000/minute"))
def owners() -> None:
    """Look after what the keys of one owner share: limits and quotas that all of them use up together."""


@command(
    "put",
    examples=(
        "keydesk owners put acme --limit 1000/minute --quota 100000/month",
        "keydesk owners put acme --no-quotas",
    ),
)
@click.argument("owner", type=OWNER)
@bundle_options(
    limits="So many requests per time for all keys of the owner together, such as 1000/minute.",
    quotas="So many requests per calendar period for all keys of the owner together, such as 100000/month.",
)
def put_owner(run: Run, owner: str, **given: Any) -> None:
    """Agree on limits and quotas for all keys of OWNER together, or change them. What is not named stays.

    A list that is named is replaced as a whole.
    """
    fields = changed_lists(given, _OWNER_LISTS)
    with run.open_desk() as desk:
        terms = desk.owners.put(owner, actor=actor(), **fields)
    run.show(_owner_json(terms), lambda: _owner_table(terms))


@command("list", examples=("keydesk owners list", "keydesk owners list --json"))
@click.option(
    "--size", type=click.IntRange(1, MAX_PAGE), default=100, show_default=True, help="How many owners to show at most."
)
@click.option("--after", default="", help="Only owners that come after this one.")
def list_owners(run: Run, size: int, after: str) -> None:
    """List the owners whose keys share something. With --json, a document with the member `owners`."""
    with existing_desk(run) as desk:
        found = desk.owners.list(after=after, size=size)
    rows = [[terms.owner, _joined(terms.limits), _joined(terms.quotas)] for terms in found]
    if rows or run.as_json:
        answer = {"owners": [_owner_json(terms) for terms in found]}
        run.show(answer, lambda: _table(("Owner", "Limits", "Quotas"), rows))
    else:
        nothing = "Nothing was agreed for any owner. `keydesk owners put OWNER --limit 1000/minute` does."
        run.note(nothing if not after else "There are no more owners.")
    if len(found) == size and not run.as_json:
        run.note("There may be more: give the last one to --after.")


@command("show", examples=("keydesk owners show acme",))
@click.argument("owner", metavar="OWNER")
def show_owner(run: Run, owner: str) -> None:
    """Show what the keys of one owner share. `keydesk list --owner OWNER` shows the keys."""
    with existing_desk(run) as desk:
        terms = desk.owners.get(owner)
    run.show(_owner_json(terms), lambda: _owner_table(terms))


@command("delete", examples=("keydesk owners delete acme",))
@click.argument("owner", metavar="OWNER")
def delete_owner(run: Run, owner: str) -> None:
    """Let the keys of OWNER share nothing any more. The keys stay as they are."""
    with existing_desk(run) as desk:
        desk.owners.delete(owner, actor=actor())
    run.show({"owner": owner, "deleted": True}, lambda: cell(f"The keys of {owner} share nothing any more."))


plans.add_command(list_plans)
plans.add_command(show_plan)
plans.add_command(put_plan)
plans.add_command(delete_plan)
owners.add_command(list_owners)
owners.add_command(show_owner)
owners.add_command(put_owner)
owners.add_command(delete_owner)


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {"name": plan.name, "description": plan.description, "scopes": list(plan.scopes), **_shared_json(plan)}


def _owner_json(terms: OwnerTerms) -> dict[str, Any]:
    return {"owner": terms.owner, **_shared_json(terms)}


def _shared_json(of: Plan | OwnerTerms) -> dict[str, Any]:
    return {
        "limits": [str(limit) for limit in of.limits],
        "quotas": [str(quota) for quota in of.quotas],
        "created_at": iso(of.created_at),
        "updated_at": iso(of.updated_at),
        "version": of.version,
    }


def _plan_table(plan: Plan) -> RenderableType:
    table = record()
    table.add_row("name", cell(plan.name))
    if plan.description:
        table.add_row("description", cell(plan.description))
    table.add_row("scopes", cell("\n".join(plan.scopes) or "none"))
    return _with_shared(table, plan)


def _owner_table(terms: OwnerTerms) -> RenderableType:
    table = record()
    table.add_row("owner", cell(terms.owner))
    return _with_shared(table, terms)


def _with_shared(table: Table, of: Plan | OwnerTerms) -> Table:
    table.add_row("limits", cell("\n".join(map(str, of.limits)) or "none"))
    table.add_row("quotas", cell("\n".join(map(str, of.quotas)) or "none"))
    table.add_row("created", cell(f"{moment(of.created_at)} UTC"))
    if of.updated_at != of.created_at:
        table.add_row("updated", cell(f"{moment(of.updated_at)} UTC"))
    return table


def _joined(values: Any) -> str:
    return ", ".join(map(str, values)) or "none"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = listing()
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(cell, row))
    return table
