"""Room stores: the tables. `metadata` can go into an application's own migrations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.mysql import DATETIME, MEDIUMTEXT, TEXT, VARCHAR
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

# The revisions under migrations/versions, oldest first; a database holds the one it is at in `keydesk_version`.
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
VERSION_TABLE = "keydesk_version"
_NO_MOMENT = datetime.min.replace(tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """A moment in UTC to the microsecond: `timestamptz` on PostgreSQL, UTC without a zone elsewhere."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of the dialect."""
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Hand the database what it keeps."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return an aware moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """Return what reads a column. SQLite keeps any text there; one that is no moment reads as the earliest one.

        So an event with it shows as changed, and a key with it has ended, where an error would stop both readers.
        """
        read = super().result_processor(dialect, coltype)
        if dialect.name != "sqlite" or read is None:
            return read

        def read_any(value: Any) -> datetime | None:
            try:
                return read(value)
            except (ValueError, TypeError):
                return _NO_MOMENT

        return read_any


def _code(length: int) -> String:
    """Ids and hashes: ASCII, and compared byte by byte on every database."""
    mysql = VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(mysql, "mysql", "mariadb")


def _words(length: int) -> String:
    """Names people give: compared byte by byte, so that `acme` and `ACME` are two owners on every database."""
    mysql = VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(mysql, "mysql", "mariadb")


def _prose() -> Text:
    """Longer texts, compared as names are: `resume` does not find `résumé` on any database."""
    mysql = TEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return Text().with_variant(mysql, "mysql", "mariadb")


def _details() -> Text:
    """Of an event: the fields before and after a change can be over the 64 KB of MariaDB's TEXT."""
    mysql = MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return Text().with_variant(mysql, "mysql", "mariadb")


def _where(condition: str) -> dict[str, Any]:
    """Leave other rows out of an index. MariaDB and MySQL cannot."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


DISABLED, REVOKED = 1, 2  # what keydesk_keys.stopped says; 0 where a key is neither
_STOPPED = f"CASE WHEN revoked_at IS NOT NULL THEN {REVOKED} WHEN disabled_at IS NOT NULL THEN {DISABLED} ELSE 0 END"

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
}

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Without rowids, SQLite finds a row in the tree of its primary key: one search instead of two.
keys = Table(
    "keydesk_keys",
    metadata,
    Column("id", _code(32), primary_key=True),
    Column("name", _words(200), nullable=False),
    Column("owner", _words(200)),
    Column("description", _prose(), nullable=False),
    Column("environment", String(8), nullable=False),
    # Lists are kept as text with a comma between: no scope, network or limit holds one.
    Column("scopes", Text, nullable=False),
    Column("networks", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("quotas", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("disabled_at", Moment),
    Column("revoked_at", Moment),
    Column("revoke_reason", Text, nullable=False),
    Column("version", Integer, nullable=False),
    # To the minute. No index: it would be written with each use, and only people look for keys that nobody uses.
    Column("last_used_at", Moment),
    # The name of a row of keydesk_plans. No foreign key: who changes either holds the lock of the chain's head, and
    # an import of a million keys would look each of them up.
    Column("plan", _code(64)),
    # The part of the status that does not depend on the time, as the database works it out: lists by status need it.
    Column("stopped", SmallInteger, Computed(_STOPPED, persisted=True)),
    Index(None, "owner", "id"),
    # Many keys have no plan, or no end.
    Index(None, "plan", "id", **_where("plan IS NOT NULL")),
    Index(None, "stopped", "id"),
    Index(None, "expires_at", "id", **_where("expires_at IS NOT NULL")),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

secrets = Table(
    "keydesk_secrets",
    metadata,
    Column("key_id", _code(32), ForeignKey("keydesk_keys.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", _code(64), nullable=False),
    Column("pepper_id", _code(8), nullable=False),
    Column("hint", String(64), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Index(None, "digest", unique=True),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

# The audit log, the invalidation feed and the outbox, in the order of the commits.
events = Table(
    "keydesk_events",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("kind", String(40), nullable=False),
    Column("at", Moment, nullable=False),
    Column("actor", _words(200), nullable=False),
    Column("key_id", _code(32), nullable=False),
    Column("owner", _words(200)),
    Column("details", _details(), nullable=False),
    Column("previous_hash", _code(64), nullable=False),
    Column("hash", _code(64), nullable=False),
    Index(None, "key_id", "number"),
    Index(None, "owner", "number"),
    **_OPTIONS,
)

# One row. Whoever holds its lock appends events; that is what puts them in the order of the commits.
chain_head = Table(
    "keydesk_chain_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", _code(64), nullable=False),
    **_OPTIONS,
)

# Time comes first. What is written now lies together, and so does what is removed; the keys of an hour are one range,
# and the hours of a key are as many searches as there are hours.
usage = Table(
    "keydesk_usage",
    metadata,
    Column("span", _code(6), primary_key=True),
    Column("start_at", Moment, primary_key=True),
    Column("key_id", _code(32), primary_key=True),
    Column("outcome", _code(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

# Texts that are no key's, by the network they came from. The row of the empty network holds all but the top ones.
mistakes = Table(
    "keydesk_mistakes",
    metadata,
    Column("span", _code(6), primary_key=True),
    Column("start_at", Moment, primary_key=True),
    Column("mistake", _code(16), primary_key=True),
    Column("network", _code(64), primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

# Uses of secrets that are not the newest of their key, by the network they came from. The key comes first, as what is
# asked is who uses those of one key, and only keys that are being rotated have rows.
earlier = Table(
    "keydesk_earlier_secrets",
    metadata,
    Column("key_id", _code(32), primary_key=True),
    Column("span", _code(6), primary_key=True),
    Column("start_at", Moment, primary_key=True),
    Column("secret", Integer, primary_key=True, autoincrement=False),  # its number
    Column("network", _code(64), primary_key=True),  # as in keydesk_mistakes
    Column("count", BigInteger, nullable=False),
    Index(None, "span", "start_at"),  # for what is removed
    sqlite_with_rowid=False,
    **_OPTIONS,
)

# What was leased of each quota in each of its periods. A quota in total has one period, which never ends.
quotas = Table(
    "keydesk_quotas",
    metadata,
    Column("holder", _words(210), primary_key=True),  # `key:` and an id, or `owner:` and an owner
    Column("period", _code(8), primary_key=True),
    Column("zone", _code(64), primary_key=True),
    Column("start_at", Moment, primary_key=True),
    Column("leased", BigInteger, nullable=False),
    Column("refilled", BigInteger, nullable=False),  # on top of the quota
    Column("told_percent", Integer, nullable=False),  # that an event has told of: 0, 80 or 100
    sqlite_with_rowid=False,
    **_OPTIONS,
)

plans = Table(
    "keydesk_plans",
    metadata,
    Column("name", _code(64), primary_key=True),
    Column("description", _prose(), nullable=False),
    Column("scopes", Text, nullable=False),  # lists as in keydesk_keys
    Column("limits", Text, nullable=False),
    Column("quotas", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("version", Integer, nullable=False),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

# What the keys of an owner share. An owner without a row shares nothing.
owners = Table(
    "keydesk_owners",
    metadata,
    Column("owner", _words(200), primary_key=True),
    Column("limits", Text, nullable=False),
    Column("quotas", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("version", Integer, nullable=False),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

# Which keys came of a request, by its idempotency key, for a day. Written with the keys, in one transaction.
requests = Table(
    "keydesk_requests",
    metadata,
    Column("caller", _words(200), primary_key=True),
    Column("name", _code(64), primary_key=True),
    Column("request", _code(64), nullable=False),
    Column("at", Moment, nullable=False),
    Column("key_ids", Text, nullable=False),  # lists as in keydesk_keys
    Index(None, "at"),
    sqlite_with_rowid=False,
    **_OPTIONS,
)
