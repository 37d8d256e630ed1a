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
