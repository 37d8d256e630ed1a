"""Core: on whose behalf something is changed. Nobody gives more than they hold, plans and default limits included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from .errors import NotPermitted
from .keys.authority import (
    excess,
    excess_of_plan,
    excess_under_same_plan,
    problems_of_caller,
    problems_of_planner,
)
from .keys.effective import require_granted, under_plan
from .keys.plans import Plan, PlanFields
from .keys.record import Key, KeyFields, parse_actor, parse_field
from .ports import MAX_PAGE, KeyStore, plans_of, unknown_plan, writable
from .terms import Terms

DEFAULT_ACTOR = "python"

_OF_A_KEY = tuple(field.name for field in fields_of(Key))

F = TypeVar("F", bound=KeyFields)


class Caller:
    """A key on whose behalf something is changed, or the program itself.

    Args:
        by: The key; None for the program.
        actor: What the program calls itself.
        plans: Those that it takes to judge the change, by their names. They were read before it began: should somebody
            edit one meanwhile, it is as if that came after.
        terms: What is agreed for all keys.
        giving: The name of the plan that a key is to be given.
        stated: The key as it states itself, where `by` has its plan folded in.

    Raises:
        InvalidField: The actor is empty, too long, or holds control characters or a secret.
        NotPermitted: The key has a plan that is not in the store.
    """

    def __init__(
        self,
        by: Key | None,
        actor: str,
        plans: Mapping[str, Plan],
        terms: Terms,
        giving: str | None = None,
        stated: Key | None = None,
    ) -> None:
        self.name = by.id if by else parse_actor(actor)
        self._plans = plans
        self._terms = terms
        self._giving = giving
        # A key of its own: what is given may be a proxy, such as the key of a request.
        own = Key(**{name: getattr(by, name) for name in _OF_A_KEY}) if by else None
        self._stated = stated or own
        self._by = self._held(own) if own else None

    def permit(self, owner: str | None, now: datetime, wanted: KeyFields | None = None) -> None:
        """Return if the caller may touch keys of this owner, and give one what is wanted.

        Raises:
            NotPermitted: They may not.
        """
        if self._by is None:
            return
        problems = problems_of_caller(self._by, owner, now)
        if self._giving is not None and self._by.owner is not None and self._giving != self._by.plan:
            # What that plan gives today the caller may hold; what it will give tomorrow is not theirs to choose.
            problems.append("the caller may give a key no plan but its own")
        if wanted is not None:
            problems += excess(self._by, self._held(wanted))
            if self._stated is not None and wanted.plan is not None and wanted.plan == self._stated.plan:
                problems += excess_under_same_plan(self._stated, wanted)
        if problems:
            raise NotPermitted(list(dict.fromkeys(problems)))

    def permit_planning(self, now: datetime, *plans: PlanFields | None) -> None:
        """Return if the caller may change plans and owners' terms, and holds all that these plans give.

        Raises:
            NotPermitted: They may not.
        """
        if self._by is None:
            return
        problems = problems_of_planner(self._by, now)
        for plan in plans:
            problems += excess_of_plan(self._by, plan) if plan else []
        if problems:
            raise NotPermitted(list(dict.fromkeys(problems)))

    def require_granted(self, fields: KeyFields) -> None:
        """Return if a key states no scopes beyond those of its plan.

        Raises:
            InvalidField: It does, or there is no such plan.
        """
        if fields.plan is None:
            return
        plan = self._plans.get(fields.plan)
        if plan is None:
            raise unknown_plan(fields.plan)
        require_granted(fields, plan)

    def _held(self, fields: F) -> F:
        """Return what somebody holds in the end: with the plan folded in, and the default limits where there are none.

        Raises:
            NotPermitted: Its plan was not read.
        """
        folded = isinstance(fields, Key) and fields.in_force
        if fields.plan is not None and not folded:
            plan = self._plans.get(fields.plan)
            if plan is None:
                problem = "was given to it at this very moment, or removed from the store by hand"
                raise NotPermitted([f"nobody can say what the plan {fields.plan} gives: it {problem}; try again"])
            fields = under_plan(fields, plan)
        return replace(fields, limits=self._terms.limits_of(fields))


class Callers:
    """Says on whose behalf a change is made, with what it takes to judge it.

    Args:
        store: Where plans are.
        terms: What is agreed for all keys.
    """

    def __init__(self, store: KeyStore, terms: Terms) -> None:
        self._store = store
        self._terms = terms

    def of(self, by: Key | None, actor: str, *, key_id: str | None = None, plan: object = None) -> Caller:
        """Return who makes a change. It reads the plans concerned: during the change the store is asked for nothing.

        Args:
            by, actor: See `Desk`.
            key_id: Whose present plan matters.
            plan: The name of the plan that a key is to have, as somebody wrote it; None or empty for none.

        Raises:
            InvalidField: The actor cannot be used, or there is no such plan.
            NotPermitted: The key of the caller has a plan that is not in the store.
            StoreReadOnly: This store has no plans.
            StoreUnavailable: The store does not answer.
        """
        store, read, named = plans_of(self._store), dict[str, Plan](), parse_field("plan", plan)
        stated = self._store.find_key(by.id) if by is not None and by.plan and by.in_force else None
        if named is not None:
            writable(self._store)
            found = store.find_plan(named) if store else None
            if found is None:
                raise unknown_plan(named)
            read[named] = found
        if store is not None:
            key = self._store.find_key(key_id) if key_id else None
            for one in (by, key):
                if one is not None and one.plan and not one.in_force and one.plan not in read:
                    found = store.find_plan(one.plan)
                    read.update({one.plan: found} if found else {})
        return Caller(by, actor, read, self._terms, named, stated)

    def importing(self, actor: str) -> Caller:
        """Return who imports keys, with all plans there are.

        Raises:
            InvalidField: The actor cannot be used.
            NotPermitted: Never: there is no caller's key.
            StoreUnavailable: The store does not answer.
        """
        store, read = plans_of(self._store), dict[str, Plan]()
        while store is not None and (page := store.list_plans(after=max(read, default=""), size=MAX_PAGE)):
            read.update((plan.name, plan) for plan in page)
        return Caller(None, actor, read, self._terms)
