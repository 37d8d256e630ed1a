from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from keydesk.environment import read_environment, unknown_names
from keydesk.errors import MAX_PROBLEMS, SettingsError
from keydesk.keys.limits import Limit
from keydesk.keys.networks import Networks
from keydesk.settings import (
    NAMES,
    SETTINGS,
    Given,
    Settings,
    read_settings,
    survey_settings,
)

PEPPER = base64.b64encode(b"p" * 32).decode()


def read(given: dict[str, Any] | Given | None = None, **more: Any) -> Settings:
    return read_settings(
        {**given, **more} if isinstance(given, dict) else given or more, default_store="sqlite:///default.db"
    )


def test_defaults() -> None:
    settings = read()
    assert {setting.field: getattr(settings, setting.field) for setting in SETTINGS} == {
        "store": "sqlite:///default.db",
        "server_key": None,
        "api_key": None,
        "api_keys": {},
        "prefix": "kd",
        "pepper": None,
        "previous_peppers": (),
        "header": "X-API-Key",
        "query_parameter": None,
        "realm": "api",
        "protect_options": False,
        "max_staleness": None,
        "outage_grace": 300,
        "cache_keys": 10_000,
        "limiter": "",
        "limiter_failure": "open",
        "default_limits": (),
        "usage_flush": 2,
        "usage_minutes_kept": 48,
        "usage_hours_kept": 90,
        "trusted_proxies": Networks(),
        "admin_header": None,
        "admins": (),
        "development": False,
        "access_log": False,
        "metrics_folder": None,
    }


GOOD: list[tuple[str, Any, Any]] = [
    ("KEYDESK_STORE", " memory:// ", "memory://"),
    ("KEYDESK_STORE", "", "sqlite:///default.db"),
    ("KEYDESK_SERVER_KEY", " a-secret ", "a-secret"),
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
    ("KEYDESK_MAX_STALENESS_SECONDS", "0", 0),
    ("KEYDESK_MAX_STALENESS_SECONDS", "0.25", 0.25),
    ("KEYDESK_MAX_STALENESS_SECONDS", "", None),
    ("KEYDESK_OUTAGE_GRACE_SECONDS", 0, 0),
    ("KEYDESK_CACHE_KEYS", "0", 0),
    ("KEYDESK_CACHE_KEYS", 5.0, 5),
    ("KEYDESK_LIMITER", "memory://", "memory://"),
    ("KEYDESK_LIMITER", "sqlite:////var/lib/app/limits.db", "sqlite:////var/lib/app/limits.db"),
    ("KEYDESK_LIMITER", " redis+cluster://a:7000 ", "redis+cluster://a:7000"),
    ("KEYDESK_LIMITER_FAILURE", "Closed", "closed"),
    ("KEYDESK_LIMITER_FAILURE", "", "open"),
    ("KEYDESK_DEFAULT_LIMITS", "100/minute, 10000/day", (Limit(100, 60), Limit(10_000, 86_400))),
    ("KEYDESK_DEFAULT_LIMITS", ["5 per 10 seconds"], (Limit(5, 10),)),
    ("KEYDESK_DEFAULT_LIMITS", "", ()),
    ("KEYDESK_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1", Networks(["10.0.0.0/8", "192.0.2.1"])),
    ("KEYDESK_TRUSTED_PROXIES", ["2001:db8::/32"], Networks(["2001:db8::/32"])),
    ("KEYDESK_TRUSTED_PROXIES", "", Networks()),
    ("KEYDESK_ADMIN_HEADER", "", None),
    ("KEYDESK_ADMINS", "ada@desk.example, bob", ("ada@desk.example", "bob")),
    ("KEYDESK_ADMINS", ["ada@desk.example"], ("ada@desk.example",)),
    ("KEYDESK_METRICS_FOLDER", "/", "/"),
    ("KEYDESK_METRICS_FOLDER", "", None),
    ("KEYDESK_USAGE_FLUSH_SECONDS", 0.5, 0.5),
    ("KEYDESK_USAGE_MINUTES_KEPT_HOURS", "72", 72),
    ("KEYDESK_USAGE_HOURS_KEPT_DAYS", 1, 1),
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
    ("KEYDESK_STORE", "https://example.com/keys?all"),
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
    ("API_KEYS", 5),
    ("KEYDESK_STORE", "file"),
    ("KEYDESK_STORE", "file+x:keys.yml"),
    ("KEYDESK_STORE", "file:a\0b.yml"),
    ("KEYDESK_REALM", 5),
    ("KEYDESK_MAX_STALENESS_SECONDS", -1),
    ("KEYDESK_MAX_STALENESS_SECONDS", "nan"),
    ("KEYDESK_MAX_STALENESS_SECONDS", True),
    ("KEYDESK_OUTAGE_GRACE_SECONDS", "5 minutes"),
    ("KEYDESK_OUTAGE_GRACE_SECONDS", "inf"),
    ("KEYDESK_CACHE_KEYS", 1.5),
    ("KEYDESK_CACHE_KEYS", 10**7),
    ("KEYDESK_CACHE_KEYS", [1]),
    ("KEYDESK_LIMITER", 5),
    ("KEYDESK_LIMITER", "memory"),
    ("KEYDESK_LIMITER", "memory://x"),
    ("KEYDESK_LIMITER", "sqlite://"),
    ("KEYDESK_LIMITER", "sqlite:///"),
    ("KEYDESK_LIMITER", "sqlite://limits.db"),
    ("KEYDESK_LIMITER", "memcached://a"),
    ("KEYDESK_LIMITER", "redis://a\nb"),
    ("KEYDESK_LIMITER_FAILURE", "ajar"),
    ("KEYDESK_LIMITER_FAILURE", 5),
    ("KEYDESK_DEFAULT_LIMITS", "100"),
    ("KEYDESK_TRUSTED_PROXIES", "0.0.0.0/0"),
    ("KEYDESK_METRICS_FOLDER", "/nowhere/at/all"),
    ("KEYDESK_METRICS_FOLDER", "/tmp\0"),
    ("KEYDESK_TRUSTED_PROXIES", "the proxy"),
    ("KEYDESK_TRUSTED_PROXIES", 5),
    ("KEYDESK_ADMIN_HEADER", "X User"),
    ("KEYDESK_ADMINS", 5),
    ("KEYDESK_ADMINS", ["a\nb"]),
    ("KEYDESK_DEFAULT_LIMITS", ["100/fortnight"]),
    ("KEYDESK_DEFAULT_LIMITS", 5),
    ("KEYDESK_USAGE_FLUSH_SECONDS", 0),
    ("KEYDESK_USAGE_MINUTES_KEPT_HOURS", 0),
    ("KEYDESK_USAGE_MINUTES_KEPT_HOURS", 721),
    ("KEYDESK_USAGE_MINUTES_KEPT_HOURS", 1.5),
    ("KEYDESK_USAGE_HOURS_KEPT_DAYS", 0),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_value_names_the_setting_and_the_fix(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        read({name: value})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(name)
    assert "; " in caught.value.problems[0]  # what is wrong; what to write instead
    assert caught.value.problems[0] in str(caught.value)


@pytest.mark.parametrize("store", ["memory", "config"])
@pytest.mark.parametrize("ending", ["", ":", ":/", "://something-hush", ":something-hush", ":///", "+x://"])
def test_store_without_a_place_has_one_form(store: str, ending: str) -> None:
    with pytest.raises(SettingsError, match=rf"^[^;]*KEYDESK_STORE [^;]*; write {store}://") as caught:
        read(KEYDESK_STORE=store + ending)
    assert "hush" not in str(caught.value)


def test_every_wrong_pepper_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        read(KEYDESK_PEPPER=PEPPER, KEYDESK_PREVIOUS_PEPPERS=["hush-hush", PEPPER, 5, b"short"])
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "KEYDESK_PREVIOUS_PEPPERS, number 1 is not base64",
        "KEYDESK_PREVIOUS_PEPPERS, number 3 must be text, not int",
        "KEYDESK_PREVIOUS_PEPPERS, number 4 has 5 bytes and needs at least 32",
    ]


def test_bytes_are_one_previous_pepper() -> None:
    assert read(KEYDESK_PEPPER=PEPPER, KEYDESK_PREVIOUS_PEPPERS=b"o" * 32).previous_peppers == (b"o" * 32,)


@pytest.mark.parametrize(
    "name", ["KEYDESK_HEADER", "KEYDESK_PREFIX", "KEYDESK_QUERY_PARAMETER", "KEYDESK_PROTECT_OPTIONS"]
)
def test_secret_in_the_wrong_setting_is_not_repeated(name: str) -> None:
    body = "A1b2C3d4" * 4 + "E5f6G7"
    with pytest.raises(SettingsError) as caught:
        read({name: f"my_shop_live_{body} " + "\n;"})
    assert body[:20] not in str(caught.value)


def test_all_problems_at_once() -> None:
    given = {
        "KEYDESK_STORE": "ftp://example.com",
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
    with pytest.raises(SettingsError, match=r"KEYDESK_ZZZZZZ is no setting of this version; take it out$"):
        read({"KEYDESK_ZZZZZZ": 1})


# Settings that another version has, and what Kubernetes makes of services called keydesk and keydesk-store.
NOT_NEAR = [
    "KEYDESK_PORT", "KEYDESK_SERVICE_HOST", "KEYDESK_SERVICE_PORT", "KEYDESK_SERVICE_PORT_HTTP", "KEYDESK_PORT_80_TCP",
    "KEYDESK_PORT_80_TCP_PROTO", "KEYDESK_PORT_80_TCP_PORT", "KEYDESK_PORT_80_TCP_ADDR", "KEYDESK_STORE_SERVICE_HOST",
    "KEYDESK_STORE_PORT", "KEYDESK_STORE_PORT_80_TCP",
]  # fmt: skip


@pytest.mark.parametrize("name", NOT_NEAR)
def test_name_that_is_not_near_gets_no_guess(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read({name: "x"})
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["keydesk_store", "Keydesk_Store"])
def test_name_in_another_case(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is no setting; did you mean KEYDESK_STORE?"):
        read({name: "x"})


def test_name_of_the_file_is_read_from_the_environment_only() -> None:
    with pytest.raises(SettingsError, match=r"KEYDESK_CONFIG is read from the environment only; ") as caught:
        read({"KEYDESK_CONFIG": "keydesk.toml"})
    assert len(caught.value.problems) == 1


# The environment and the TOML file


def test_environment_over_file(tmp_path: Path) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_text('KEYDESK_STORE = "memory://"\nKEYDESK_PREFIX = "acme"\nKEYDESK_PROTECT_OPTIONS = true\n')
    environ = {"KEYDESK_CONFIG": str(path), "KEYDESK_PREFIX": "other", "PATH": "/bin"}
    assert read_environment(environ).values == {
        "KEYDESK_STORE": "memory://",
        "KEYDESK_PREFIX": "other",
        "KEYDESK_PROTECT_OPTIONS": True,
    }


def test_environment_of_kubernetes_is_passed_over() -> None:
    environ = {"KEYDESK_PORT": "tcp://10.0.0.1:80", "KEYDESK_SERVICE_HOST": "10.0.0.1", "KEYDESK_STORE": "memory://"}
    assert read_environment(environ).values == {"KEYDESK_STORE": "memory://"}
    assert unknown_names({**environ, "KEYDESK_CONFIG": "x"}) == ["KEYDESK_PORT", "KEYDESK_SERVICE_HOST"]


def test_near_miss_in_the_environment_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is only told: a start must not fail for a name that somebody else chose."""
    environ = dict.fromkeys(["KEYDESK_HEADRE", "keydesk_realm", "KEYDESK_API_KEYS", *NOT_NEAR], "hush")
    for _ in range(3):
        assert read_environment(environ).values == {}
    assert read(read_environment(environ)).header == "X-API-Key"
    assert [record.getMessage() for record in caplog.records] == [
        "KEYDESK_HEADRE in the environment is not read; did you mean KEYDESK_HEADER?",
        "keydesk_realm in the environment is not read; did you mean KEYDESK_REALM?",
        "KEYDESK_API_KEYS in the environment is not read; did you mean API_KEYS?",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_environment_is_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "KEYDESK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEYDESK_REALM", "here")
    assert read_environment().values == {"KEYDESK_REALM": "here"}


@pytest.mark.parametrize("content", [b"KEYDESK_STORE = hush", b"\xff", b"a = 1\na = 2", b"a = " + b"[" * 50_000])
def test_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"KEYDESK_CONFIG names .*keydesk\.toml.*no TOML in UTF-8") as caught:
        read(read_environment({"KEYDESK_CONFIG": str(path)}))
    assert "hush" not in str(caught.value)


def test_file_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_text('KEYDESK_REALM = "x"\nKEYDESK_STORE = hush\n')
    with pytest.raises(SettingsError, match=r"line 2; "):
        read(read_environment({"KEYDESK_CONFIG": str(path)}))


def test_file_with_the_mark_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_bytes(b'\xef\xbb\xbfKEYDESK_REALM = "x"\r\n')
    assert read_environment({"KEYDESK_CONFIG": str(path)}).values == {"KEYDESK_REALM": "x"}


def test_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsError, match=r"KEYDESK_CONFIG names [^;]*; "):
            read(read_environment({"KEYDESK_CONFIG": str(path)}))


def test_file_that_is_not_there_and_a_wrong_environment(tmp_path: Path) -> None:
    environ = {"KEYDESK_CONFIG": str(tmp_path / "none.toml"), "KEYDESK_HEADER": "Cookie", "KEYDESK_REALM": ""}
    with pytest.raises(SettingsError) as caught:
        read(read_environment(environ))
    assert {problem.split()[0] for problem in caught.value.problems} == set(environ)


def test_file_with_a_near_miss(tmp_path: Path) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_text('KEYDESK_STROE = "memory://"\n')
    with pytest.raises(SettingsError, match="did you mean KEYDESK_STORE"):
        read(read_environment({"KEYDESK_CONFIG": str(path)}))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("keydesk_store", "KEYDESK_STORE"),
        ("store", "KEYDESK_STORE"),
        ("keydesk-pepper", "KEYDESK_PEPPER"),
        ("api_key", "API_KEY"),
        ("ApiKeys", "API_KEYS"),
        ("KEYDSEK_REALM", "KEYDESK_REALM"),
    ],
)
def test_file_with_a_name_in_another_form(tmp_path: Path, name: str, near: str) -> None:
    """The file is only ours: nothing in it is passed over."""
    path = tmp_path / "keydesk.toml"
    path.write_text(f'{name} = "x"\n')
    with pytest.raises(
        SettingsError, match=rf"{name} in the file .*keydesk\.toml is no setting; did you mean {near}\?"
    ):
        read(read_environment({"KEYDESK_CONFIG": str(path)}))


def test_file_with_names_of_others(tmp_path: Path) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_text('hunter-two-hush = "User 1"\nKEYDESK_CONFIG = "x"\nKEYDESK_ZZZZZZ = "x"\nKEYDESK_REALM = ""\n')
    with pytest.raises(SettingsError) as caught:
        read(read_environment({"KEYDESK_CONFIG": str(path)}))
    problems = [problem.replace(str(path), "FILE") for problem in caught.value.problems]
    assert problems[:3] == [
        "entry 1 of the file FILE is no setting; take it out, or write it under [API_KEYS] if it is a key",
        "KEYDESK_CONFIG is read from the environment only; take it out of the file FILE",
        "KEYDESK_ZZZZZZ in the file FILE is no setting of this version; take it out",
    ]
    assert problems[3].startswith("KEYDESK_REALM ")
    assert len(problems) == 4


def test_file_of_many_names_of_others(tmp_path: Path) -> None:
    path = tmp_path / "keydesk.toml"
    path.write_text("".join(f'secret-{number} = "x"\n' for number in range(100)))
    with pytest.raises(SettingsError) as caught:
        read(read_environment({"KEYDESK_CONFIG": str(path)}))
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    assert caught.value.problems[-1].startswith("80 more ")


def test_survey_gives_what_can_be_used() -> None:
    """So that the store can be looked at, too, before anything is reported."""
    settings, problems = survey_settings({"KEYDESK_HEADER": "Cookie", "API_KEY": "x"}, default_store="memory://")
    assert len(problems) == 1
    assert (settings.header, settings.api_key, settings.store) == ("X-API-Key", "x", "config://")
