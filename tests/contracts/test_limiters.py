"""Every limiter, through the contract of `keydesk.testing`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keydesk.limiting.memory import MemoryLimiter
from keydesk.limiting.redis import RedisLimiter
from keydesk.testing import LimiterContract, ManualClock

from ..servers import Valkey, ValkeyCluster


class TestMemoryLimiter(LimiterContract):
    @pytest.fixture
    def limiter(self, clock: ManualClock) -> MemoryLimiter:
        return MemoryLimiter(clock)


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
