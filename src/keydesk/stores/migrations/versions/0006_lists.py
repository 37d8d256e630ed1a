"""What lists of keys by status go along, and an index of plans without the keys that have none."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STOPPED = "CASE WHEN revoked_at IS NOT NULL THEN 2 WHEN disabled_at IS NOT NULL THEN 1 ELSE 0 END"


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    # PostgreSQL has no index on a column it does not keep; SQLite cannot add one to a table that it does keep.
    kept = op.get_bind().dialect.name == "postgresql"
    op.add_column("keydesk_keys", sa.Column("stopped", sa.SmallInteger, sa.Computed(_STOPPED, persisted=kept)))
    op.create_index("ix_keydesk_keys_stopped_id", "keydesk_keys", ["stopped", "id"])
    op.create_index(
        "ix_keydesk_keys_expires_at_id", "keydesk_keys", ["expires_at", "id"], **_where("expires_at IS NOT NULL")
    )
    if op.get_bind().dialect.name in ("sqlite", "postgresql"):
        op.drop_index("ix_keydesk_keys_plan_id", "keydesk_keys")
        op.create_index("ix_keydesk_keys_plan_id", "keydesk_keys", ["plan", "id"], **_where("plan IS NOT NULL"))
    if kept:
        op.execute("ANALYZE keydesk_keys")


def downgrade() -> None:
    if op.get_bind().dialect.name in ("sqlite", "postgresql"):
        op.drop_index("ix_keydesk_keys_plan_id", "keydesk_keys")
        op.create_index("ix_keydesk_keys_plan_id", "keydesk_keys", ["plan", "id"])
    op.drop_index("ix_keydesk_keys_expires_at_id", "keydesk_keys")
    op.drop_index("ix_keydesk_keys_stopped_id", "keydesk_keys")
    op.drop_column("keydesk_keys", "stopped")
