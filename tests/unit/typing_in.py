"""Types a command as a fix prints it: the real commands of the command line, on a desk of the test's own."""

from __future__ import annotations

import shlex
from contextlib import nullcontext

import click
from click.testing import CliRunner

from keydesk import Desk
from keydesk.cli.commands import COMMANDS


def type_in(desk: Desk, line: str) -> str:
    """Return what a command prints on standard output, without the line end. It must be done, and not refused."""
    program, *arguments = shlex.split(line)
    assert program == "keydesk"

    @click.pass_context
    def begin(context: click.Context) -> None:
        context.meta["keydesk.open_desk"] = lambda: nullcontext(desk)
        context.meta["keydesk.read_settings"] = None
        context.meta["keydesk.program"] = "keydesk"

    group = click.Group("keydesk", callback=begin)
    for command in COMMANDS:
        group.add_command(command)
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done.stdout.removesuffix("\n")
