"""Databases come to the version of the code, and are refused with the command to run where they have not."""

from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, MetaData, create_engine, text

from keydesk import Desk, open_desk
from keydesk.errors import InvalidField, KeyNotFound, SchemaMismatch
from keydesk.events import KeyUpdated
from keydesk.keys.scopes import Scopes
from keydesk.ports import Change, Page
from keydesk.stores import migration
from keydesk.stores.engines import open_engine
from keydesk.stores.rows import KEY_COLUMNS, SECRET_COLUMNS, key_row, secret_row
from keydesk.stores.schema import REVISIONS, VERSION_TABLE, metadata
from keydesk.stores.sql import SqlStore
from keydesk.testing import ManualClock, new_key
from keydesk.testing.plans import new_plan, put_plan
from keydesk.testing.stores import all_events, event_of, issued

from .processes import run_together, start

KINDS = ["sqlite", "postgres", "mariadb"]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/keys.db"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(open_engine(url), ManualClock(), own=True)
    yield store
    store.close()


def write(store: SqlStore, statement: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(text(statement))


def test_revisions_are_those_of_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_heads() == [REVISIONS[-1]]


def test_upgrade_makes_what_the_metadata_says(store: SqlStore) -> None:
    assert store.upgrade() == (None, REVISIONS[-1])
    with store.engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_upgrade_from_before_plans_keeps_keys_and_events(url: str) -> None:
    """What a database of revision 0003 holds is there afterwards, and can be given plans."""
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    old = MetaData()
    old.reflect(engine)
    key = new_key(owner="acme", scopes=Scopes(["a:b"]))
    row = dict(zip((column.name for column in KEY_COLUMNS), key_row(key), strict=True))
    del row["plan"]
    naive = {name: value.replace(tzinfo=None) for name, value in row.items() if isinstance(value, datetime)}
    row = {**row, **(naive if engine.dialect.name != "postgresql" else {})}
    held = dict(zip((column.name for column in SECRET_COLUMNS), secret_row(key.id, key.secrets[0]), strict=True))
    if engine.dialect.name != "postgresql":
        held["created_at"] = held["created_at"].replace(tzinfo=None)
    with engine.begin() as connection:
        connection.execute(old.tables["keydesk_keys"].insert(), row)
        connection.execute(old.tables["keydesk_secrets"].insert(), held)
    engine.dispose()
    store = SqlStore(open_engine(url), ManualClock(), own=True)
    with pytest.raises(SchemaMismatch, match="keydesk db upgrade"):
        store.find_key(key.id)
    assert store.upgrade() == ("0003", REVISIONS[-1])
    assert store.find_key(key.id) == store.find_by_digest([key.secrets[0].digest]) == key
    put_plan(store, new_plan())
    after = replace(key, plan="gold")
    store.change(key.id, lambda _: Change(after, event_of(after, KeyUpdated)))
    assert store.find_key(key.id) == after
    assert len(all_events(store)) == 2
    store.close()


def test_upgrade_twice_changes_nothing(store: SqlStore) -> None:
    store.upgrade()
    key = new_key()
    store.add([issued(key)])
    assert store.upgrade() == (REVISIONS[-1], REVISIONS[-1])
    assert store.find_key(key.id) == key


def test_upgrade_from_two_processes_at_once(url: str) -> None:
    said = run_together([start("upgrade", url) for _ in range(2)])
    assert sorted(said) == sorted([f"(None, '{REVISIONS[-1]}')", f"('{REVISIONS[-1]}', '{REVISIONS[-1]}')"])


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_not_migrated_names_the_command(kind: str, request: pytest.FixtureRequest) -> None:
    store = SqlStore(open_engine(request.getfixturevalue(f"{kind}_url")), ManualClock(), own=True)
    calls = [
        lambda: store.find_by_digest(["0" * 64]),
        lambda: store.find_key("key_" + "0" * 28),
        lambda: store.add([issued(new_key())]),
        lambda: store.redigest("0" * 64, "1" * 64, ""),
        store.position,
        store.check_chain,
    ]
    for call in calls:
        with pytest.raises(SchemaMismatch, match="keydesk db upgrade"):
            call()
    (check,) = store.checks()
    assert check.passed is False
    assert "keydesk db upgrade" in check.fix
    store.upgrade()  # and then it works, without a restart
    store.add([issued(new_key())])
    assert store.checks()[0].passed
    store.close()


def test_applications_sqlite_without_tables_names_the_command(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    store = SqlStore(engine, ManualClock())
    with pytest.raises(SchemaMismatch, match="keydesk db upgrade"):
        store.find_by_digest(["0" * 64])
    assert store.upgrade() == (None, REVISIONS[-1])
    store.add([issued(new_key())])
    engine.dispose()


def test_newer_database_is_refused(store: SqlStore) -> None:
    store.upgrade()
    write(store, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    store._prepared = False
    with pytest.raises(SchemaMismatch, match=r"9999.*newer than this Keydesk.*pip install --upgrade keydesk"):
        store.add([issued(new_key())])
    with pytest.raises(SchemaMismatch, match="newer than this Keydesk"):
        store.upgrade()
    assert "newer" in store.checks()[0].fix


def test_older_database_names_the_command(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.upgrade()
    monkeypatch.setattr(migration, "REVISIONS", (*REVISIONS, "0999"))
    store._prepared = False
    with pytest.raises(SchemaMismatch, match=r"at revision .* needs 0999.*keydesk db upgrade"):
        store.find_by_digest(["0" * 64])


def test_version_table_without_a_row_names_the_command(store: SqlStore) -> None:
    store.upgrade()
    write(store, f"DELETE FROM {VERSION_TABLE}")
    store._prepared = False
    assert store.find_by_digest(["0" * 64]) is None  # the tables are right; whose they are does not matter


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE keydesk_keys DROP COLUMN revoke_reason", "keydesk_keys lacks the column revoke_reason"),
        ("ALTER TABLE keydesk_secrets DROP COLUMN hint", "keydesk_secrets lacks the column hint"),
        ("DROP TABLE keydesk_chain_head", "no table keydesk_chain_head"),
    ],
)
def test_applications_tables_that_lack_something(url: str, statement: str, words: str) -> None:
    engine = create_engine(url)
    metadata.create_all(engine)
    store = SqlStore(engine, ManualClock())
    write(store, statement)
    with pytest.raises(SchemaMismatch, match=words) as caught:
        store.find_by_digest(["0" * 64])
    assert "keydesk.stores.schema.metadata" in str(caught.value)
    with pytest.raises(SchemaMismatch, match="application's own migrations"):
        store.upgrade()
    engine.dispose()


def test_autogenerated_migration_makes_tables_the_store_takes(url: str, tmp_path: Path) -> None:
    """What Flask-Migrate and `alembic revision --autogenerate` do with our metadata in `target_metadata`."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(
        "from alembic import context\n"
        "from keydesk.stores.schema import metadata\n"
        "connection = context.config.attributes['connection']\n"
        "context.configure(connection=connection, target_metadata=[metadata])\n"
        "with context.begin_transaction():\n"
        "    context.run_migrations()\n"
    )
    template = "${imports if imports else ''}\nfrom alembic import op\nimport sqlalchemy as sa\n"
    template += "import keydesk.stores.schema\nfrom sqlalchemy.dialects import mysql\n"
    template += "revision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n"
    template += "def upgrade():\n    ${upgrades if upgrades else 'pass'}\n"
    template += "def downgrade():\n    ${downgrades if downgrades else 'pass'}\n"
    (folder / "script.py.mako").write_text(template)
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    engine = create_engine(url)
    for step in (
        lambda: command.revision(config, "keys", autogenerate=True),
        lambda: command.upgrade(config, "head"),
        lambda: command.check(config),  # it finds nothing more to do
    ):
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            step()
    store = SqlStore(engine, ManualClock())
    key = new_key(name="漢字", owner="acme")
    store.add([issued(key)])
    assert store.find_key(key.id) == key
    assert len(all_events(store)) == 1
    assert store.checks()[0].passed
    engine.dispose()


# SQLite makes its own tables


def test_first_use_on_sqlite_makes_file_folder_and_tables(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "keys.db"
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    assert not path.exists()  # opening alone writes nothing
    desk.issue(name="first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for beside in path.parent.iterdir():  # the write-ahead log holds what the database holds
        assert stat.S_IMODE(beside.stat().st_mode) == 0o600, beside.name
    desk.close()


def read_everything(desk: Desk) -> None:
    """Read as from an empty store, by every method that only reads or finds nothing to change."""
    key_id = "key_" + "0" * 28
    assert desk.verify("some-imported-secret-0123456789").reason == "invalid"
    assert desk.find_key(key_id) is None
    assert desk.list_keys() == Page((), None)
    assert desk.list_events() == []
    assert desk.check_chain().problem is None
    assert list(desk.prune(ended_for=timedelta(0))) == []
    store = desk.store
    assert isinstance(store, SqlStore)
    assert store.position().number == 0
    assert store.secrets_by_pepper() == {}
    store.redigest("0" * 64, "1" * 64, "")
    for change in (lambda: desk.revoke(key_id), lambda: desk.rotate(key_id), lambda: desk.delete(key_id)):
        with pytest.raises(KeyNotFound):
            change()
    with pytest.raises(InvalidField):
        desk.list_keys(size=0)
    with pytest.raises(InvalidField):
        desk.list_keys(cursor="none of this list")
    (check,) = store.checks()
    assert (check.name, check.passed) == ("store", None)
    assert "keydesk issue" in check.fix


@pytest.mark.parametrize("name", ["keys.db", "new/deep/keys.db", "100% of #keys?.db"])
def test_reading_makes_no_sqlite_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    desk = open_desk({"KEYDESK_STORE": URL.create("sqlite", database=str(path)).render_as_string()})
    read_everything(desk)
    assert list(tmp_path.iterdir()) == []
    assert str(path) in desk.store.checks()[0].found
    absence = desk.store.absence()  # type: ignore[attr-defined]
    assert absence.startswith(f"there is no database at {path}; ")
    other = open_desk({"KEYDESK_STORE": URL.create("sqlite", database=str(path)).render_as_string()})
    issued = other.issue(name="first")
    assert desk.verify(issued.secret).allowed  # at once
    assert desk.store.absence() is None  # type: ignore[attr-defined]
    for each in (desk, other):
        each.close()


def test_reading_makes_no_sqlite_file_of_a_uri(tmp_path: Path) -> None:
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///file:{tmp_path}/100%2525.db?uri=true"})
    read_everything(desk)
    assert list(tmp_path.iterdir()) == []
    issued = desk.issue(name="first")
    assert desk.store.absence() is None  # type: ignore[attr-defined]
    assert desk.verify(issued.secret).allowed
    desk.close()


def test_reading_changes_no_sqlite_file_without_our_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id TEXT)")
    before = path.read_bytes()
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    read_everything(desk)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert "no tables of Keydesk" in desk.store.absence()  # type: ignore[attr-defined]
    issued = desk.issue(name="first")
    assert desk.verify(issued.secret).allowed
    desk.close()


def test_reading_an_empty_sqlite_file_leaves_it_empty(tmp_path: Path) -> None:
    """As one is that another process is about to fill."""
    path = tmp_path / "keys.db"
    path.touch()
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    read_everything(desk)
    assert path.stat().st_size == 0
    desk.close()


def test_upgrade_makes_a_sqlite_file(tmp_path: Path) -> None:
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path}/new/keys.db"})
    assert desk.store.upgrade() == (None, REVISIONS[-1])  # type: ignore[attr-defined]
    assert desk.list_keys().keys == ()
    assert desk.store.checks()[0].passed
    desk.close()


def test_messages_name_a_sqlite_file_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    desk = open_desk({"KEYDESK_STORE": "sqlite:///keys.db"})
    assert f"sqlite:///{tmp_path}/keys.db" in desk.store.checks()[0].found
    desk.issue(name="first")
    assert f"sqlite:///{tmp_path}/keys.db" in desk.store.checks()[0].found
    desk.close()


def test_first_use_on_sqlite_by_processes_at_once(tmp_path: Path) -> None:
    for number in range(2):
        url = f"sqlite:///{tmp_path}/{number}/keys.db"
        run_together([start("first_use", url) for _ in range(4)])
        desk = open_desk({"KEYDESK_STORE": url})
        assert len(desk.list_keys().keys) == 4
        assert desk.check_chain().problem is None
        desk.close()


def test_first_use_on_sqlite_by_threads_of_several_stores(tmp_path: Path) -> None:
    """Several apps in one process: Alembic keeps the migration that runs in a global of its own."""
    from concurrent.futures import ThreadPoolExecutor

    def use(number: int) -> int:
        desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path}/{number}.db"})
        desk.issue(name="first")
        found = len(desk.list_keys().keys)
        desk.close()
        return found

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(use, range(12))) == [1] * 12


def test_first_use_on_sqlite_leaves_a_foreign_table_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE keydesk_keys (id TEXT)"))
    engine.dispose()
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    with pytest.raises(SchemaMismatch, match=re.escape("no table keydesk_secrets")):
        desk.issue(name="first")
    desk.close()


def test_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.touch(mode=0o640)
    path.chmod(0o640)
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{path}"})
    desk.issue(name="first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    desk.close()
