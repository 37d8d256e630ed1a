"""Room testing: what every store with plans must do, as tests to inherit beside those of `keydesk.testing.stores`.

class TestMyStore(PlanStoreContract, WritableKeyStoreContract):
    ...
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from ..errors import InvalidField, StateConflict
from ..events import KeyUpdated, OwnerCreated, OwnerDeleted, OwnerUpdated, PlanCreated, PlanDeleted, PlanUpdated
from ..keys.limits import Limit, Period, Quota
from ..keys.plans import Agreed, OwnerFields, OwnerTerms, Plan, PlanFields
from ..keys.record import Key
from ..keys.scopes import Scopes
from ..ports import Change, KeyFilter, OwnerChange, PlanChange, PlanStore, WritableKeyStore
from .clock import START
from .stores import all_events, all_keys, event_of, issued, new_key

MINUTE = timedelta(minutes=1)
ODD_NAMES = ("", " ", "%", "_", "\0", "Gold", "gold ", "göld", "' OR '1'='1", "\\", "💥", "\ud800", "x" * 100_000)


class StoreWithPlans(WritableKeyStore, Protocol):
    """A store with plans."""

    @property
    def plans(self) -> PlanStore:
        """Where they are."""
        ...


def new_plan(name: str = "gold", **changes: Any) -> Plan:
    """Return a plan."""
    return Plan(**{"name": name, "created_at": START, "updated_at": START, **changes})


def new_terms(owner: str = "acme", **changes: Any) -> OwnerTerms:
    """Return what the keys of an owner share."""
    return OwnerTerms(**{"owner": owner, "created_at": START, "updated_at": START, **changes})


def put_plan(store: StoreWithPlans, plan: Plan) -> None:
    """Put a plan into a store."""

    def decide(before: Plan | None) -> PlanChange:
        kind = PlanUpdated if before else PlanCreated
        return PlanChange(plan, kind(at=START, actor="contract", key_id="", owner=None, details={"plan": plan.name}))

    assert store.plans.change_plan(plan.name, decide) == plan


def put_owner(store: StoreWithPlans, terms: OwnerTerms) -> None:
    """Put what the keys of an owner share into a store."""

    def decide(before: OwnerTerms | None) -> OwnerChange:
        kind = OwnerUpdated if before else OwnerCreated
        return OwnerChange(terms, kind(at=START, actor="contract", key_id="", owner=terms.owner, details={}))

    assert store.plans.change_owner(terms.owner, decide) == terms


def delete_plan(store: StoreWithPlans, name: str) -> None:
    """Delete a plan."""
    event = PlanDeleted(at=START, actor="contract", key_id="", owner=None, details={"plan": name})
    assert store.plans.change_plan(name, lambda _: PlanChange(None, event)) is None


def kinds(store: StoreWithPlans) -> list[str]:
    """Return the kinds of all events, of which nothing is wrong with the chain."""
    return [row.event.kind for row in all_events(store)]


class PlanStoreContract:
    """What a store with plans does. Override `store`."""

    @pytest.fixture
    def store(self) -> StoreWithPlans:
        """A new, empty store."""
        raise NotImplementedError("override the fixture `store`")

    # Plans

    def test_plans_none_at_first(self, store: StoreWithPlans) -> None:
        assert store.plans.find_plan("gold") is None
        assert store.plans.list_plans() == []
        assert store.plans.find_owner("acme") is None
        assert store.plans.list_owners() == []

    def test_plan_every_field(self, store: StoreWithPlans) -> None:
        moment = datetime(2026, 2, 3, 4, 5, 6, 123457, tzinfo=UTC)
        plan = new_plan(
            "a.b_c-1",
            description="Größe 漢字 👍\nand more",
            scopes=Scopes(["*", "a:b", "keydesk:keys:*"]),
            limits=(Limit(1, 1), Limit(2**32 - 1, 366 * 86400)),
            quotas=(Quota(5, Period.DAY), Quota(10**12, Period.TOTAL)),
            created_at=moment,
            updated_at=moment + timedelta(microseconds=1),
            version=7,
        )
        put_plan(store, plan)
        assert store.plans.find_plan(plan.name) == plan
        assert store.plans.list_plans() == [plan]
        (row,) = all_events(store)
        assert (row.event.kind, row.event.key_id, row.event.owner) == ("plan.created", "", None)

    def test_plan_everything_at_its_longest(self, store: StoreWithPlans) -> None:
        plan = new_plan("x" * 64, description="👍" * 2000, scopes=Scopes(f"{'s' * 120}:{n:07}" for n in range(200)))
        put_plan(store, plan)
        assert store.plans.find_plan(plan.name) == plan

    def test_plan_changed_and_deleted(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan())
        after = new_plan(limits=(Limit(1, 60),), version=2)
        put_plan(store, after)
        put_plan(store, new_plan("silver"))
        assert store.plans.find_plan("gold") == after
        delete_plan(store, "gold")
        assert store.plans.find_plan("gold") is None
        assert [plan.name for plan in store.plans.list_plans()] == ["silver"]
        assert kinds(store) == ["plan.created", "plan.updated", "plan.created", "plan.deleted"]

    def test_plan_change_to_nothing_writes_nothing(self, store: StoreWithPlans) -> None:
        assert store.plans.change_plan("gold", lambda _: None) is None
        put_plan(store, new_plan())
        assert store.plans.change_plan("gold", lambda _: None) == new_plan()
        assert kinds(store) == ["plan.created"]

    def test_plan_what_decide_raises(self, store: StoreWithPlans) -> None:
        def decide(_: Plan | None) -> PlanChange:
            raise InvalidField("name", "no")

        with pytest.raises(InvalidField):
            store.plans.change_plan("gold", decide)
        put_plan(store, new_plan())
        with pytest.raises(InvalidField):
            store.plans.change_plan("gold", decide)
        assert kinds(store) == ["plan.created"]
        put_plan(store, new_plan("silver"))  # nothing is left locked

    def test_plans_in_the_order_of_their_names(self, store: StoreWithPlans) -> None:
        names = ["a", "a-b", "a.b", "a_b", "ab", "b", "0", "z9"]
        for name in names:
            put_plan(store, new_plan(name))
        ordered = sorted(names)
        assert [plan.name for plan in store.plans.list_plans()] == ordered
        found: list[str] = []
        while page := store.plans.list_plans(after=found[-1] if found else "", size=3):
            found += [plan.name for plan in page]
        assert found == ordered

    def test_plans_odd_names(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan())
        for name in ODD_NAMES:
            assert store.plans.find_plan(name) is None, ascii(name[:40])
        for size in (0, 1001):
            with pytest.raises(InvalidField):
                store.plans.list_plans(size=size)
            with pytest.raises(InvalidField):
                store.plans.list_owners(size=size)

    # Keys with plans

    def test_key_of_a_plan_comes_with_it(self, store: StoreWithPlans) -> None:
        plan = new_plan(scopes=Scopes(["a:b"]), limits=(Limit(5, 60),), quotas=(Quota(7, Period.DAY),))
        put_plan(store, plan)
        key = new_key(plan="gold", secrets=2)
        store.add([issued(key)])
        for found in (store.find_key(key.id), store.find_by_digest([key.secrets[1].digest]), *all_keys(store)):
            assert found == key
        found = store.find_by_digest(["0" * 64, key.secrets[1].digest])
        assert found is not None
        assert found.agreed is not None
        assert found.agreed.owner is None
        granted = found.agreed.plan
        assert granted is not None
        assert (granted.scopes, granted.limits, granted.quotas) == (plan.scopes, plan.limits, plan.quotas)

    def test_key_comes_with_the_newest_of_its_plan_and_owner(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan())
        key, other = new_key(plan="gold", owner="acme"), new_key(owner="ACME")
        store.add([issued(key), issued(other)])

        def agreed(of: Key) -> Agreed | None:
            found = store.find_by_digest([of.secrets[0].digest])
            assert found is not None
            return found.agreed

        before = agreed(key)
        assert before is not None
        assert (before.plan is not None, before.owner) == (True, None)
        put_plan(store, new_plan(limits=(Limit(3, 60),)))
        put_owner(store, new_terms(limits=(Limit(9, 60),), quotas=(Quota(8, Period.MONTH),)))
        after = agreed(key)
        assert after is not None
        assert isinstance(after.plan, PlanFields)
        assert isinstance(after.owner, OwnerFields)
        assert (after.plan.limits, after.owner.limits) == ((Limit(3, 60),), (Limit(9, 60),))
        assert after.owner.quotas == (Quota(8, Period.MONTH),)
        assert agreed(other) is None

    def test_add_key_of_no_such_plan(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan())
        with pytest.raises(InvalidField, match="no plan silver"):
            store.add([issued(new_key(plan="gold")), issued(new_key(plan="silver"))])
        assert all_keys(store) == []
        assert kinds(store) == ["plan.created"]

    def test_change_key_to_no_such_plan(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan())
        key = new_key()
        store.add([issued(key)])
        for name, there in (("silver", False), ("gold", True)):
            after = replace(key, plan=name)
            if there:
                assert store.change(key.id, lambda _, after=after: Change(after, event_of(after, KeyUpdated))) == after  # type: ignore[misc]
            else:
                with pytest.raises(InvalidField, match="no plan silver"):
                    store.change(key.id, lambda _, after=after: Change(after, event_of(after, KeyUpdated)))  # type: ignore[misc]
        assert store.find_key(key.id) == replace(key, plan="gold")
        assert kinds(store) == ["plan.created", "key.issued", "key.updated"]

    def test_plan_that_keys_have_stays(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan())
        keys = [new_key(plan="gold"), new_key(plan="gold", disabled_at=START)]
        store.add([issued(key) for key in keys])
        for words in ("2 keys have", "1 key has"):
            with pytest.raises(StateConflict, match=words):
                delete_plan(store, "gold")
            assert store.plans.find_plan("gold") is not None
            gone = replace(keys.pop(), revoked_at=START)  # a revoked key is no reason to keep it
            store.change(gone.id, lambda _, gone=gone: Change(gone, event_of(gone, KeyUpdated)))  # type: ignore[misc]
        delete_plan(store, "gold")
        assert kinds(store)[-1] == "plan.deleted"
        found = store.find_by_digest([gone.secrets[0].digest])
        assert found is not None
        assert found.agreed is None

    def test_list_keys_of_a_plan(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan())
        put_plan(store, new_plan("silver"))
        keys = [new_key(plan=name) for name in ("gold", "silver", "gold", None)]
        store.add([issued(key) for key in keys])
        for name, expected in (("gold", {keys[0].id, keys[2].id}), ("silver", {keys[1].id}), ("Gold", set())):
            assert {key.id for key in all_keys(store, KeyFilter(plan=name), size=1)} == expected
        for name in ("x" * 200, "gold ", "göld", "%"):
            assert all_keys(store, KeyFilter(plan=name)) == []

    def test_list_keys_by_what_their_plan_grants(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan(scopes=Scopes(["orders:*", "stock:read"])))
        put_plan(store, new_plan("bare", scopes=Scopes()))
        read = Scopes(["orders:read"])
        given = (("gold", Scopes()), ("gold", read), ("bare", Scopes()), (None, read), (None, Scopes()))
        keys = [new_key(plan=plan, scopes=scopes) for plan, scopes in given]
        store.add([issued(key) for key in keys])
        for scope, places in (("orders:read", {0, 1, 3}), ("orders:write", {0}), ("stock:read", {0}), ("x:y", set())):
            found = {key.id for key in all_keys(store, KeyFilter(scope=scope), size=1)}
            assert found == {keys[place].id for place in places}, scope

    def test_plan_deleted_while_keys_are_issued_with_it(self, store: StoreWithPlans) -> None:
        for _ in range(5):
            put_plan(store, new_plan())
            begin = threading.Barrier(2)

            def issue(begin: threading.Barrier = begin) -> bool:
                begin.wait(10)
                try:
                    store.add([issued(new_key(plan="gold"))])
                except InvalidField:
                    return False
                return True

            def remove(begin: threading.Barrier = begin) -> bool:
                begin.wait(10)
                try:
                    delete_plan(store, "gold")
                except StateConflict:
                    return False
                return True

            with ThreadPoolExecutor(2) as pool:
                one, two = pool.submit(issue), pool.submit(remove)
                assert one.result(60) != two.result(60)
            for key in all_keys(store):
                gone = replace(key, plan=None)
                store.change(key.id, lambda _, gone=gone: Change(gone, event_of(gone, KeyUpdated)))  # type: ignore[misc]

    # Owners

    def test_owner_every_field(self, store: StoreWithPlans) -> None:
        for owner in ("acme", "ACME", "Ærø/漢字/👍", "漢" * 200, "a b", "%", "_", "' OR 1=1 --"):
            terms = new_terms(owner, limits=(Limit(5, 60),), quotas=(Quota(6, Period.MONTH),), version=3)
            put_owner(store, terms)
            assert store.plans.find_owner(owner) == terms
        assert store.plans.find_owner("acme ") is None
        assert store.plans.find_owner("Acme") is None
        assert {row.event.owner for row in all_events(store)} == {terms.owner for terms in store.plans.list_owners()}

    def test_owner_changed_and_deleted(self, store: StoreWithPlans) -> None:
        put_owner(store, new_terms())
        after = new_terms(limits=(Limit(1, 60),), version=2)
        put_owner(store, after)
        assert store.plans.list_owners() == [after]
        gone = OwnerDeleted(at=START, actor="contract", key_id="", owner="acme", details={})
        assert store.plans.change_owner("acme", lambda _: OwnerChange(None, gone)) is None
        assert store.plans.find_owner("acme") is None
        assert store.plans.change_owner("acme", lambda _: None) is None
        assert kinds(store) == ["owner.created", "owner.updated", "owner.deleted"]

    def test_owners_in_their_order(self, store: StoreWithPlans) -> None:
        owners = ["b", "B", "a", "é", "z", "a b", "a-b", "漢"]
        for owner in owners:
            put_owner(store, new_terms(owner))
        found: list[str] = []
        while page := store.plans.list_owners(after=found[-1] if found else "", size=3):
            found += [terms.owner for terms in page]
        assert found == sorted(owners)

    def test_events_of_no_key_are_those_of_none(self, store: StoreWithPlans) -> None:
        put_plan(store, new_plan())
        assert store.list_events(key_id="") == []
        assert len(store.list_events()) == 1
