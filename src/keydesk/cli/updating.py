"""Room cli: `update`, which changes fields of a key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from .command import command
from .context import Run, actor
from .options import NAME, about_options, changed_lists, list_options
from .presence import existing_desk
from .showing import key_json, key_table
from .types import When, moment_of

F = TypeVar("F", bound=Callable[..., Any])

_LISTS = ("scopes", "networks", "limits", "quotas")


def _clearing_options(function: F) -> F:
    for name, after in zip(
        reversed(_LISTS),
        ("", "", "It may then be used from anywhere.", "It may then do nothing that needs one."),
        strict=True,
    ):
        function = click.option(f"--no-{name}", is_flag=True, help=f"Take all {name} away. {after}".rstrip())(function)
    return function


@command(
    "update",
    examples=(
        "keydesk update key_019a4b0c2d3e4f5061728394a5b6 --scope orders:read --scope orders:write",
        "keydesk update key_019a4b0c2d3e4f5061728394a5b6 --no-networks --expires never",
        'keydesk update key_019a4b0c2d3e4f5061728394a5b6 --owner ""',
        "keydesk update key_019a4b0c2d3e4f5061728394a5b6 --plan gold --no-scopes",
    ),
)
@click.argument("key_id", metavar="ID")
@click.option("--name", type=NAME, help="What the client is called.")
@about_options
@list_options
@_clearing_options
@click.option("--no-plan", is_flag=True, help="Take the plan away: the key then has what it states itself.")
@click.option(
    "--expires",
    type=When(never=True),
    help="When it ends: 90d, 24h, 30m, 2w or 45s from now, a date (its first moment in UTC), an ISO time with offset, "
    "or never.",
)
def update(run: Run, key_id: str, expires: timedelta | datetime | str | None, **given: Any) -> None:
    """Change fields of a key. What is not named stays.

    A list that is named is replaced as a whole: give every scope the key is to hold. An empty --owner or
    --description takes it away.
    """
    fields = _changes(given)
    if not fields and expires is None:
        raise click.UsageError("Nothing to change: name at least one field, such as --scope or --expires.")
    with existing_desk(run) as desk:
        if expires is not None:
            fields["expires_at"] = moment_of(expires, desk.clock.now())
        key = desk.update(key_id, actor=actor(), **fields)
        now = desk.clock.now()
    run.show(key_json(key, now), lambda: key_table(key, now))


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields to change of the options given.

    Raises:
        click.UsageError: A list is both replaced and cleared.
    """
    fields = {name: given[name] for name in ("name", "owner", "description", "plan") if given[name] is not None}
    if given["no_plan"]:
        if fields.get("plan"):
            raise click.UsageError("--no-plan does not go with --plan; give one or the other.")
        fields["plan"] = None
    return {**fields, **changed_lists(given, _LISTS)}
