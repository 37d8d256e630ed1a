"""Room cli: one run of a command. Where it gets its desk from, who runs it, and where its output goes.

A command does not know whether it runs stand-alone or inside an application. The group that runs it says so in
`click.Context.meta`, under three names:

- `keydesk.open_desk`: called with nothing, returns a context manager that hands out the `Desk`;
- `keydesk.read_settings`: called with nothing, returns the `Settings` or raises `SettingsError`;
- `keydesk.program`: what people type before the name of a command, `keydesk` or `flask keys`.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

import click
from rich.console import Console, RenderableType

from ..desk import Desk
from ..keys.record import MAX_OWNER_CHARACTERS
from ..keys.secret import redact
from ..settings import Settings
from .streams import ClosedOutput, not_written
from .text import USUAL_COLUMNS, clean, console_of, in_program

try:
    import pwd
except ImportError:  # Windows
    pwd = None  # type: ignore[assignment]

OPEN_DESK = "keydesk.open_desk"
READ_SETTINGS = "keydesk.read_settings"
PROGRAM = "keydesk.program"
MAX_ACTOR_CHARACTERS = MAX_OWNER_CHARACTERS  # both fit the same width of column


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command.

    Attributes:
        open_desk: Hands out the desk for a `with` block.
        read_settings: Returns the settings, or raises `SettingsError`.
        program: What people type before a command's name.
        as_json: Whether `--json` was given.
        out: Standard output, for what was asked for.
        err: Standard error, for remarks, progress and refusals.
    """

    open_desk: Callable[[], AbstractContextManager[Desk]]
    read_settings: Callable[[], Settings]
    program: str
    as_json: bool
    out: Console
    err: Console

    def show(self, value: Any, for_people: Callable[[], RenderableType | None]) -> None:
        """Print what was asked for: the value as one JSON document, or what `for_people` makes for them.

        Where it returns None, it has printed everything itself.

        Raises:
            click.exceptions.Exit: Standard output cannot be written; with code 1.
            BrokenPipeError: Nobody reads it any more.
        """
        try:
            if self.as_json:
                self.print_json(value)
            elif (made := for_people()) is not None:
                self.out.print(made)
        except BrokenPipeError:
            raise
        except OSError as error:
            done = "Where the command changes something, that is done already: `keydesk events` shows it."
            self.refuse(f"{not_written(error)} {done}")

    def print_json(self, value: Any) -> None:
        """Print a value as one JSON document.

        Raises:
            OSError: Standard output cannot be written.
        """
        # ASCII only: what is in the store cannot steer the terminal, and any encoding of standard output will do.
        click.echo(json.dumps(value, indent=2))

    def require_output(self) -> None:
        """End a command whose answer could not be had again, before it does anything, where standard output is closed.

        Raises:
            click.exceptions.Exit: It is; with code 1.
        """
        if isinstance(sys.stdout, ClosedOutput):
            self.refuse(
                "standard output is closed, and the secret goes there; nothing was done. Open it, and run the command "
                "again."
            )

    def note(self, text: str) -> None:
        """Print a remark on standard error."""
        self.err.print(clean(redact(in_program(text, self.program))), soft_wrap=True)

    def refuse(self, text: str) -> NoReturn:
        """Print why not on standard error and end the command.

        Raises:
            click.exceptions.Exit: Always, with code 1.
        """
        self.note(f"Error: {text}")
        raise click.exceptions.Exit(1)


def current_run(*, as_json: bool) -> Run:
    """Return the run of the command that click is in."""
    meta = click.get_current_context().meta
    return Run(
        open_desk=meta[OPEN_DESK],
        read_settings=meta[READ_SETTINGS],
        program=meta[PROGRAM],
        as_json=as_json,
        out=console_of(sys.stdout, at_least=USUAL_COLUMNS),
        err=console_of(sys.stderr),
    )


def actor() -> str:
    """Return who the events of this command name: `cli:` and the user of the operating system."""
    try:
        # Not the environment's USER first, as `getpass` has it: anybody can set that.
        user = pwd.getpwuid(os.getuid()).pw_name if pwd else getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return clean(f"cli:{user}")[:MAX_ACTOR_CHARACTERS]
