"""Every store, through the contract of `keydesk.testing`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, delete

from keydesk.ports import KeyStore
from keydesk.stores.config import ConfigStore
from keydesk.stores.engines import open_engine
from keydesk.stores.file import FileStore
from keydesk.stores.memory import MemoryStore
from keydesk.stores.schema import metadata
from keydesk.stores.sql import SqlStore
from keydesk.testing import KeyStoreContract, ManualClock, WritableKeyStoreContract
from keydesk.testing.plans import PlanStoreContract
from keydesk.testing.stores import MINT


class TestConfigStore(KeyStoreContract):
    @pytest.fixture
    def holding(self, clock: ManualClock) -> Callable[[Mapping[str, Any]], KeyStore]:
        return lambda given: ConfigStore(None, given, MINT, clock)


class FileContract(KeyStoreContract):
    name: str

    @pytest.fixture
    def holding(self, clock: ManualClock, tmp_path: Path) -> Callable[[Mapping[str, Any]], KeyStore]:
        def write(given: Mapping[str, Any]) -> KeyStore:
            path = tmp_path / self.name
            path.write_text(self.dump(given), encoding="utf-8")
            path.chmod(0o600)
            return FileStore(path, MINT, clock)

        return write

    def dump(self, given: Mapping[str, Any]) -> str:
        raise NotImplementedError


class TestYamlFile(FileContract):
    name = "keys.yml"

    def dump(self, given: Mapping[str, Any]) -> str:
        import yaml

        return str(yaml.safe_dump(dict(given), allow_unicode=True))


class TestTomlFile(FileContract):
    name = "keys.toml"

    def dump(self, given: Mapping[str, Any]) -> str:
        return "\n".join(f"{self.value(text)} = {self.value(value)}" for text, value in given.items())

    def value(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{name} = {self.value(one)}" for name, one in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(self.value, value)) + "]"
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'


class TestMemoryStore(PlanStoreContract, WritableKeyStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> MemoryStore:
        return MemoryStore(clock)


@contextmanager
def emptied(store: SqlStore) -> Iterator[SqlStore]:
    """Give a store without any rows. Emptying tables takes a hundredth of the time that making them does."""
    with store.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    yield store


@pytest.fixture(scope="module")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with tables, to be copied: that is faster than making them for each test."""
    path = tmp_path_factory.mktemp("migrated") / "keys.db"
    store = SqlStore(open_engine(f"sqlite:///{path}"), ManualClock(), own=True)
    store.upgrade()
    store.close()
    return path


class TestSqlite(PlanStoreContract, WritableKeyStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, tmp_path: Path, migrated_file: Path) -> Iterator[SqlStore]:
        shutil.copy(migrated_file, tmp_path / "keys.db")
        store = SqlStore(open_engine(f"sqlite:///{tmp_path}/keys.db"), clock, own=True)
        yield store
        store.close()


class TestApplicationsEngine(PlanStoreContract, WritableKeyStoreContract):
    """An engine as an application makes it, with tables of the application's making."""

    @pytest.fixture
    def store(self, clock: ManualClock, tmp_path: Path) -> Iterator[SqlStore]:
        engine = create_engine(f"sqlite:///{tmp_path}/app.db")
        metadata.create_all(engine)
        store = SqlStore(engine, clock)
        yield store
        store.close()
        with engine.connect():  # `close` has left it open
            pass
        engine.dispose()


@contextmanager
def opened(databases: Any, own: bool, **options: Any) -> Iterator[SqlStore]:
    with databases.fresh() as url:
        if own:
            store = SqlStore(open_engine(url), ManualClock(), own=True)
            store.upgrade()
        else:
            engine = create_engine(url, pool_size=10, **options)
            metadata.create_all(engine)
            store = SqlStore(engine, ManualClock())
        yield store
        store.close()
        store.engine.dispose()


@pytest.fixture(scope="module")
def on_postgres(postgres: Any) -> Iterator[SqlStore]:
    with opened(postgres, own=True) as store:
        yield store


@pytest.fixture(scope="module")
def on_mariadb(mariadb: Any) -> Iterator[SqlStore]:
    with opened(mariadb, own=True) as store:
        yield store


@pytest.fixture(scope="module")
def on_applications_postgres(postgres: Any) -> Iterator[SqlStore]:
    """An application's own engine, with its own isolation level and the tables of its own migrations."""
    with opened(postgres, own=False, isolation_level="REPEATABLE READ") as store:
        yield store


@pytest.fixture(scope="module")
def on_applications_mariadb(mariadb: Any) -> Iterator[SqlStore]:
    with opened(mariadb, own=False) as store:
        yield store


class TestPostgres(PlanStoreContract, WritableKeyStoreContract):
    @pytest.fixture
    def store(self, on_postgres: SqlStore, clock: ManualClock) -> Iterator[SqlStore]:
        on_postgres._clock = clock
        with emptied(on_postgres) as store:
            yield store


class TestMariaDB(PlanStoreContract, WritableKeyStoreContract):
    @pytest.fixture
    def store(self, on_mariadb: SqlStore, clock: ManualClock) -> Iterator[SqlStore]:
        on_mariadb._clock = clock
        with emptied(on_mariadb) as store:
            yield store


class TestApplicationsPostgres(PlanStoreContract, WritableKeyStoreContract):
    @pytest.fixture
    def store(self, on_applications_postgres: SqlStore, clock: ManualClock) -> Iterator[SqlStore]:
        on_applications_postgres._clock = clock
        with emptied(on_applications_postgres) as store:
            yield store


class TestApplicationsMariaDB(PlanStoreContract, WritableKeyStoreContract):
    @pytest.fixture
    def store(self, on_applications_mariadb: SqlStore, clock: ManualClock) -> Iterator[SqlStore]:
        on_applications_mariadb._clock = clock
        with emptied(on_applications_mariadb) as store:
            yield store
