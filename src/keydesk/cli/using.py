"""Room cli: `usage`, which shows who sends how many requests, with bars."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from ..desk import Desk
from ..usage import ALLOWED, MAX_TOP, MistakeReport, Range, Span, TopReport, UsageReport
from .command import command
from .context import Run
from .presence import existing_desk
from .text import WIDE_COLUMNS, cell, counted, iso, listing
from .types import Duration

_FORMATS = {Span.MINUTE: "%Y-%m-%d %H:%M", Span.HOUR: "%Y-%m-%d %H:%M", Span.DAY: "%Y-%m-%d"}
_BAR_COLUMNS = 30
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@command(
    "usage",
    examples=(
        "keydesk usage",
        "keydesk usage key_019a4b0c2d3e4f5061728394a5b6 --since 7d",
        "keydesk usage --top",
        "keydesk usage --top --since 24h --json",
    ),
)
@click.argument("key_id", metavar="[ID]", required=False)
@click.option("--since", type=Duration(), help="How far to look back, such as 7d. Else 24h, with --top 1h.")
@click.option("--top", is_flag=True, help="Who is sending all those requests: the keys that sent the most.")
@click.option(
    "--size", type=click.IntRange(1, MAX_TOP), default=10, show_default=True, help="How many keys --top shows at most."
)
def usage(run: Run, key_id: str | None, since: timedelta | None, top: bool, size: int) -> None:
    """Show how many requests were allowed and refused, of all keys or of one.

    By the minute up to two hours, by the hour up to two days, else by the day, in UTC. Without an ID, the texts
    that were no key's follow, by the network they came from. What other processes counted within the last seconds
    (KEYDESK_USAGE_FLUSH_SECONDS) is not there yet. With --json, a document with the member `usage`, or with --top
    `keys`, and with `mistakes`.
    """
    if top and key_id is not None:
        raise click.UsageError("--top compares all keys; leave out the ID.")
    with existing_desk(run) as desk:
        begin = desk.clock.now() - since if since is not None else None
        note_unshared(run, desk)
        if top:
            _show_top(run, desk.top_keys(since=begin, size=size), desk.mistakes(since=begin, size=size))
        else:
            _show_usage(run, desk, key_id, begin)


def note_unshared(run: Run, desk: Desk) -> None:
    """Say so where this command cannot see what others counted."""
    if desk.usage_store is not None and not desk.usage_store.shared:
        run.note(
            "With this store each process counts in its own memory, and this command sees only its own. Keys in a "
            "database are counted there: set KEYDESK_STORE to one, such as sqlite:///keydesk.db."
        )


def _show_usage(run: Run, desk: Desk, key_id: str | None, since: datetime | None) -> None:
    report = desk.usage(key_id, since=since)
    if key_id is not None and not report.counts:
        desk.get_key(
            key_id
        )  # raises: of a key that was deleted there may be counts, of one that never was there are none
    mistakes = desk.mistakes(since=report.range.since) if key_id is None else None
    answer = {
        "key_id": key_id,
        **_range_json(report.range),
        "totals": report.totals(),
        "usage": [{"start_at": iso(u.start_at), "outcome": u.outcome, "count": u.count} for u in report.counts],
    }
    if mistakes is not None:
        answer["mistakes"] = _mistakes_json(mistakes)
    if not run.as_json and not report.counts and not (mistakes and mistakes.total):
        return run.note(f"No requests counted {'yet' if since is None else 'in that time'}.")
    return run.show(answer, lambda: _usage_table(run, report, mistakes))


def _show_top(run: Run, report: TopReport, mistakes: MistakeReport) -> None:
    keys = [
        {
            "id": each.key_id,
            "name": each.key.name if each.key else None,
            "owner": each.key.owner if each.key else None,
            "count": each.count,
            "allowed": each.allowed,
            "share": round(each.count / report.total, 4),
        }
        for each in report.keys
    ]
    answer = {**_range_json(report.range), "total": report.total, "keys": keys, "mistakes": _mistakes_json(mistakes)}
    if not run.as_json and not report.total and not mistakes.total:
        return run.note("No requests counted in that time.")
    return run.show(answer, lambda: _top_table(run, report, mistakes))


def _range_json(range_: Range) -> dict[str, Any]:
    return {"span": str(range_.span), "since": iso(range_.since), "until": iso(range_.until)}


def _mistakes_json(report: MistakeReport) -> list[dict[str, Any]]:
    return [{"mistake": each.mistake, "network": each.network, "count": each.count} for each in report.networks]


def _usage_table(run: Run, report: UsageReport, mistakes: MistakeReport | None) -> RenderableType:
    by_start: defaultdict[datetime, Counter[str]] = defaultdict(Counter)
    for each in report.counts:
        by_start[each.start_at][each.outcome] += each.count
    most = max((outcomes.total() for outcomes in by_start.values()), default=0)
    table = listing()
    table.add_column(f"{report.range.span.capitalize()} (UTC)", no_wrap=True)
    table.add_column("Requests", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("Refused", overflow="fold")
    for start_at in report.range.starts():
        outcomes = by_start.get(start_at, Counter())
        good, total = outcomes[ALLOWED], outcomes.total()
        table.add_row(
            cell(start_at.strftime(_FORMATS[report.range.span])),
            cell(f"{total:,}"),
            _bar(run, [(good, "green"), (total - good, "red")], most),
            cell(_refusals(outcomes)),
        )
    totals = Counter(report.totals())
    refused = _refusals(totals)
    sentence = f"{counted(totals.total(), 'request')}, {totals[ALLOWED]:,} allowed"
    parts: list[RenderableType] = [table, cell(f"\n{sentence}{'; refused: ' + refused if refused else ''}.")]
    return Group(*parts, *(_mistake_parts(run, mistakes) if mistakes else []))


def _refusals(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common() if outcome != ALLOWED)


def _top_table(run: Run, report: TopReport, mistakes: MistakeReport) -> RenderableType:
    wide = run.out.width >= WIDE_COLUMNS
    table = listing()
    table.add_column("Id", no_wrap=True)
    table.add_column("Name", overflow="fold", min_width=8)
    table.add_column("Owner", overflow="fold")
    table.add_column("Requests", justify="right", no_wrap=True)
    table.add_column("Share", justify="right", no_wrap=True)
    if wide:
        table.add_column("Refused", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    most = max((each.count for each in report.keys), default=0)
    for each in report.keys:
        refused = each.count - each.allowed
        bar = _bar(run, [(each.allowed, "green"), (refused, "red")], most)
        table.add_row(
            cell(each.key_id or "others"),
            cell(each.key.name if each.key else "(deleted)" if each.key_id else "(not known any more)"),
            cell((each.key.owner if each.key else "") or ""),
            cell(f"{each.count:,}"),
            cell(f"{each.count / report.total:.0%}"),
            *([cell(f"{refused:,}"), bar] if wide else []),
        )
    since = report.range.since.strftime("%Y-%m-%d %H:%M")
    keys: Sequence[RenderableType] = (
        [table, cell(f"\n{counted(report.total, 'request')} of all keys since {since} UTC.")] if report.keys else []
    )
    return Group(*keys, *_mistake_parts(run, mistakes))


def _mistake_parts(run: Run, report: MistakeReport) -> list[RenderableType]:
    """Return the table of what was no key's, or nothing where nothing was."""
    if not report.total:
        return []
    table = listing()
    table.add_column("From network", no_wrap=True)
    table.add_column("What", no_wrap=True)
    table.add_column("Attempts", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    most = max(each.count for each in report.networks)
    for each in report.networks:
        table.add_row(
            cell(each.network or "all others"),
            cell(each.mistake),
            cell(f"{each.count:,}"),
            _bar(run, [(each.count, "red")], most),
        )
    return [cell(f"\n{counted(report.total, 'attempt')} with what is no key:\n"), table]


def _bar(run: Run, parts: Sequence[tuple[int, str]], most: int) -> Text:
    """Return a bar of parts in colours, as long as its count is of the highest one; any request shows."""
    blocks = run.out.encoding.lower().startswith("utf")
    bar, done, total = Text(), 0, 0  # in eighths of a column
    for count, style in parts:
        total += count
        end = -(-total * _BAR_COLUMNS * 8 // most) if most else 0
        if not blocks or total < sum(each for each, _ in parts):
            end = -(-end // 8) * 8  # only the last part can end within a column
        length = max(0, end - done) if count else 0
        whole, rest = divmod(length, 8)
        bar.append((_EIGHTHS[8] * whole + _EIGHTHS[rest].strip()) if blocks else "#" * whole, style)
        done += length
    return bar
