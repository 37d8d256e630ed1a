"""Core: plans, and what the keys of an owner share. Each change is handed to the store with the one event of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from . import changes
from .callers import DEFAULT_ACTOR, Caller, Callers
from .clock import Clock
from .errors import OwnerNotFound, PlanNotFound, StoreReadOnly
from .keys.plans import OwnerTerms, Plan, parse_plan_name
from .keys.record import Key, parse_field, parse_owner
from .ports import KeyStore, OwnerChange, PlanChange, PlanStore, plans_of, writable


class _Changing:
    """What plans and owners' terms have in common.

    Args:
        store: Where they are.
        clock: What tells the time.
        callers: Says on whose behalf something is changed.
        look_again: Called after each change.
    """

    def __init__(self, store: KeyStore, clock: Clock, callers: Callers, look_again: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._callers = callers
        self._look_again = look_again

    def _plans(self) -> PlanStore:
        plans = plans_of(self._store)
        if plans is None:
            writable(self._store)
            raise StoreReadOnly("This store keeps no plans; set KEYDESK_STORE to a database.")
        return plans


class Plans(_Changing):
    """The plans of a desk. A change is in force for all keys of a plan within `max_staleness`.

    `by` and `actor` are those of `Desk`. A caller needs the scope `keydesk:plans:write`, may not be bound to an owner,
    and must hold all that the plan gives, before and after.
    """

    def put(
        self,
        name: str,
        *,
        scopes: Iterable[str] | None = None,
        limits: Iterable[str] | None = None,
        quotas: Iterable[str] | None = None,
        description: str | None = None,
        if_version: Collection[int] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> Plan:
        """Make a plan, or change one. Where nothing differs, nothing is written.

        Args:
            name: 1 to 64 lower-case letters, digits, `.`, `_` and `-`.
            scopes, limits, quotas, description: See `PlanFields`. None leaves it as it is, or empty in a new plan.
            if_version, by, actor: See `Desk`; 0 is the version of a plan that is not there.

        Raises:
            InvalidField: The name, a field or the actor cannot be used.
            VersionConflict: It is at none of these versions.
            NotPermitted: `by` may not change plans, or does not hold all that this one gives.
            StoreReadOnly: Keys of this store have no plans.
            StoreUnavailable: The store does not answer.
        """
        name = parse_plan_name(name)
        given = {"description": description, "scopes": scopes, "limits": limits, "quotas": quotas}
        fields = {field: value for field, value in given.items() if value is not None}
        checked = {field: parse_field(field, value) for field, value in fields.items()}
        caller = self._callers.of(by, actor)

        def decide(plan: Plan | None) -> PlanChange | None:
            now = self._clock.now()
            changes.require_version(plan.version if plan else 0, if_version)
            change = changes.put_plan(name, plan, checked, now, caller.name)
            caller.permit_planning(now, plan, change.plan if change else None)
            return change

        after = self._change(name, decide)
        assert after is not None  # nothing deletes it here
        return after

    def find(self, name: str) -> Plan | None:
        """Return the plan of this name, or None.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        plans = plans_of(self._store)
        return plans.find_plan(name) if plans else None

    def get(self, name: str) -> Plan:
        """Return the plan of this name.

        Raises:
            PlanNotFound: There is none.
            StoreUnavailable: The store does not answer.
        """
        plan = self.find(name)
        if plan is None:
            raise PlanNotFound(name)
        return plan

    def list(self, *, after: str = "", size: int = 100) -> tuple[Plan, ...]:
        """Return plans in the order of their names.

        Args:
            after: Only those whose names come after this one.
            size: 1 to 1000 plans.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The store does not answer.
        """
        plans = plans_of(self._store)
        return tuple(plans.list_plans(after=after, size=size)) if plans else ()

    def delete(
        self,
        name: str,
        *,
        if_version: Collection[int] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> None:
        """Remove a plan that no key has; revoked ones do not count. Its events stay.

        Raises:
            InvalidField: The actor cannot be used.
            PlanNotFound: There is none of this name.
            VersionConflict: It is at none of these versions.
            StateConflict: Keys have it.
            NotPermitted: `by` may not change plans, or does not hold all that this one gives.
            StoreReadOnly: Keys of this store have no plans.
            StoreUnavailable: The store does not answer.
        """
        caller = self._callers.of(by, actor)
        self._plans()
        self.get(name)  # of what cannot be a name, a database that was to change it would have notions of its own

        def decide(plan: Plan | None) -> PlanChange:
            if plan is None:
                raise PlanNotFound(name)
            changes.require_version(plan.version, if_version)
            now = self._clock.now()
            caller.permit_planning(now, plan)
            return changes.delete_plan(plan, now, caller.name)

        self._change(name, decide)

    def _change(self, name: str, decide: Callable[[Plan | None], PlanChange | None]) -> Plan | None:
        plans = self._plans()
        try:
            return plans.change_plan(name, decide)
        finally:  # even what the store gave no answer to may have happened
            self._look_again()


class Owners(_Changing):
    """What the keys of one owner share, of the owners of a desk. A change is in force within `max_staleness`.

    `by` and `actor` are those of `Desk`. A caller needs the scope `keydesk:plans:write` and may not be bound to an
    owner.
    """

    def put(
        self,
        owner: str,
        *,
        limits: Iterable[str] | None = None,
        quotas: Iterable[str] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> OwnerTerms:
        """Agree on limits and quotas for all keys of an owner together. Where nothing differs, nothing is written.

        Args:
            owner: As the keys name it, or will: 1 to 200 characters.
            limits, quotas: See `OwnerFields`. None leaves them as they are, or empty for a new owner.
            by, actor: See `Desk`.

        Raises:
            InvalidField: The owner, a field or the actor cannot be used.
            NotPermitted: `by` may not change what owners share.
            StoreReadOnly: Owners of this store share nothing.
            StoreUnavailable: The store does not answer.
        """
        named = parse_owner(owner)
        fields = {field: value for field, value in (("limits", limits), ("quotas", quotas)) if value is not None}
        checked = {field: parse_field(field, value) for field, value in fields.items()}
        caller = self._callers.of(by, actor)

        def decide(terms: OwnerTerms | None) -> OwnerChange | None:
            now = self._now_for(caller)
            return changes.put_owner(named, terms, checked, now, caller.name)

        after = self._change(named, decide)
        assert after is not None  # nothing deletes it here
        return after

    def find(self, owner: str) -> OwnerTerms | None:
        """Return what the keys of this owner share, or None.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        plans = plans_of(self._store)
        return plans.find_owner(owner) if plans else None

    def get(self, owner: str) -> OwnerTerms:
        """Return what the keys of this owner share.

        Raises:
            OwnerNotFound: Nothing was agreed.
            StoreUnavailable: The store does not answer.
        """
        terms = self.find(owner)
        if terms is None:
            raise OwnerNotFound
        return terms

    def list(self, *, after: str = "", size: int = 100) -> tuple[OwnerTerms, ...]:
        """Return what was agreed for owners, in their order.

        Args:
            after: Only owners that come after this one.
            size: 1 to 1000 owners.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The store does not answer.
        """
        plans = plans_of(self._store)
        return tuple(plans.list_owners(after=after, size=size)) if plans else ()

    def delete(self, owner: str, *, by: Key | None = None, actor: str = DEFAULT_ACTOR) -> None:
        """Let the keys of an owner share nothing any more. The keys stay as they are.

        Raises:
            InvalidField: The actor cannot be used.
            OwnerNotFound: Nothing was agreed for this owner.
            NotPermitted: `by` may not change what owners share.
            StoreReadOnly: Owners of this store share nothing.
            StoreUnavailable: The store does not answer.
        """
        caller = self._callers.of(by, actor)
        self._plans()
        self.get(owner)  # as for plans

        def decide(terms: OwnerTerms | None) -> OwnerChange:
            if terms is None:
                raise OwnerNotFound
            return changes.delete_owner(terms, self._now_for(caller), caller.name)

        self._change(owner, decide)

    def _now_for(self, caller: Caller) -> datetime:
        now = self._clock.now()
        caller.permit_planning(now)
        return now

    def _change(self, owner: str, decide: Callable[[OwnerTerms | None], OwnerChange | None]) -> OwnerTerms | None:
        plans = self._plans()
        try:
            return plans.change_owner(owner, decide)
        finally:
            self._look_again()
