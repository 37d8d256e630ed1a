"""Room stores: plans and what owners agreed on, in a database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Column, Engine, Table, delete, func, insert, null, select, update
from sqlalchemy.engine import Connection

from ..errors import StoreUnavailable
from ..events import Event
from ..keys.plans import PLAN_NAME, OwnerTerms, Plan
from ..ports import OwnerChange, PlanChange, plan_in_use, unknown_plan
from .bulk import Rows
from .paging import check_size
from .rows import owner_of, owner_values, plan_of, plan_values
from .schema import keys, owners, plans
from .statements import can_be_owner

T = TypeVar("T")
# Of a transaction that holds the lock of the chain's head: its connection, and what makes rows of the next events.
Appending: TypeAlias = Callable[[], AbstractContextManager[tuple[Connection, Callable[[Iterable[Event]], Rows]]]]


class SqlPlans:
    """The tables `keydesk_plans` and `keydesk_owners`; see `keydesk.ports.PlanStore`.

    Args:
        engine: Of the database.
        prepare: Returns whether there is a database; with `create=True` it makes it.
        reading: Hands out a connection to read with.
        appending: Hands out one to change with.
        add_events: Writes rows of events.
    """

    def __init__(
        self,
        engine: Engine,
        prepare: Callable[..., bool],
        reading: Callable[[], AbstractContextManager[Connection]],
        appending: Appending,
        add_events: Callable[[Connection, Rows], None],
    ) -> None:
        self._in_order = "C" if engine.dialect.name == "postgresql" else None
        self._prepare = prepare
        self._reading = reading
        self._appending = appending
        self._add_events = add_events

    # Plans

    def find_plan(self, name: str) -> Plan | None:
        """See `PlanStore.find_plan`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not PLAN_NAME.fullmatch(name) or not self._prepare():
            return None
        with self._reading() as connection:
            return _find(connection, plans.c.name, name, plan_of)

    def list_plans(self, *, after: str = "", size: int = 100) -> list[Plan]:
        """See `PlanStore.list_plans`.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        check_size(size)
        if not after.isascii():  # MariaDB refuses to compare an ASCII column with it; every name comes before it
            return []
        return self._list(plans.c.name, after, size, plan_of)

    def change_plan(self, name: str, decide: Callable[[Plan | None], PlanChange | None]) -> Plan | None:
        """See `PlanStore.change_plan`.

        Raises:
            StateConflict: It was to be deleted, and keys that are not revoked have it.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._prepare():
            if decide(None) is None:
                return None
            self._prepare(create=True)
        with self._appending() as (connection, link):
            before = _find(connection, plans.c.name, name, plan_of)
            change = decide(before)
            if change is None:
                return before
            if change.plan is None:
                have = select(func.count()).where(keys.c.plan == name, keys.c.revoked_at.is_(null()))
                count = connection.execute(have).scalar_one()
                if count:
                    raise plan_in_use(name, count)
            _put(connection, plans.c.name, name, before, plan_values(change.plan) if change.plan else None)
            self._add_events(connection, link([change.event]))
            return change.plan

    # Owners

    def find_owner(self, owner: str) -> OwnerTerms | None:
        """See `PlanStore.find_owner`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not can_be_owner(owner) or not self._prepare():
            return None
        with self._reading() as connection:
            return _find(connection, owners.c.owner, owner, owner_of)

    def list_owners(self, *, after: str = "", size: int = 100) -> list[OwnerTerms]:
        """See `PlanStore.list_owners`.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        return self._list(owners.c.owner, after if can_be_owner(after) else "", check_size(size), owner_of)

    def change_owner(self, owner: str, decide: Callable[[OwnerTerms | None], OwnerChange | None]) -> OwnerTerms | None:
        """See `PlanStore.change_owner`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._prepare():
            if decide(None) is None:
                return None
            self._prepare(create=True)
        with self._appending() as (connection, link):
            before = _find(connection, owners.c.owner, owner, owner_of)
            change = decide(before)
            if change is None:
                return before
            _put(connection, owners.c.owner, owner, before, owner_values(change.terms) if change.terms else None)
            self._add_events(connection, link([change.event]))
            return change.terms

    def _list(self, column: Column[Any], after: str, size: int, read: Callable[[Any], T]) -> list[T]:
        if not self._prepare():
            return []
        # By bytes, as the other databases do it anyway.
        ordered = column.collate(self._in_order) if self._in_order else column
        wanted = select(column.table).where(ordered > after).order_by(ordered).limit(size)
        with self._reading() as connection:
            return [_read(column.table, row, read) for row in connection.execute(wanted)]


def _find(connection: Connection, column: Column[Any], value: str, read: Callable[[Any], T]) -> T | None:
    row = connection.execute(select(column.table).where(column == value)).one_or_none()
    return None if row is None else _read(column.table, row, read)


def _read(table: Any, row: Any, read: Callable[[Any], T]) -> T:
    try:
        return read(row)
    except (ValueError, TypeError) as error:
        raise StoreUnavailable(
            f"the row of {row[0]} in {table.name} was changed by hand and cannot be read ({error}); mend or delete it"
        ) from None


def _put(
    connection: Connection, column: Column[Any], value: str, before: object, values: dict[str, Any] | None
) -> None:
    """Put values in the place of a row; None deletes it."""
    table = column.table
    assert isinstance(table, Table)
    if values is None:
        connection.execute(delete(table).where(column == value))
    elif before is None:
        connection.execute(insert(table), values)
    else:
        connection.execute(update(table).where(column == value), values)


def require_plans(connection: Connection, names: set[str | None]) -> None:
    """Return if there are plans of all these names, but for None.

    Args:
        connection: That holds the lock of the chain's head.
        names: What keys are to have.

    Raises:
        InvalidField: There is none of one of them.
    """
    wanted = names - {None}
    if wanted:
        missing = wanted.difference(connection.execute(select(plans.c.name).where(plans.c.name.in_(wanted))).scalars())
        for name in sorted(filter(None, missing)):
            raise unknown_plan(name)
