"""Room server: where a request came from before it came to the proxy that asks us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..keys.networks import Networks

MOST_PROXIES = 20  # in a row; whoever claims more has written the list himself


class ClientAddresses:
    """Finds the address of the client, which only a proxy that is trusted can tell us.

    A proxy appends the address it was called from to `X-Forwarded-For`. So the list is true from its right end on, as
    far as it names trusted proxies; the first that is none is the client's, and what stands left of it anybody may have
    written.

    Args:
        trusted: The networks of the proxies, such as `10.0.0.0/8`; none trusts nobody.
    """

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted

    def of(self, environ: Mapping[str, Any]) -> str | None:
        """Return the address of the client; what is no address is on no key's list of networks. None: not known."""
        peer: str | None = environ.get("REMOTE_ADDR") or None
        forwarded: str = environ.get("HTTP_X_FORWARDED_FOR", "")
        if not forwarded or not self.trusts(peer):
            return peer
        for address in reversed(forwarded.rsplit(",", MOST_PROXIES)):
            peer = address.strip(" \t")
            if not self.trusts(peer):
                break
        return peer

    def trusts(self, address: str | None) -> bool:
        """Return whether this is the address of a proxy that is trusted."""
        return bool(len(self._trusted)) and self._trusted.allow(address)
