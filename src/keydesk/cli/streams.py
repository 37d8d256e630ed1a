"""Room cli: standard streams that are closed or full. What a command then does is decided here, for both doors.

- Standard error carries remarks: one that cannot be written changes nothing of what a command does.
- Standard output that is closed refuses every write, as that of a full disk does. So the command learns of it.
- Standard input that is closed refuses to be read.
- A pipe that nobody reads any more, as behind `| head`, ends a command quietly; click sees to that.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO, cast

import click


class ClosedOutput(io.TextIOWrapper):
    """Stands where standard output is closed."""


@contextmanager
def steady_streams() -> Iterator[None]:
    """Let a command line run on the standard streams it was given, whatever their state.

    Raises:
        SystemExit: With code 1: help could not be written.
    """
    given = sys.stdin, sys.stdout, sys.stderr
    with ExitStack() as stack:
        _stand_in(stack)
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename is not None:  # no stream
                raise
            click.echo(f"Error: {not_written(error)}", err=True)
            raise SystemExit(1) from None
        finally:
            for name, stream in zip(("stdin", "stdout", "stderr"), given, strict=True):
                # What click put there meanwhile, for a broken pipe, stays.
                if getattr(sys, name) is not stream and isinstance(getattr(sys, name), _OURS):
                    setattr(sys, name, stream)


def _stand_in(stack: ExitStack) -> None:
    """Put something in the place of each stream that is closed, which Python says by None.

    It takes up the number of the stream too, so that no file that is opened later gets it, and with it what was meant
    for the stream. Opened the wrong way round, it refuses what it is asked; as gnulib's `stdopen` does it.
    """
    if sys.stdin is None:
        number = os.open(os.devnull, os.O_WRONLY)
        sys.stdin = stack.enter_context(_ClosedInput(io.BufferedReader(io.FileIO(number, "r")), encoding="utf-8"))
    if sys.stdout is None:
        number = os.open(os.devnull, os.O_RDONLY)
        raw = cast(Any, io.FileIO(number, "w"))  # nothing may stay in a buffer, to be tried again later
        sys.stdout = stack.enter_context(ClosedOutput(raw, encoding="utf-8", write_through=True))
    if sys.stderr is None:
        sys.stderr = stack.enter_context(os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    sys.stderr = cast(TextIO, _Remarks(sys.stderr))


class _ClosedInput(io.TextIOWrapper):
    """Stands where standard input is closed."""


class _Remarks:
    """Standard error, but for writes that fail: they are let go.

    A full disk under a log must not stop `issue` between the making of a key and the printing of its secret.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text if that can be done."""
        try:
            return self._stream.write(text)
        except OSError:
            drop_unwritten(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush what was written if that can be done."""
        try:
            self._stream.flush()
        except OSError:
            drop_unwritten(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_OURS = (ClosedOutput, _ClosedInput, _Remarks)


def not_written(error: OSError) -> str:
    """Return what to say where the answer of a command could not be written, and forget the answer."""
    drop_unwritten(sys.stdout)
    return f"standard output could not be written ({reason(error)}); send it to a terminal, or to a file with room."


def reason(error: OSError) -> str:
    """Return why, in words for people who know no `EBADF`."""
    return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)


def drop_unwritten(stream: TextIO) -> None:
    """Let what stays in the buffer of a standard stream vanish: at its end, Python would try again, and complain."""
    with suppress(OSError, ValueError):  # a stream of a test has no number
        if (number := stream.fileno()) in (1, 2):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
