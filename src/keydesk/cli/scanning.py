"""Room cli: `scan`, which finds secrets of this desk in files, says whose they are, and revokes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import click
from rich.text import Text

from ..desk import Desk
from ..keys.secret import SecretFormat, redact
from ..leaks import Leak, find_leak, revoke_leak
from ..ports import writable
from ..scanning import Finding, Scanner, unzipped
from .command import command
from .context import Run, actor
from .presence import existing_desk
from .progress import progress_bar
from .scan_files import Unread, files_of, opened, size_of
from .scan_rules import TOOLS, rules_for
from .text import clean, counted

MAX_PLACES = 10_000  # that are named; more are counted
MAX_SECRETS = 100_000  # different ones: that is no leak but a list of keys
REASON = "leaked: found by scan"


@command(
    "scan",
    examples=(
        "keydesk scan .",
        "keydesk scan --revoke /var/log/nginx /etc",
        "git log -p --all | keydesk scan -",
        "keydesk scan --rules gitleaks > .gitleaks.toml",
    ),
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(exists=True, allow_dash=True))
@click.option("--live", is_flag=True, help="Ask the store whose they are, and whether they are of any use still.")
@click.option("--revoke", is_flag=True, help="Do the same, and revoke the keys of those that are.")
@click.option("--rules", type=click.Choice(TOOLS), help="Print rules by which another scanner finds them, and no more.")
def scan(run: Run, paths: tuple[str, ...], live: bool, revoke: bool, rules: str | None) -> None:
    """Find secrets of this desk in files, folders and logs.

    A PATH is a file, a folder, which is read with all that is in it, or - for standard input. What is gzip'ed is
    unpacked. Secrets are known by KEYDESK_PREFIX and their checksum, so nobody is asked for them unless --live or
    --revoke says so; imported keys have another shape and are not found. Each place is printed as file:line:column
    and a hint, never the secret; columns count bytes.

    Exit code 1 if something was found, or could not be read; 0 if not. With --json, a document with the members
    `findings` (of which the first 10,000 are there), `places`, `secrets`, `files`, `bytes`, `unread` and
    `unread_count`.
    """
    if rules:
        if paths or live or revoke:
            raise click.UsageError("--rules goes with nothing else; it reads no files.")
        text = rules_for(rules, run.read_settings().prefix)
        run.show({"tool": rules, "rules": text}, lambda: Text(text.rstrip("\n")))
        return
    if not paths:
        raise click.UsageError("Say what to read: files, folders, or - for standard input, such as `keydesk scan .`")
    found = _Found(looked_up=live or revoke)
    prefix = run.read_settings().prefix
    with existing_desk(run) if live or revoke else nullcontext() as desk, progress_bar(run, "Scanning") as tell:
        found.fill(paths, prefix, tell, desk, revoke=revoke)
    run.show(found.as_json(), lambda: _print_places(run, found))
    _sum_up(run, found)
    if found.places_count or found.unread.count:
        raise click.exceptions.Exit(1)


@dataclass(slots=True)
class _Secret:
    """One secret that was found, wherever: whose it is, if that was asked for, and whether it was revoked just now."""

    leak: Leak | None = None
    revoked_now: bool = False

    @property
    def state(self) -> str:
        return self.leak.state.value if self.leak else "unknown"


@dataclass(slots=True)
class _Found:
    """What a scan has found.

    Attributes:
        looked_up: Whether it was asked whose the secrets are.
        places: The first 10,000: a path, what was found there, and which secret that is.
        places_count: How many in all.
        secrets: By what they are.
    """

    looked_up: bool
    places: list[tuple[str, Finding, _Secret]] = field(default_factory=list)
    places_count: int = 0
    secrets: dict[str, _Secret] = field(default_factory=dict, repr=False)
    files: int = 0
    bytes: int = 0
    unread: Unread = field(default_factory=Unread)

    def fill(
        self,
        paths: tuple[str, ...],
        prefix: str,
        tell: Callable[[int, int | None], None],
        desk: Desk | None,
        *,
        revoke: bool,
    ) -> None:
        """Read everything under these paths, ask the desk whose the secrets are, and revoke them where that is wanted.

        Raises:
            StoreError: The store does not answer, or cannot be changed.
        """
        if desk is not None and revoke:
            writable(desk.store)  # said before an hour of reading, not after it
        self._read(paths, Scanner(SecretFormat(prefix)), tell)
        if desk is not None:
            for text, secret in self.secrets.items():
                leak = secret.leak = find_leak(desk, text)
                if revoke and leak is not None:
                    secret.revoked_now = revoke_leak(desk, leak, reason=REASON, actor=actor())

    def _read(self, paths: tuple[str, ...], scanner: Scanner, tell: Callable[[int, int | None], None]) -> None:
        total = size_of(paths)

        def counting(pieces: Iterator[bytes]) -> Iterator[bytes]:
            for piece in pieces:
                self.bytes += len(piece)
                tell(self.bytes, total)
                yield piece

        for path, named in files_of(paths, self.unread):
            try:
                with opened(path, named=named) as pieces:
                    self.files += 1
                    for finding in scanner.find(unzipped(counting(pieces))):
                        if not self._add(path, finding):
                            self.unread.note(path, OSError(f"has more than {MAX_SECRETS:,} different secrets"))
                            return
            except OSError as error:
                self.unread.note(path, error)

    def _add(self, path: str, finding: Finding) -> bool:
        """Note a place; return whether there was room."""
        secret = self.secrets.get(finding.secret)
        if secret is None:
            if len(self.secrets) == MAX_SECRETS:
                return False
            secret = self.secrets[finding.secret] = _Secret()
        self.places_count += 1
        if len(self.places) < MAX_PLACES:
            self.places.append((path, finding, secret))
        return True

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "findings": [self._finding_json(*place) for place in self.places],
            "places": self.places_count,
            "secrets": len(self.secrets),
            "files": self.files,
            "bytes": self.bytes,
            "unread": [{"file": redact(path), "problem": problem} for path, problem in self.unread.places],
            "unread_count": self.unread.count,
        }

    def _finding_json(self, path: str, finding: Finding, secret: _Secret) -> dict[str, Any]:
        said = {"file": redact(path), "line": finding.line, "column": finding.column, "hint": finding.hint}
        if not self.looked_up:
            return said
        key = secret.leak.key if secret.leak else None
        named = {"id": key.id, "name": key.name, "owner": key.owner} if key else None
        return {**said, "state": secret.state, "key": named, "revoked_now": secret.revoked_now}


def _print_places(run: Run, found: _Found) -> None:
    """Print each place on a line of its own, as linters do, whatever the width of the terminal."""
    for path, finding, secret in found.places:
        whose = f" {_whose(secret)}" if found.looked_up else ""
        line = f"{_shown(path)}:{finding.line}:{finding.column}: {finding.hint}{whose}"
        run.out.print(Text(line), soft_wrap=True)


def _whose(secret: _Secret) -> str:
    if secret.leak is None:
        return secret.state
    key, state = secret.leak.key, "revoked now" if secret.revoked_now else secret.state
    owner = f" of {_shown(key.owner)}" if key.owner else ""
    return f"{state}: {_shown(key.name)}{owner} ({key.id})"


def _shown(text: str) -> str:
    """Return a path or a name on one line. Anybody may have called a file like a line of ours, or like a secret."""
    return clean(redact(text)).replace("\n", "\\n")


def _sum_up(run: Run, found: _Found) -> None:
    """Say on standard error what there was, and what to do."""
    if found.unread.count:
        for path, problem in found.unread.places:
            run.note(f"{_shown(path)}: {problem}")
        run.note(f"{counted(found.unread.count, 'place')} could not be read to the end, and may hold more.")
    where = counted(found.files, "file")
    if not found.places_count:
        run.note(f"No secret of this desk was found in {where}.")
        return
    more = found.places_count - len(found.places)
    first = f", of which the first {len(found.places):,} are shown" if more else ""
    what = counted(len(found.secrets), "secret")
    run.note(f"{what} found in {counted(found.places_count, 'place')}{first}; {where} read.")
    revoked = sum(secret.revoked_now for secret in found.secrets.values())
    if not found.looked_up:
        run.note("`keydesk scan --live` says of the same files which are live; --revoke revokes those.")
    elif revoked:
        run.note(f"{counted(revoked, 'key')} revoked. Clients that used them need new ones.")
    elif any(secret.leak is not None and not secret.leak.is_over for secret in found.secrets.values()):
        run.note("Some can still be used, or could be again; `keydesk scan --revoke` revokes their keys.")
    else:
        run.note("None of them can be used any more.")
