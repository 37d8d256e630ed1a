"""Room stores: keys in a YAML or TOML file, `file:keys.yml`. People edit it; the next second it is in force."""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from ..clock import Clock, SystemClock
from ..decision import Check
from ..errors import InvalidField, SettingsError, first_problems
from ..keys.held import Mint, is_weak, keys_of_mapping
from ..keys.record import Key
from ..ports import FeedEntry, KeyFilter, Page, Position
from ..yaml_text import SECTION, TextLoader
from .index import KeyIndex

logger = logging.getLogger("keydesk")

LOOK_EVERY_SECONDS = 0.5
# A file written again within one tick of the file system's clock looks unchanged. Until it is older than this, a file
# is read again at each look, as git does with its index.
SETTLED_AFTER_SECONDS = 2.0
MAX_FILE_BYTES = 64 * 1024 * 1024

# What a setting may be called, and no random secret is: letters and underscores only.
_SETTING = re.compile(r"[A-Za-z_]{1,24}")


class FileStore:
    """A store of the keys in a file: a mapping of secret, or `sha256:<hex>`, to a name or to a table of fields.

    The mapping is the whole file, or its part `api_keys`, so that it can stand in a larger configuration file. The
    file is looked at by the request that finds the last look half a second old; no thread is needed. An edit that
    cannot be read leaves the keys read last in force and is logged.

    Args:
        path: A file ending in `.yml`, `.yaml` or `.toml`.
        mint: How secrets are digested.
        clock: Times the looks.

    Raises:
        SettingsError: The file is not there or cannot be used when the store is opened. All entries that are wrong
            are in it, up to 20.
    """

    def __init__(self, path: Path, mint: Mint, clock: Clock) -> None:
        self._path = path
        self._mint = mint
        self._clock = clock
        self._lock = threading.Lock()
        self._problem = ""
        self._warning = ""
        self._weak = 0
        self._index = KeyIndex()
        self._readings = 0
        self._signature: tuple[int, int, int] | None = None
        self._unsettled = True
        self._looked_at = clock.monotonic()
        try:
            self._index = self._read()
        except (OSError, InvalidField) as error:
            problem = f"KEYDESK_STORE names the file {path}, which cannot be used: {_described(error)}"
            raise SettingsError([problem]) from None
        except SettingsError as error:
            raise SettingsError([f"KEYDESK_STORE, {path}, {problem}" for problem in error.problems]) from None

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        """See `KeyStore.find_by_digest`."""
        return self._current().find_by_digest(digests)

    def find_key(self, key_id: str) -> Key | None:
        """See `KeyStore.find_key`."""
        return self._current().find(key_id)

    def list_keys(self, where: KeyFilter, *, cursor: str | None = None, size: int = 100) -> Page:
        """See `KeyStore.list_keys`.

        Raises:
            InvalidField: The cursor is none of this list, or the size is out of range.
        """
        return self._current().page(where, cursor=cursor, size=size, now=self._clock.now())

    def position(self) -> Position:
        """See `KeyStore.position`. The number is that of the times the file was read."""
        self._current()
        return Position(self._readings)

    def list_feed(self, *, after: int, size: int = 100) -> list[FeedEntry]:  # noqa: ARG002
        """See `KeyStore.list_feed`. There are no events here."""
        return []

    def note_used(self, used: Mapping[str, datetime]) -> None:
        """See `KeyStore.note_used`. It is known until the process ends."""
        self._current().note_used(used)

    def edited_in(self, key: Key | None = None) -> str:  # noqa: ARG002
        """See `EditedKeyStore.edited_in`."""
        return str(self._path)

    def _current(self) -> KeyIndex:
        """Return the keys as the file has them, at most a second ago."""
        due = self._clock.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS
        if due and self._lock.acquire(blocking=False):
            try:
                self._looked_at = self._clock.monotonic()
                self._look()
            finally:
                self._lock.release()
        return self._index

    def _look(self) -> None:
        try:
            if self._unsettled or self._problem or self._signature != self._signature_now():
                index = self._read()
                index.note_used(self._index.last_used())
                self._index = index
                self._readings += 1  # not before the keys are in force: who asks for one takes the other as that old
                self._report("")
        except (OSError, InvalidField) as error:
            self._report(_described(error))
        except SettingsError as error:
            self._report(". ".join(error.problems))

    def _report(self, problem: str) -> None:
        if problem and problem != self._problem:
            logger.error("%s cannot be used: %s. The keys read before stay in force.", self._path, problem)
        elif self._problem and not problem:
            logger.warning("%s can be used again; its keys are in force", self._path)
        self._problem = problem

    def _signature_now(self) -> tuple[int, int, int]:
        state = self._path.stat()
        return state.st_mtime_ns, state.st_size, state.st_ino

    def _read(self) -> KeyIndex:
        """Read the file whole.

        Raises:
            OSError: It cannot be read.
            InvalidField: It cannot be understood.
            SettingsError: Entries cannot be used.
        """
        self._signature = self._signature_now()
        # Compared with the clock of the file system, so the operating system's and not the injected one.
        self._unsettled = SystemClock().now().timestamp() - self._signature[0] / 1e9 < SETTLED_AFTER_SECONDS
        if self._signature[1] > MAX_FILE_BYTES:
            raise InvalidField("file", f"has over {MAX_FILE_BYTES} bytes; keep so many keys in SQLite")
        given, problems = _entries(_parse(self._path))
        try:
            index = KeyIndex(keys_of_mapping(given, self._mint, self._clock.now()))
        except SettingsError as error:
            problems += error.problems
        if problems:
            raise SettingsError(problems)
        if not self._signature[1] and len(self._index):
            # An editor that empties the file before it writes; to mean no keys, write {}.
            raise InvalidField("file", "is empty; write {} to mean that there are no keys")
        self._weak = sum(is_weak(text) for text in given)
        self._warn(len(index))
        return index

    def _warn(self, count: int) -> None:
        """Say in the log, once until it changes, what lets nobody in or anybody guess."""
        warning = f"{self._path} holds no keys: every request that needs one is refused" if not count else ""
        if self._weak:
            warning = f"{self._weak} of the keys in {self._path} could be guessed; replace them by random ones"
        if warning and warning != self._warning:
            logger.warning("%s", warning)
        self._warning = warning

    def checks(self) -> list[Check]:
        """See `KeyStore.checks`."""
        count = len(self._current())
        checks = [Check("store", not self._problem, f"{self._path.absolute()}, {count} keys", self._problem)]
        if self._weak:
            checks.append(
                Check("strength", False, f"{self._weak} keys could be guessed", "replace them by random ones")
            )
        if os.name == "posix" and self._others_read():
            checks.append(Check("file", False, "others on this machine can read it", f"chmod 600 {self._path}"))
        return checks

    def _others_read(self) -> bool:
        try:
            return bool(self._path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
        except OSError:  # gone; the first check says so
            return False

    def close(self) -> None:
        """See `KeyStore.close`."""


def _described(error: OSError | InvalidField) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror}; correct the path, or put a file there that this user may read"
    return str(error)


def _parse(path: Path) -> object:
    """Return what a YAML or TOML file holds.

    Raises:
        OSError: It cannot be read.
        InvalidField: It is no YAML or TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # with the mark that editors on Windows begin a file with
    except UnicodeDecodeError:
        raise InvalidField("file", "is not UTF-8; save it as UTF-8") from None
    try:
        if path.suffix.lower() == ".toml":
            return tomllib.loads(text.replace("\r\n", "\n"))
        return yaml.load(text, Loader=TextLoader)  # noqa: S506 - a subclass of BaseLoader builds texts only
    except yaml.YAMLError as error:
        raise InvalidField("file", f"is no YAML ({_place(error)}); correct it there") from None
    except InvalidField:
        raise
    except ValueError as error:  # tomllib.TOMLDecodeError, and what Python says of a number with 5000 digits
        raise InvalidField("file", f"is no TOML ({_place(error)}); correct it there") from None
    except RecursionError:
        raise InvalidField("file", "is nested too deeply; write a mapping of secret to name") from None


def _entries(content: object) -> tuple[Mapping[str, Any], list[str]]:
    """Return the entries of a file, and what is wrong with the names of them.

    A configuration file without a part for keys is refused: each of its settings would be a key, and let callers in.

    Raises:
        InvalidField: There is no mapping.
    """
    entries, alone = content or {}, True
    if isinstance(entries, dict) and SECTION in entries:
        entries, alone = entries[SECTION] or {}, False
    if not isinstance(entries, dict):
        raise InvalidField(
            "file",
            "must be a mapping of secret, or sha256:<hex>, to a name or to a table of fields; write one entry a line, "
            "such as the-secret: Name of the client",
        )
    problems = [
        f"entry {position}: looks like the name of a setting, not like a secret; in a file with more than keys, put "
        f"those under `{SECTION}:`"
        for position, text in enumerate(entries, 1)
        if alone and _SETTING.fullmatch(str(text))
    ]
    return entries, first_problems(problems)


def _place(error: Exception) -> str:
    """Return where a parser gave up. Its own message may quote the line, and the line may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}"
    place = re.search(r"\(at (line \d+|end of document)", str(error))
    return place[1] if place else "somewhere"
