"""Room cli: the desk of commands that make no keys. They make no database either: somebody is in the wrong folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from ..desk import Desk
from .context import Run


@runtime_checkable
class MayBeAbsent(Protocol):
    """A store whose database is made with its first key. Until then it reads as one without keys."""

    def absence(self) -> str | None:
        """Return that there is no database yet, and how to make it; None where there is one."""
        ...


@contextmanager
def existing_desk(run: Run) -> Iterator[Desk]:
    """Hand out the desk for a `with` block.

    Raises:
        click.exceptions.Exit: There is no database yet; with code 1, after saying where none is and how to make it.
    """
    with run.open_desk() as desk:
        absence = desk.store.absence() if isinstance(desk.store, MayBeAbsent) else None
        if absence:
            run.refuse(f"{absence[0].upper()}{absence[1:]}.")
        yield desk
