"""What explains agrees with what decides, and each fix it names makes the check pass."""

from __future__ import annotations

import itertools
import re
import shlex
from datetime import timedelta
from typing import Any

import pytest

from keydesk import Check, Desk, Reason, open_desk
from keydesk.explain import CHECK_NAMES
from keydesk.testing import START, ManualClock

NAMES = list(CHECK_NAMES)
FAILING = {
    Reason.MISSING: "presented",
    Reason.EXPIRED: "status",
    Reason.REVOKED: "status",
    Reason.DISABLED: "status",
    Reason.NETWORK_DENIED: "network",
    Reason.SCOPE_DENIED: "scopes",
}


def first_failing(checks: list[Check]) -> str | None:
    return next((check.name for check in checks if check.passed is False), None)


def run(desk: Desk, fix: str) -> None:
    """Do what a fix says, as the command line would."""
    program, verb, key_id, *options = shlex.split(fix)
    assert program == "keydesk"
    if verb == "enable":
        desk.enable(key_id)
        return
    assert verb == "update"
    fields: dict[str, list[str]] = {}
    for name, value in zip(options[::2], options[1::2], strict=True):
        fields.setdefault(name, []).append(value)
    changes: dict[str, Any] = {}
    if "--scope" in fields:
        changes["scopes"] = fields["--scope"]
    if "--network" in fields:
        changes["networks"] = fields["--network"]
    if "--expires" in fields:
        days = re.fullmatch(r"(\d+)d", fields["--expires"][0])
        assert days
        changes["expires_at"] = desk.clock.now() + timedelta(days=int(days[1]))
    assert changes
    desk.update(key_id, **changes)


STATES = ("active", "expired", "disabled", "disabled and expired")
NETWORKS: tuple[tuple[str, ...], ...] = ((), ("10.0.0.0/8", "2001:db8::1"))
ADDRESSES = ("10.1.2.3", "203.0.113.7", "::ffff:203.0.113.7", "fe80::1%eth0", "2001:db8::2")
GRANTS: tuple[tuple[str, ...], ...] = ((), ("a:b",), ("a:*", "x:y"))
NEEDS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ()),
    (("a:b",), ()),
    (("a:b", "c:d"), ()),
    ((), ("a:b", "c:d")),
    (("c:d",), ("a:b", "c:d")),
    (("c:d",), ("e:f", "c:d")),
    (("c:d", "a:b"), ("e:f", "g:h")),
    (("e:f",), ("x:y", "e:f")),
)


@pytest.mark.parametrize("state", STATES)
def test_explain_agrees_and_its_fixes_are_right(state: str) -> None:
    for networks, address, grants, (scopes, any_of) in itertools.product(NETWORKS, ADDRESSES, GRANTS, NEEDS):
        clock = ManualClock()
        desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
        ends = START + timedelta(days=1) if "expired" in state else None
        issued = desk.issue(name="x", networks=networks, scopes=grants, expires_at=ends)
        clock.advance(timedelta(days=2))
        if "disabled" in state:
            desk.disable(issued.key.id)
        asked: dict[str, Any] = {"scopes": scopes, "any_of": any_of, "client_address": address}
        for _ in range(5):
            decision, checks = desk.explain(issued.secret, **asked)
            assert [check.name for check in checks] == NAMES
            assert decision == desk.verify(issued.secret, **asked)
            assert (first_failing(checks) is None) == decision.allowed
            if decision.reason is None:
                break
            failing = next(check for check in checks if check.passed is False)
            assert failing.name == FAILING[decision.reason]
            run(desk, failing.fix)
            _, after = desk.explain(issued.secret, **asked)
            same = next(check for check in after if check.name == failing.name)
            assert same.passed or (failing.name == "status" and same.found != failing.found)
        assert desk.verify(issued.secret, **asked).allowed


def test_every_failing_check_is_shown_at_once(desk: Desk) -> None:
    issued = desk.issue(name="x", networks=["10.0.0.1"])
    desk.disable(issued.key.id)
    _, checks = desk.explain(issued.secret, scopes=["a:b"], client_address="10.0.0.2")
    assert [check.name for check in checks if check.passed is False] == ["status", "network", "scopes"]


@pytest.mark.parametrize("text", [None, ""])
def test_nothing_presented(desk: Desk, text: str | None) -> None:
    decision, checks = desk.explain(text)
    assert decision.reason is Reason.MISSING
    assert [check.passed for check in checks] == [False, None, None, None, None, None]
    assert [check.name for check in checks] == NAMES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kd_live_short", "length or checksum"),
        ("kd_live_" + "0" * 38, "length or checksum"),
        ("a b", "space"),
        ("x" * 257, "256"),
        ("é", "ASCII"),
    ],
)
def test_shape_that_cannot_be(desk: Desk, text: str, words: str) -> None:
    decision, checks = desk.explain(text)
    assert decision.reason is Reason.INVALID
    assert first_failing(checks) == "shape"
    assert words in checks[1].found
    assert checks[1].fix.startswith("copy the secret again")
    assert [check.passed for check in checks[2:]] == [None] * 4


def test_unknown_secret(desk: Desk) -> None:
    for text in (desk.mint.secret_format.mint(), "0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5"):
        decision, checks = desk.explain(text)
        assert decision.reason is Reason.INVALID
        assert first_failing(checks) == "known"
        assert text not in repr(checks)


def test_store_that_does_not_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from keydesk.errors import StoreUnavailable

    issued = desk.issue(name="x")

    def refuse(*_: object) -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(desk.store, "find_by_digest", refuse)
    decision, checks = desk.explain(issued.secret)
    assert decision.reason is Reason.UNAVAILABLE
    assert (checks[2].name, checks[2].passed, checks[2].fix) == ("known", False, "try again")
    monkeypatch.setattr(desk.store, "find_key", refuse)
    _, checks = desk.explain(issued.secret)
    assert checks[2].found == "the database is away"
    assert "keydesk doctor" in checks[2].fix


def test_revoked_has_no_way_back(desk: Desk) -> None:
    issued = desk.issue(name="x")
    desk.revoke(issued.key.id, reason="leaked on a forum")
    _, checks = desk.explain(issued.secret)
    assert "leaked on a forum" in checks[3].found
    assert "issue a new one" in checks[3].fix


def test_rotated_secret_names_the_newer_one(desk: Desk, clock: ManualClock) -> None:
    first = desk.issue(name="x")
    second = desk.rotate(first.key.id, overlap=timedelta(0))
    decision, checks = desk.explain(first.secret)
    assert decision.reason is Reason.EXPIRED
    assert second.key.secrets[-1].hint in checks[3].fix
    assert second.secret not in repr(checks)


def test_no_address_given(desk: Desk) -> None:
    issued = desk.issue(name="x", networks=["10.0.0.1"])
    decision, checks = desk.explain(issued.secret)
    assert decision.reason is Reason.NETWORK_DENIED
    assert "--address" in checks[4].fix


@pytest.mark.parametrize("address", ["garbage", "10.0.0.1:80", "10.0.0.1, 10.0.0.2", "x" * 1000, ""])
def test_address_that_is_none_is_not_advised(desk: Desk, address: str) -> None:
    issued = desk.issue(name="x", networks=["10.0.0.1"])
    _, checks = desk.explain(issued.secret, client_address=address)
    assert checks[4].passed is False
    assert "--network" not in checks[4].fix
    assert len(checks[4].found) < 300


def test_no_check_holds_the_secret(desk: Desk) -> None:
    issued = desk.issue(name="x", scopes=["a:b"])
    for asked in ({}, {"scopes": ["c:d"]}, {"client_address": "10.0.0.1"}):
        decision, checks = desk.explain(issued.secret, **asked)  # type: ignore[arg-type]
        assert issued.secret[8:40] not in repr(checks) + repr(decision)


def test_network_fix_for_no_address_opens_nothing() -> None:
    """0.0.0.0 on a list of networks means everywhere: no fix may put it there."""
    desk = open_desk({"KEYDESK_STORE": "memory://"})
    secret = desk.issue(name="Till", networks=["10.0.0.0/8"]).secret
    for address in ("0.0.0.0", "::"):
        _, checks = desk.explain(secret, client_address=address)
        (network,) = [check for check in checks if check.name == "network"]
        assert not network.passed
        assert "update" not in network.fix
