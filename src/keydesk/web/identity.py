"""Room web: what an application behind a gateway is told of its caller.

A gateway lets a client's own header of the same name through where it is not overwritten. So all of these are always
there, with nothing in them where there is nothing to say.
"""

from __future__ import annotations

from urllib.parse import quote

from ..keys.record import Key

IDENTITY_HEADERS = ("X-Key-Id", "X-Key-Name", "X-Key-Owner", "X-Key-Scopes", "X-Key-Environment")

_MOST_KEPT = 10_000


class Identities:
    """Makes the identity headers of keys, each once for as long as its record is the same.

    Names and owners are UTF-8, percent-encoded (RFC 3986): whatever is in them, no header ends early.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Key, tuple[tuple[str, str], ...]]] = {}

    def of(self, key: Key) -> tuple[tuple[str, str], ...]:
        """Return the headers that name this key."""
        kept = self._kept.get(key.id)
        if kept is not None and kept[0] is key:
            return kept[1]
        values = (key.id, quote(key.name, safe=""), quote(key.owner or "", safe=""), str(key.scopes), key.environment)
        headers = tuple(zip(IDENTITY_HEADERS, map(str, values), strict=True))
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[key.id] = (key, headers)
        return headers
