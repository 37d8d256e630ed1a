"""Who still uses secrets that a rotation has replaced."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from keydesk.stores.schema import Moment

revision = "0007"
down_revision = "0006"
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
    op.create_table(
        "keydesk_earlier_secrets",
        sa.Column("key_id", _code(32), nullable=False),
        sa.Column("span", _code(6), nullable=False),
        sa.Column("start_at", Moment, nullable=False),
        sa.Column("secret", sa.Integer, nullable=False),
        sa.Column("network", _code(64), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "span", "start_at", "secret", "network", name="pk_keydesk_earlier_secrets"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )
    op.create_index("ix_keydesk_earlier_secrets_span_start_at", "keydesk_earlier_secrets", ["span", "start_at"])


def downgrade() -> None:
    op.drop_table("keydesk_earlier_secrets")
