"""Room cli: the files that `scan` reads: those of folders too, and nothing that is no file.

Symbolic links within folders are left alone: what they lead to is elsewhere, and they may go in circles. Pipes, sockets
and devices are never read; a file is looked at again once it is open, should somebody have put another in its place.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..scanning import CHUNK_BYTES
from .streams import reason

STANDARD_INPUT = "-"
MAX_UNREAD = 1000  # that are named
# Nobody waits for a pipe's other end, nor does a terminal become ours. Windows has none of these.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@dataclass(slots=True)
class Unread:
    """What could not be read, and so may hold more: `(path, why)` of the first 1000, and how many there are."""

    places: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0

    def note(self, path: str, error: OSError) -> None:
        """Note a file or folder that could not be read, or not to its end."""
        self.count += 1
        if len(self.places) < MAX_UNREAD:
            self.places.append((path, reason(error)))


def files_of(paths: tuple[str, ...], unread: Unread) -> Iterator[tuple[str, bool]]:
    """Yield every file of these paths, folders in the order of their names, and whether somebody named it.

    Args:
        paths: Files, folders and `-` for standard input.
        unread: Where folders are noted that cannot be read.
    """
    for path in paths:
        if path == STANDARD_INPUT or not os.path.isdir(path):
            yield path, True
        else:
            yield from ((inner, False) for inner in _walk(path, unread))


def _walk(folder: str, unread: Unread) -> Iterator[str]:
    left = [folder]  # a list and no recursion: folders may be as deep as their names are long
    while left:
        current = left.pop()
        try:
            with os.scandir(current) as entries:
                here = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            unread.note(current, error)
            continue
        below = []
        for entry in here:
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path
            except OSError as error:
                unread.note(entry.path, error)
        left += reversed(below)


def size_of(paths: tuple[str, ...]) -> int | None:
    """Return how many bytes there are to read; None where nobody can say without reading folders."""
    if any(path == STANDARD_INPUT or not os.path.isfile(path) for path in paths):
        return None
    return sum(Path(path).stat().st_size for path in paths)


@contextmanager
def opened(path: str, *, named: bool) -> Iterator[Iterator[bytes]]:
    """Hand out what is in a file, in pieces of at most `CHUNK_BYTES`, as far as it went when it was opened.

    Args:
        path: The file, or `-`.
        named: Whether somebody named it, who then means what a symbolic link leads to.

    Raises:
        OSError: It cannot be opened, or is no file.
    """
    if path == STANDARD_INPUT:
        yield _pieces(sys.stdin.buffer, None)
        return
    number = os.open(path, _FLAGS | (0 if named else _NO_LINK))
    with os.fdopen(number, "rb", buffering=0) as stream:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("is no file; pipe what it holds into standard input instead")
        # A log may grow faster than it is read. What the kernel makes up as it is read has the size 0.
        yield _pieces(stream, about.st_size or CHUNK_BYTES)


def _pieces(stream: BinaryIO, most: int | None) -> Iterator[bytes]:
    """Yield what is there, as soon as it is, so that `tail -f` may be at the other end of a pipe."""
    read = getattr(stream, "read1", stream.read)
    while most is None or most > 0:
        piece = read(CHUNK_BYTES if most is None else min(most, CHUNK_BYTES))
        if not piece:
            return
        most = None if most is None else most - len(piece)
        yield piece
