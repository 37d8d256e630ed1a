"""What attacks are tried against: an application on each store, and a desk on each database."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keydesk import Desk, open_desk
from keydesk.testing import ManualClock

from ..flask.rig import Rig


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with its tables and nothing in them, to be copied: quicker than migrating one for each test."""
    path = tmp_path_factory.mktemp("migrated") / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    desk.store.upgrade()  # type: ignore[attr-defined]
    desk.close()
    return path


@pytest.fixture(params=["memory", "sqlite"])
def new_rig(
    request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path, migrated: Path
) -> Iterator[Callable[..., Rig]]:
    """Make applications, in memory and on SQLite: `new_rig(KEYDESK_REALM="shop")`."""
    made: list[Rig] = []

    def make(**config: Any) -> Rig:
        url = "memory://"
        if request.param == "sqlite":
            url = f"sqlite:///{shutil.copy(migrated, tmp_path / f'keys{len(made)}.db')}"
        made.append(Rig(clock, **{"KEYDESK_STORE": url, "TESTING": False, **config}))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(new_rig: Callable[..., Rig]) -> Rig:
    """One application, with a view that any key opens."""
    rig = new_rig()
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"), methods=["GET", "POST"])
    return rig


@pytest.fixture(params=["memory", "sqlite", "postgres", "mariadb"])
def everywhere(
    request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path, migrated: Path
) -> Iterator[Callable[..., Desk]]:
    """Open desks, all on one new database of each kind: `everywhere(KEYDESK_PEPPER=...)`. Each asks it every time."""
    if request.param == "memory":
        url = "memory://"
    elif request.param == "sqlite":
        url = f"sqlite:///{shutil.copy(migrated, tmp_path / 'keys.db')}"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    opened: list[Desk] = []

    def open_(**settings: Any) -> Desk:
        desk = open_desk({"KEYDESK_STORE": url, "KEYDESK_MAX_STALENESS_SECONDS": 0, **settings}, clock=clock)
        if opened and request.param == "memory":
            desk = Desk(store=opened[0].store, mint=desk.mint, clock=clock)
        if request.param in ("postgres", "mariadb") and not opened:
            desk.store.upgrade()  # type: ignore[attr-defined]
        opened.append(desk)
        return desk

    yield open_
    for desk in opened:
        desk.close()
