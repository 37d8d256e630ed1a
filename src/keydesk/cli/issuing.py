"""Room cli: `issue` and `rotate`, the two commands that print a secret. Once, alone on standard output."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Any

import click

from ..desk import Desk
from ..keys.authority import KEYS_WRITE
from ..keys.record import IssuedKey, Key, Status
from ..keys.secret import Environment
from ..ports import KeyFilter, every_key
from .command import command
from .context import Run, actor
from .options import NAME, about_options, list_options
from .presence import existing_desk
from .showing import key_json, key_table
from .streams import drop_unwritten, reason
from .text import moment
from .types import Duration, When, moment_of


@command(
    "issue",
    examples=(
        'keydesk issue "Mobile app" --owner acme --scope orders:read --expires 90d',
        'SECRET=$(keydesk issue "Nightly job" --network 10.0.0.0/8)',
        "keydesk issue Tests --environment test --json",
        'keydesk issue "ACME portal" --owner acme --plan gold',
    ),
)
@click.argument("name", type=NAME)
@about_options
@click.option(
    "--environment",
    type=click.Choice([environment.value for environment in Environment]),
    default=Environment.LIVE.value,
    show_default=True,
    help="Which of the client's systems it is for. It shows in the secret.",
)
@list_options
@click.option(
    "--expires",
    type=When(),
    help="When it ends: 90d, 24h, 30m, 2w or 45s from now, a date (its first moment in UTC), or an ISO time with "
    "offset. Without it: never.",
)
def issue(run: Run, expires: timedelta | datetime | None, **fields: Any) -> None:
    """Make a key for the client called NAME and print its secret.

    The secret is the only line on standard output; what else there is to know goes to standard error. With --json,
    standard output is a document with the members `key` and `secret`.
    """
    run.require_output()
    given = {name: value for name, value in fields.items() if value is not None}
    with run.open_desk() as desk:
        issued = desk.issue(**given, expires_at=moment_of(expires, desk.clock.now()), actor=actor())
        _hand_over(run, issued, desk.clock.now())


@command("init", examples=("keydesk init", "ADMIN=$(keydesk init)"))
def init(run: Run) -> None:
    """Make the first administrator's key and print its secret.

    It may do everything, so that it can give any key what that needs: nobody gives more than they hold. Once there is
    a key that may manage others, this makes none; `keydesk issue` does. The secret is the only line on standard output;
    with --json, a document with the members `key` and `secret`.
    """
    run.require_output()
    with run.open_desk() as desk:
        administrator = find_administrator(desk)
        if administrator is not None:
            key_id = administrator.id
            run.refuse(f"{key_id} may manage keys. If its secret is lost: `keydesk rotate {key_id} --overlap 0s`")
        make_administrator(run, desk)


def find_administrator(desk: Desk) -> Key | None:
    """Return a key that may manage others today, or None.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    return next(every_key(desk.store, KeyFilter(scope=KEYS_WRITE, status=Status.ACTIVE), size=1), None)


def make_administrator(run: Run, desk: Desk) -> None:
    """Make a key that may do everything, and print it.

    Raises:
        StoreReadOnly: Keys are in a file or in the configuration.
        StoreUnavailable: The store does not answer.
        click.exceptions.Exit: Its secret could not be written; with code 1.
    """
    issued = desk.issue(name="Administrator", scopes=["*"], actor=actor())
    _hand_over(run, issued, desk.clock.now())


@command(
    "rotate",
    examples=(
        "keydesk rotate key_019a4b0c2d3e4f5061728394a5b6 --overlap 7d",
        "keydesk rotate key_019a4b0c2d3e4f5061728394a5b6 --overlap 0s",
    ),
)
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the earlier secrets go on: 45s, 30m, 24h, 90d or 2w, at most 366d; 0s ends them at once.",
)
def rotate(run: Run, key_id: str, overlap: timedelta) -> None:
    """Make a new secret for a key and print it.

    The earlier ones go on for the overlap, the key stays the same. The secret is the only line on standard output;
    with --json, a document with the members `key` and `secret`.
    """
    run.require_output()
    with existing_desk(run) as desk:
        issued = desk.rotate(key_id, overlap=overlap, actor=actor())
        now = desk.clock.now()
        _hand_over(run, issued, now)
    ending = [s.expires_at for s in issued.key.secrets if s.expires_at is not None and not s.expired_at(now)]
    if ending:
        run.note(f"The earlier secrets end on {moment(max(ending))} UTC at the latest.")


def _hand_over(run: Run, issued: IssuedKey, now: datetime) -> None:
    """Print a key and its secret: the one place where a secret leaves the desk by this door."""
    if not run.as_json:
        run.err.print(key_table(issued.key, now))
        run.err.print()
    try:
        if run.as_json:
            run.print_json({"key": key_json(issued.key, now), "secret": issued.secret})
        else:
            click.echo(issued.secret)
    except OSError as error:
        drop_unwritten(sys.stdout)
        run.refuse(
            f"{issued.key.id} was changed, but its new secret could not be written ({reason(error)}). Make one: "
            f"`keydesk rotate {issued.key.id} --overlap 0s`"
        )
    if run.out.is_terminal:
        run.err.print()
        run.note("Keep the secret now: it is not shown again.")
