"""Room stores: what the SQL store asks its tables, and how it puts the rows together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    bindparam,
    false,
    func,
    literal_column,
    or_,
    select,
)

from ..errors import StoreUnavailable
from ..keys.record import MAX_OWNER_CHARACTERS, Key
from .rows import AGREED_COLUMNS, KEY_COLUMNS, SECRET_COLUMNS, agreed_of, key_of, secret_of
from .schema import chain_head, events, keys, owners, plans, secrets

_REPEATED_SHOWN = 100
FAR = 2**62  # beyond every number of an event; no database takes one of more than 64 bits
HEAD_ID = 1  # of the one row of keydesk_chain_head
DIGEST_PLACE = len(KEY_COLUMNS) + SECRET_COLUMNS.index(secrets.c.digest)  # in a row of a key and one of its secrets
_AGREED_PLACE = len(KEY_COLUMNS) + len(SECRET_COLUMNS)


def position() -> Select[Any]:
    """Return what selects number and hash of the head and the highest number of an event, all of one moment.

    It gives one row whether or not there is a head.
    """
    head = chain_head.c.id == literal_column(str(HEAD_ID))
    return select(
        select(chain_head.c.number).where(head).scalar_subquery().label("number"),
        select(chain_head.c.hash).where(head).scalar_subquery().label("hash"),
        select(func.max(events.c.number)).scalar_subquery().label("highest"),
    )


def feed_after() -> Select[Any]:
    """Return what selects `size` events with numbers above `after`, as `FeedEntry` has them; `skip` is 0."""
    entry = (events.c.number, events.c.kind, events.c.key_id, events.c.previous_hash, events.c.hash)
    later = select(*entry).where(events.c.number > bindparam("after", type_=BigInteger))
    # SQLAlchemy adds an offset on SQLite; with one of ours, the parameters are the same everywhere.
    return later.order_by(events.c.number).limit(bindparam("size", type_=Integer)).offset(bindparam("skip", 0, Integer))


def near(number: int) -> int:
    """Return the number of an event, or one beyond all of them that a database takes."""
    return max(-FAR, min(number, FAR))


def events_after(after: int, key_id: str | None, owner: str | None, size: int) -> Select[Any]:
    """Return what selects so many events of one key, of one owner or of both, with numbers above `after`."""
    return _events_of(key_id, owner).where(events.c.number > near(after)).order_by(events.c.number).limit(size)


def newest_events(before: int | None, key_id: str | None, owner: str | None, size: int) -> Select[Any]:
    """Return what selects the newest of them, with numbers below `before`, the newest first."""
    wanted = _events_of(key_id, owner).order_by(events.c.number.desc()).limit(size)
    return wanted if before is None else wanted.where(events.c.number < near(before))


def _events_of(key_id: str | None, owner: str | None) -> Select[Any]:
    wanted = select(events)
    if key_id is not None:
        wanted = wanted.where(events.c.key_id == key_id)
    return wanted if owner is None else wanted.where(exactly(events.c.owner, owner))


def key_with_secrets() -> Select[Any]:
    """Return what selects keys, each in as many rows as it has secrets, those in order."""
    return (
        select(*KEY_COLUMNS, *SECRET_COLUMNS)
        .select_from(keys.join(secrets, secrets.c.key_id == keys.c.id))
        .order_by(secrets.c.number)
    )


def key_under_terms() -> Select[Any]:
    """Return what selects a key as `key_with_secrets` does, and what its plan and its owner put it under behind that.

    In one statement, so all of it is of one moment: a key and a plan of two moments can together grant what was never
    in force.
    """
    return (
        select(*KEY_COLUMNS, *SECRET_COLUMNS, *AGREED_COLUMNS)
        .select_from(_under_terms(keys.join(secrets, secrets.c.key_id == keys.c.id)))
        .where(keys.c.id == bindparam("key_id"))
        .order_by(secrets.c.number)
    )


def _under_terms(source: FromClause) -> FromClause:
    return source.outerjoin(plans, plans.c.name == keys.c.plan).outerjoin(owners, owners.c.owner == keys.c.owner)


def key_of_digests(names: Sequence[str]) -> Select[Any]:
    """Return what selects the key that has a secret under one of the digests in the parameters of these names.

    Its columns are those of `key_under_terms`.
    """
    presented = secrets.alias("presented")
    wanted: list[Any] = [bindparam(name) for name in names]
    key = presented.join(keys, keys.c.id == presented.c.key_id).join(secrets, secrets.c.key_id == keys.c.id)
    return (
        select(*KEY_COLUMNS, *SECRET_COLUMNS, *AGREED_COLUMNS)
        .select_from(_under_terms(key))
        .where(presented.c.digest.in_(wanted))
        .order_by(secrets.c.number)
    )


def key_id_of_digests(names: Sequence[str]) -> Select[Any]:
    """Return what selects the ids of keys with a secret under one of these digests, with those."""
    wanted: list[Any] = [bindparam(name) for name in names]
    return select(secrets.c.key_id, secrets.c.digest).where(secrets.c.digest.in_(wanted))


def key_id_of_first(rows: Sequence[Sequence[Any]], digests: Sequence[str]) -> str:
    """Return the id of the key that has the first of the digests that any has.

    Digests of one text under two peppers can be those of two keys, where a secret was imported under each.

    Args:
        rows: At least one, as `key_of_digests` or `key_id_of_digests` selects them.
        digests: That were asked for.
    """
    if len(rows) == 1:
        return str(rows[0][0])
    place = DIGEST_PLACE if len(rows[0]) > DIGEST_PLACE else 1
    held = {row[place]: row[0] for row in rows}
    return str(next(held[digest] for digest in digests if digest in held))


def key_of_rows(rows: Sequence[Sequence[Any]]) -> Key | None:
    """Return the key of rows as `key_with_secrets` or `key_under_terms` selects them, or None where there are none.

    Raises:
        StoreUnavailable: Somebody wrote into a row what cannot be read.
    """
    return whole_key(rows) if rows else None


def whole_key(rows: Sequence[Sequence[Any]]) -> Key:
    """Return the key of rows as `key_with_secrets` or `key_under_terms` selects them, of which there is at least one.

    Raises:
        StoreUnavailable: Somebody wrote into a row what cannot be read.
    """
    row, split = rows[0], len(KEY_COLUMNS)
    try:
        held = tuple(secret_of(each[split:_AGREED_PLACE]) for each in rows)
        return key_of(row, held, agreed_of(row[_AGREED_PLACE:]) if len(row) > _AGREED_PLACE else None)
    except (ValueError, TypeError) as error:  # InvalidField is a ValueError; SQLite keeps bytes in any column
        raise StoreUnavailable(
            f"the row of {row[0]} in keydesk_keys, or that of its plan or owner, was changed by hand and cannot be "
            f"read ({error}); mend or delete it"
        ) from None


def page_of_keys(wanted: Select[Any]) -> Select[Any]:
    """Return what selects keys with their secrets, newest first, in one statement: so both are of one moment.

    Args:
        wanted: Selects `KEY_COLUMNS` of the keys.
    """
    page = wanted.subquery()
    return (
        select(*(page.c[column.name] for column in KEY_COLUMNS), *SECRET_COLUMNS)
        .select_from(page.join(secrets, secrets.c.key_id == page.c.id))
        .order_by(page.c.id.desc(), secrets.c.number)
    )


def repeated_digests() -> Select[Any]:
    """Return what selects digests that more than one secret has, as many as anybody wants to read of."""
    repeated = select(secrets.c.digest).group_by(secrets.c.digest).having(func.count() > 1)
    return repeated.limit(_REPEATED_SHOWN)


def ended_keys(before: datetime) -> Select[Any]:
    """Return what selects the ids of keys that were revoked or expired, or hold an ended secret, before a moment."""
    ended = or_(keys.c.revoked_at < before, keys.c.expires_at < before)
    rotated = keys.c.id.in_(select(secrets.c.key_id).where(secrets.c.expires_at < before))
    return select(keys.c.id).where(or_(ended, rotated)).order_by(keys.c.id)


def can_be_owner(owner: str) -> bool:
    """Return whether a key may name this as its owner."""
    return owner.isprintable() and owner == owner.strip() and len(owner) <= MAX_OWNER_CHARACTERS


def exactly(column: Column[Any], owner: str) -> ColumnElement[bool]:
    """Return the condition that a column holds this owner. Of texts that are none, databases have their own notions."""
    return column == owner if can_be_owner(owner) else false()
