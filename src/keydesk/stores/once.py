"""Room stores: what was asked for under an idempotency key, in a database, so that it is done once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from ..errors import AddedBefore, OtherRequest
from ..ports import REMEMBERED, Once
from .rows import SEPARATOR
from .schema import requests

_FORGOTTEN_AT_ONCE = 1000


def note_once(connection: Connection, once: Once, key_ids: Sequence[str]) -> None:
    """Note what keys come of a request, and forget what was noted over 24 hours ago, some thousand rows at most.

    Args:
        connection: That holds the lock of the chain's head, so nobody notes the same meanwhile.
        once: The request.
        key_ids: Of the keys that are added in the same transaction.

    Raises:
        AddedBefore: The same was asked for before, and done.
        OtherRequest: Something else was asked for before, by the same name.
    """
    gone = requests.c.at <= once.at - REMEMBERED
    last = select(requests.c.at).where(gone).order_by(requests.c.at).offset(_FORGOTTEN_AT_ONCE).limit(1)
    until = connection.execute(last).scalar()
    connection.execute(delete(requests).where(gone if until is None else requests.c.at <= until))
    same = (requests.c.caller == once.caller, requests.c.name == once.name)
    before = connection.execute(
        select(requests.c.at, requests.c.request, requests.c.key_ids).where(*same)
    ).one_or_none()
    if before is not None and before.at > once.at - REMEMBERED:
        raise AddedBefore(before.key_ids.split(SEPARATOR)) if before.request == once.request else OtherRequest
    if before is not None:
        connection.execute(delete(requests).where(*same))
    row = {"caller": once.caller, "name": once.name, "request": once.request, "at": once.at}
    connection.execute(insert(requests), {**row, "key_ids": SEPARATOR.join(key_ids)})
