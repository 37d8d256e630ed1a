from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from keydesk.errors import SettingsError
from keydesk.settings import NAMES, SETTINGS, Settings, read_environment, read_settings, unknown_names

PEPPER = base64.b64encode(b"p" * 32).decode()


def read(given: dict[str, Any] | None = None, **more: Any) -> Settings:
    return read_settings({**(given or {}), **more}, default_store="sqlite:///default.db")


def test_defaults() -> None:
    settings = read()
    assert {setting.field: getattr(settings, setting.field) for setting in SETTINGS} == {
        "store": "sqlite:///default.db",
        "api_key": None,
        "api_keys": {},
        "prefix": "kd",
        "pepper": None,
        "previous_peppers": (),
        "header": "X-API-Key",
        "query_parameter": None,
        "realm": "api",
        "protect_options": False,
    }


GOOD: list[tuple[str, Any, Any]] = [
    ("KEYDESK_STORE", " memory:// ", "memory://"),
    ("KEYDESK_STORE", "", "sqlite:///default.db"),
    ("KEYDESK_PREFIX", "acme_eu", "acme_eu"),
    ("KEYDESK_PEPPER", PEPPER, b"p" * 32),
    ("KEYDESK_PEPPER", b"q" * 40, b"q" * 40),
    ("KEYDESK_PEPPER", "", None),
    ("KEYDESK_HEADER", "X-Service-Token", "X-Service-Token"),
    ("KEYDESK_QUERY_PARAMETER", "api_key", "api_key"),
    ("KEYDESK_QUERY_PARAMETER", "", None),
    ("KEYDESK_REALM", "my api", "my api"),
    ("KEYDESK_PROTECT_OPTIONS", "yes", True),
    ("KEYDESK_PROTECT_OPTIONS", True, True),
    ("KEYDESK_PROTECT_OPTIONS", 1, True),
    ("KEYDESK_PROTECT_OPTIONS", "Off", False),
    ("API_KEY", "", None),
    ("API_KEY", " x ", "x"),
    ("API_KEYS", '{"a": "A"}', {"a": "A"}),
    ("API_KEYS", "", {}),
    ("API_KEYS", {"a": {"name": "A"}}, {"a": {"name": "A"}}),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_good_value(name: str, value: Any, expected: Any) -> None:
    field = next(setting.field for setting in SETTINGS if setting.name == name)
    assert getattr(read({name: value}), field) == expected


BAD: list[tuple[str, Any]] = [
    ("KEYDESK_STORE", 5),
    ("KEYDESK_STORE", "https://example.com/keys"),
    ("KEYDESK_STORE", "redis://localhost"),
    ("KEYDESK_STORE", "keys.yml"),
    ("KEYDESK_STORE", "file:keys.json"),
    ("KEYDESK_PREFIX", "kd_"),
    ("KEYDESK_PREFIX", 5),
    ("KEYDESK_PEPPER", "short"),
    ("KEYDESK_PEPPER", "é" * 44),
    ("KEYDESK_PEPPER", b"short"),
    ("KEYDESK_PEPPER", 5),
    ("KEYDESK_PREVIOUS_PEPPERS", 5),
    ("KEYDESK_PREVIOUS_PEPPERS", ["short"]),
    ("KEYDESK_PREVIOUS_PEPPERS", [PEPPER]),
    ("KEYDESK_HEADER", "X API Key"),
    ("KEYDESK_HEADER", "Cookie"),
    ("KEYDESK_HEADER", "authorization"),
    ("KEYDESK_HEADER", ""),
    ("KEYDESK_HEADER", "X\r\nY"),
    ("KEYDESK_QUERY_PARAMETER", "a b"),
    ("KEYDESK_QUERY_PARAMETER", "a&b"),
    ("KEYDESK_REALM", 'a"b'),
    ("KEYDESK_REALM", ""),
    ("KEYDESK_REALM", "a\r\nSet-Cookie: x"),
    ("KEYDESK_PROTECT_OPTIONS", "perhaps"),
    ("API_KEY", 5),
    ("API_KEYS", "{"),
    ("API_KEYS", "[" * 100_000),
    ("API_KEYS", '["a"]'),
    ("API_KEYS", {5: "A"}),
    ("API_KEYS", 5),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_value_names_the_setting(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        read({name: value})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(name)
    assert caught.value.problems[0] in str(caught.value)


def test_all_problems_at_once() -> None:
    given = {
        "KEYDESK_STORE": "https://example.com",
        "KEYDESK_PREFIX": "9",
        "KEYDESK_PREVIOUS_PEPPERS": [PEPPER],
        "KEYDESK_HEADER": "Cookie",
        "KEYDESK_REALM": "",
        "KEYDESK_PROTECT_OPTIONS": "perhaps",
        "KEYDESK_STROE": "memory://",
        "API_KEYS": 5,
    }
    with pytest.raises(SettingsError) as caught:
        read(given)
    assert {problem.split()[0] for problem in caught.value.problems} == set(given)


def test_messages_show_no_secret_value() -> None:
    with pytest.raises(SettingsError) as caught:
        read(
            KEYDESK_STORE="https://user:hush-hush@host/db",
            KEYDESK_PEPPER="hush-hush",
            KEYDESK_PREVIOUS_PEPPERS="hush-hush",
            API_KEY=["hush-hush"],
            API_KEYS='{"hush-hush": ',
        )
    assert len(caught.value.problems) == 5
    assert "hush" not in str(caught.value)


def test_previous_peppers_in_each_form() -> None:
    other = base64.b64encode(b"o" * 32).decode()
    for value in (f"{PEPPER},{other}", f" {PEPPER} , {other}, ", [PEPPER, other], (b"p" * 32, b"o" * 32)):
        settings = read(KEYDESK_PEPPER=base64.b64encode(b"c" * 32).decode(), KEYDESK_PREVIOUS_PEPPERS=value)
        assert settings.previous_peppers == (b"p" * 32, b"o" * 32)


@pytest.mark.parametrize("given", [{"API_KEY": "x"}, {"API_KEY": ""}, {"API_KEY": None}, {"API_KEYS": {}}])
def test_api_key_without_a_store_is_the_config_store(given: dict[str, Any]) -> None:
    assert read(given).store == "config://"


def test_api_key_with_a_store_keeps_the_store() -> None:
    assert read(API_KEY="x", KEYDESK_STORE="memory://").store == "memory://"


@pytest.mark.parametrize(
    ("name", "near"),
    [("KEYDESK_STROE", "KEYDESK_STORE"), ("KEYDESK_PEPER", "KEYDESK_PEPPER"), ("KEYDESK_HEADERS", "KEYDESK_HEADER")],
)
def test_near_miss(name: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is no setting; did you mean {near}"):
        read({name: "x"})


def test_names_of_others_are_passed_over() -> None:
    read({"SECRET_KEY": "x", "DEBUG": True, 5: "x"})  # type: ignore[dict-item]
    with pytest.raises(SettingsError, match=r"KEYDESK_ZZZZZZ is no setting$"):
        read({"KEYDESK_ZZZZZZ": 1})


# The environment and the TOML file


def test_environment_over_file(tmp_path: Path) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_text('KEYDESK_STORE = "memory://"\nKEYDESK_PREFIX = "acme"\nKEYDESK_PROTECT_OPTIONS = true\n')
    environ = {"KEYDESK_CONFIG": str(path), "KEYDESK_PREFIX": "other", "PATH": "/bin"}
    assert read_environment(environ) == {
        "KEYDESK_STORE": "memory://",
        "KEYDESK_PREFIX": "other",
        "KEYDESK_PROTECT_OPTIONS": True,
    }


def test_environment_of_kubernetes_is_passed_over() -> None:
    environ = {"KEYDESK_PORT": "tcp://10.0.0.1:80", "KEYDESK_SERVICE_HOST": "10.0.0.1", "KEYDESK_STORE": "memory://"}
    assert read_environment(environ) == {"KEYDESK_STORE": "memory://"}
    assert unknown_names({**environ, "KEYDESK_CONFIG": "x"}) == ["KEYDESK_PORT", "KEYDESK_SERVICE_HOST"]


def test_environment_is_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "KEYDESK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEYDESK_REALM", "here")
    assert read_environment() == {"KEYDESK_REALM": "here"}


@pytest.mark.parametrize("content", [b"KEYDESK_STORE = hush", b"\xff", b"a = 1\na = 2"])
def test_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"KEYDESK_CONFIG names .*keydesk\.toml.*no TOML in UTF-8") as caught:
        read_environment({"KEYDESK_CONFIG": str(path)})
    assert "hush" not in str(caught.value)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsError, match="KEYDESK_CONFIG names"):
            read_environment({"KEYDESK_CONFIG": str(path)})


def test_file_with_a_near_miss(tmp_path: Path) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_text('KEYDESK_STROE = "memory://"\n')
    with pytest.raises(SettingsError, match="did you mean KEYDESK_STORE"):
        read(read_environment({"KEYDESK_CONFIG": str(path)}))
