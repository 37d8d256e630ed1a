"""Room cli: `quotas` and `refill`: what is left of the quotas of a key, and how it gets more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table

from ..keys.limits import Period
from ..quota_desk import QuotaBalance
from .command import command
from .context import Run, actor
from .presence import existing_desk
from .text import cell, iso, listing, moment


@command("quotas", examples=("keydesk quotas key_019a4b0c2d3e4f5061728394a5b6",))
@click.argument("key_id", metavar="ID")
def quotas(run: Run, key_id: str) -> None:
    """Show what is left of the quotas of a key.

    Workers are handed credits in blocks: those they hold are not among those left, whether they are spent yet or not.
    With --json, a list with the members `policy`, `count`, `refilled`, `leased`, `left` and `resets_at`.
    """
    with existing_desk(run) as desk:
        balances = desk.quotas.balances(key_id)
    run.show([_json(balance) for balance in balances], lambda: _table(balances) if balances else cell("It has none."))


@command(
    "refill",
    examples=(
        "keydesk refill key_019a4b0c2d3e4f5061728394a5b6 5000",
        "keydesk refill key_019a4b0c2d3e4f5061728394a5b6 5000 --period month",
    ),
)
@click.argument("key_id", metavar="ID")
@click.argument("credits_", metavar="CREDITS", type=int)
@click.option(
    "--period",
    metavar="PERIOD",
    default=str(Period.TOTAL),
    show_default=True,
    help="Which of its quotas: day, month or total. Where it has several of these, one of them as `quotas` shows it.",
)
def refill(run: Run, key_id: str, credits_: int, period: str) -> None:
    """Add credits to a quota of a key, for the period that runs. Output as of `quotas`."""
    with existing_desk(run) as desk:
        balance = desk.quotas.refill(key_id, credits_, period=period, actor=actor())
    run.show([_json(balance)], lambda: _table([balance]))


def _json(balance: QuotaBalance) -> dict[str, Any]:
    return {
        "policy": balance.policy,
        "count": balance.count,
        "refilled": balance.refilled,
        "leased": balance.leased,
        "left": balance.left,
        "resets_at": iso(balance.resets_at),
    }


def _table(balances: Sequence[QuotaBalance]) -> Table:
    table = listing()
    table.add_column("Quota")
    for name in ("Refilled", "Handed out", "Left"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Begins anew", no_wrap=True)
    for balance in balances:
        numbers = (f"{number:,}" for number in (balance.refilled, balance.leased, balance.left))
        anew = f"{moment(balance.resets_at)} UTC" if balance.resets_at else "never"
        left = "" if balance.left else "red"
        table.add_row(cell(balance.policy.removesuffix(" quota"), left), *map(cell, numbers), cell(anew))
    return table
