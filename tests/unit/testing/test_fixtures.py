"""The fixtures and contracts as somebody else's suite uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUITE = """
import pytest
from keydesk.stores.memory import MemoryStore
from keydesk.testing import WritableKeyStoreContract

pytest_plugins = ["keydesk.testing.fixtures"]

class Forgetful(MemoryStore):
    def redigest(self, old, new, pepper_id):
        pass

class TestGood(WritableKeyStoreContract):
    @pytest.fixture
    def store(self, clock):
        return MemoryStore(clock)

class TestForgetful(WritableKeyStoreContract):
    @pytest.fixture
    def store(self, clock):
        return Forgetful(clock)

def test_desk(desk, clock):
    issued = desk.issue(name="x")
    assert desk.verify(issued.secret).key.created_at == clock.now()
"""


def test_suite_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_theirs.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert failed, done.stdout + done.stderr
    assert all("TestForgetful::test_" in line for line in failed), done.stdout
    assert any("test_redigest_one_secret" in line for line in failed)
    # Rewritten by pytest: a contract that fails shows the values it compared.
    assert "E       AssertionError: assert None == Key(" in done.stdout, done.stdout
