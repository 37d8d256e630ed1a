"""Room cli: the options that `issue` and `update` share. A type for each field, and what its help says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from .types import FieldValue

F = TypeVar("F", bound=Callable[..., Any])

NAME = FieldValue("name", "name")
OWNER = FieldValue("owner", "owner")
PLAN = FieldValue("plan", "plan")
_DESCRIPTION = FieldValue("description", "text")
_SCOPE = FieldValue("scopes", "scope")
_NETWORK = FieldValue("networks", "cidr")
_LIMIT = FieldValue("limits", "limit")
_QUOTA = FieldValue("quotas", "quota")


def about_options(function: F) -> F:
    """Add `--owner`, `--description` and `--plan`."""
    plan = "The plan that bounds it: it may do what the plan grants, or of that what --scope says."
    function = click.option("--plan", type=PLAN, help=plan)(function)
    function = description_option("What it is for; at most 2000 characters.")(function)
    return click.option("--owner", type=OWNER, help="Whose it is: a user, a team, a customer.")(function)


def description_option(text: str) -> Callable[[F], F]:
    """Return a decorator that adds `--description`, with this help."""
    return click.option("--description", type=_DESCRIPTION, help=text)


def bundle_options(**helps: str) -> Callable[[F], F]:
    """Return a decorator that adds an option for each list, which may be given several times, and one that clears it.

    Args:
        helps: The help of each, by its field: `scopes`, `limits`, `quotas`.
    """
    kinds = {"scopes": _SCOPE, "limits": _LIMIT, "quotas": _QUOTA}

    def decorate(function: F) -> F:
        for field in reversed(helps):
            function = click.option(f"--no-{field}", is_flag=True, help=f"Take all {field} away.")(function)
        for field, text in reversed(helps.items()):
            option = click.option(
                f"--{field.removesuffix('s')}", field, type=kinds[field], multiple=True, help=f"{text} May be repeated."
            )
            function = option(function)
        return function

    return decorate


def changed_lists(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the lists to change of the options given: those that are replaced or cleared.

    Raises:
        click.UsageError: A list is both.
    """
    changed: dict[str, Any] = {}
    for name in names:
        if given[name] and given[f"no_{name}"]:
            raise click.UsageError(f"--no-{name} does not go with --{name.removesuffix('s')}; give one or the other.")
        if given[name] or given[f"no_{name}"]:
            changed[name] = list(given[name])
    return changed


def list_options(function: F) -> F:
    """Add the options that may be given several times: `--scope`, `--network`, `--limit` and `--quota`."""
    for name, kind, text in (
        (
            "--quota",
            _QUOTA,
            "So many requests per calendar period, such as 10000/month, 500/day Europe/Rome or 10000/total.",
        ),
        ("--limit", _LIMIT, "So many requests in any window of that length, such as 100/minute or 5 per 10 seconds."),
        (
            "--network",
            _NETWORK,
            "An address or network it may be used from, such as 203.0.113.0/24. Without any: from anywhere.",
        ),
        ("--scope", _SCOPE, "Something it may do, such as orders:read, orders:* or *."),
    ):
        field = f"{name.removeprefix('--')}s"
        function = click.option(name, field, type=kind, multiple=True, help=f"{text} May be repeated.")(function)
    return function
