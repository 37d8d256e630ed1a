"""Room cli: `disable`, `enable`, `revoke` and `delete`, which switch a key off, on, off for good, and remove it."""

from __future__ import annotations

import click

from .command import command
from .context import Run, actor
from .presence import existing_desk
from .showing import key_json, key_table
from .text import cell


@command("disable", examples=("keydesk disable key_019a4b0c2d3e4f5061728394a5b6",))
@click.argument("key_id", metavar="ID")
def disable(run: Run, key_id: str) -> None:
    """Switch a key off until it is enabled again."""
    with existing_desk(run) as desk:
        key, now = desk.disable(key_id, actor=actor()), desk.clock.now()
    run.show(key_json(key, now), lambda: key_table(key, now))


@command("enable", examples=("keydesk enable key_019a4b0c2d3e4f5061728394a5b6",))
@click.argument("key_id", metavar="ID")
def enable(run: Run, key_id: str) -> None:
    """Switch a disabled key on again."""
    with existing_desk(run) as desk:
        key, now = desk.enable(key_id, actor=actor()), desk.clock.now()
    run.show(key_json(key, now), lambda: key_table(key, now))


@command(
    "revoke", examples=('keydesk revoke key_019a4b0c2d3e4f5061728394a5b6 --reason "found in a public repository"',)
)
@click.argument("key_id", metavar="ID")
@click.option("--reason", default="", help="Why; at most 500 characters.")
def revoke(run: Run, key_id: str, reason: str) -> None:
    """End a key for good, with all its secrets."""
    with existing_desk(run) as desk:
        key, now = desk.revoke(key_id, reason=reason, actor=actor()), desk.clock.now()
    run.show(key_json(key, now), lambda: key_table(key, now))


@command("delete", examples=("keydesk delete key_019a4b0c2d3e4f5061728394a5b6",))
@click.argument("key_id", metavar="ID")
def delete(run: Run, key_id: str) -> None:
    """Remove the record of a revoked key. Its events stay."""
    with existing_desk(run) as desk:
        desk.delete(key_id, actor=actor())
    run.show({"id": key_id, "deleted": True}, lambda: cell(f"{key_id} is deleted; its events stay."))
