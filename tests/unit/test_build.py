from __future__ import annotations

import builtins
from typing import Any

import pytest

from keydesk import Desk, open_desk
from keydesk.build import build_desk
from keydesk.errors import SettingsError
from keydesk.settings import read_settings
from keydesk.stores.config import ConfigStore
from keydesk.stores.engines import open_engine
from keydesk.stores.memory import MemoryStore
from keydesk.stores.sql import SqlStore
from keydesk.testing import ManualClock


@pytest.mark.parametrize(
    ("given", "store"),
    [
        ({"KEYDESK_STORE": "memory://"}, MemoryStore),
        ({"KEYDESK_STORE": "config://"}, ConfigStore),
        ({"API_KEY": "some-imported-secret-0123456789"}, ConfigStore),
        ({"API_KEYS": {"some-imported-secret-0123456789": "x"}}, ConfigStore),
        ({}, SqlStore),
    ],
)
def test_open_desk(
    given: dict[str, Any], store: type, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.chdir(tmp_path)
    desk = open_desk(given, clock=clock)
    assert type(desk.store) is store
    assert desk.clock is clock
    assert list(tmp_path.iterdir()) == []  # nothing is written before the first use
    desk.close()


def test_open_desk_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYDESK_STORE", "memory://")
    monkeypatch.setenv("KEYDESK_PREFIX", "acme")
    assert open_desk().issue(name="x").secret.startswith("acme_live_")


def test_stand_alone_default_is_sqlite_in_the_instance_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    desk = open_desk({})
    desk.issue(name="x")
    assert (tmp_path / "instance" / "keydesk.db").exists()
    desk.close()


def test_engine_of_the_application_comes_before_the_setting(tmp_path: Any) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    desk = build_desk(read_settings({}, default_store="memory://"), engine=engine)
    assert isinstance(desk.store, SqlStore)
    assert desk.store.engine is engine


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("sqlite:///file::memory:?uri=true", "memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "memory"),
        ("sqlite+aiosqlite:///x.db", r"sqlite\+pysqlite"),
        ("sqlite+nonsense:///x.db", r"sqlite\+pysqlite"),
        ("postgresql+asyncpg://h/db", r"postgresql\+psycopg"),
        ("postgresql+psycopg2://h/db", r"postgresql\+psycopg://"),
        ("postgresql+nonsense://h/db", r"postgresql\+psycopg"),
        ("mysql+mysqldb://h/db", r"mysql\+pymysql"),
        ("postgresql://user:hush-hush@h:port/db", "no database URL"),
        ("postgresql:hush-hush", "no database URL"),
        ("sqlite:keys.db", "no database URL"),
        ("oracle://user:hush-hush@h/db", "oracle"),
        ("https://user:hush-hush@h/db", "https"),
        ("redis://:hush-hush@h", "redis"),
        ("nonsense", "no store|no database URL"),
        ("", ""),
    ],
)
def test_open_desk_of_a_store_there_is_not(url: str, words: str) -> None:
    if not url:
        return
    with pytest.raises(SettingsError, match=words) as caught:
        open_desk({"KEYDESK_STORE": url})
    assert "KEYDESK_STORE" in str(caught.value)
    assert "hush" not in str(caught.value)
    with pytest.raises(SettingsError, match="KEYDESK_STORE"):
        open_engine(url)


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("postgresql://h/db", "psycopg", "postgres"),
        ("mysql://h/db", "pymysql", "mysql"),
        ("mariadb://h/db", "pymysql", "mysql"),
    ],
)
def test_open_desk_without_the_driver_says_what_to_install(
    url: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == driver:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsError, match=rf"driver {driver}; install it: pip install 'keydesk\[{extra}\]'"):
        open_desk({"KEYDESK_STORE": url})


@pytest.mark.parametrize(
    "given",
    [
        {"API_KEYS": {"a b": "x"}},
        {"API_KEYS": {"secret-0123456789": 5}},
        {"API_KEYS": {"secret-0123456789": {"nam": "x"}}},
        {"API_KEY": "a,b"},
        {"API_KEY": "kd_live_wrong"},
        {"API_KEY": "x" * 257},
    ],
)
def test_config_store_that_cannot_be(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="API_KEY or API_KEYS: entry 1"):
        open_desk(given)


@pytest.mark.parametrize(
    "given", [{"API_KEY": ""}, {"API_KEY": None}, {"API_KEYS": {}}, {"API_KEY": "", "API_KEYS": ""}]
)
def test_empty_config_store_lets_nobody_in(given: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    desk: Desk = open_desk(given)
    for text in ("", "x", "None", "default", None):
        assert not desk.verify(text).allowed
    assert "every request that needs a key is refused" in caplog.text
    assert desk.store.checks()[0].passed is False


def test_api_key_beside_another_store_is_told(caplog: pytest.LogCaptureFixture) -> None:
    desk = open_desk({"API_KEY": "some-imported-secret-0123456789", "KEYDESK_STORE": "memory://"})
    assert not desk.verify("some-imported-secret-0123456789").allowed
    assert "API_KEY and API_KEYS are not read" in caplog.text
    assert "some-imported-secret" not in caplog.text


def test_api_key_and_api_keys_together() -> None:
    desk = open_desk({"API_KEY": "first-secret-0123456789abcd", "API_KEYS": {"second-secret-0123456789abc": "Second"}})
    assert {key.name for key in desk.list_keys().keys} == {"default", "Second"}


def test_import_loads_neither_flask_nor_sqlalchemy() -> None:
    import subprocess
    import sys

    code = "import sys, keydesk; keydesk.open_desk({'KEYDESK_STORE': 'memory://'}).issue(name='x'); print([m for m in "
    code += "('flask', 'sqlalchemy', 'alembic', 'yaml', 'click', 'rich', 'pytest') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
