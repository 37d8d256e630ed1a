from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keydesk.keys.authority import KEYS_WRITE, excess, problems_of_caller
from keydesk.keys.record import parse_fields
from keydesk.keys.scopes import Scopes
from keydesk.testing import START, new_key

CALLER = {
    "name": "caller",
    "scopes": [KEYS_WRITE, "orders:*"],
    "networks": ["10.0.0.0/8"],
    "limits": ["100/minute"],
    "quotas": ["1000/day"],
    "expires_at": (START + timedelta(days=10)).isoformat(),
}
SAME = {**CALLER, "name": "same"}


def fields(given: dict[str, Any]) -> Any:
    return parse_fields({"name": "x", **given})


def caller(**changes: Any) -> Any:
    parsed = fields({**CALLER, **changes})
    names = ("scopes", "networks", "limits", "quotas", "expires_at", "environment", "owner")
    return new_key(**{name: getattr(parsed, name) for name in names})


def test_excess_of_the_same_is_none() -> None:
    assert excess(caller(), fields(SAME)) == []


@pytest.mark.parametrize(
    "given",
    [
        {"scopes": []},
        {"scopes": ["orders:read", "orders:x:*"]},
        {"networks": ["10.1.0.0/16", "10.0.0.1"]},
        {"limits": ["100/minute", "1000/hour"]},
        {"limits": ["99/minute"]},
        {"limits": ["100/hour"]},
        {"quotas": ["1/day", "10000/month"]},
        {"expires_at": START.isoformat()},
    ],
)
def test_excess_of_less_is_none(given: dict[str, Any]) -> None:
    assert excess(caller(), fields({**SAME, **given})) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scopes": ["orders:read", "stock:read", "*"]}, r"does not hold \*, stock:read"),
        ({"networks": ["10.0.0.0/7"]}, "networks"),
        ({"networks": []}, "networks"),
        ({"networks": ["0.0.0.0/0"]}, "networks"),
        ({"expires_at": None}, "expires_at"),
        ({"expires_at": (START + timedelta(days=10, microseconds=1)).isoformat()}, "expires_at"),
        ({"environment": "test"}, "environment"),
        ({"limits": []}, "limits"),
        ({"limits": ["101/minute"]}, "limits"),
        ({"limits": ["100/second"]}, "limits"),
        ({"quotas": []}, "quotas"),
        ({"quotas": ["1001/day"]}, "quotas"),
        ({"quotas": ["1000/month"]}, "quotas"),
        ({"quotas": ["1/total"]}, "quotas"),
    ],
)
def test_excess_of_more(given: dict[str, Any], words: str) -> None:
    import re

    (problem,) = excess(caller(), fields({**SAME, **given}))
    assert re.search(words, problem)


def test_excess_tells_each() -> None:
    assert len(excess(caller(), fields({"scopes": ["*"], "environment": "test"}))) == 6


def test_excess_of_a_caller_without_bounds() -> None:
    unbound = caller(scopes=["*"], networks=[], limits=[], quotas=[], expires_at=None)
    assert excess(unbound, fields({"scopes": ["*"]})) == []


@pytest.mark.parametrize(
    ("changes", "owner", "words"),
    [
        ({}, "anyone", None),
        ({"owner": "acme"}, "acme", None),
        ({"owner": "acme"}, "ACME", "owner 'acme'"),
        ({"owner": "acme"}, None, "owner 'acme'"),
        ({"scopes": Scopes(["orders:*"])}, None, KEYS_WRITE),
        ({"scopes": Scopes(["keydesk:keys:*"])}, None, None),
        ({"revoked_at": START}, None, "revoked"),
        ({"disabled_at": START}, None, "disabled"),
        ({"expires_at": START}, None, "expired"),
    ],
)
def test_problems_of_caller(changes: dict[str, Any], owner: str | None, words: str | None) -> None:
    key = new_key(**{"scopes": Scopes([KEYS_WRITE]), **changes})
    problems = problems_of_caller(key, owner, START)
    assert len(problems) == (0 if words is None else 1)
    assert words is None or words in problems[0]
