"""Core: files of SQLite, made for their owner only, without taking away the locks by which SQLite knows its users."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def make_private(path: Path) -> None:
    """Make the file, where it is not there, for its owner only. Where it is there it is not touched, and never closed.

    When a process closes a file by any of its handles, the kernel drops all its locks on it (POSIX). SQLite's, by which
    others see that the file is in use, would be gone: two would write at once, and whoever closes it then takes himself
    for the last and removes the log that everybody else writes into. So the one handle of a new file stays open too.

    Raises:
        OSError: It cannot be made.
    """
    with suppress(FileExistsError):
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
