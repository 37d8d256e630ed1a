from __future__ import annotations

import builtins
from typing import Any

import pytest

from keydesk import Desk, open_desk
from keydesk.build import build_desk
from keydesk.errors import MAX_PROBLEMS, SettingsError
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
        ("sqlite:///x.db?timeout=hush-hush", r"option behind its \?"),
        ("mysql://h/db?local_infile=hush-hush", r"option behind its \?"),
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
    with pytest.raises((SettingsError, ValueError)):
        open_engine(url)


def hide_driver(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """As if a package were not installed."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == driver:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


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
    hide_driver(monkeypatch, driver)
    with pytest.raises(SettingsError, match=rf"driver {driver}; install it: pip install 'keydesk\[{extra}\]'"):
        open_desk({"KEYDESK_STORE": url})


@pytest.mark.parametrize(
    "given",
    [
        {"API_KEYS": {"a b": "x"}},
        {"API_KEYS": {"secret-0123456789": 5}},
        {"API_KEYS": {"secret-0123456789": {"nam": "x"}}},
        {"API_KEYS": {5: "A"}},
        {"API_KEYS": {"": "A"}},
        {"API_KEY": "a,b"},
        {"API_KEY": "kd_live_wrong"},
        {"API_KEY": "x" * 257},
    ],
)
def test_config_store_that_cannot_be(given: dict[str, Any]) -> None:
    place = "API_KEY" if "API_KEY" in given else "API_KEYS, entry 1"
    with pytest.raises(SettingsError, match=rf"- {place}: \w+: [^;]*; "):
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


# Everything at once

SECRET = "some-imported-secret-0123456789"


def problems_of(given: dict[str, Any], **more: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        open_desk({**given, **more})
    for problem in caught.value.problems:
        assert "; " in problem, f"says no fix: {problem}"
    assert SECRET not in str(caught.value)
    return [problem.partition(";")[0] for problem in caught.value.problems]


def test_every_wrong_setting_and_every_wrong_entry() -> None:
    given = {
        "KEYDESK_HEADER": "Cookie",
        "KEYDESK_STROE": "x",
        "API_KEY": "a,b",
        "API_KEYS": {
            SECRET: "Good",
            "a b": "Two",
            SECRET + "3": {"name": "Three", "scope": "a:b"},
            "sha256:abc": "Four",
            SECRET + "5": {"name": "Twice"},
            SECRET + "6": {"name": "Twice", "scopes": ["a:b"]},
        },
    }
    assert problems_of(given) == [
        "KEYDESK_STROE is no setting",
        "KEYDESK_HEADER cannot be Cookie: Authorization: Bearer is always read",
        "API_KEY: secret: cannot be sent in a header",
        "API_KEYS, entry 2: secret: cannot be sent in a header",
        "API_KEYS, entry 3: scope: is no field of a key",
        "API_KEYS, entry 4: sha256: is not a SHA-256",
        "API_KEYS, entry 5: entries named 'Twice': differ",
    ]


def test_wrong_entries_are_counted_from_the_twenty_first_on() -> None:
    problems = problems_of({"API_KEYS": {f"{number},": "x" for number in range(50)}})
    assert problems[MAX_PROBLEMS - 1].startswith(f"API_KEYS, entry {MAX_PROBLEMS}: ")
    assert problems[MAX_PROBLEMS:] == ["30 more entries cannot be used"]


def test_one_secret_in_both_settings_is_one_key() -> None:
    desk = open_desk({"API_KEY": SECRET, "API_KEYS": {SECRET: "Named"}})
    assert [key.name for key in desk.list_keys().keys] == ["Named"]


def test_wrong_settings_and_a_wrong_key_file(tmp_path: Any) -> None:
    path = tmp_path / "keys.yml"
    path.write_text("a,b: One\nc,d: Two\n")
    problems = problems_of({"KEYDESK_STORE": f"file:{path}", "KEYDESK_REALM": ""})
    assert [problem.split(":")[0].replace(str(path), "FILE") for problem in problems] == [
        "KEYDESK_REALM must be 1 to 64 printable ASCII characters without quotes and backslashes",
        "KEYDESK_STORE, FILE, entry 1",
        "KEYDESK_STORE, FILE, entry 2",
    ]


def test_wrong_settings_and_no_key_file(tmp_path: Any) -> None:
    problems = problems_of({"KEYDESK_STORE": f"file:{tmp_path}/keys.yml", "KEYDESK_REALM": ""})
    assert len(problems) == 2
    assert "No such file" in problems[1]


@pytest.mark.parametrize("url", ["postgresql://h:port/db", "oracle://h/db", "sqlite+aiosqlite:///x.db", "sqlite://"])
def test_wrong_settings_and_a_wrong_database(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_desk({"KEYDESK_STORE": url, "KEYDESK_HEADER": "Cookie"})
    assert {problem.split()[0] for problem in caught.value.problems} == {"KEYDESK_STORE", "KEYDESK_HEADER"}


def test_wrong_settings_and_a_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_driver(monkeypatch, "psycopg")
    problems = problems_of({"KEYDESK_STORE": "postgresql://h/db", "KEYDESK_PREFIX": "9"})
    assert [problem.split()[0] for problem in problems] == ["KEYDESK_PREFIX", "KEYDESK_STORE"]


def test_wrong_store_and_wrong_entries() -> None:
    """The store that was meant may be the configuration: its entries are looked at, too."""
    problems = problems_of({"KEYDESK_STORE": "config", "API_KEYS": {"a,b": "x", SECRET: "y"}})
    assert [problem.split()[0] for problem in problems] == ["KEYDESK_STORE", "API_KEYS,"]


def test_wrong_prefix_adds_no_problem_to_good_entries() -> None:
    """Set to something else on purpose, perhaps, since another program's secrets begin with kd_."""
    problems = problems_of({"KEYDESK_PREFIX": "9", "API_KEYS": {"kd_" + SECRET: "x"}})
    assert [problem.split()[0] for problem in problems] == ["KEYDESK_PREFIX"]


def test_wrong_settings_open_nothing(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    given = {"KEYDESK_STORE": f"sqlite:///{tmp_path}/keys.db", "KEYDESK_REALM": "", "API_KEY": SECRET}
    assert len(problems_of(given)) == 1
    assert list(tmp_path.iterdir()) == []
    assert len(problems_of({"API_KEYS": "{"})) == 1
    assert caplog.text == ""  # what is said of keys in force would not be true


def test_unreadable_settings_file_and_wrong_entries(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYDESK_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("KEYDESK_HEADER", "Cookie")
    monkeypatch.setenv("API_KEYS", '{"a,b": "x", "c,d": "y"}')
    with pytest.raises(SettingsError) as caught:
        open_desk()
    assert [problem.split(":")[0].split()[0] for problem in caught.value.problems] == [
        "KEYDESK_CONFIG",
        "KEYDESK_HEADER",
        "API_KEYS,",
        "API_KEYS,",
    ]


def test_import_loads_neither_flask_nor_sqlalchemy() -> None:
    import subprocess
    import sys

    code = "import sys, keydesk; keydesk.open_desk({'KEYDESK_STORE': 'memory://'}).issue(name='x'); print([m for m in "
    code += "('flask', 'sqlalchemy', 'alembic', 'yaml', 'click', 'rich', 'pytest') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_database_in_memory_of_the_application_is_not_written_to_by_a_thread(clock: ManualClock) -> None:
    """It has one connection for all threads: what a thread commits there is somebody else's transaction."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    from keydesk.metering.memory import MemoryUsage
    from keydesk.stores.schema import metadata

    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(engine)
    desk = build_desk(read_settings({}, default_store="memory://"), engine=engine, clock=clock)
    assert isinstance(desk.usage_store, MemoryUsage)
    issued = desk.issue(name="x")
    with engine.connect() as connection:
        connection.exec_driver_sql("UPDATE keydesk_keys SET name = 'not yet'")
        desk.verify(issued.secret)
        assert desk.usage().totals() == {"allowed": 1}
        connection.rollback()
    assert desk.get_key(issued.key.id).name == "x"
    desk.close()
    engine.dispose()
