"""Room cli: the options that `issue` and `update` share. A type for each field, and what its help says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .types import FieldValue

F = TypeVar("F", bound=Callable[..., Any])

NAME = FieldValue("name", "name")
_OWNER = FieldValue("owner", "owner")
_DESCRIPTION = FieldValue("description", "text")
_SCOPE = FieldValue("scopes", "scope")
_NETWORK = FieldValue("networks", "cidr")
_LIMIT = FieldValue("limits", "limit")
_QUOTA = FieldValue("quotas", "quota")


def about_options(function: F) -> F:
    """Add `--owner` and `--description`."""
    function = click.option("--description", type=_DESCRIPTION, help="What it is for; at most 2000 characters.")(
        function
    )
    return click.option("--owner", type=_OWNER, help="Whose it is: a user, a team, a customer.")(function)


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
