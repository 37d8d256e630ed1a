"""Room cli: `import`, which takes in keys that clients already hold. All or none."""

from __future__ import annotations

import gc
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..desk import Desk
from ..errors import DuplicateSecret, ImportRefused, InvalidField
from ..issuing import HeldKey
from .command import command
from .context import Run, actor
from .import_formats import Reader, reader_of
from .import_lines import EndsHere, Lines
from .progress import progress_bar
from .text import cell, counted

MAX_PROBLEMS = 20
_SWITCH_SECONDS = 0.001
REMEMBERED = 20_000  # digests handed to the store last: more than any store reads before it writes


class _ImportFile(click.Path):
    """A regular file."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Return the path.

        Raises:
            click.BadParameter: It is `-`, is missing, cannot be read, or is a pipe, which cannot be read again, to say
                which lines hold the same secret.
        """
        if value == "-":
            self.fail(f"{_NO_STREAM}: `... > keys.csv`, then `keydesk import keys.csv`", param, ctx)
        path = super().convert(value, param, ctx)
        if not stat.S_ISREG(os.stat(path).st_mode):
            self.fail(f"is no regular file. {_NO_STREAM}", param, ctx)
        return path


_NO_STREAM = "Standard input and pipes are not read, as a file is read twice; write the keys to a file first"


@command(
    "import",
    examples=("keydesk import keys.csv", "keydesk import keys.yml", "keydesk import keys.jsonl --json"),
)
@click.argument("path", metavar="FILE", type=_ImportFile(exists=True, dir_okay=False, path_type=Path))
def import_(run: Run, path: Path) -> None:
    """Take in keys that clients already hold.

    All keys of a CSV, YAML or JSON lines FILE, or none of them. Standard input and pipes are not read: write the keys
    to a file first, which only you can read, and remove it afterwards. The suffix says what it is: .csv, .yml or .yaml,
    .jsonl, .ndjson or .json-lines; always in UTF-8. Each key has `secret`, or `sha256` (of the secret, in hex), and
    `name`, and may have `owner`, `description`, `environment`, `scopes`, `networks`, `limits`, `quotas`,
    `expires_at` (an ISO time with offset) and, with `sha256`, `hint`.

    CSV begins with a line that names the columns; items of a list have `;` between them. YAML is a list of mappings,
    or a mapping of secret, or sha256:<hex>, to a name or to a mapping of the other fields; it is read whole, so take
    CSV or JSON lines for more than some ten thousand keys.

    Secrets that could be guessed from their hash are taken in only with KEYDESK_PEPPER set. With --json, a document
    with the members `imported` and `weak`.
    """
    reader = reader_of(path)
    if reader is None:
        raise click.BadParameter(
            "its name must end in .csv, .yml, .yaml, .jsonl, .ndjson or .json-lines", param_hint="FILE"
        )
    with run.open_desk() as desk, progress_bar(run, "Importing") as tell:
        importer = _Importer(desk, path, reader, tell)
        imported = importer.run()
    run.show({"imported": imported, "weak": importer.weak}, lambda: cell(f"{counted(imported, 'key')} imported."))
    if importer.weak:
        run.note(
            f"Warning: {counted(importer.weak, 'secret')} could be guessed from a plain hash. The pepper protects "
            "them; keep it out of the database and its backups, and rotate those keys when you can."
        )


class _Importer:
    """One import of one file.

    Args:
        desk: Where to.
        path: A regular file.
        reader: What reads it.
        tell: Called now and then with the bytes read and the bytes there are.
    """

    def __init__(self, desk: Desk, path: Path, reader: Reader, tell: Callable[[int, int], None]) -> None:
        self._desk = desk
        self._tell = tell
        self._lines = Lines(path, reader, desk.mint, desk.clock.now())
        self._newest: deque[str] = deque(maxlen=REMEMBERED)
        self._last_line = 0

    @property
    def weak(self) -> int:
        """How many of the secrets could be guessed, if it were not for the pepper."""
        return self._lines.weak

    def run(self) -> int:
        """Import the file and return how many keys it had.

        Raises:
            ImportRefused: Lines of it cannot be used, or hold secrets that are taken.
            StoreError: The store cannot be changed or does not answer.
        """
        try:
            with _at_full_speed():
                return self._desk.import_keys(self._keys(), actor=actor())
        except InvalidField as error:  # of the plan of the key that was handed over last
            raise ImportRefused([(self._last_line, str(error))], unread=True) from None
        except DuplicateSecret as error:
            raise ImportRefused(self._duplicates(set(error.digests)), unread=True) from None

    def _keys(self) -> Iterator[HeldKey]:
        """Yield the keys of the file, up to the first line that cannot be used; read on for more such lines."""
        problems: list[tuple[int, str]] = []
        for line, held in self._lines.read(self._tell):
            if isinstance(held, InvalidField):
                problems.append((line, str(held)))
                if len(problems) == MAX_PROBLEMS or isinstance(held, EndsHere):
                    raise ImportRefused(problems, unread=True)
            elif not problems:
                self._newest.append(held.secret.digest)
                self._last_line = line
                yield held
        if problems:
            raise ImportRefused(problems)
        if not self._last_line:
            raise ImportRefused([(1, "the file holds no keys")])

    def _duplicates(self, taken: set[str]) -> list[tuple[int, str]]:
        """Read the file again and return the lines whose secret is taken, by another line or in the store.

        Args:
            taken: What the store said. It says nothing of a line long before the one it stumbled over, but that one
                is among the newest.
        """
        suspects = taken.union(self._newest)
        problems: list[tuple[int, str]] = []
        first_lines: dict[str, int] = {}
        for line, held in self._lines.read(self._tell):
            if line > self._last_line or isinstance(held, InvalidField):
                break
            digest = held.secret.digest
            if digest in first_lines:
                problems.append((line, f"has the same secret as line {first_lines[digest]}"))
            elif digest in suspects:
                first_lines[digest] = line
        in_store = (d for d in taken if d in first_lines and self._desk.store.find_by_digest((d,)))
        problems += [(first_lines[digest], "another key in the store has this secret already") for digest in in_store]
        return sorted(problems)[:MAX_PROBLEMS]


@contextmanager
def _at_full_speed() -> Iterator[None]:
    """Set up this process for nothing but an import.

    The collector of cycles is paused: the values of an import are in none, and it would look through all of them. And
    threads take turns more often, since the one that writes needs little of the interpreter, but that little soon.
    """
    was_on, usual = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
        if was_on:
            gc.enable()
