"""What the tests of the command line share: a desk in a fresh SQLite file, and a way to run commands on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import keydesk
from keydesk.cli import keydesk as command_line
from keydesk.stores.engines import open_engine
from keydesk.stores.sql import SqlStore
from keydesk.testing import ManualClock

PEPPER = "cGVwcGVyIG9mIHRoZSB0ZXN0cywgb3ZlciB0aGlydHktdHdvIGJ5dGVz"


class CommandLine:
    """Runs commands in this process."""

    def __call__(self, *arguments: str, stdin: str | bytes = "", code: int = 0) -> Result:
        result = CliRunner().invoke(command_line, arguments, input=stdin)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    def json(self, *arguments: str, stdin: str | bytes = "", code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", stdin=stdin, code=code).stdout)

    def refused(self, *arguments: str, stdin: str | bytes = "", code: int = 1) -> str:
        """Run a command that must fail, and return what it says about it on one line."""
        result = self(*arguments, stdin=stdin, code=code)
        assert result.stdout == ""
        return " ".join(result.stderr.split())


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with tables, to be copied: that is faster than making them for each test."""
    path = tmp_path_factory.mktemp("migrated") / "keys.db"
    store = SqlStore(open_engine(f"sqlite:///{path}"), ManualClock(), own=True)
    store.upgrade()
    store.close()
    return path


@pytest.fixture
def store(tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    url = f"sqlite:///{tmp_path / 'keydesk.db'}"
    monkeypatch.setenv("KEYDESK_STORE", url)
    monkeypatch.setenv("KEYDESK_MAX_STALENESS_SECONDS", "0")  # the desk of a test sees what a command changed, at once
    monkeypatch.chdir(tmp_path)
    shutil.copy(migrated_file, tmp_path / "keydesk.db")
    return url


@pytest.fixture
def no_database(store: str, tmp_path: Path) -> Path:
    """Where the database would be, which was not made yet."""
    path = tmp_path / "keydesk.db"
    path.unlink()
    return path


@pytest.fixture
def run(store: str) -> CommandLine:
    return CommandLine()


@pytest.fixture
def desk(store: str) -> Iterator[keydesk.Desk]:
    desk = keydesk.open_desk()
    yield desk
    desk.close()
