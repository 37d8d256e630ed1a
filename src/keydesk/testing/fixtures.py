"""Room testing: pytest fixtures, to be had with `pytest_plugins = ["keydesk.testing.fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..build import open_desk
from ..desk import Desk
from .clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands until the test advances it."""
    return ManualClock()


@pytest.fixture
def desk(clock: ManualClock) -> Iterator[Desk]:
    """A desk that keeps its keys in memory, on `clock`. Override it to test against another store."""
    desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    yield desk
    desk.close()
