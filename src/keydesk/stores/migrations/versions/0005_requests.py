"""Requests under an idempotency key, and the events of an owner."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from keydesk.stores.schema import Moment

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
}


def _code(length: int) -> sa.types.TypeEngine[str]:
    mysql = sa.dialects.mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(mysql, "mysql", "mariadb")


def _words(length: int) -> sa.types.TypeEngine[str]:
    mysql = sa.dialects.mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(mysql, "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "keydesk_requests",
        sa.Column("caller", _words(200), nullable=False),
        sa.Column("name", _code(64), nullable=False),
        sa.Column("request", _code(64), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("key_ids", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("caller", "name", name="pk_keydesk_requests"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )
    op.create_index("ix_keydesk_requests_at", "keydesk_requests", ["at"])
    op.create_index("ix_keydesk_events_owner_number", "keydesk_events", ["owner", "number"])


def downgrade() -> None:
    op.drop_index("ix_keydesk_events_owner_number", "keydesk_events")
    op.drop_table("keydesk_requests")
