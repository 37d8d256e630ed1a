"""Keys, their secrets, and the chain of events."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from keydesk.stores.schema import Moment

revision = "0001"
down_revision = None
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


def _details() -> sa.types.TypeEngine[str]:
    mysql = sa.dialects.mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return sa.Text().with_variant(mysql, "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "keydesk_keys",
        sa.Column("id", _code(32), nullable=False),
        sa.Column("name", _words(200), nullable=False),
        sa.Column("owner", _words(200)),
        sa.Column("description", _prose(), nullable=False),
        sa.Column("environment", sa.String(8), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("networks", sa.Text, nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("quotas", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("expires_at", Moment),
        sa.Column("disabled_at", Moment),
        sa.Column("revoked_at", Moment),
        sa.Column("revoke_reason", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keydesk_keys"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )
    op.create_index("ix_keydesk_keys_owner_id", "keydesk_keys", ["owner", "id"])
    op.create_table(
        "keydesk_secrets",
        sa.Column("key_id", _code(32), nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("digest", _code(64), nullable=False),
        sa.Column("pepper_id", _code(8), nullable=False),
        sa.Column("hint", sa.String(64), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expires_at", Moment),
        sa.PrimaryKeyConstraint("key_id", "number", name="pk_keydesk_secrets"),
        sa.ForeignKeyConstraint(["key_id"], ["keydesk_keys.id"], name="fk_keydesk_secrets_key_id"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )
    op.create_index("ix_keydesk_secrets_digest", "keydesk_secrets", ["digest"], unique=True)
    op.create_table(
        "keydesk_events",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("actor", _words(200), nullable=False),
        sa.Column("key_id", _code(32), nullable=False),
        sa.Column("owner", _words(200)),
        sa.Column("details", _details(), nullable=False),
        sa.Column("previous_hash", _code(64), nullable=False),
        sa.Column("hash", _code(64), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_keydesk_events"),
        **_MYSQL,
    )
    op.create_index("ix_keydesk_events_key_id_number", "keydesk_events", ["key_id", "number"])
    op.create_table(
        "keydesk_chain_head",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", _code(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keydesk_chain_head"),
        **_MYSQL,
    )


def downgrade() -> None:
    for table in ("keydesk_chain_head", "keydesk_events", "keydesk_secrets", "keydesk_keys"):
        op.drop_table(table)
