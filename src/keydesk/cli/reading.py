"""Room cli: `list` and `show`, which change nothing."""

from __future__ import annotations

import shlex
from contextlib import suppress
from datetime import timedelta
from typing import Any

import click
from rich.table import Table

from ..desk import Desk
from ..errors import StoreError
from ..keys.record import Key, Status
from ..ports import MAX_PAGE, Page
from ..standing import standing_of
from .command import command
from .context import Run
from .presence import existing_desk
from .showing import earlier_json, key_json, key_table, keys_table
from .standing import add_standing, standing_json
from .types import Duration
from .using import note_unshared


@command(
    "list",
    examples=(
        "keydesk list",
        "keydesk list --owner acme --status active",
        "keydesk list --text mobile --size 20",
        "keydesk list --idle 90d --status active",
        "keydesk list --plan gold",
        "keydesk list --json",
    ),
)
@click.option("--owner", help="Only keys of exactly this owner.")
@click.option("--plan", help="Only keys of this plan.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only keys in this state now.")
@click.option("--text", help="Only keys with this in their name, description, owner or id; case does not matter.")
@click.option(
    "--idle", type=Duration(), help="Only keys that are older than this and were not used for so long, such as 90d."
)
@click.option(
    "--size", type=click.IntRange(1, MAX_PAGE), default=100, show_default=True, help="How many keys to show at most."
)
@click.option("--cursor", help="Go on after an earlier list, which printed this cursor.")
def list_(
    run: Run,
    owner: str | None,
    plan: str | None,
    status: str | None,
    text: str | None,
    idle: timedelta | None,
    size: int,
    cursor: str | None,
) -> None:
    """List keys, newest first.

    With --json, a document with the members `keys` and `next_cursor`, which is null at the end.
    """
    with existing_desk(run) as desk:
        now = desk.clock.now()
        page = _full_page(
            desk,
            cursor,
            size,
            owner=owner,
            plan=plan,
            status=Status(status) if status else None,
            text=text,
            idle_since=now - idle if idle is not None else None,
        )
        if idle is not None:
            note_unshared(run, desk)
    answer = {"keys": [key_json(key, now) for key in page.keys] if run.as_json else [], "next_cursor": page.next_cursor}
    if page.keys or run.as_json:
        run.show(answer, lambda: keys_table(page.keys, now, run.out.width, with_use=idle is not None))
    elif owner or plan or status or text or idle is not None:
        run.note("No key fits. `keydesk list` without options shows all.")
    else:
        run.note('There are no keys yet. `keydesk issue "Name of the client"` makes one.')
    if page.next_cursor and not run.as_json:
        idle_text = f"{int(idle.total_seconds())}s" if idle is not None else None
        again = [
            ("--owner", owner),
            ("--plan", plan),
            ("--status", status),
            ("--text", text),
            ("--idle", idle_text),
            ("--size", str(size)),
        ]
        options = " ".join(f"{name} {shlex.quote(value)}" for name, value in again if value)
        run.note(f"There are more: keydesk list {options} --cursor {page.next_cursor}")


def _full_page(desk: Desk, cursor: str | None, size: int, **where: Any) -> Page:
    """Return so many keys, or all there are: a person who is told that no key fits looks no further."""
    found: list[Key] = []
    while True:
        page = desk.list_keys(**where, cursor=cursor, size=size - len(found))
        found += page.keys
        cursor = page.next_cursor
        if cursor is None or len(found) == size:
            return Page(tuple(found), cursor)


@command("show", examples=("keydesk show key_019a4b0c2d3e4f5061728394a5b6",))
@click.argument("key_id", metavar="ID")
def show(run: Run, key_id: str) -> None:
    """Show one key, and what it is under with its plan and its owner.

    Of its secrets there is only a hint: they are stored nowhere. With --json, the member `in_force` has the scopes,
    limits and quotas that its requests are judged by, and where each limit and quota comes from. Of secrets that a
    rotation has replaced, it says who used them within the last 24 hours; with --json in `earlier_secrets`.
    """
    with existing_desk(run) as desk:
        key, now = desk.get_key(key_id), desk.clock.now()
        standing = standing_of(desk, key)
        earlier = None
        with suppress(StoreError):  # a server tells it only to those who may read counts, and an older one to nobody
            if len(key.secrets) > 1:
                earlier = desk.earlier_secrets(key.id, since=now - timedelta(hours=24), size=MAX_PAGE)

    def table() -> Table:
        made = key_table(key, now, earlier)
        add_standing(made, standing)
        return made

    more = {"in_force": standing_json(standing), "earlier_secrets": earlier_json(key, earlier)}
    run.show({**key_json(key, now), **more}, table)
