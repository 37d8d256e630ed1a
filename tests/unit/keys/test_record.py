from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from keydesk.errors import InvalidField
from keydesk.keys.limits import Limit
from keydesk.keys.networks import Networks
from keydesk.keys.record import KeyFields, Secret, Status, key_id_of_name, mint_key_id, parse_fields, update_fields
from keydesk.keys.scopes import Scopes
from keydesk.testing import START, new_key

TICK = timedelta(microseconds=1)
NOON_EAST = datetime(2027, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.ACTIVE),
        ({"expires_at": START + TICK}, Status.ACTIVE),
        ({"expires_at": START}, Status.EXPIRED),  # the very instant
        ({"expires_at": START - TICK}, Status.EXPIRED),
        ({"disabled_at": START, "expires_at": START}, Status.DISABLED),
        ({"disabled_at": START + TICK}, Status.DISABLED),
        ({"revoked_at": START, "disabled_at": START, "expires_at": START}, Status.REVOKED),
    ],
)
def test_status_at(changes: dict[str, Any], status: Status) -> None:
    assert new_key(**changes).status_at(START) is status


def test_secret_expired_at_the_very_instant() -> None:
    secret = Secret(1, "0" * 64, "", "…", START, START)
    assert not secret.expired_at(START - TICK)
    assert secret.expired_at(START)
    assert not Secret(1, "0" * 64, "", "…", START).expired_at(START)


def test_find_secret() -> None:
    key = new_key(secrets=3)
    assert key.find_secret([key.secrets[1].digest]) is key.secrets[1]
    assert key.find_secret(iter(["0" * 64, key.secrets[2].digest])) is key.secrets[2]
    assert key.find_secret([]) is None


def test_mint_key_id_sorts_by_time() -> None:
    ids = [mint_key_id(START + timedelta(milliseconds=n)) for n in range(50)]
    assert ids == sorted(ids)
    assert len({mint_key_id(START) for _ in range(1000)}) == 1000
    assert all(len(key_id) == 32 for key_id in ids)


def test_key_id_of_name_is_the_same_everywhere() -> None:
    assert re.fullmatch(r"key_[0-9a-f]{28}", key_id_of_name("Größe 漢字"))
    assert key_id_of_name("a") == key_id_of_name("a") != key_id_of_name("A")


GOOD: list[tuple[str, Any, Any]] = [
    ("name", "  Mobile app ", "Mobile app"),
    ("name", "x" * 200, "x" * 200),
    ("owner", "", None),
    ("owner", None, None),
    ("owner", " acme ", "acme"),
    ("description", "two\nlines", "two\nlines"),
    ("environment", "test", "test"),
    ("scopes", "a:b", Scopes(["a:b"])),
    ("scopes", ("a:b", "c:*"), Scopes(["a:b", "c:*"])),
    ("scopes", {"a:b"}, Scopes(["a:b"])),
    ("networks", "10.0.0.1", Networks(["10.0.0.1"])),
    ("limits", "1/second", (Limit(1, 1),)),
    ("limits", [Limit(1, 1), "1/second", "2/minute"], (Limit(1, 1), Limit(2, 60))),
    ("expires_at", "", None),
    ("expires_at", "2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    (
        "expires_at",
        datetime(2027, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))),
        datetime(2027, 1, 31, 10, tzinfo=UTC),
    ),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_parse_fields(name: str, value: Any, expected: Any) -> None:
    assert getattr(parse_fields({"name": "x", name: value}), name) == expected


BAD: list[tuple[str, Any, str]] = [
    ("name", "", "one line"),
    ("name", "   ", "one line"),
    ("name", "a\nb", "one line"),
    ("name", "a\0b", "control"),
    ("name", "a\x1b[31mb", "control"),
    ("name", "a\u202eb", "control"),
    ("name", "\ud800", "control"),
    ("name", "x" * 201, "at most 200"),
    ("name", None, "must be text"),
    ("name", 5, "must be text"),
    ("name", b"x", "must be text"),
    ("owner", "x" * 201, "at most 200"),
    ("owner", "a\nb", "one line"),
    ("description", "x" * 2001, "at most 2000"),
    ("description", "a\rb", "control"),
    ("environment", "prod", "neither live nor test"),
    ("environment", None, "neither live nor test"),
    ("scopes", [1], "texts only"),
    ("scopes", 5, "must be a list"),
    ("scopes", {"a:b": 1}, "must be a list"),
    ("scopes", b"a:b", "must be a list"),
    ("scopes", None, "must be a list"),
    ("networks", [None], "texts only"),
    ("limits", [5], "not a limit"),
    ("limits", ["1/second"] + [f"{n}/minute" for n in range(1, 21)], "at most 20"),
    ("quotas", ["x"], "not a quota"),
    ("expires_at", "tomorrow", "not a time"),
    ("expires_at", "2027-01-31T12:00:00", "time zone"),
    ("expires_at", "2027-01-31", "time zone"),
    ("expires_at", datetime(2027, 1, 31), "time zone"),  # noqa: DTZ001
    ("expires_at", 1_800_000_000, "must be a datetime"),
    ("expires_at", "9999-12-31T23:59:59Z", "beyond the years"),
    ("expires_at", "0001-01-01T00:00:00+14:00", "beyond the years"),
]


@pytest.mark.parametrize(("name", "value", "words"), BAD)
def test_parse_fields_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        parse_fields({"name": "x", name: value})
    assert caught.value.field == name


def test_parse_fields_needs_a_name() -> None:
    with pytest.raises(InvalidField, match="name: is missing"):
        parse_fields({})


def test_parse_fields_unknown() -> None:
    with pytest.raises(InvalidField, match=r"^scope: is no field of a key; did you mean scopes\?$"):
        parse_fields({"name": "x", "scope": "a:b"})
    with pytest.raises(InvalidField, match=r"^fields: one of them is no field"):
        parse_fields({"name": "x", "S3cret-value": "a:b"})
    with pytest.raises(InvalidField, match="fields"):
        parse_fields({"name": "x", 5: "a:b"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("nam", "name"),
        ("expires", "expires_at"),
        ("Scopes", "scopes"),
        ("expires-at", "expires_at"),
        ("net_works", "networks"),
    ],
)
def test_parse_fields_near_miss(name: str, near: str) -> None:
    with pytest.raises(InvalidField, match=rf"^{name}: is no field of a key; did you mean {near}\?$"):
        update_fields(KeyFields(name="x"), {name: "y"})


@pytest.mark.parametrize("name", ["letmein", "hunter", "S3cret-value", "s3cret" * 50, "live", 5])
def test_parse_fields_unknown_may_be_a_secret(name: Any) -> None:
    """Where name and secret stand the wrong way round, or one level too deep, it is one."""
    with pytest.raises(
        InvalidField, match=r"^fields: one of them is no field of a key; there are name, owner"
    ) as caught:
        parse_fields({"name": "x", name: "User 1"})
    assert str(name) not in str(caught.value)


def test_parse_fields_holding_a_secret() -> None:
    from keydesk.keys.secret import SecretFormat

    for name in ("name", "owner", "description"):
        secret = SecretFormat("acme_eu").mint()
        with pytest.raises(InvalidField, match="holds a secret") as caught:
            parse_fields({"name": "x", name: f"see {secret}"})
        assert secret[10:30] not in str(caught.value)


def test_update_fields_changes_only_what_is_given() -> None:
    before = KeyFields(name="a", owner="o", scopes=Scopes(["a:b"]))
    assert update_fields(before, {}) == before
    assert update_fields(before, {"owner": None}) == KeyFields(name="a", scopes=Scopes(["a:b"]))
    key = new_key(name="a")
    assert update_fields(key, {"name": "b"}).id == key.id
