"""Room cli: `events`, which shows what changed, and checks that nobody touched the record of it."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from ..events import ChainedEvent, ChainReport
from ..ports import MAX_PAGE
from .command import command
from .context import Run
from .presence import existing_desk
from .progress import progress_bar
from .text import WIDE_COLUMNS, cell, iso, listing, moment, record


@command(
    "events",
    examples=(
        "keydesk events",
        "keydesk events key_019a4b0c2d3e4f5061728394a5b6",
        "keydesk events --after 1200 --size 1000 --json",
        "keydesk events --verify",
    ),
)
@click.argument("key_id", metavar="[ID]", required=False)
@click.option("--after", type=click.IntRange(0), help="From the event after this number on; else the newest.")
@click.option(
    "--size", type=click.IntRange(1, MAX_PAGE), default=100, show_default=True, help="How many events to show at most."
)
@click.option(
    "--verify",
    is_flag=True,
    help="Walk the whole chain instead, and exit with 1 if an event was changed, removed or inserted.",
)
def events(run: Run, key_id: str | None, after: int | None, size: int, verify: bool) -> None:
    """Show the newest events, or verify the chain they form.

    Events of all keys or of one, in the order in which they happened. With --json, a document with the member
    `events`. With --verify, the number and the hash of the newest event are printed: written down elsewhere, they
    show later whether somebody rewrote the whole chain.
    """
    if verify:
        if key_id is not None or after is not None:
            raise click.UsageError("--verify walks all events; leave out the ID and --after.")
        return _verify(run)
    with existing_desk(run) as desk:
        if after is not None:
            rows = desk.list_events(after=after, key_id=key_id, size=size)
        else:
            rows = desk.list_newest_events(key_id=key_id, size=size)[::-1]
        if key_id is not None and not rows and after is None:
            desk.get_key(key_id)  # raises: every key of such a store has at least the event of its beginning
    if rows or run.as_json:
        run.show({"events": [_event_json(row) for row in rows]}, lambda: _table(rows, run.out.width, key_id is None))
    else:
        run.note("There are no events." if after is None else f"There are no events after {after}.")
    return None


def _event_json(row: ChainedEvent) -> dict[str, Any]:
    event = row.event
    return {
        "number": row.number,
        "at": iso(event.at),
        "kind": event.kind,
        "actor": event.actor,
        "key_id": event.key_id,
        "owner": event.owner,
        "details": event.details,
        "previous_hash": row.previous_hash,
        "hash": row.hash,
    }


def _table(rows: list[ChainedEvent], width: int, with_key: bool) -> Table:
    """Return one event a line; on a narrow terminal the details stand under the id of the key."""
    wide = width >= WIDE_COLUMNS
    table = listing()
    table.add_column("No", justify="right", no_wrap=True)
    table.add_column("When (UTC)", no_wrap=wide, width=None if wide else 10)
    table.add_column("What", no_wrap=True)
    table.add_column("Who", overflow="fold", max_width=40 if wide else 14)
    if wide and with_key:
        table.add_column("Key", no_wrap=True)
    table.add_column("Details" if wide or not with_key else "Key and details", overflow="fold")
    for row in rows:
        event = row.event
        details = _details(event.details)
        key = [event.key_id or event.owner or ""] if with_key else []
        last = [*key, details] if wide else ["\n".join(filter(None, [*key, details]))]
        cells = [str(row.number), moment(event.at), event.kind.removeprefix("key."), event.actor, *last]
        table.add_row(*map(cell, cells))
    return table


def _details(details: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {_value(value)}" for name, value in details.items())


def _value(value: Any) -> str:
    """Return a detail for people; `[before, after]` of an update, which alone may hold lists, as an arrow."""
    if isinstance(value, list) and len(value) == 2 and any(isinstance(item, list) or item is None for item in value):
        return f"{_value(value[0]) or 'none'} → {_value(value[1]) or 'none'}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _verify(run: Run) -> None:
    with existing_desk(run) as desk, progress_bar(run, "Walking the chain") as bar:
        report = desk.check_chain(lambda done, total: bar(done, total))
    answer = {
        "intact": report.problem is None,
        "rows": report.rows,
        "head_number": report.head_number,
        "head_hash": report.head_hash,
        "problem": report.problem,
        "broken_at": report.broken_at,
    }
    run.show(answer, lambda: _report_table(report))
    if report.problem is not None:
        run.refuse(
            f"The chain is broken: {report.problem}. Somebody wrote to keydesk_events or keydesk_chain_head past "
            "Keydesk. Keep a copy of the database, and compare with its backups and with heads that were noted down "
            "elsewhere. `keydesk doctor` says how to mend a head that is wrong."
        )
    if not run.as_json:
        run.note("The chain is whole. Note the head down elsewhere: it shows later whether all of it was rewritten.")


def _report_table(report: ChainReport) -> Table:
    table = record()
    table.add_row("events read", cell(str(report.rows)))
    table.add_row("head", cell(f"event {report.head_number}"))
    table.add_row("hash of the head", cell(report.head_hash))
    return table
