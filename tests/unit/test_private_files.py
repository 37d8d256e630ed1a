"""Files of SQLite are made for their owner only, and looking for one takes nobody's locks away."""

from __future__ import annotations

import fcntl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keydesk.private_files import make_private
from keydesk.stores.engines import create_sqlite_file, open_engine

LOCK = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def test_new_file_is_its_owners(tmp_path: Path) -> None:
    make_private(tmp_path / "keys.db")
    assert stat.S_IMODE((tmp_path / "keys.db").stat().st_mode) == 0o600


def test_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.write_text("something")
    path.chmod(0o640)
    make_private(path)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("something", 0o640)


@pytest.mark.parametrize("how", ["alone", "for a store"])
def test_lock_of_this_process_stays(tmp_path: Path, how: str) -> None:
    """A second handle that is closed would take it away: others would write at the same time."""
    path = tmp_path / "keys.db"
    with path.open("w+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        if how == "alone":
            make_private(path)
        else:
            create_sqlite_file(open_engine(f"sqlite:///{path}"))
        other = subprocess.run([sys.executable, "-c", LOCK, str(path)], check=False, capture_output=True)
        assert other.returncode == 1
        assert b"BlockingIOError" in other.stderr
