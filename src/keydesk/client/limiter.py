"""Room client: limits and credits that are counted where a server counts them."""

from __future__ import annotations

from collections.abc import Sequence

from .. import sync
from ..claims import Claim, Pool, Taken
from ..decision import Check
from ..errors import InvalidField, LimiterUnavailable, StoreUnavailable
from .connection import Connection

ANSWER_SECONDS = 1.0  # the longest a request waits for it


class ServerLimiter:
    """The limiter of a server; see `keydesk.ports.Limiter`. A take is one request to it, and it is sent once.

    Args:
        connection: To the server.
    """

    shared = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, claims: Sequence[Claim], pools: Sequence[Pool] = (), *, cost: int = 1, test: bool = False) -> Taken:
        """See `Limiter.take`.

        Raises:
            LimiterUnavailable: See there.
        """
        if not claims and not pools:
            return Taken()
        try:
            taken = self._connection.ask(sync.TAKE, sync.Take(list(claims), list(pools), cost, test))
        except (StoreUnavailable, InvalidField) as error:
            raise LimiterUnavailable(str(error)) from None
        if len(taken.left) != 2 * len(claims) or len(taken.held) != len(pools):
            raise LimiterUnavailable(f"the server {self._connection.url} answers for other limits than it was asked")
        return taken._replace(claims=claims)

    def checks(self) -> list[Check]:
        """See `Limiter.checks`."""
        try:
            self._connection.ask(sync.TAKE, sync.Take([Claim("probe", "{keydesk}probe", 1, 1)], [], 0, True))
        except (StoreUnavailable, InvalidField) as error:
            return [Check("limiter", False, str(error))]
        return [Check("limiter", True, f"that of the server {self._connection.url}")]

    def close(self) -> None:
        """See `Limiter.close`."""
        self._connection.close()
