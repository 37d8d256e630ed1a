"""What the tests of the management API share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from keydesk import open_desk
from keydesk.testing import ManualClock

from .rig import ManagementRig


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with its tables and nothing in them, to be copied: quicker than migrating one for each test."""
    path = tmp_path_factory.mktemp("migrated") / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    desk.store.upgrade()  # type: ignore[attr-defined]
    desk.close()
    return path


@pytest.fixture(params=["memory", "sqlite"])
def api(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path, migrated: Path) -> Iterator[ManagementRig]:
    """The API over each kind of store."""
    url = "memory://"
    if request.param == "sqlite":
        url = f"sqlite:///{shutil.copy(migrated, tmp_path / 'keys.db')}"
    rig = ManagementRig(clock, KEYDESK_STORE=url)
    yield rig
    rig.close()


@pytest.fixture
def quick(clock: ManualClock) -> Iterator[ManagementRig]:
    """The API over a store in memory, where the store does not matter."""
    rig = ManagementRig(clock)
    yield rig
    rig.close()


@pytest.fixture(scope="module")
def still() -> Iterator[ManagementRig]:
    """One API for all tests of a module that ask it for what it refuses, or for what does not change."""
    rig = ManagementRig(ManualClock())
    rig.admin  # noqa: B018 - made with the first use
    yield rig
    rig.close()
