"""Room pages: what was changed, the newest first, and whether the chain of it is whole."""

from __future__ import annotations

from flask import Response

from ..desk import Desk
from ..events import ChainedEvent
from ..flask.current import real_request
from ..ports import writable
from .people import EVENTS_READ, person, the_desk
from .routes import Routes, shown

ROWS = 50


def add_events(routes: Routes) -> None:
    """Put in the page of events."""

    @routes.add("/events", EVENTS_READ)
    def list_events() -> Response:
        desk, request = the_desk(), real_request()
        before = request.args.get("before", "")
        newest = writable(desk.store).position().number
        last = min(newest, int(before) - 1) if before.isascii() and before.isdigit() and len(before) < 16 else newest
        events, earlier = _before(desk, last, person().owner)
        # To walk the whole chain takes a while: it is done for who asks for it.
        report = desk.check_chain() if "check" in request.args and person().owner is None else None
        return shown("events.html", events=events, earlier=earlier, report=report, newest=newest)


def _before(desk: Desk, last: int, owner: str | None) -> tuple[list[ChainedEvent], int | None]:
    """Return up to 50 events up to a number, the newest first, and the number before which there may be more."""
    found: list[ChainedEvent] = []
    end, step = last, ROWS
    while end > 0 and len(found) < ROWS:
        begin = max(0, end - step)
        page = [e for e in desk.list_events(after=begin, owner=owner, size=step) if e.number <= end]
        found += reversed(page)
        end = begin
        step = min(1000, step * 4)  # of one owner among many there may be few
    shown_ = found[:ROWS]
    more = shown_[-1].number if shown_ and (end > 0 or len(found) > ROWS) else None
    return shown_, more
