"""Room server: what was counted and what was changed, in the management API."""

from __future__ import annotations

from flask import Response

from ...desk import Desk
from ...keys.authority import EVENTS_READ, USAGE_READ
from ...usage import Span
from .models import EventPage, UsageShown
from .queries import AllUsageQuery, EventQuery, KeyPath, UsageQuery
from .requests import caller, decode_number, encode_number
from .routes import Routes, shown, visible

_NOBODYS = " "  # no owner is called that


def add_history(routes: Routes, desk: Desk) -> None:
    """Put in the views of usage and events."""

    @routes.add("GET", "/v1/keys/<key_id>/usage", {200: UsageShown}, USAGE_READ, wrong=(404,))
    def get_key_usage(path: KeyPath, query: UsageQuery) -> Response:
        """Count the requests of one key, allowed and refused."""
        visible(desk, path.key_id)
        return _usage(desk, query, path.key_id)

    @routes.add("GET", "/v1/usage", {200: UsageShown}, USAGE_READ)
    def get_usage(query: AllUsageQuery) -> Response:
        """Count the requests of all keys that the caller may see, or of one owner's."""
        return _usage(desk, query, None, _owner(query.owner))

    @routes.add("GET", "/v1/events", {200: EventPage}, EVENTS_READ)
    def list_events(query: EventQuery) -> Response:
        """List what was changed, in the order in which it came into force."""
        after = decode_number(query.cursor)
        found = desk.list_events(after=after, key_id=query.key_id, owner=_owner(query.owner), size=query.size)
        return shown(EventPage.of(found, encode_number(found[-1].number if found else after)))


def _owner(asked: str | None) -> str | None:
    """Return whose a caller is shown: of one that is bound to an owner, that one's or nobody's."""
    by = caller()
    if by.owner is None:
        return asked
    return by.owner if asked in (None, by.owner) else _NOBODYS


def _usage(desk: Desk, query: UsageQuery, key_id: str | None, owner: str | None = None) -> Response:
    report = desk.usage(
        key_id, owner=owner, since=query.since, until=query.until, span=Span(query.span) if query.span else None
    )
    return shown(UsageShown.of(report))
