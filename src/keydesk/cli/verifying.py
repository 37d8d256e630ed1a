"""Room cli: `verify`, which says of a secret whether it would pass, and if not, what to do."""

from __future__ import annotations

import sys

import click
from rich.console import RenderableType
from rich.text import Text

from ..decision import Check, Decision
from .command import command
from .context import Run
from .presence import existing_desk
from .showing import key_json
from .text import cell, clean, in_program, listing
from .types import RequiredScope

MAX_INPUT_BYTES = 4096  # a secret has at most 256: enough to say that it is too long


@command(
    "verify",
    examples=(
        "keydesk verify",
        "keydesk verify --scope orders:read --address 203.0.113.7 < secret.txt",
    ),
    # Taken and refused below: click would repeat an extra argument in its message, and it may be a secret.
    context_settings={"allow_extra_args": True},
)
@click.option("--scope", "scopes", type=RequiredScope(), multiple=True, help="A scope that is needed. May be repeated.")
@click.option("--any-of", type=RequiredScope(), multiple=True, help="A scope of which one is needed. May be repeated.")
@click.option("--address", help="Where the client is. A key with networks is refused without it.")
def verify(run: Run, scopes: tuple[str, ...], any_of: tuple[str, ...], address: str | None) -> None:
    """Say whether a secret would pass, and if not, what to do.

    Every check is shown, in order, and under them each fix: a command to type as it stands, or the edit to make where
    keys are in a file or in the configuration. The secret is read from standard input; at a terminal it is asked for
    and not shown. It is never an argument, which would stay in the history of the shell. Exit code 0 only if the
    secret would pass.
    """
    if click.get_current_context().args:
        raise click.UsageError("The secret is read from standard input, and never from the command line.")
    secret = _read_secret()
    with existing_desk(run) as desk:
        decision, checks = desk.explain(secret, scopes=scopes, any_of=any_of, client_address=address)
        now = desk.clock.now()
        counted = decision.taken is not None and decision.taken.claims
        if counted and desk.limiter is not None and not desk.limiter.shared:
            run.note(
                "With this limiter each process counts requests in its own memory, and this command sees only its own: "
                "a worker may refuse what would pass here. Set KEYDESK_LIMITER to what they share, such as "
                "sqlite:///limits.db."
            )
    answer = {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "key": key_json(decision.key, now) if decision.key else None,
        "checks": [check_json(check, run.program) for check in checks],
    }
    run.show(answer, lambda: _for_people(run, decision, checks))
    if not decision.allowed:
        raise click.exceptions.Exit(1)


def _read_secret() -> str:
    """Return what is on standard input, without the line end that `echo` adds."""
    if sys.stdin.isatty():
        return str(click.prompt("Secret", hide_input=True, default="", show_default=False, err=True))
    # Read whole or cut short, never decoded strictly: what it is is for the checks to say.
    text = sys.stdin.buffer.read(MAX_INPUT_BYTES).decode("utf-8", "replace")
    return text.removesuffix("\n").removesuffix("\r")


def check_json(check: Check, program: str) -> dict[str, str | bool | None]:
    """Return a check as JSON values."""
    return {
        "name": check.name,
        "passed": check.passed,
        "found": check.found,
        "fix": _fix(check, program),
    }


def checks_table(checks: list[Check], program: str, *, fixes: bool = True) -> RenderableType:
    """Return checks as a table: a mark, what was looked at, what was found and, if asked for, under it what to do."""
    table = listing()
    table.add_column("", no_wrap=True)
    table.add_column("Check", no_wrap=True)
    table.add_column("Found, and what to do" if fixes else "Found", overflow="fold")
    for check in checks:
        found = cell(in_program(check.found, program), "" if check.passed or check.fix else "dim")
        if check.fix and fixes:
            found.append("\n→ " + clean(_fix(check, program)), style="bold")
        table.add_row(_mark(check), cell(check.name), found)
    return table


def _fix(check: Check, program: str) -> str:
    """Return a fix with its commands as people type them here."""
    lines = check.fix.split("\n")
    # Of a line that is a command only the beginning: what is quoted in it is the name of a key.
    return "\n".join(
        line.replace("keydesk", program, 1) if line.startswith("keydesk ") else in_program(line, program)
        for line in lines
    )


def _mark(check: Check) -> Text:
    if check.passed is None:
        return Text("!", style="bold yellow") if check.fix else Text("–", style="dim")
    return Text("✓", style="bold green") if check.passed else Text("✗", style="bold red")


def _for_people(run: Run, decision: Decision, checks: list[Check]) -> RenderableType:
    """Print the checks and, under them, each fix; return the outcome.

    A fix is no part of the table, which breaks lines that are too long: of a command in two lines a shell would run
    the first, and `update --scope a:b` takes every other scope away.
    """
    run.out.print(checks_table(checks, run.program, fixes=False))
    for check in checks:
        if check.fix:
            run.out.print(Text(f"\nWhat to do about {check.name}:"))
            for line in clean(_fix(check, run.program)).splitlines():
                run.out.print(Text(f"  {line}", style="bold"), soft_wrap=True)
    run.out.print()
    return _outcome(decision)


def _outcome(decision: Decision) -> Text:
    if decision.allowed:
        return Text("It would pass.", style="bold green")
    return Text(f"It would be refused: {decision.reason}.", style="bold red")
