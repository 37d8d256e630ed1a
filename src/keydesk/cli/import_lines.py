"""Room cli: the lines of an import as keys. Those of a large file are read in a process of their own.

Reading a line and digesting its secret takes about as long as writing its key into SQLite; with two processes, both
happen at once.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import InvalidField, KeydeskError
from ..issuing import HeldKey
from ..keys.held import Mint
from ..keys.record import KeyFields, Secret
from .import_formats import LineProblem, Reader, Unreadable
from .import_rows import RowParser

LARGE_BYTES = 4 * 1024 * 1024  # starting a process takes as long as reading so much
_BATCH = 1000

Line: TypeAlias = tuple[int, HeldKey | InvalidField]
Tell: TypeAlias = Callable[[int, int], None]


class EndsHere(LineProblem):
    """The file cannot be read beyond this line."""


class Lines:
    """Every line of a file with its key, or with what is wrong with it. `weak` counts guessable secrets, once read.

    Args:
        path: A regular file.
        reader: What reads it.
        mint: How secrets are digested.
        now: When they are stored.
    """

    def __init__(self, path: Path, reader: Reader, mint: Mint, now: datetime) -> None:
        self.weak = 0
        self._path = path
        self._reader = reader
        self._mint = mint
        self._now = now

    def read(self, tell: Tell) -> Iterator[Line]:
        """Yield the lines.

        Args:
            tell: Called now and then with the bytes read and the bytes there are.

        Raises:
            KeydeskError: The process that reads a large file ended before its time.
        """
        large = self._path.stat().st_size >= LARGE_BYTES
        return self._read_elsewhere(tell) if large else self.read_here(tell)

    def read_here(self, tell: Tell) -> Iterator[Line]:
        """Yield the lines, read in this process. Argument as for `read`."""
        parser, size = RowParser(self._mint, self._now), self._path.stat().st_size
        with self._path.open("rb") as file:
            try:
                for count, (line, given) in enumerate(self._reader(file)):
                    if count % _BATCH == 0:
                        tell(file.tell(), size)
                    if isinstance(given, InvalidField):
                        yield line, given
                        continue
                    try:
                        yield line, parser.held_key(given)
                    except InvalidField as error:
                        yield line, error
            except Unreadable as error:
                yield error.line, EndsHere(error.problem)
        self.weak = parser.weak

    def _read_elsewhere(self, tell: Tell) -> Iterator[Line]:
        context = multiprocessing.get_context("spawn")  # a fork would share the connections to the database
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(sender, self), daemon=True)
        with _interrupts_held_back():
            process.start()
        sender.close()
        try:
            while True:
                batch, self.weak, *told = receiver.recv()
                if not batch:
                    return
                tell(*told)
                yield from map(_unpacked, batch)
        except EOFError:
            raise KeydeskError("The process that reads the file was ended; nothing was imported. Try again.") from None
        finally:
            receiver.close()
            process.terminate()
            process.join()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let a process that is started here inherit that Ctrl-C is not for it, from its first moment on.

    The importing process gets Ctrl-C too, and ends it; by itself it would end with a traceback. Windows cannot hold
    them back.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it lets them through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(sender: Connection, lines: Lines) -> None:
    """Run in a process of its own: read the lines and send them, some at a time; an empty batch ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where none are held back; the importing process ends this one
    gc.disable()  # nothing of a line is in a cycle
    told: tuple[int, ...] = (0, 0)
    batch = []

    def tell(*position: int) -> None:
        nonlocal told
        told = position

    with suppress(BrokenPipeError):  # nobody wants the rest
        for line in lines.read_here(tell):
            batch.append(_packed(*line))
            if len(batch) == _BATCH:
                sender.send((batch, 0, *told))
                batch = []
        if batch:
            sender.send((batch, 0, *told))
        sender.send(([], lines.weak))


def _packed(line: int, held: HeldKey | InvalidField) -> tuple[Any, ...]:
    """Return a line as a flat tuple: its objects would take longer to travel."""
    if isinstance(held, InvalidField):
        return line, type(held), held.field, held.problem
    f, s = held.fields, held.secret
    lists = (f.scopes, f.networks, f.limits, f.quotas)
    fields = (f.name, f.owner, f.description, f.environment, f.plan, *lists, f.expires_at)
    return line, None, fields, (s.number, s.digest, s.pepper_id, s.hint, s.created_at)


def _unpacked(packed: tuple[Any, ...]) -> Line:
    line, problem, first, second = packed
    if problem is not None:
        return line, problem(second) if issubclass(problem, LineProblem) else InvalidField(first, second)
    name, owner, description, environment, plan, scopes, networks, limits, quotas, expires_at = first
    fields = KeyFields(
        name=name,
        owner=owner,
        description=description,
        environment=environment,
        plan=plan,
        scopes=scopes,
        networks=networks,
        limits=limits,
        quotas=quotas,
        expires_at=expires_at,
    )
    return line, HeldKey(fields, Secret(*second))
