"""A row that somebody changed by hand so that it cannot be read: nobody gets in by it, and it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from keydesk import Reason, StoreUnavailable, open_desk
from keydesk.stores.sql import SqlStore


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("scopes", "not a scope"),
        ("networks", "everywhere"),
        ("limits", "plenty"),
        ("quotas", "10/year"),
        ("environment", "stage"),
    ],
)
def test_damaged_row_is_unavailable_and_named(tmp_path: Path, column: str, value: str) -> None:
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
