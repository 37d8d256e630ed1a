"""Room cli: `prune` and `db`, for whoever looks after the store."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol, runtime_checkable

import click

from .command import Group, command
from .context import Run, actor
from .presence import existing_desk
from .progress import progress_bar
from .text import cell, counted, span
from .types import Duration


@runtime_checkable
class Upgradable(Protocol):
    """A store with tables, which change from version to version."""

    def upgrade(self) -> tuple[str | None, str]:
        """Bring the tables to this code's version. Return the revisions before and after."""
        ...


@command("prune", examples=("keydesk prune", "keydesk prune --older-than 2w"))
@click.option(
    "--older-than",
    type=Duration(),
    default="90d",
    show_default=True,
    help="How long ago they ended at least: 45s, 30m, 24h, 90d or 2w.",
)
def prune(run: Run, older_than: timedelta) -> None:
    """Remove what ended long enough ago.

    That is keys that were revoked or expired, and secrets that were rotated away. Their events stay. With --json, a
    document with the members `deleted_keys` and `shortened_keys`.
    """
    deleted = shortened = 0
    with existing_desk(run) as desk, progress_bar(run, "Pruning") as bar:
        for _, kind in desk.prune(ended_for=older_than, actor=actor()):
            deleted += kind == "key.deleted"
            shortened += kind == "key.pruned"
            bar(deleted + shortened, None)
    run.show(
        {"deleted_keys": deleted, "shortened_keys": shortened},
        lambda: cell(
            f"{counted(deleted, 'key')} deleted that ended over {span(older_than)} ago; secrets that were rotated away "
            f"so long ago dropped from {counted(shortened, 'other key')}."
        ),
    )


@click.group("db", cls=Group, examples=("keydesk db upgrade",))
def db() -> None:
    """Look after the tables of the database."""


@command("upgrade", examples=("keydesk db upgrade",))
def upgrade(run: Run) -> None:
    """Make the tables, or bring them to this version of Keydesk. Where that is done already, it does nothing.

    With --json, a document with the members `before` and `after`: revisions, null where there are none.
    """
    with run.open_desk() as desk:
        before, after = desk.store.upgrade() if isinstance(desk.store, Upgradable) else (None, None)
    if after is None:
        text = "This store has no tables; there is nothing to do."
    elif before == after:
        text = f"The tables are at revision {after} already."
    else:
        text = f"The tables are at revision {after} now" + (f"; they were at {before}." if before else ".")
    run.show({"before": before, "after": after}, lambda: cell(text))


db.add_command(upgrade)
