"""Room stores: what the SQL store finds about its database, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Engine, func, select
from sqlalchemy.engine import Connection

from ..decision import Check
from ..errors import SchemaMismatch, StoreUnavailable
from .engines import place, sqlite_file
from .rows import KEY_COLUMNS
from .schema import events, keys, plans
from .statements import HEAD_ID, page_of_keys, position, whole_key

MAX_KEYS_LOOKED_AT = 10_000  # of a million: to read them all would take longer than somebody waits for a check
PROBLEMS_SHOWN = 5

NO_APPENDING = (
    "the chain of events is damaged: keydesk_chain_head is behind the rows of keydesk_events, and nothing can be "
    "changed. Run `keydesk events --verify`, then `keydesk doctor`, which says how to mend it."
)


def checks_of(
    engine: Engine,
    *,
    own: bool,
    prepare: Callable[[], bool],
    reading: Callable[[], AbstractContextManager[Connection]],
) -> list[Check]:
    """Return what there is to say about a database. Problems are results here, never exceptions.

    Args:
        engine: Of the database.
        own: Whether the engine is ours.
        prepare: Returns whether there is a database.
        reading: Hands out a connection.
    """
    where = place(engine)
    try:
        if not prepare():
            fix = "`keydesk issue NAME` makes it; if there should be keys, set KEYDESK_STORE to where they are"
            return [Check("store", None, f"{where}, which was not made yet", fix)]
        with reading() as connection:
            count = connection.execute(select(func.count()).select_from(keys)).scalar_one()
            return [
                Check("store", True, f"{where}, {count} keys"),
                _keys(connection),
                *_plans(connection),
                *_chain(connection),
            ]
    except SchemaMismatch as error:
        return [Check("store", False, where, str(error))]
    except StoreUnavailable as error:
        return [Check("store", False, error.problem, _remedy(engine, own))]


def _remedy(engine: Engine, own: bool) -> str:
    path = sqlite_file(engine)
    if path is not None:
        return (
            f"see that {path} is a SQLite database, that this user may write it and its folder, that the disk is not "
            "full, and that no other process keeps it locked"
        )
    named = "KEYDESK_STORE" if own else "the URL of the application's engine"
    return f"start the database server, or correct the host, port, user, password and database in {named}"


def _keys(connection: Connection) -> Check:
    wanted = select(*KEY_COLUMNS).order_by(keys.c.id.desc()).limit(MAX_KEYS_LOOKED_AT)
    looked_at, problems = 0, []
    for _, rows in groupby(connection.execute(page_of_keys(wanted)), key=itemgetter(0)):
        looked_at += 1
        try:
            whole_key(list(rows))
        except StoreUnavailable as error:
            problems.append(error.problem.rpartition("; ")[0] or error.problem)  # what to do is said once, below
    if not problems:
        return Check("keys", True, f"all that were looked at can be read, the newest {looked_at:,}")
    more = len(problems) - PROBLEMS_SHOWN
    shown = problems[:PROBLEMS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    return Check(
        "keys",
        False,
        "\n".join([f"{len(problems)} of the newest {looked_at:,}, which were looked at, cannot be read:", *shown]),
        "correct those rows of keydesk_keys, or put them back from a backup; until then their callers get 503",
    )


def _plans(connection: Connection) -> Iterator[Check]:
    """Yield which plans are missing that keys have, if any are."""
    wanted = select(keys.c.plan).where(keys.c.plan.is_not(None), keys.c.revoked_at.is_(None)).distinct()
    missing = sorted(map(str, connection.execute(wanted.where(keys.c.plan.not_in(select(plans.c.name)))).scalars()))
    if missing:
        shown = ", ".join(missing[:PROBLEMS_SHOWN]) + (", ..." if len(missing) > PROBLEMS_SHOWN else "")
        yield Check(
            "plans",
            False,
            f"keys have plans that keydesk_plans has not: {shown}; their callers get 503",
            "\n".join(f"keydesk plans put {name}" for name in missing[:PROBLEMS_SHOWN]),
        )


def _chain(connection: Connection) -> Iterator[Check]:
    """Yield what is wrong with the head of the chain, if anything is. `check_chain` walks all of it."""
    number, own_hash, highest = connection.execute(position()).one()
    highest = highest or 0
    if (number or 0) < highest:
        yield Check("events", False, *_head_behind(number, highest))
    elif number and number > highest:
        yield Check(
            "events",
            False,
            f"the head of the chain is event {number}, and the last row of keydesk_events is {highest}: events were "
            "removed",
            "put them back from a backup; `keydesk events --verify` says where the chain breaks",
        )
    elif number and connection.execute(select(events.c.hash).where(events.c.number == number)).scalar() != own_hash:
        yield Check(
            "events",
            False,
            f"the hash of event {number} is not the one in keydesk_chain_head: one of them was changed",
            "run `keydesk events --verify`, and put that row back from a backup",
        )


def _head_behind(number: int | None, highest: int) -> tuple[str, str]:
    """Return that the head is behind the rows, and how to put it back."""
    last = f"FROM keydesk_events WHERE number = {highest}"
    if number is None:
        found = f"keydesk_chain_head has no row, and keydesk_events has up to {highest}: the head was removed"
        mend = f"INSERT INTO keydesk_chain_head (id, number, hash) SELECT {HEAD_ID}, number, hash {last}"
    else:
        found = (
            f"the head of the chain is event {number}, and keydesk_events has rows up to {highest}: the head was "
            "removed or set back, or rows were inserted"
        )
        mend = f"UPDATE keydesk_chain_head SET number = {highest}, hash = (SELECT hash {last}) WHERE id = {HEAD_ID}"  # noqa: S608 - for people to read
    return found, (
        "nothing can be changed until the head is right. Keep a copy of the database and compare with a backup. Delete "
        f"events that were inserted; if the newest is genuine, put the head back:\n{mend};\nthen run "
        "`keydesk events --verify`"
    )
