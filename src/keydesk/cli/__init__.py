"""Room cli: door 3, the command line. `keydesk COMMAND`; inside an application, the same as `flask keys COMMAND`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from .. import __version__
from ..build import STAND_ALONE_STORE, open_desk
from ..desk import Desk
from ..environment import read_environment
from ..settings import Settings, read_settings
from .command import HELP_OPTIONS
from .commands import COMMANDS
from .context import OPEN_DESK, PROGRAM, READ_SETTINGS
from .streams import steady_streams


@contextmanager
def _open_desk() -> Iterator[Desk]:
    """Open the desk of the environment for one command, and close it again."""
    desk = open_desk()
    try:
        yield desk
    finally:
        desk.close()


def _read_settings() -> Settings:
    return read_settings(read_environment(), default_store=STAND_ALONE_STORE)


@click.group(
    "keydesk",
    epilog=(
        "Settings come from the environment, or from the TOML file that KEYDESK_CONFIG names; without any, keys are "
        "kept in instance/keydesk.db. Exit codes: 0 done, 1 refused or not found, 2 wrong usage, 130 interrupted. "
        "Errors are text on standard error, with --json too."
    ),
    context_settings=HELP_OPTIONS,
)
@click.version_option(__version__, prog_name="keydesk", message="%(prog)s %(version)s")
@click.pass_context
def keydesk(ctx: click.Context) -> None:
    """Issue, list, rotate and revoke API keys."""
    ctx.meta[OPEN_DESK] = _open_desk
    ctx.meta[READ_SETTINGS] = _read_settings
    ctx.meta[PROGRAM] = "keydesk"


for _command in COMMANDS:
    keydesk.add_command(_command)


def main() -> None:
    """Run the command line; the console script `keydesk`.

    Raises:
        SystemExit: Always, with its exit code.
    """
    with steady_streams():
        keydesk(prog_name="keydesk")
