"""Room cli: what all commands have in common: `--json`, examples in `--help`, and how they end.

Whatever Keydesk refuses ends in exit code 1 and a message on standard error, as text, with `--json` too: a program
looks at the exit code, and standard output then holds nothing. Wrong usage ends in click's exit code 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from ..errors import KeydeskError
from ..keys.secret import redact
from .context import PROGRAM, current_run
from .text import in_program


class WithExamples(click.Command):
    """A click command with examples, which `--help` shows as they are typed where it runs.

    Args:
        examples: Command lines, beginning with `keydesk`.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples under the help."""
        program = ctx.meta.get(PROGRAM, "keydesk")
        with formatter.section("Examples"):
            for example in self.examples:
                # Not through write_text, which would break the line where somebody wants to copy it.
                formatter.write(f"{'':>{formatter.current_indent}}{in_program(example, program)}\n")


class Group(WithExamples, click.Group):
    """A group of commands, with examples."""


class Command(WithExamples):
    """One of the commands: see this module."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            click.UsageError: It is wrong. A secret typed where none belongs is left out of the message.
        """
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            message = error.format_message()
            if redact(message) == message:
                raise
            raise click.UsageError(redact(message), ctx) from None


def command(name: str, *, examples: Sequence[str], **settings: Any) -> Callable[[Callable[..., None]], Command]:
    """Return a decorator that makes a command of a function, which gets a `Run` and then its own parameters."""

    def decorate(function: Callable[..., None]) -> Command:
        @functools.wraps(function)
        def callback(*, as_json: bool, **values: Any) -> None:
            run = current_run(as_json=as_json)
            try:
                function(run, **values)
            except KeydeskError as error:
                run.refuse(str(error))

        made: Command = click.command(name, cls=Command, examples=examples, **settings)(callback)
        made.params.append(
            click.Option(["--json", "as_json"], is_flag=True, help="Print JSON for programs instead of a table.")
        )
        return made

    return decorate
