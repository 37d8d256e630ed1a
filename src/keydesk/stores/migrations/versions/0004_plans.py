"""Plans, and what the keys of an owner share."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from keydesk.stores.schema import Moment

revision = "0004"
down_revision = "0003"
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


def _prose() -> sa.types.TypeEngine[str]:
    mysql = sa.dialects.mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return sa.Text().with_variant(mysql, "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "keydesk_plans",
        sa.Column("name", _code(64), nullable=False),
        sa.Column("description", _prose(), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("quotas", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_keydesk_plans"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )
    op.create_table(
        "keydesk_owners",
        sa.Column("owner", _words(200), nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("quotas", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_keydesk_owners"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )
    op.add_column("keydesk_keys", sa.Column("plan", _code(64)))
    op.create_index("ix_keydesk_keys_plan_id", "keydesk_keys", ["plan", "id"])


def downgrade() -> None:
    op.drop_index("ix_keydesk_keys_plan_id", "keydesk_keys")
    op.drop_column("keydesk_keys", "plan")
    op.drop_table("keydesk_owners")
    op.drop_table("keydesk_plans")
