"""Core: what a request asks of limits and quotas, and what came of it. Plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """One limit that a request is under.

    Attributes:
        policy: Its name on the wire and in logs, such as `100/minute`.
        subject: Whose requests are counted together. What stands between its first `{` and `}` is the same for all
            claims of a request, so that a cluster keeps them in one place.
        most: How many pass in any window; 1 to 4,294,967,295.
        window_seconds: The length of the window; 1 second to 366 days.
    """

    policy: str
    subject: str
    most: int
    window_seconds: int


class Claims(tuple[Claim, ...]):
    """The limits that all requests of a key are under, in their order.

    Attributes:
        texts: What is the same in what each of these requests is told of them, once `web/responses.py` has written it.
    """

    texts: tuple[tuple[str, str], str] | None = None


class Pool(NamedTuple):
    """Credits of a quota that were leased and are not spent yet.

    Attributes:
        policy: The name of the quota on the wire and in logs, such as `10000/month quota`.
        subject: As of `Claim`; with whose quota, of which period and of which size it is.
        seconds: How long the pool is kept without being used.
        deposit: Credits that are put in now, whatever becomes of the request: each was leased, or given back, once.
    """

    policy: str
    subject: str
    seconds: int
    deposit: int = 0


class Standing(NamedTuple):
    """Where a caller stands with one limit.

    Attributes:
        claim: The limit.
        remaining: How many more would pass now.
        reset_seconds: In how many whole seconds that has grown, where nothing else is taken; the window where nothing
            was.
    """

    claim: Claim
    remaining: int
    reset_seconds: int


class Taken(NamedTuple):
    """What became of a request: everything was taken, or nothing.

    Attributes:
        claims: The limits it is under.
        left: For each of them two numbers: `remaining` and `reset_seconds` of its `Standing`, as they are now.
        violated: The policies that refuse it, limits before quotas; empty where everything was taken.
        retry_after: The number of seconds after which the limits would let it pass, if nothing else is taken; 0 where
            they do now, None where they never will: it costs more than a limit allows in all.
        held: How many credits each pool holds now.
    """

    claims: Sequence[Claim] = ()
    left: tuple[int, ...] = ()
    violated: tuple[str, ...] = ()
    retry_after: float | None = 0.0
    held: tuple[int, ...] = ()

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Where the caller stands with each limit."""
        return tuple(map(Standing, self.claims, self.left[::2], self.left[1::2]))
