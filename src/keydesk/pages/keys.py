"""Room pages: the list of keys, and one key with all there is to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import Response
from markupsafe import Markup

from ..desk import Desk
from ..errors import InvalidField, KeyNotFound, StoreUnavailable
from ..events import ChainedEvent
from ..flask.current import real_request
from ..keys.authority import EVENTS_READ, KEYS_READ, KEYS_WRITE, USAGE_READ
from ..keys.effective import in_force
from ..keys.record import Key, Status
from ..ports import Page, WritableKeyStore
from ..standing import standing_of
from ..usage import EarlierReport, Range, Span, Usage, UsageReport
from .badges import Badge, badges_of, left_of
from .charts import SPARK_HOURS, Chart, labels_of, sparkline, usage_chart
from .people import may_change, person, the_desk
from .routes import Routes, shown

ROWS = 50
IDLE_DAYS = (30, 90, 365)
MAX_EVENTS = 200
MAX_NETWORKS = 20  # that are named of those which still use an earlier secret
FILTERS = ("text", "status", "owner", "plan", "scope", "idle")
# What a chart shows: the span, how far back, and what the button is called.
VIEWS: Mapping[str, tuple[Span, timedelta, str]] = {
    "hour": (Span.HOUR, timedelta(hours=SPARK_HOURS - 1), "36 hours"),
    "day": (Span.DAY, timedelta(days=29), "30 days"),
    "month": (Span.DAY, timedelta(days=334), "12 months"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A key in the list."""

    key: Key
    badges: tuple[Badge, ...]
    spark: Markup | None


def add_keys(routes: Routes) -> None:
    """Put in the list of keys, and the page of each."""

    @routes.add("/keys", KEYS_READ)
    def list_keys() -> Response:
        desk, sender, request = the_desk(), person(), real_request()
        asked = {name: request.args.get(name, "").strip() for name in FILTERS}
        try:
            page, problem = _page(desk, asked, request.args.get("cursor") or None), ""
        except InvalidField as error:
            page, problem = Page((), None), f"{error.field}: {error.problem}"
        return shown(
            "keys.html",
            rows=_rows(desk, page.keys),
            next_cursor=page.next_cursor,
            asked={name: value for name, value in asked.items() if value},
            problem=problem,
            statuses=[status.value for status in Status],
            idle_days=IDLE_DAYS,
            with_use=sender.may(USAGE_READ),
            may_issue=may_change(KEYS_WRITE),
            done=request.args.get("done", ""),
        )

    @routes.add("/keys/<key_id>", KEYS_READ)
    def show_key(key_id: str) -> Response:
        return key_page(key_id, done=real_request().args.get("done", ""))


def key_page(key_id: str, status: int = 200, **values: Any) -> Response:
    """Return the page of a key.

    Args:
        key_id: Which.
        status: Of the answer.
        values: More for the template: `done` or `problem`.

    Raises:
        KeyNotFound: There is none that the person may see.
        StoreUnavailable: The store does not answer.
    """
    desk, sender = the_desk(), person()
    key = visible(key_id)
    by = chosen_view()
    now = desk.clock.now()
    judged, lost = key, False
    try:
        judged = desk.get_in_force(key_id)
    except StoreUnavailable:
        lost = True  # its plan was taken out of the store by hand
    left = () if lost else left_of(desk, judged)
    chart: Chart | None = None
    earlier: EarlierReport | None = None
    recent: Sequence[Usage] = ()
    if sender.may(USAGE_READ):
        chart = chart_of(desk, by, f"Requests of {key.name}", key_id=key_id)
        earlier = desk.earlier_secrets(key_id, size=MAX_NETWORKS) if len(key.secrets) > 1 else None
        recent = desk.usage(key_id, since=now - VIEWS["hour"][1], span=Span.HOUR).counts
    return shown(
        "key.html",
        status,
        key=key,
        badges=badges_of(key, now, recent, near=any(each.near for each in left)),
        standing=standing_of(desk, key),
        lost=lost,
        left=left,
        chart=chart,
        by=by,
        views=VIEWS,
        earlier=earlier,
        events=_events(desk, key_id) if sender.may(EVENTS_READ) else None,
        may_change=may_change(KEYS_WRITE),
        **values,
    )


def chosen_view() -> str:
    """Return which of `VIEWS` this request asks for."""
    by = real_request().args.get("by", "hour")
    return by if by in VIEWS else "hour"


def visible(key_id: str) -> Key:
    """Return a key that the person may see.

    Raises:
        KeyNotFound: There is none, or it is of an owner that is not theirs, which nobody can tell apart.
        StoreUnavailable: The store does not answer.
    """
    key = the_desk().find_key(key_id)
    if key is None or not person().sees(key.owner):
        raise KeyNotFound(key_id)
    return key


def _page(desk: Desk, asked: Mapping[str, str], cursor: str | None) -> Page:
    """Return a page of the keys that somebody looks for.

    Raises:
        InvalidField: A condition cannot be used.
        StoreUnavailable: The store does not answer.
    """
    own = person().owner
    if own is not None and asked["owner"] not in ("", own):
        return Page((), None)
    idle_since = None
    if asked["idle"]:
        if asked["idle"] not in map(str, IDLE_DAYS):
            raise InvalidField("idle", "is none of the numbers of days there are; choose one of the list")
        idle_since = desk.clock.now() - timedelta(days=int(asked["idle"]))
    if asked["status"] and asked["status"] not in tuple(Status):
        raise InvalidField("status", "is none of the states there are; choose one of the list")
    return desk.list_keys(
        owner=own or asked["owner"] or None,
        status=Status(asked["status"]) if asked["status"] else None,
        text=asked["text"] or None,
        plan=asked["plan"] or None,
        scope=asked["scope"] or None,
        idle_since=idle_since,
        cursor=cursor,
        size=ROWS,
    )


def _rows(desk: Desk, keys: Sequence[Key]) -> list[Row]:
    now, sender = desk.clock.now(), person()
    sent: Mapping[str, UsageReport] = {}
    if keys and sender.may(USAGE_READ):
        sent = desk.usage_of_keys([key.id for key in keys], since=now - VIEWS["hour"][1], span=Span.HOUR)
    near = _near(desk, [key for key in keys if key.status_at(now) is Status.ACTIVE])
    rows = []
    for key in keys:
        own = sent[key.id].counts if key.id in sent else ()
        spark = sparkline(own, now) if sender.may(USAGE_READ) else None
        rows.append(Row(key, badges_of(key, now, own, near=key.id in near), spark))
    return rows


def _near(desk: Desk, keys: Sequence[Key]) -> set[str]:
    """Return the ids of those of which little of a limit or a quota is left."""
    found = set()
    for key in desk.with_agreed(keys):
        with suppress(StoreUnavailable):  # without its plan: the page of the key says so
            if any(left.near for left in left_of(desk, in_force(key))):
                found.add(key.id)
    return found


def chart_of(desk: Desk, by: str, title: str, *, key_id: str | None = None, owner: str | None = None) -> Chart:
    """Return the chart of what a key, or an owner's keys, or all have sent.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    span, back, _ = VIEWS[by]
    report = desk.usage(key_id, owner=owner, since=desk.clock.now() - back, span=span)
    starts, labels = bars_of(by, report.range)
    return usage_chart(title, starts, report.counts, labels)


def bars_of(by: str, range_: Range) -> tuple[list[datetime], list[str]]:
    """Return where the bars of a chart begin, and what they are called: spans, or whole months."""
    starts = range_.starts()
    if by != "month":
        return starts, labels_of(range_.span, starts)
    months = list(dict.fromkeys(start.replace(day=1) for start in starts))
    return months, [f"{month:%b %Y}" for month in months]


def _events(desk: Desk, key_id: str) -> list[ChainedEvent]:
    """Return the events of a key, the newest first."""
    if not isinstance(desk.store, WritableKeyStore):
        return []
    return desk.list_newest_events(key_id=key_id, size=MAX_EVENTS)
