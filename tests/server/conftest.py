"""What the tests of the server share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keydesk.testing import ManualClock

from .rig import ServerRig


@pytest.fixture
def rig(clock: ManualClock) -> Iterator[ServerRig]:
    rig = ServerRig(clock)
    yield rig
    rig.close()
