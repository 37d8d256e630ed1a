"""A row that somebody changed by hand so that it cannot be read: nobody gets in by it, and it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from keydesk import Reason, StoreUnavailable, open_desk
from keydesk.stores import condition
from keydesk.stores.sql import SqlStore


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("scopes", "not a scope"),
        ("networks", "everywhere"),
        ("limits", "plenty"),
        ("quotas", "10/year"),
        ("environment", "stage"),
        ("scopes", b"\x01"),
    ],
)
def test_damaged_row_is_unavailable_and_named(tmp_path: Path, column: str, value: object) -> None:
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path}/keys.db"})
    issued, other = desk.issue(name="Damaged"), desk.issue(name="Whole")
    assert isinstance(desk.store, SqlStore)
    with desk.store.engine.begin() as connection:
        statement = text(f"UPDATE keydesk_keys SET {column} = :value WHERE id = :id")
        connection.execute(statement, {"value": value, "id": issued.key.id})
    assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE
    assert desk.verify(other.secret).allowed
    with pytest.raises(StoreUnavailable, match=issued.key.id):
        desk.get_key(issued.key.id)
    desk.close()


def test_checks_name_damaged_rows_among_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "MAX_KEYS_LOOKED_AT", 10)
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path}/keys.db"})
    keys = [desk.issue(name=f"key {number}").key for number in range(12)]
    desk.rotate(keys[-1].id)  # looked at once, with both of its secrets
    assert isinstance(desk.store, SqlStore)
    (check,) = [check for check in desk.store.checks() if check.name == "keys"]
    assert check.passed
    assert check.found.endswith("the newest 10")
    for damaged in (keys[0], *keys[4:]):
        with desk.store.engine.begin() as connection:
            statement = text("UPDATE keydesk_keys SET scopes = 'not a scope' WHERE id = :id")
            connection.execute(statement, {"id": damaged.id})
    (check,) = [check for check in desk.store.checks() if check.name == "keys"]
    assert check.passed is False
    assert check.found.startswith("8 of the newest 10")
    assert check.found.endswith("and 3 more")
    assert keys[-1].id in check.found
    assert keys[0].id not in check.found
    assert "keydesk_keys" in check.fix
    desk.close()


def test_checks_name_plans_that_are_gone(tmp_path: Path) -> None:
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path}/keys.db", "KEYDESK_MAX_STALENESS_SECONDS": 0})
    for name in ("gold", "silver"):
        desk.plans.put(name)
    issued, other = desk.issue(name="Damaged", plan="gold"), desk.issue(name="Whole", plan="silver")
    revoked = desk.issue(name="Revoked", plan="gold")
    desk.revoke(revoked.key.id)
    assert isinstance(desk.store, SqlStore)
    assert "plans" not in {check.name for check in desk.store.checks()}
    with desk.store.engine.begin() as connection:
        connection.execute(text("DELETE FROM keydesk_plans WHERE name = 'gold'"))
    assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE
    assert desk.verify(other.secret).allowed
    assert desk.verify(revoked.secret).reason is Reason.REVOKED
    (check,) = [check for check in desk.store.checks() if check.name == "plans"]
    assert check.passed is False
    assert "gold" in check.found
    assert check.fix == "keydesk plans put gold"
    desk.plans.put("gold")
    assert desk.verify(issued.secret).allowed
    assert "plans" not in {check.name for check in desk.store.checks()}
    desk.close()


@pytest.mark.parametrize(("table", "column"), [("plans", "scopes"), ("plans", "limits"), ("owners", "quotas")])
def test_damaged_plan_or_owner_is_unavailable_and_named(tmp_path: Path, table: str, column: str) -> None:
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path}/keys.db"})
    desk.plans.put("gold")
    desk.owners.put("acme")
    issued = desk.issue(name="Damaged", plan="gold", owner="acme")
    assert isinstance(desk.store, SqlStore)
    with desk.store.engine.begin() as connection:
        connection.execute(text(f"UPDATE keydesk_{table} SET {column} = 'damaged'"))
    assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE
    with pytest.raises(StoreUnavailable, match=f"keydesk_{table}"):
        desk.plans.get("gold") if table == "plans" else desk.owners.get("acme")
    assert desk.get_key(issued.key.id).plan == "gold"
    desk.close()
