"""Room limiting: what happens while a limiter does not answer: a local one takes its place, or requests get 503."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from ..claims import Claim, Pool, Taken
from ..clock import Clock
from ..decision import Check
from ..errors import LimiterUnavailable
from ..ports import Limiter

logger = logging.getLogger("keydesk")

RETRY_SECONDS = 1.0  # a limiter that did not answer is asked again by one request so often


class FailoverLimiter:
    """A limiter that can fail, and what takes its place then; see `keydesk.ports.Limiter`.

    Args:
        limiter: The one that is asked.
        local: Takes its place, with the same limits for this process alone; None refuses while it is away.
        clock: What tells the time.
    """

    def __init__(self, limiter: Limiter, local: Limiter | None, clock: Clock) -> None:
        self._limiter = limiter
        self._local = local
        self._monotonic = clock.monotonic
        self._lock = threading.Lock()  # around what is set only when it goes away or comes back
        self._ask_again_at: float | None = None  # while it is away
        self._problem = ""
        self.failures = 0

    @property
    def shared(self) -> bool:
        """See `Limiter.shared`."""
        return self._limiter.shared

    def take(self, claims: Sequence[Claim], pools: Sequence[Pool] = (), *, cost: int = 1, test: bool = False) -> Taken:
        """See `Limiter.take`.

        Raises:
            LimiterUnavailable: It does not answer, and nothing takes its place.
        """
        if self._ask_again_at is not None:
            now = self._monotonic()
            if now < self._ask_again_at:
                return self._instead(claims, pools, cost, test)
            self._ask_again_at = now + RETRY_SECONDS  # the others need not wait for this one
        try:
            taken = self._limiter.take(claims, pools, cost=cost, test=test)
        except LimiterUnavailable as error:
            self._note_failure(error)
            # What was put in may be there: here it is not put in a second time.
            return self._instead(claims, [pool._replace(deposit=0) for pool in pools], cost, test)
        if self._ask_again_at is not None and self._set(None):
            logger.warning("Keydesk's limiter answers again")
        return taken

    def _set(self, ask_again_at: float | None) -> bool:
        """Note when it is asked again, None where it answers; return whether nobody had noted yet that this changed."""
        with self._lock:
            was_away, self._ask_again_at = self._ask_again_at is not None, ask_again_at
        return was_away != (ask_again_at is not None)

    def _note_failure(self, error: LimiterUnavailable) -> None:
        self.failures += 1
        self._problem = str(error)
        if self._set(self._monotonic() + RETRY_SECONDS):
            instead = "each worker counts alone" if self._local else "keys with limits are refused"
            logger.error("Keydesk's limiter is away, and %s: %s", instead, error)

    def _instead(self, claims: Sequence[Claim], pools: Sequence[Pool], cost: int, test: bool) -> Taken:
        if self._local is None:
            raise LimiterUnavailable(self._problem, logged=True)
        return self._local.take(claims, pools, cost=cost, test=test)

    def checks(self) -> list[Check]:
        """See `Limiter.checks`."""
        return self._limiter.checks()

    def close(self) -> None:
        """See `Limiter.close`."""
        self._limiter.close()
        if self._local is not None:
            self._local.close()
