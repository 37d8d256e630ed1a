"""Room cli: `import`, which takes in keys that clients already hold. All or none."""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ..desk import Desk, HeldKey
from ..errors import DuplicateSecret, ImportRefused, InvalidField
from .command import command
from .context import Run, actor
from .import_formats import LineProblem, Reader, Unreadable, reader_of
from .import_rows import RowParser
from .progress import progress_bar
from .text import cell, counted

MAX_PROBLEMS = 20
REMEMBERED = 20_000  # digests handed to the store last: more than any store reads before it writes
_TELL_EVERY = 1000


@command(
    "import",
    examples=("keydesk import keys.csv", "keydesk import keys.yml", "keydesk import keys.jsonl --json"),
)
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
def import_(run: Run, path: Path) -> None:
    """Take in keys that clients already hold.

    All keys of a CSV, YAML or JSON lines FILE, or none of them. The suffix says what it is: .csv, .yml or .yaml,
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
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe cannot be read again, to say which lines hold the same secret
        raise click.BadParameter("it is no regular file", param_hint="FILE")
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
        self._path = path
        self._reader = reader
        self._tell = tell
        self._parser = RowParser(desk.mint, desk.clock.now())
        self._newest: deque[str] = deque(maxlen=REMEMBERED)
        self._last_line = 0

    @property
    def weak(self) -> int:
        """How many of the secrets could be guessed, if it were not for the pepper."""
        return self._parser.weak

    def run(self) -> int:
        """Import the file and return how many keys it had.

        Raises:
            ImportRefused: Lines of it cannot be used, or hold secrets that are taken.
            StoreError: The store cannot be changed or does not answer.
        """
        try:
            return self._desk.import_keys(self._keys(), actor=actor())
        except DuplicateSecret as error:
            raise ImportRefused(self._duplicates(set(error.digests)), unread=True) from None

    def _keys(self) -> Iterator[HeldKey]:
        """Yield the keys of the file, up to the first line that cannot be used; read on for more such lines."""
        problems: list[tuple[int, str]] = []
        for line, held in self._parsed():
            if isinstance(held, InvalidField):
                problems.append((line, str(held)))
                if len(problems) == MAX_PROBLEMS or isinstance(held, _EndsHere):
                    raise ImportRefused(problems, unread=True)
            elif not problems:
                self._newest.append(held.secret.digest)
                self._last_line = line
                yield held
        if problems:
            raise ImportRefused(problems)
        if not self._last_line:
            raise ImportRefused([(1, "the file holds no keys")])

    def _parsed(self) -> Iterator[tuple[int, HeldKey | InvalidField]]:
        """Yield every line with its key or with what is wrong with it."""
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            try:
                for count, (line, given) in enumerate(self._reader(file)):
                    if count % _TELL_EVERY == 0:
                        self._tell(file.tell(), size)
                    if isinstance(given, InvalidField):
                        yield line, given
                        continue
                    try:
                        held = self._parser.held_key(given)
                    except InvalidField as error:
                        yield line, error
                    else:
                        yield line, held
            except Unreadable as error:
                yield error.line, _EndsHere(error.problem)

    def _duplicates(self, taken: set[str]) -> list[tuple[int, str]]:
        """Read the file again and return the lines whose secret is taken, by another line or in the store.

        Args:
            taken: What the store said. It says nothing of a line long before the one it stumbled over, but that one
                is among the newest.
        """
        suspects = taken.union(self._newest)
        problems: list[tuple[int, str]] = []
        first_lines: dict[str, int] = {}
        for line, held in self._parsed():
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


class _EndsHere(LineProblem):
    """The file cannot be read beyond this line."""
