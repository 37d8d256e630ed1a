"""Room stores: is the database at the version of this code, and how it gets there."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Engine, Table, inspect, text
from sqlalchemy.engine import Connection

from ..errors import SchemaMismatch, StoreUnavailable
from .engines import CONNECT_SECONDS, create_sqlite_file, sqlite_file, transaction
from .schema import REVISIONS, VERSION_TABLE, metadata

# Of the two, the doors of the command line show the one that they are: see `in_program` in cli/text.py.
_UPGRADE = "Run `keydesk db upgrade` (where `app.config` names the store: `flask keys db upgrade`)."
_LOCK_NUMBER = 0x6B657964  # "keyd": any number that other programs are unlikely to lock
_one_at_a_time = threading.Lock()  # Alembic keeps the migration that runs in a global of its own
_FOLDER = Path(__file__).parent / "migrations"


def revision_of(connection: Connection) -> str | None:
    """Return the revision the database says it is at; None where Keydesk's own migrations never ran."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant


def is_empty(connection: Connection) -> bool:
    """Return whether none of Keydesk's tables is there."""
    return _none_is_ours(inspect(connection).get_table_names())


def _none_is_ours(names: Iterable[str]) -> bool:
    return set(names).isdisjoint([*metadata.tables, VERSION_TABLE])


def absence(engine: Engine) -> str | None:
    """Return that a SQLite database was not made yet, and how it is; None where it was, and of any other database.

    It only looks. It makes no file, nor does it open one that may be another program's as ours are opened.
    """
    path = sqlite_file(engine)
    if path is None:
        return None
    try:
        path.stat()
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=CONNECT_SECONDS)) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    except FileNotFoundError:
        return f"there is no database at {path}; `keydesk issue NAME` makes it, or set KEYDESK_STORE to where it is"
    except (OSError, sqlite3.Error):
        return None  # what is wrong with it shows when it is used
    if not _none_is_ours(names):
        return None
    return (
        f"the database {path} has no tables of Keydesk; `keydesk issue NAME` makes them, or set KEYDESK_STORE to where "
        "they are"
    )


def prepare(engine: Engine, *, own: bool, create: bool) -> bool:
    """Return whether there is a database with the tables of this code.

    Args:
        own: Whether the engine is ours: then a SQLite database without tables is one that was not made yet.
        create: Make it then, and return True.

    Raises:
        SchemaMismatch: The tables are missing, older or newer. The message names the command to run.
        StoreUnavailable: The file of a SQLite database cannot be made.
    """
    if own and engine.dialect.name == "sqlite":
        if create:
            create_sqlite_file(engine)
        elif absence(engine):
            return False
        with engine.connect() as connection:
            empty = is_empty(connection)
        if empty:
            if not create:
                return False
            create_if_empty(engine)
    with engine.connect() as connection:
        require_current(connection)
    return True


def require_current(connection: Connection) -> None:
    """Return if the tables are those of this code, made by our migrations or by the application's own.

    Raises:
        SchemaMismatch: They are missing, older or newer. The message names the command to run.
    """
    revision = revision_of(connection)
    if revision is not None and revision not in REVISIONS:
        raise SchemaMismatch(
            f"The database is at revision {revision}, which is newer than this Keydesk. "
            "Install the newer version: pip install --upgrade keydesk."
        )
    if revision is not None and revision != REVISIONS[-1]:
        raise SchemaMismatch(f"The database is at revision {revision} and needs {REVISIONS[-1]}. {_UPGRADE}")
    if revision is None:
        _require_columns(connection)


def _require_columns(connection: Connection) -> None:
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    missing = [name for name in metadata.tables if name not in present]
    if missing:
        raise SchemaMismatch(
            f"The database has no table {missing[0]}. {_UPGRADE} If the application's own migrations make the "
            "tables, add keydesk.stores.schema.metadata to them and run those instead."
        )
    for table in metadata.tables.values():
        _require_columns_of(table, {column["name"] for column in inspector.get_columns(table.name)})


def _require_columns_of(table: Table, present: set[str]) -> None:
    missing = [column.name for column in table.columns if column.name not in present]
    if missing:
        raise SchemaMismatch(
            f"The table {table.name} lacks the column {missing[0]}. The application's own migrations made it: "
            "make and run a new one there with keydesk.stores.schema.metadata."
        )


def create_if_empty(engine: Engine) -> None:
    """Make the tables of a new SQLite database. Of several processes that try at once, one does it.

    Raises:
        StoreUnavailable: Its file cannot be made.
    """
    with _alone(engine) as connection:
        if is_empty(connection):
            _run_migrations(connection)


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring the tables to this code's version. Return the revisions before and after.

    Raises:
        SchemaMismatch: The database is newer than this code, or the application's own migrations made the tables.
        StoreUnavailable: Another process goes on migrating, or the file of a SQLite database cannot be made.
    """
    with _alone(engine) as connection:
        before = revision_of(connection)
        if before is None and not is_empty(connection):
            raise SchemaMismatch(
                "The tables were made by the application's own migrations. Upgrade them there: make and run a new "
                "migration with keydesk.stores.schema.metadata."
            )
        if before is not None and before not in REVISIONS:
            require_current(connection)
        _run_migrations(connection)
    return before, REVISIONS[-1]


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Run a block on a connection while no other process migrates this database.

    SQLite and PostgreSQL do it in one transaction: all or nothing. MariaDB and MySQL commit each statement.

    Raises:
        StoreUnavailable: Another process goes on migrating.
    """
    if engine.dialect.name == "sqlite":
        with _alone_on_sqlite(engine) as connection:
            yield connection
    elif engine.dialect.name == "postgresql":
        with transaction(engine) as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK_NUMBER})
            yield connection
    else:
        # Each statement is committed before the lock is let go of, or the next one would find tables of no revision.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # The name of the lock is the server's, so the database is part of it; MySQL takes at most 64 characters.
            lock = "CONCAT('keydesk ', LEFT(SHA1(DATABASE()), 40))"
            if not connection.execute(text(f"SELECT GET_LOCK({lock}, 60)")).scalar():
                raise StoreUnavailable("another process has been migrating this database for a minute; try again later")
            try:
                yield connection
            finally:
                connection.execute(text(f"SELECT RELEASE_LOCK({lock})"))


@contextmanager
def _alone_on_sqlite(engine: Engine) -> Iterator[Connection]:
    create_sqlite_file(engine)
    with engine.connect() as connection:
        driver_connection = connection.connection.driver_connection
        assert driver_connection is not None
        # Python's driver would begin a transaction only at the first row written, after the tables were made.
        driver_connection.isolation_level = None
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.exec_driver_sql("COMMIT")
        finally:
            connection.invalidate()  # rolls back what is not committed; the next one has the driver's usual ways


def _run_migrations(connection: Connection) -> None:
    # Here and not above: Alembic takes a tenth of a second to load, and only a change of the schema needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _one_at_a_time:
        command.upgrade(config, "head")
