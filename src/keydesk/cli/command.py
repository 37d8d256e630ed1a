"""Room cli: what all commands have in common: `--json`, examples in `--help`, and how they end.

Whatever Keydesk refuses ends in exit code 1 and a message on standard error, as text, with `--json` too: a program
looks at the exit code, and standard output then holds nothing. Wrong usage ends in click's exit code 2, and Ctrl-C in
130, as shells have it.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from ..errors import KeydeskError
from ..keys.secret import redact
from .context import PROGRAM, Run, current_run
from .streams import reason
from .text import clean, in_program

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
INTERRUPTED = 130  # 128 + SIGINT


class WithExamples(click.Command):
    """A click command with examples, which `--help` shows as they are typed where it runs.

    Args:
        examples: Command lines, beginning with `keydesk`.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # On the command itself: it keeps the option as it was first made, at whichever door.
        self.context_settings = {**HELP_OPTIONS, **self.context_settings}
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
            click.UsageError: It is wrong. A secret typed where none belongs is left out of the message, and so is what
                would steer the terminal.
        """
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            message = error.format_message()
            if clean(redact(message)) == message:
                raise
            raise click.UsageError(clean(redact(message)), ctx) from None


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
            except BrokenPipeError:
                raise
            except OSError as error:
                run.refuse(_of_system(error))
            except KeyboardInterrupt:
                _interrupted(run)

        made: Command = click.command(name, cls=Command, examples=examples, **settings)(callback)
        made.params.append(
            click.Option(["--json", "as_json"], is_flag=True, help="Print JSON for programs instead of a table.")
        )
        return made

    return decorate


def _of_system(error: OSError) -> str:
    """Return what to say of what the system refused. It is not output: `Run` sees to that."""
    if error.errno == errno.EBADF:
        return "standard input is closed; send what is to be read there, such as `keydesk verify < secret.txt`"
    return f"{error.filename or 'the system says'}: {reason(error)}"


def _interrupted(run: Run) -> NoReturn:
    if run.err.is_terminal:
        run.err.print()  # the terminal has written ^C
    run.note("Interrupted. `keydesk events` shows what was done before, if anything.")
    raise click.exceptions.Exit(INTERRUPTED)
