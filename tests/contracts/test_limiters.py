"""Every limiter, through the contract of `keydesk.testing`."""

from __future__ import annotations

import pytest

from keydesk.limiting.memory import MemoryLimiter
from keydesk.testing import LimiterContract, ManualClock


class TestMemoryLimiter(LimiterContract):
    @pytest.fixture
    def limiter(self, clock: ManualClock) -> MemoryLimiter:
        return MemoryLimiter(clock)
