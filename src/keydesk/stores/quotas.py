"""Room stores: how much of each quota was leased, in the tables. What is handed out was committed before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeAlias

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..allowances import Account
from ..events import Event
from ..leases import leased_now
from ..ports import Balance
from .bulk import Rows
from .engines import answering, transaction
from .schema import quotas

Appending: TypeAlias = Callable[[], AbstractContextManager[tuple[Connection, Callable[[Iterable[Event]], Rows]]]]
_NOTHING = Balance(0, 0, 0)


class SqlQuotas:
    """The quotas of a database; see `keydesk.ports.QuotaStore`.

    A lease locks its own row and nothing else, so it waits neither for changes of keys nor for other quotas. What
    writes an event takes the head of the chain first, as every change does.

    Args:
        engine: For requests, with an end to every wait.
        prepare: Sees that the tables are there.
        appending: Begins a transaction that may add events.
        add_events: Adds them.
    """

    def __init__(
        self,
        engine: Engine,
        prepare: Callable[..., bool],
        appending: Appending,
        add_events: Callable[[Connection, Rows], None],
    ) -> None:
        self._engine = engine
        self._prepare = prepare
        self._appending = appending
        self._add_events = add_events

    def lease(self, account: Account, count: int, least: int) -> tuple[int, Balance]:
        """See `QuotaStore.lease`.

        Raises:
            StoreUnavailable: The database does not answer. What was handed out, if anything, is lost.
            SchemaMismatch: The tables are not those of this version.
        """
        self._prepare(create=True)
        with answering(self._engine):
            leased = self._lease(account, count, least)
            if leased is None:
                self._make(account)
                leased = self._lease(account, count, least)
        assert leased is not None
        return leased

    def _lease(self, account: Account, count: int, least: int) -> tuple[int, Balance] | None:
        """Lease from the row of a period; None where nobody has made it yet."""
        with transaction(self._engine) as connection:
            before = _locked(connection, account)
            if before is None:
                return None
            granted = leased_now(before, count, least)
            after = before._replace(leased=before.leased + granted)
            if granted:
                connection.execute(update(quotas).where(*_is(account)).values(leased=after.leased))
        return granted, after

    def balance(self, account: Account) -> Balance:
        """See `QuotaStore.balance`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._prepare():
            return _NOTHING
        with answering(self._engine), self._engine.connect() as connection:
            return _balance(connection, account) or _NOTHING

    def tell(self, account: Account, percent: int, event: Event) -> None:
        """See `QuotaStore.tell`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        self._prepare(create=True)
        with self._appending() as (connection, link):
            untold = update(quotas).where(*_is(account), quotas.c.told_percent < percent)
            if connection.execute(untold.values(told_percent=percent)).rowcount:
                self._add_events(connection, link([event]))

    def refill(self, account: Account, credits_: int, event: Event) -> Balance:
        """See `QuotaStore.refill`.

        Raises:
            StoreUnavailable: The database does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        self._prepare(create=True)
        with answering(self._engine):
            self._make(account)
        with self._appending() as (connection, link):
            before = _locked(connection, account)
            assert before is not None
            after = Balance(before.leased, before.refilled + credits_, 0)
            values = {"refilled": after.refilled, "told_percent": 0}
            connection.execute(update(quotas).where(*_is(account)).values(values))
            self._add_events(connection, link([event]))
            return after

    def _make(self, account: Account) -> None:
        """Make the row of a period, unless it is there. In a transaction of its own: others may do so as well."""
        with suppress(IntegrityError), transaction(self._engine) as connection:
            connection.execute(insert(quotas).values({**account._asdict(), **_NOTHING._asdict()}))


def _is(account: Account) -> tuple[Any, ...]:
    return tuple(quotas.c[name] == value for name, value in account._asdict().items())


def _balance(connection: Connection, account: Account) -> Balance | None:
    wanted = select(quotas.c.leased, quotas.c.refilled, quotas.c.told_percent).where(*_is(account))
    row = connection.execute(wanted).first()
    return Balance(*row) if row else None


def _locked(connection: Connection, account: Account) -> Balance | None:
    """Return the balance of a row, which nobody else changes before this transaction ends; None where there is none.

    A write that changes nothing: SQLite locks with its first one, and would refuse it after a read of the same row.
    """
    found = connection.execute(update(quotas).where(*_is(account)).values(leased=quotas.c.leased)).rowcount
    # Where it found none, one may be there by now; but that is not locked, and two would hand out the same credits.
    return _balance(connection, account) if found else None
