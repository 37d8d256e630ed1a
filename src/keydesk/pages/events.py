"""Room pages: what was changed, the newest first, and whether the chain of it is whole."""

from __future__ import annotations

from flask import Response

from ..flask.current import real_request
from ..keys.authority import EVENTS_READ
from .people import person, the_desk
from .routes import Routes, shown

ROWS = 50


def add_events(routes: Routes) -> None:
    """Put in the page of events."""

    @routes.add("/events", EVENTS_READ)
    def list_events() -> Response:
        desk, request = the_desk(), real_request()
        before = request.args.get("before", "")
        number = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None
        found = desk.list_newest_events(before=number, owner=person().owner, size=ROWS + 1)
        # To walk the whole chain takes a while: it is done for who asks for it.
        report = desk.check_chain() if "check" in request.args and person().owner is None else None
        events = found[:ROWS]
        earlier = events[-1].number if len(found) > ROWS else None
        return shown("events.html", events=events, earlier=earlier, report=report)
