"""Every limiter, through the contract of `keydesk.testing`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keydesk.limiting.memory import MemoryLimiter
from keydesk.limiting.sqlite import SqliteLimiter
from keydesk.testing import LimiterContract, ManualClock


class TestMemoryLimiter(LimiterContract):
    @pytest.fixture
    def limiter(self, clock: ManualClock) -> MemoryLimiter:
        return MemoryLimiter(clock)


class TestSqliteLimiter(LimiterContract):
    @pytest.fixture
    def limiter(self, clock: ManualClock, tmp_path: Path) -> Iterator[SqliteLimiter]:
        limiter = SqliteLimiter(tmp_path / "limits.db", clock)
        yield limiter
        limiter.close()
