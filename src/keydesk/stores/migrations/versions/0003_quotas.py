"""How much of each quota was leased."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from keydesk.stores.schema import Moment

revision = "0003"
down_revision = "0002"
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
        "keydesk_quotas",
        sa.Column("holder", _words(210), nullable=False),
        sa.Column("period", _code(8), nullable=False),
        sa.Column("zone", _code(64), nullable=False),
        sa.Column("start_at", Moment, nullable=False),
        sa.Column("leased", sa.BigInteger, nullable=False),
        sa.Column("refilled", sa.BigInteger, nullable=False),
        sa.Column("told_percent", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("holder", "period", "zone", "start_at", name="pk_keydesk_quotas"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )


def downgrade() -> None:
    op.drop_table("keydesk_quotas")
