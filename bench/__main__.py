"""Run every measurement, print the tables, and exit with 1 if a promise is not kept."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from . import counting, importing, known, limits, lists, peers, reading, requests, server, throughput, verifying
from .harness import Scale, logging_to_nowhere
from .report import Section, around_figures, promises_table, show, write_markdown

# In this order: those after `importing` read the databases that `importing` leaves.
SUBJECTS: tuple[Callable[[Scale], Section], ...] = (
    requests.run,
    peers.run,
    limits.run,
    importing.run,
    verifying.run,
    reading.run,
    counting.run,
    known.run,
    lists.run,
    throughput.run,
    server.run,
)

PAIRS, KEYS = 3000, 1_000_000
QUICK_PAIRS, QUICK_KEYS = 20, 2000


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables into this file too")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.markdown:
        try:
            around_figures(given.markdown)  # said now, not after two minutes
        except (OSError, ValueError) as error:
            parser.error(str(error))
    console, began = Console(width=None if sys.stdout.isatty() else 120), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keydesk-bench-") as folder, logging_to_nowhere():
        pairs, keys = (QUICK_PAIRS, QUICK_KEYS) if given.quick else (PAIRS, KEYS)
        scale = Scale(pairs, keys, Path(folder))
        sections = []
        for subject in SUBJECTS:
            section = subject(scale)
            show(section.tables, console)
            sections.append(section)
    promises = [promise for section in sections for promise in section.promises]
    summary = promises_table(promises)
    show([summary], console)
    console.print(f"{time.monotonic() - began:.0f} seconds")
    if given.markdown:
        write_markdown(given.markdown, [*(table for section in sections for table in section.tables), summary])
    return 0 if all(promise.kept for promise in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
