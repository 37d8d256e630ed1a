"""What any store, limiter and place for counts does, a server does for its applications."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from keydesk import Desk
from keydesk.client.connection import Connection
from keydesk.client.limiter import ServerLimiter
from keydesk.client.store import ServerStore
from keydesk.keys.held import keys_of_mapping
from keydesk.limiting.memory import MemoryLimiter
from keydesk.ports import KeyStore
from keydesk.stores.memory import MemoryStore
from keydesk.testing import KeyStoreContract, LimiterContract, ManualClock
from keydesk.testing.stores import HELD, MINT, issued

from .running import serving_desk


@pytest.fixture
def behind(clock: ManualClock) -> Desk:
    """The desk of the server. Contracts note what has yet to come, which a server takes from no application."""
    later = ManualClock()
    later.advance(timedelta(days=400))
    return Desk(store=MemoryStore(clock), mint=MINT, clock=later, limiter=MemoryLimiter(clock))


@pytest.fixture
def connection(behind: Desk, clock: ManualClock) -> Iterator[Connection]:
    with serving_desk(behind, clock) as (url, secret):
        connection = Connection(url, secret)
        yield connection
        connection.close()


class TestServerStore(KeyStoreContract):
    @pytest.fixture
    def holding(
        self, behind: Desk, connection: Connection, clock: ManualClock
    ) -> Callable[[Mapping[str, Any]], KeyStore]:
        def fill(given: Mapping[str, Any]) -> KeyStore:
            behind.store.add(issued(key) for key in keys_of_mapping(given, MINT, clock.now()))  # type: ignore[attr-defined]
            return ServerStore(connection, MINT.digester, clock)

        return fill

    def test_note_used_shows_in_the_record(self, held: KeyStore, clock: ManualClock) -> None:
        """Where it is found by its digest: those who read keys are not told what their secrets are found by."""
        digest = MINT.digester.digest(next(iter(HELD)))
        key = held.find_by_digest([digest])
        assert key is not None
        held.note_used({key.id: clock.now()})
        for found in (held.find_by_digest([digest]), held.find_key(key.id)):
            assert found is not None
            assert found.last_used_at == clock.now()
        assert [secret.digest for secret in found.secrets] == [""] * len(key.secrets)

    def test_checks_find_nothing_wrong(self, held: KeyStore) -> None:
        """How many keys there are is said on the server."""
        assert [(check.name, check.passed) for check in held.checks()] == [("store", True)]
        assert "at event 5" in held.checks()[0].found


class TestServerLimiter(LimiterContract):
    @pytest.fixture
    def limiter(self, connection: Connection) -> ServerLimiter:
        return ServerLimiter(connection)
