"""Applications for the tests of the Flask door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keydesk.testing import ManualClock

from .rig import Rig


@pytest.fixture
def new_rig(clock: ManualClock, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make applications: `new_rig(KEYDESK_REALM="shop")`."""
    made: list[Rig] = []

    def make(**config: Any) -> Rig:
        made.append(Rig(clock, **{"instance_path": str(tmp_path / "instance"), **config}))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(new_rig: Callable[..., Rig]) -> Rig:
    """An application whose keys are kept in memory."""
    return new_rig()
