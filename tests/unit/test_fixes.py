"""Where people write keys down, each fix names the edit: made as it says, the check passes."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from keydesk import Check, Desk, open_desk
from keydesk.testing import START, ManualClock
from keydesk.yaml_text import TextLoader

HELD = "held-secret-number-one-0123456789"
NEWER = "held-secret-number-two-0123456789"
OTHER = "held-secret-of-another-0123456789"
KINDS = ("keys.yml", "part.yml", "keys.toml", "API_KEYS")
EDIT = re.compile(r'in (?P<place>\S+), give (?:entry (?P<entry>\d+) of |each of the \d+ entries of )?(?P<edit>".*)')
ALONE = re.compile(r"where its entry is the name alone, write instead of the name: (?P<table>\{.*\})")
MOVE = re.compile(
    r"API_KEY holds no fields: move its secret to API_KEYS, with (?P<table>\{[^}]*\})(?P<all>, and give.*)?"
)
ADD = re.compile(r'.*, or write it into (?P<place>\S+): (?P<entry>".*")')

Entries = dict[str, Any]


def read(place: str, text: str) -> Any:
    """Return what a piece of a file, or of a setting in JSON, says."""
    if place.endswith(".toml"):
        return tomllib.loads(text)
    if place.endswith(".yml"):
        return yaml.load(text, Loader=TextLoader)
    return json.loads(text if text.startswith("{") else f"{{{text}}}")


def read_table(place: str, text: str) -> Any:
    """Return a table that stands in the place of a name."""
    return read(place, f"x = {text}")["x"] if place.endswith(".toml") else read(place, text)


class Written:
    """Keys that are written down, in a file or in the configuration, and the desk that reads them."""

    def __init__(self, kind: str, folder: Path, clock: ManualClock) -> None:
        self.place, self.part, self.clock = kind.replace("part", "keys"), kind == "part.yml", clock
        self._path = folder / self.place
        self.api_key: str | None = None
        self.entries: Entries = {}

    def open(self) -> Desk:
        """Return a desk of the entries as they are now."""
        if self.place == "API_KEYS":
            given = {"API_KEYS": self.entries} | ({"API_KEY": self.api_key} if self.api_key else {})
            return open_desk(given, clock=self.clock)
        if self.place.endswith(".toml"):
            text = "".join(f"{json.dumps(secret)} = {_toml(entry)}\n" for secret, entry in self.entries.items())
        else:
            text = yaml.safe_dump({"api_keys": self.entries} if self.part else self.entries, sort_keys=False)
        self._path.write_text(text, encoding="utf-8")
        return open_desk({"KEYDESK_STORE": f"file:{self.place}"}, clock=self.clock)

    def follow(self, fix: str) -> None:
        """Do what a fix says, as somebody with an editor would who reads nothing else."""
        found = next(filter(None, map(EDIT.fullmatch, fix.splitlines())), None)
        if moved := MOVE.match(fix):
            assert self.api_key
            table = json.loads(moved["table"])
            mates = {s: table | _fields(e) for s, e in self.entries.items() if _fields(e)["name"] == table["name"]}
            assert bool(mates) == bool(moved["all"])
            self.entries |= mates | {self.api_key: table}
            self.api_key = None
        elif added := ADD.match(fix):
            assert added["place"] == self.place
            self.entries |= read(self.place, added["entry"].replace("THE-SECRET", OTHER))
        else:
            assert found, fix
            assert found["place"] == self.place
            name, length = json.JSONDecoder().raw_decode(found["edit"])
            fields = read(self.place, found["edit"][length:].strip())
            alone = next(filter(None, map(ALONE.fullmatch, fix.splitlines())), None)
            self._set(name, fields, alone and read_table(self.place, alone["table"]), int(found["entry"] or 0))
        assert ("started again" in fix) == (self.place == "API_KEYS")

    def _set(self, name: str, fields: Entries, instead: Entries | None, only: int) -> None:
        named = [secret for secret, entry in self.entries.items() if _fields(entry)["name"] == name]
        for number, secret in enumerate(named, 1):
            if only in (0, number):
                entry = self.entries[secret]
                assert isinstance(entry, dict) or instead == {"name": name, **fields}
                self.entries[secret] = entry | fields if isinstance(entry, dict) else instead


def _fields(entry: Any) -> Entries:
    return entry if isinstance(entry, dict) else {"name": entry}


def _toml(entry: Any) -> str:
    if isinstance(entry, dict):
        return "{" + ", ".join(f"{name} = {_toml(value)}" for name, value in entry.items()) + "}"
    return entry.isoformat() if isinstance(entry, datetime) else json.dumps(entry, ensure_ascii=False)


@pytest.fixture(params=KINDS)
def written(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.chdir(tmp_path)
    return Written(request.param, tmp_path, request.getfixturevalue("clock"))


def mend(written: Written, secret: str, **asked: Any) -> list[Check]:
    """Follow every first fix until the secret passes; return the checks that failed on the way."""
    failed = []
    for _ in range(6):
        desk = written.open()
        decision, checks = desk.explain(secret, **asked)
        if decision.allowed:
            return failed
        failing = next(check for check in checks if check.passed is False)
        assert "keydesk update" not in failing.fix
        assert "keydesk enable" not in failing.fix
        assert failing.name not in [check.name for check in failed], "the same check failed again"
        failed.append(failing)
        written.follow(failing.fix)
    raise AssertionError(f"{failed} did not help")


ALL = {"scopes": ["orders:read"], "any_of": ["c:d", "e:f"], "client_address": "2001:db8::7"}
LATE = (START - timedelta(days=1)).isoformat()


@pytest.mark.parametrize("name", ["Mobile app", 'the "old" one', "C:\\keys, {x}", "a: b #c", "ключ"])
@pytest.mark.parametrize(
    ("fields", "failing"),
    [
        ({}, ["scopes"]),
        ({"owner": "acme"}, ["scopes"]),
        ({"scopes": ["orders:*", "x:y"]}, ["scopes"]),
        ({"networks": ["10.0.0.0/8"]}, ["network", "scopes"]),
        ({"networks": ["::1", "2001:db8:1::/48"], "scopes": ["orders:read"]}, ["network", "scopes"]),
        ({"expires_at": LATE, "scopes": ["*"]}, ["status"]),
        ({"expires_at": LATE, "networks": ["10.0.0.1"]}, ["status", "network", "scopes"]),
    ],
)
def test_each_edit_makes_its_check_pass(written: Written, name: str, fields: Entries, failing: list[str]) -> None:
    written.entries = {HELD: {"name": name, **fields}, OTHER: "Another"}
    assert [check.name for check in mend(written, HELD, **ALL)] == failing


def test_an_entry_that_is_a_name_alone_becomes_a_table(written: Written) -> None:
    written.entries = {HELD: "Mobile app", OTHER: "Another"}
    (check,) = mend(written, HELD, **ALL)
    assert check.name == "scopes"
    assert _fields(written.entries[HELD])["scopes"] == ["orders:read", "c:d"]


def test_entries_of_one_name_are_edited_together(written: Written) -> None:
    entry = {"name": "Mobile app", "scopes": ["orders:read"]}
    written.entries = {HELD: entry | {"expires_at": LATE}, OTHER: "Another", NEWER: entry}
    names = [check.name for check in mend(written, NEWER, **ALL)]
    assert names == ["scopes"]
    assert written.entries[HELD]["scopes"] == written.entries[NEWER]["scopes"]


@pytest.mark.parametrize("order", [(HELD, NEWER), (NEWER, HELD)])
def test_secret_that_was_rotated_away(written: Written, order: tuple[str, str]) -> None:
    entries = {HELD: {"name": "Till", "expires_at": LATE}, NEWER: {"name": "Till"}}
    written.entries = {secret: entries[secret] for secret in order}
    _, checks = written.open().explain(HELD)
    number, end = order.index(NEWER) + 1, NEWER[-4:]
    assert f"secrets, number {number} (…{end})" in checks[3].fix or f"secret, number {number} (…{end})" in checks[3].fix
    assert ("newer" in checks[3].fix) == (number == 2)
    assert written.open().verify(NEWER).allowed
    assert [check.name for check in mend(written, HELD)] == ["status"]


def test_no_secret_that_has_ended_is_advised(written: Written) -> None:
    written.entries = {secret: {"name": "Till", "expires_at": LATE} for secret in (HELD, NEWER)}
    _, checks = written.open().explain(HELD)
    assert "use " not in checks[3].fix
    assert [check.name for check in mend(written, HELD)] == ["status"]


def test_secret_that_is_not_written_down(written: Written) -> None:
    written.entries = {HELD: "Till"}
    assert [check.name for check in mend(written, OTHER)] == ["known"]
    assert written.open().require(OTHER).name == "Name of the client"


@pytest.mark.parametrize("ending", [False, True])
def test_single_key_moves_to_the_setting_that_holds_fields(clock: ManualClock, tmp_path: Path, ending: bool) -> None:
    written = Written("API_KEYS", tmp_path, clock)
    written.api_key = HELD
    if ending:
        written.entries = {NEWER: {"name": "default", "expires_at": LATE}}
        assert [check.name for check in mend(written, NEWER)] == ["status"]
    assert [check.name for check in mend(written, HELD, **ALL)] == ["scopes"]
    assert written.api_key is None


def test_edit_reads_like_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, expected in (
        ("keys.yml", 'in keys.yml, give "Mobile app" scopes: [orders:read, orders:write]'),
        ("keys.toml", 'in keys.toml, give "Mobile app" scopes = ["orders:read", "orders:write"]'),
        ("API_KEYS", 'in API_KEYS, give "Mobile app" "scopes": ["orders:read", "orders:write"]'),
    ):
        written = Written(kind, tmp_path, clock)
        written.entries = {HELD: {"name": "Mobile app", "scopes": ["orders:read"]}}
        _, checks = written.open().explain(HELD, scopes=["orders:write"])
        assert checks[5].fix.splitlines()[0] == expected
