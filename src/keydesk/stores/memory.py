"""Room stores: keys in the memory of this process, `memory://`. For tests and for trying things out."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice

from ..allowances import Account
from ..clock import Clock
from ..decision import Check
from ..errors import AddedBefore, DuplicateSecret, KeyNotFound, OtherRequest
from ..events import FIRST_HASH, ChainedEvent, ChainReport, Event, chain, check_chain
from ..keys.plans import Agreed, OwnerTerms, Plan
from ..keys.record import Key
from ..leases import leased_now
from ..ports import (
    REMEMBERED,
    Balance,
    Change,
    FeedEntry,
    KeyFilter,
    Once,
    OwnerChange,
    Page,
    PlanChange,
    Position,
    plan_in_use,
    unknown_plan,
)
from .index import KeyIndex
from .paging import KEY_ID, check_size


class MemoryStore:
    """A store that ends with the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._index = KeyIndex()
        self._events: list[ChainedEvent] = []
        self._balances: defaultdict[Account, Balance] = defaultdict(lambda: Balance(0, 0, 0))
        self._once: dict[tuple[str, str], tuple[Once, tuple[str, ...]]] = {}
        self.plans = MemoryPlans(self._lock, self._index, self._append)

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        """See `KeyStore.find_by_digest`."""
        with self._lock:
            key = self._index.find_by_digest(digests)
            agreed = self.plans.agreed_of(key) if key else None
        return replace(key, agreed=agreed) if key and agreed else key

    def find_key(self, key_id: str) -> Key | None:
        """See `KeyStore.find_key`."""
        with self._lock:
            return self._index.find(key_id)

    def list_keys(self, where: KeyFilter, *, cursor: str | None = None, size: int = 100) -> Page:
        """See `KeyStore.list_keys`.

        Raises:
            InvalidField: The cursor is none of this list, or the size is out of range.
        """
        with self._lock:
            plans = self.plans.by_name
            return self._index.page(where, cursor=cursor, size=size, now=self._clock.now(), plans=plans)

    def add(self, keys: Iterable[tuple[Key, Event]], once: Once | None = None) -> int:
        """See `WritableKeyStore.add`.

        Raises:
            AddedBefore: The same was asked for before, and done.
            OtherRequest: Something else was asked for before, by the same name.
            DuplicateSecret: A digest is here already, or twice among these.
            InvalidField: There is no plan of the name that a key has.
        """
        given = list(keys)
        digests = [secret.digest for key, _ in given for secret in key.secrets]
        with self._lock:
            if once is not None:
                self._refuse_repeated(once)
            taken = [d for d, count in Counter(digests).items() if count > 1 or self._index.find_by_digest((d,))]
            if taken:
                raise DuplicateSecret(taken)
            self.plans.require(key.plan for key, _ in given)
            for key, _ in given:
                self._index.put(key)
            self._append(event for _, event in given)
            if once is not None:
                self._once[once.caller, once.name] = once, tuple(key.id for key, _ in given)
        return len(given)

    def _refuse_repeated(self, once: Once) -> None:
        self._once = {name: kept for name, kept in self._once.items() if kept[0].at > once.at - REMEMBERED}
        before = self._once.get((once.caller, once.name))
        if before is not None:
            raise AddedBefore(before[1]) if before[0].request == once.request else OtherRequest

    def change(self, key_id: str, decide: Callable[[Key], Change | None]) -> Key | None:
        """See `WritableKeyStore.change`.

        Raises:
            KeyNotFound: No key has this id.
            DuplicateSecret: A new digest is here already.
            InvalidField: There is no plan of the name that the key is given.
        """
        with self._lock:
            before = self._index.find(key_id)
            if before is None:
                raise KeyNotFound(key_id)
            change = decide(before)
            if change is None:
                return before
            if change.key is None:
                self._index.remove(before)
            else:
                self._refuse_taken(change.key)
                if change.key.plan != before.plan:
                    self.plans.require([change.key.plan])
                self._index.put(change.key)
            self._append([change.event])
            return change.key

    def _refuse_taken(self, key: Key) -> None:
        for secret in key.secrets:
            holder = self._index.find_by_digest((secret.digest,))
            if holder is not None and holder.id != key.id:
                raise DuplicateSecret([secret.digest])

    def _append(self, events: Iterable[Event]) -> None:
        head = self._events[-1].hash if self._events else FIRST_HASH
        self._events.extend(chain(events, after=len(self._events), previous_hash=head))

    def redigest(self, old: str, new: str, pepper_id: str) -> None:
        """See `WritableKeyStore.redigest`."""
        with self._lock:
            key = self._index.find_by_digest((old,))
            if key is not None:
                secrets = (replace(s, digest=new, pepper_id=pepper_id) if s.digest == old else s for s in key.secrets)
                self._index.put(replace(key, secrets=tuple(secrets)))

    def list_events(
        self, *, after: int = 0, key_id: str | None = None, owner: str | None = None, size: int = 100
    ) -> list[ChainedEvent]:
        """See `WritableKeyStore.list_events`.

        Raises:
            InvalidField: The size is out of range.
        """
        check_size(size)
        with self._lock:
            rows = self._events[max(after, 0) :]
        return _first_of(rows, key_id, owner, size)

    def list_newest_events(
        self, *, before: int | None = None, key_id: str | None = None, owner: str | None = None, size: int = 100
    ) -> list[ChainedEvent]:
        """See `WritableKeyStore.list_newest_events`.

        Raises:
            InvalidField: The size is out of range.
        """
        check_size(size)
        with self._lock:
            rows = self._events[: None if before is None else max(before - 1, 0)]
        return _first_of(reversed(rows), key_id, owner, size)

    def list_feed(self, *, after: int, size: int = 100) -> list[FeedEntry]:
        """See `KeyStore.list_feed`.

        Raises:
            InvalidField: The size is out of range.
        """
        rows = self.list_events(after=after, size=size)
        return [FeedEntry(row.number, row.event.kind, row.event.key_id, row.previous_hash, row.hash) for row in rows]

    def position(self) -> Position:
        """See `KeyStore.position`."""
        with self._lock:
            return Position(len(self._events), self._events[-1].hash if self._events else FIRST_HASH)

    def check_chain(self, progress: Callable[[int, int], None] | None = None) -> ChainReport:  # noqa: ARG002
        """See `WritableKeyStore.check_chain`."""
        with self._lock:
            rows = list(self._events)
        return check_chain(rows, head_number=len(rows), head_hash=rows[-1].hash if rows else FIRST_HASH)

    def prunable(self, *, ended_before: datetime) -> Iterator[str]:
        """See `WritableKeyStore.prunable`."""
        with self._lock:
            keys = list(self._index)
        for key in keys:
            ends = [key.revoked_at, key.expires_at, *(secret.expires_at for secret in key.secrets)]
            if any(end is not None and end < ended_before for end in ends):
                yield key.id

    # Quotas

    @property
    def quotas(self) -> MemoryStore:
        """Where credits are leased: here."""
        return self

    def lease(self, account: Account, count: int, least: int) -> tuple[int, Balance]:
        """See `QuotaStore.lease`."""
        with self._lock:
            before = self._balances[account]
            granted = leased_now(before, count, least)
            after = self._balances[account] = before._replace(leased=before.leased + granted)
        return granted, after

    def balance(self, account: Account) -> Balance:
        """See `QuotaStore.balance`."""
        with self._lock:
            return self._balances[account]

    def tell(self, account: Account, percent: int, event: Event) -> None:
        """See `QuotaStore.tell`."""
        with self._lock:
            if self._balances[account].told_percent < percent:
                self._balances[account] = self._balances[account]._replace(told_percent=percent)
                self._append([event])

    def refill(self, account: Account, credits_: int, event: Event) -> Balance:
        """See `QuotaStore.refill`."""
        with self._lock:
            before = self._balances[account]
            after = self._balances[account] = Balance(before.leased, before.refilled + credits_, 0)
            self._append([event])
        return after

    def note_used(self, used: Mapping[str, datetime]) -> None:
        """See `KeyStore.note_used`."""
        with self._lock:
            self._index.note_used(used)

    def checks(self) -> list[Check]:
        """See `KeyStore.checks`."""
        return [
            Check("store", True, f"memory, {len(self._index)} keys"),
            Check("kept", None, "keys in memory end with the process", "set KEYDESK_STORE to keep them"),
        ]

    def close(self) -> None:
        """See `KeyStore.close`."""


def _first_of(rows: Iterable[ChainedEvent], key_id: str | None, owner: str | None, size: int) -> list[ChainedEvent]:
    if key_id is not None and not KEY_ID.fullmatch(key_id):
        return []
    found = (row for row in rows if key_id is None or row.event.key_id == key_id)
    return list(islice((row for row in found if owner is None or row.event.owner == owner), size))


class MemoryPlans:
    """The plans and the owners' terms of a store in memory; see `keydesk.ports.PlanStore`.

    Args:
        lock: That of the store.
        index: Its keys.
        append: Adds events to its chain, under the lock.

    Attributes:
        by_name: The plans. Touched under the lock.
    """

    def __init__(self, lock: threading.Lock, index: KeyIndex, append: Callable[[Iterable[Event]], None]) -> None:
        self._lock = lock
        self._index = index
        self._append = append
        self.by_name: dict[str, Plan] = {}
        self._owners: dict[str, OwnerTerms] = {}

    def agreed_of(self, key: Key) -> Agreed | None:
        """Return what a key is under; None where there is nothing. Under the lock."""
        plan, owner = self.by_name.get(key.plan or ""), self._owners.get(key.owner or "")
        return Agreed(plan, owner) if plan or owner else None

    def require(self, names: Iterable[str | None]) -> None:
        """Return if there are plans of all these names, but for None. Under the lock.

        Raises:
            InvalidField: There is none of one of them.
        """
        for name in names:
            if name is not None and name not in self.by_name:
                raise unknown_plan(name)

    def find_plan(self, name: str) -> Plan | None:
        """See `PlanStore.find_plan`."""
        with self._lock:
            return self.by_name.get(name)

    def list_plans(self, *, after: str = "", size: int = 100) -> list[Plan]:
        """See `PlanStore.list_plans`.

        Raises:
            InvalidField: The size is out of range.
        """
        check_size(size)
        with self._lock:
            return [self.by_name[name] for name in sorted(self.by_name) if name > after][:size]

    def change_plan(self, name: str, decide: Callable[[Plan | None], PlanChange | None]) -> Plan | None:
        """See `PlanStore.change_plan`.

        Raises:
            StateConflict: It was to be deleted, and keys that are not revoked have it.
        """
        with self._lock:
            before = self.by_name.get(name)
            change = decide(before)
            if change is None:
                return before
            if change.plan is None:
                count = sum(key.plan == name and key.revoked_at is None for key in self._index)
                if count:
                    raise plan_in_use(name, count)
                self.by_name.pop(name, None)
            else:
                self.by_name[name] = change.plan
            self._append([change.event])
            return change.plan

    def find_owner(self, owner: str) -> OwnerTerms | None:
        """See `PlanStore.find_owner`."""
        with self._lock:
            return self._owners.get(owner)

    def list_owners(self, *, after: str = "", size: int = 100) -> list[OwnerTerms]:
        """See `PlanStore.list_owners`.

        Raises:
            InvalidField: The size is out of range.
        """
        check_size(size)
        with self._lock:
            return [self._owners[owner] for owner in sorted(self._owners) if owner > after][:size]

    def change_owner(self, owner: str, decide: Callable[[OwnerTerms | None], OwnerChange | None]) -> OwnerTerms | None:
        """See `PlanStore.change_owner`."""
        with self._lock:
            before = self._owners.get(owner)
            change = decide(before)
            if change is None:
                return before
            if change.terms is None:
                self._owners.pop(owner, None)
            else:
                self._owners[owner] = change.terms
            self._append([change.event])
            return change.terms
