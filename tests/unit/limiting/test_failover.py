"""What happens while a limiter does not answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from keydesk import Desk, Reason
from keydesk.claims import Claim, Pool, Taken
from keydesk.errors import LimiterUnavailable
from keydesk.limiting.failover import RETRY_SECONDS, FailoverLimiter
from keydesk.limiting.memory import MemoryLimiter
from keydesk.testing import ManualClock
from keydesk.testing.limiters import claim, credits_of


class Failing(MemoryLimiter):
    """A limiter that fails when it is told to, after it has done what it was asked for."""

    failing = False
    asked = 0

    def take(self, claims: Sequence[Claim], pools: Sequence[Pool] = (), **given: Any) -> Taken:
        self.asked += 1
        taken = super().take(claims, pools, **given)
        if self.failing:
            raise LimiterUnavailable("it is away")
        return taken


@pytest.fixture
def failing(clock: ManualClock) -> Failing:
    return Failing(clock)


@pytest.fixture
def limiter(failing: Failing, clock: ManualClock) -> FailoverLimiter:
    return FailoverLimiter(failing, MemoryLimiter(clock), clock)


def test_local_one_takes_its_place(
    limiter: FailoverLimiter, failing: Failing, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    failing.failing = True
    with caplog.at_level(logging.WARNING):
        assert [bool(limiter.take([claim(2)]).violated) for _ in range(4)] == [False, False, True, True]
        assert (failing.asked, limiter.failures) == (1, 1)
        clock.advance(RETRY_SECONDS)
        limiter.take([claim(2)])
        assert (failing.asked, limiter.failures) == (2, 2)
        failing.failing = False
        clock.advance(RETRY_SECONDS)
        limiter.take([claim(9)])
    assert [record.getMessage() for record in caplog.records] == [
        "Keydesk's limiter is away, and each worker counts alone: it is away",
        "Keydesk's limiter answers again",
    ]


def test_closed_refuses(failing: Failing, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    limiter = FailoverLimiter(failing, None, clock)
    failing.failing = True
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(LimiterUnavailable, match="it is away"):
                limiter.take([claim(2)])
    assert failing.asked == 1
    assert caplog.messages == ["Keydesk's limiter is away, and keys with limits are refused: it is away"]
    failing.failing = False
    clock.advance(RETRY_SECONDS)
    assert not limiter.take([claim(2)]).violated


def test_one_request_asks_again_while_the_others_go_on(
    limiter: FailoverLimiter, failing: Failing, clock: ManualClock
) -> None:
    failing.failing = True
    limiter.take([claim(9)])
    clock.advance(RETRY_SECONDS)
    take, others = MemoryLimiter.take, []

    def meanwhile(self: MemoryLimiter, *args: Any, **given: Any) -> Taken:
        if self is failing and not others:
            others.append(limiter.take([claim(9)]))
        return take(self, *args, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryLimiter, "take", meanwhile)
        limiter.take([claim(9)])
    assert len(others) == 1
    assert failing.asked == 2


def test_requests_that_fail_while_the_first_is_at_the_log_say_nothing(
    limiter: FailoverLimiter, failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    class Asking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            limiter.take([claim(9)])

    handler, failing.failing = Asking(), True
    logger = logging.getLogger("keydesk")
    logger.addHandler(handler)
    try:
        limiter.take([claim(9)])
    finally:
        logger.removeHandler(handler)
    assert len(caplog.messages) == 1
    assert failing.asked == 1


def test_deposit_whose_fate_is_unknown_is_not_made_again(limiter: FailoverLimiter, failing: Failing) -> None:
    """Or a credit would be spent twice: it may have got there."""
    failing.failing = True
    assert limiter.take([], [credits_of(5)]).violated == ("1000/month",)
    failing.failing = False
    assert failing.take([], [credits_of()]).held == (3,)  # one was taken with it


def test_it_is_shared_where_its_limiter_is(limiter: FailoverLimiter, failing: Failing) -> None:
    assert limiter.shared is failing.shared
    assert limiter.checks() == failing.checks()
    limiter.close()


def test_desk_tells_once_of_a_limiter_that_is_away(
    failing: Failing, clock: ManualClock, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    closed = Desk(store=desk.store, mint=desk.mint, clock=clock, limiter=FailoverLimiter(failing, None, clock))
    secret = desk.issue(name="client", limits=["5/minute"]).secret
    failing.failing = True
    with caplog.at_level(logging.WARNING):
        assert {closed.verify(secret).reason for _ in range(5)} == {Reason.UNAVAILABLE}
    assert caplog.messages == ["Keydesk's limiter is away, and keys with limits are refused: it is away"]
