"""Room stores: one page of a list of keys. Which index leads to them, and how far along it one call looks."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, and_, case, false, func, literal, null, or_, select, true
from sqlalchemy.engine import Connection

from ..keys.plans import PLAN_NAME
from ..keys.record import Status
from ..keys.scopes import covering
from ..ports import KeyFilter, Page
from .paging import encode_cursor
from .rows import KEY_COLUMNS, SEPARATOR
from .schema import DISABLED, REVOKED, keys, plans
from .statements import exactly, page_of_keys, whole_key

KEYS_LOOKED_AT = 2500  # by one call, where an index does not answer all of the filter; see docs/performance.md

_STOPPED = {Status.REVOKED: REVOKED, Status.DISABLED: DISABLED, Status.EXPIRED: 0, Status.ACTIVE: 0}


def find_page(connection: Connection, where: KeyFilter, *, now: datetime, before: str | None, size: int) -> Page:
    """Return a page of keys, newest first. Where it is short, `next_cursor` says whether there may be more.

    Args:
        connection: To read with.
        where: Which keys.
        now: The present.
        before: The id that all of them are below; None for the first page.
        size: At most so many keys; at most as many as a call looks at.

    Raises:
        StoreUnavailable: Somebody wrote into a row what cannot be read.
    """
    leads, others = _leads(where) or [true()], _others(where, now)
    end, lead = "", leads[0]
    if others or len(leads) > 1:
        # The one that leads furthest: of an owner with few keys, or of a status that few are in, that is to the end.
        end, lead = min(((_end(connection, each, before), each) for each in leads), key=itemgetter(0))
    if end and where.status is Status.EXPIRED:
        # In the order in which they ended, so only few of them can be put into that of their ids.
        ended = select(keys.c.id).where(keys.c.expires_at <= now)
        if connection.execute(ended.limit(1).offset(KEYS_LOOKED_AT)).first() is None:
            end, lead = "", keys.c.id.in_(ended)
    checked = [_checked(each) for each in (*leads, *others) if each is not lead]
    wanted = _below(before).where(lead, keys.c.id >= end, *checked).order_by(keys.c.id.desc()).limit(size + 1)
    rows = connection.execute(page_of_keys(wanted.with_only_columns(*KEY_COLUMNS))).all()
    found = [whole_key(list(group)) for _, group in groupby(rows, key=itemgetter(0))]
    last = found[size - 1].id if len(found) > size else end
    return Page(tuple(found[:size]), encode_cursor(last) if last else None)


def _below(before: str | None) -> Select[Any]:
    ids = select(keys.c.id)
    return ids if before is None else ids.where(keys.c.id < before)


def _end(connection: Connection, lead: ColumnElement[bool], before: str | None) -> str:
    """Return the id of the last key to look at of those that meet this, or nothing where one can look at them all."""
    along = _below(before).where(lead).order_by(keys.c.id.desc()).limit(1).offset(KEYS_LOOKED_AT - 1)
    return connection.execute(along).scalar() or ""


def _checked(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition as one that databases check row by row. An index on it may lead to any number of rows."""
    return case((condition, 1), else_=0) == 1


def _leads(where: KeyFilter) -> list[ColumnElement[bool]]:
    """Return the conditions that an index answers with keys in the order of their ids."""
    leads = []
    if where.owner is not None:
        leads.append(exactly(keys.c.owner, where.owner))
    if where.plan is not None:
        # MariaDB takes no notice of spaces at the end, and refuses to compare an ASCII column with anything else.
        leads.append(keys.c.plan == where.plan if PLAN_NAME.fullmatch(where.plan) else false())
    if where.status is not None:
        leads.append(keys.c.stopped == _STOPPED[where.status])
    return leads


def _others(where: KeyFilter, now: datetime) -> list[ColumnElement[bool]]:
    """Return the other conditions of a filter."""
    others: list[ColumnElement[bool]] = []
    if where.status is Status.EXPIRED:
        others.append(keys.c.expires_at <= now)
    if where.status is Status.ACTIVE:
        others.append(or_(keys.c.expires_at.is_(null()), keys.c.expires_at > now))
    if where.idle_since is not None:
        unused = or_(keys.c.last_used_at.is_(null()), keys.c.last_used_at < where.idle_since)
        others.append(and_(keys.c.created_at < where.idle_since, unused))
    if where.scope is not None:
        others.append(_may(where.scope))
    if where.text:
        # Ids are ASCII columns: MariaDB refuses to compare them with anything else.
        fields = (keys.c.name, keys.c.description, keys.c.owner, *([keys.c.id] if where.text.isascii() else []))
        others.append(or_(*(field.icontains(where.text, autoescape=True) for field in fields)))
    return others


def _may(scope: str) -> ColumnElement[bool]:
    """Return the condition that a key may do this: by its own scopes, and by those of its plan if it has one."""
    granting = select(plans.c.name).where(_cover(plans.c.scopes, scope))
    own = and_(_cover(keys.c.scopes, scope), or_(keys.c.plan.is_(null()), keys.c.plan.in_(granting)))
    return or_(own, and_(keys.c.scopes == "", keys.c.plan.in_(granting)))


def _cover(column: Column[Any], scope: str) -> ColumnElement[bool]:
    """Return the condition that a list of scopes, as it is kept, has one that covers this."""
    listed = literal(SEPARATOR) + column + literal(SEPARATOR)
    # By what replacing them leaves: that minds the case on every database, and LIKE does on one of three.
    without: ColumnElement[str] = listed
    for grant in covering(scope):
        without = func.replace(without, f"{SEPARATOR}{grant}{SEPARATOR}", "")
    return func.length(without) < func.length(listed)
