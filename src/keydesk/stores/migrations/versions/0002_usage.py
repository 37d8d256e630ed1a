"""How often keys are used, and when they were last."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from keydesk.stores.schema import Moment

revision = "0002"
down_revision = "0001"
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


def upgrade() -> None:
    op.add_column("keydesk_keys", sa.Column("last_used_at", Moment))
    op.create_table(
        "keydesk_usage",
        sa.Column("span", _code(6), nullable=False),
        sa.Column("start_at", Moment, nullable=False),
        sa.Column("key_id", _code(32), nullable=False),
        sa.Column("outcome", _code(32), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("span", "start_at", "key_id", "outcome", name="pk_keydesk_usage"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )
    op.create_table(
        "keydesk_mistakes",
        sa.Column("span", _code(6), nullable=False),
        sa.Column("start_at", Moment, nullable=False),
        sa.Column("mistake", _code(16), nullable=False),
        sa.Column("network", _code(64), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("span", "start_at", "mistake", "network", name="pk_keydesk_mistakes"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )


def downgrade() -> None:
    for table in ("keydesk_mistakes", "keydesk_usage"):
        op.drop_table(table)
    op.drop_column("keydesk_keys", "last_used_at")
