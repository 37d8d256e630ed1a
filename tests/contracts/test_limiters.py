"""Every limiter, through the contract of `keydesk.testing`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keydesk.limiting.memory import MemoryLimiter
from keydesk.limiting.redis import RedisLimiter
from keydesk.limiting.sqlite import SqliteLimiter
from keydesk.testing import LimiterContract, ManualClock

from ..servers import Valkey, ValkeyCluster


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


class TestRedisLimiter(LimiterContract):
    @pytest.fixture
    def limiter(self, valkey: Valkey, clock: ManualClock) -> Iterator[RedisLimiter]:
        limiter = RedisLimiter(valkey.url(), clock)
        yield limiter
        limiter.close()


class TestRedisLimiterOnACluster(LimiterContract):
    @pytest.fixture
    def limiter(self, valkey_cluster: ValkeyCluster, clock: ManualClock) -> Iterator[RedisLimiter]:
        limiter = RedisLimiter(valkey_cluster.url(), clock)
        yield limiter
        limiter.close()
