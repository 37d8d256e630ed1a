"""Room flask: `flask keys`, the commands of the command line on the application's own desk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import click
from flask.cli import AppGroup

from ..desk import Desk
from ..settings import Settings
from .guard import Guard


class KeysGroup(AppGroup):
    """The group `keys`. Its commands are loaded when somebody types them: a web worker never pays for them."""

    def __init__(self, guard: Guard) -> None:
        super().__init__("keys", help="Issue, list, rotate and revoke API keys.")
        self._guard = guard

    def _load(self) -> None:
        if not self.commands:
            for command in import_module("keydesk.cli.commands").COMMANDS:
                super().add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, told where to find the desk."""
        self._load()
        ctx.meta["keydesk.open_desk"] = self._open_desk
        ctx.meta["keydesk.read_settings"] = self._read_settings
        ctx.meta["keydesk.program"] = "flask keys"
        return super().get_command(ctx, cmd_name)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line of the group, which writes its help where that is asked for.

        Raises:
            SystemExit: The help could not be written; with code 1.
        """
        with _streams().steady_streams():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, whatever state the standard streams are in.

        Raises:
            SystemExit: The help of it could not be written; with code 1.
        """
        with _streams().steady_streams():
            return super().invoke(ctx)

    @contextmanager
    def _open_desk(self) -> Iterator[Desk]:
        """Hand out the application's desk. It stays open: the application goes on using it."""
        yield self._guard.desk

    def _read_settings(self) -> Settings:
        return self._guard.settings


def _streams() -> ModuleType:
    return import_module("keydesk.cli.streams")
