"""Room cli: text on a terminal. What comes from the store can neither steer it nor be taken for markup."""

from __future__ import annotations

import io
import os
import re
from datetime import datetime, timedelta
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

USUAL_LINES = 25
USUAL_COLUMNS = 80  # under that a list would leave out parts of ids; a narrower terminal breaks its lines instead
PIPE_COLUMNS = 10_000  # nobody looks at a pipe's width: let `grep` and `less -S` have whole lines
WIDE_COLUMNS = 110
_NUMBER = re.compile(r"[0-9]{1,9}")

# Commands named in messages of the core, which do not know where they are typed.
_COMMANDS = (
    "issue|list|show|update|rotate|disable|enable|revoke|delete|verify|events|import|scan|prune|db|doctor|usage|plans|"
    "owners|quotas|refill|init|serve"
)
_NAMED = re.compile(rf"(?<![\w./-])keydesk (?=(?:{_COMMANDS})\b)")
# One command as it is typed at each door, for messages that end in a log or a traceback too.
_EITHER = re.compile(r"`keydesk ([^`]+)` \([^()]*`flask keys \1`\)")


def console_of(stream: IO[str], at_least: int = 1) -> Console:
    """Return a console on a stream that takes texts as they are: no markup, no emoji codes, no highlighting.

    Args:
        stream: Where it writes.
        at_least: How many columns it has at least, on however narrow a terminal.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a terminal in Latin-1 gets escapes, not a traceback
    columns = os.environ.get("COLUMNS", "")
    asked = int(columns) if _NUMBER.fullmatch(columns) else 0
    width = min(asked, PIPE_COLUMNS) or (_terminal_columns(stream) if stream.isatty() else PIPE_COLUMNS)
    # With both given, rich does not read COLUMNS and LINES, where it stumbles over what is no number.
    width = max(width, at_least)
    return Console(file=stream, width=width, height=USUAL_LINES, markup=False, emoji=False, highlight=False)


def _terminal_columns(stream: IO[str]) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):
        return USUAL_COLUMNS


def clean(text: str) -> str:
    """Return a text with everything but printable characters and line ends written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def cell(text: str, style: str = "") -> Text:
    """Return a cell of a table that shows exactly this text."""
    return Text(clean(text), style=style, overflow="fold")


def in_program(text: str, program: str) -> str:
    """Return a text with the commands it names as people type them here: `flask keys list` inside an application."""
    text = _EITHER.sub(r"`keydesk \1`", text)
    return text if program == "keydesk" else _NAMED.sub(f"{program} ", text)


def moment(at: datetime | None, nothing: str = "") -> str:
    """Return a moment for people, in UTC to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else nothing


def iso(at: datetime | None) -> str | None:
    """Return a moment for programs: ISO 8601 in UTC."""
    return at.isoformat() if at else None


def span(duration: timedelta) -> str:
    """Return a duration for people, in its largest whole unit."""
    seconds = int(duration.total_seconds())
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds and seconds % size == 0:
            return counted(seconds // size, unit)
    return counted(seconds, "second")


def counted(number: int, noun: str) -> str:
    """Return `1 key`, `2 keys`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing() -> Table:
    """Return an empty table with a head, for several things."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def record() -> Table:
    """Return an empty table without a head: names on the left, values on the right."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    return table
