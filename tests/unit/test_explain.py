"""What explains agrees with what decides, and each fix it names makes the check pass."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from keydesk import Check, Desk, Key, Reason, open_desk
from keydesk.errors import StoreUnavailable
from keydesk.explain import CHECK_NAMES
from keydesk.stores.sql import SqlStore
from keydesk.testing import START, ManualClock

from .typing_in import type_in

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


def run(desk: Desk, fix: str) -> list[str]:
    """Type the commands of a fix as they are printed, and return what they print on standard output."""
    answers = [type_in(desk, line) for line in fix.splitlines() if line.startswith("keydesk ")]
    assert answers, fix
    return answers


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
            assert same.passed
        assert desk.verify(issued.secret, **asked).allowed


def test_every_failing_check_is_shown_at_once(desk: Desk) -> None:
    issued = desk.issue(name="x", networks=["10.0.0.1"])
    desk.disable(issued.key.id)
    _, checks = desk.explain(issued.secret, scopes=["a:b"], client_address="10.0.0.2")
    assert [check.name for check in checks if check.passed is False] == ["status", "network", "scopes"]


@pytest.mark.parametrize("given", [None, ""])
def test_nothing_presented(desk: Desk, given: str | None) -> None:
    decision, checks = desk.explain(given)
    assert decision.reason is Reason.MISSING
    assert [check.passed for check in checks] == [False, None, None, None, None, None, None]
    assert [check.name for check in checks] == NAMES


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("kd_live_short", "length or checksum"),
        ("kd_live_" + "0" * 38, "length or checksum"),
        ("a b", "space"),
        ("x" * 257, "256"),
        ("é", "ASCII"),
    ],
)
def test_shape_that_cannot_be(desk: Desk, given: str, words: str) -> None:
    decision, checks = desk.explain(given)
    assert decision.reason is Reason.INVALID
    assert first_failing(checks) == "shape"
    assert words in checks[1].found
    assert checks[1].fix.startswith("copy the secret again")
    assert [check.passed for check in checks[2:]] == [None] * 5


def test_unknown_secret(desk: Desk) -> None:
    for given in (desk.mint.secret_format.mint(), "0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5"):
        decision, checks = desk.explain(given)
        assert decision.reason is Reason.INVALID
        assert first_failing(checks) == "known"
        assert given not in repr(checks)


def test_store_that_does_not_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = desk.issue(name="x")
    find, answers = desk.store.find_by_digest, iter([False, False, False, True])

    def refuse(digests: Sequence[str]) -> Key | None:
        if next(answers):
            return find(digests)
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(desk.store, "find_by_digest", refuse)
    decision, checks = desk.explain(issued.secret)
    assert decision.reason is Reason.UNAVAILABLE
    assert (checks[2].name, checks[2].passed, checks[2].found) == ("known", False, "the database is away")
    assert "keydesk doctor" in checks[2].fix
    _, checks = desk.explain(issued.secret)
    assert (checks[2].name, checks[2].passed, checks[2].fix) == ("known", False, "try again")


def test_damaged_row_is_named_and_not_to_be_tried_again(tmp_path: Path) -> None:
    desk = open_desk({"KEYDESK_STORE": f"sqlite:///{tmp_path}/keys.db"})
    issued = desk.issue(name="Damaged")
    assert isinstance(desk.store, SqlStore)
    with desk.store.engine.begin() as connection:
        connection.execute(text("UPDATE keydesk_keys SET scopes = 'not a scope'"))
    _, checks = desk.explain(issued.secret)
    assert (checks[2].name, checks[2].passed) == ("known", False)
    assert issued.key.id in checks[2].found
    assert "try again" not in checks[2].fix
    desk.close()


@pytest.mark.parametrize("name", ["Mobile app", "-x", 'it\'s "quoted"; $(true)', "keyd`esk`", "ключ"])
@pytest.mark.parametrize("ends", [None, START + timedelta(days=1), START + timedelta(days=9)])
def test_revoked_key_is_issued_again_as_it_was(
    desk: Desk, clock: ManualClock, name: str, ends: datetime | None
) -> None:
    issued = desk.issue(
        name=name,
        owner="O'Hara & sons",
        environment="test",
        scopes=["orders:*"],
        networks=["10.0.0.0/8"],
        limits=["100/minute", "5 per 10 seconds"],
        quotas=["10/month"],
        expires_at=ends,
    )
    clock.advance(timedelta(days=2))
    desk.revoke(issued.key.id, reason="leaked on a forum")
    asked: dict[str, Any] = {"scopes": ["invoices:read"], "client_address": "203.0.113.7"}
    _, checks = desk.explain(issued.secret, **asked)
    assert "leaked on a forum" in checks[3].found
    assert "issue a new one" in checks[3].fix
    # The other fixes are for the new key: the revoked one can be given nothing.
    assert checks[4].fix == "give the new key these too: --network 203.0.113.7"
    assert checks[5].fix == "give the new key these too: --scope invoices:read"
    (secret,) = run(desk, checks[3].fix)
    again = desk.require(secret, client_address="10.0.0.1", scopes=["orders:read"])
    for field in ("name", "owner", "environment", "scopes", "networks", "limits", "quotas"):
        assert getattr(again, field) == getattr(issued.key, field)
    assert (again.expires_at is None) == (ends is None)
    # With what the other two say, it passes at once.
    more = [check.fix.partition(": ")[2] for check in checks[4:]]
    command, between, rest = checks[3].fix.splitlines()[-1].partition(" -- ")
    assert desk.verify(type_in(desk, f"{command} {' '.join(more)}{between}{rest}"), **asked).allowed


def test_rotated_secret_names_the_newer_one(desk: Desk, clock: ManualClock) -> None:
    first = desk.issue(name="x")
    second = desk.rotate(first.key.id, overlap=timedelta(0))
    decision, checks = desk.explain(first.secret)
    assert decision.reason is Reason.EXPIRED
    assert second.key.secrets[-1].hint in checks[3].fix
    assert second.secret not in repr(checks)
    assert desk.verify(second.secret).allowed
    (third,) = run(desk, checks[3].fix)
    assert desk.verify(third).allowed


def test_everything_about_the_status_is_shown_at_once(desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="x", expires_at=START + timedelta(days=1))
    desk.rotate(issued.key.id, overlap=timedelta(0))
    desk.disable(issued.key.id)
    clock.advance(timedelta(days=2))
    _, checks = desk.explain(issued.secret)
    for words in ("disabled since", "; expired since", "; this secret expired since"):
        assert words in checks[3].found
    assert desk.verify(run(desk, checks[3].fix)[-1]).allowed


@pytest.mark.parametrize(
    ("scopes", "any_of", "missing", "added"),
    [
        (["a:b"], [], "a:b", "--scope a:b"),
        ([], ["c:d", "e:f"], "one of c:d, e:f", "--scope c:d"),
        (["a:b"], ["c:d", "e:f"], "a:b, and one of c:d, e:f", "--scope a:b --scope c:d"),
        (["a:b", "g:h"], ["c:d"], "a:b, g:h, and c:d", "--scope a:b --scope g:h --scope c:d"),
        (["c:d"], ["a:b", "c:d"], "c:d", "--scope c:d"),  # c:d will do for both
        (["h:i"], ["c:d", "e:f"], "one of c:d, e:f", "--scope c:d"),
    ],
)
def test_missing_scopes_in_words(desk: Desk, scopes: list[str], any_of: list[str], missing: str, added: str) -> None:
    issued = desk.issue(name="x", scopes=["h:i"])
    _, checks = desk.explain(issued.secret, scopes=scopes, any_of=any_of)
    assert checks[5].found == f"missing: {missing}; held: h:i"
    assert checks[5].fix == f"keydesk update {issued.key.id} --scope h:i {added}"
    run(desk, checks[5].fix)
    _, checks = desk.explain(issued.secret, scopes=scopes, any_of=any_of)
    assert checks[5].found.startswith(f"needed: {', and '.join(filter(None, [', '.join(scopes), one(any_of)]))}; held:")


def one(any_of: list[str]) -> str:
    """Return how people say that one of these is needed."""
    return ("one of " if len(any_of) > 1 else "") + ", ".join(any_of)


def test_full_lists_are_not_to_be_made_longer(desk: Desk) -> None:
    scopes, networks = [f"a:b{n}" for n in range(200)], [f"10.0.0.{n}" for n in range(100)]
    issued = desk.issue(name="x", scopes=scopes, networks=networks)
    _, checks = desk.explain(issued.secret, scopes=["c:d"], client_address="203.0.113.7")
    for check, words in zip(checks[4:6], ("100 networks", "200 scopes"), strict=True):
        assert words in check.fix
        assert "keydesk" not in check.fix


QUOTED = [("'{}'", "single quotes"), ('"{}"', "double quotes"), ("\u201c{}\u201d", "typographic quotes"),
          ("`{}`", "backticks"), ("Bearer {}", "`Bearer`"), ("X-API-Key: {}", "`X-API-Key:`"),
          ("X-API-Key:{}", "`X-API-Key:`"), (" {}\t", "spaces"), ("{}\n\n", "line ends")]  # fmt: skip


@pytest.mark.parametrize(("around", "words"), QUOTED)
def test_what_surrounds_a_secret_is_named(desk: Desk, around: str, words: str) -> None:
    issued = desk.issue(name="x")
    decision, checks = desk.explain(around.format(issued.secret))
    assert decision.reason is Reason.INVALID
    assert first_failing(checks) == "shape"
    assert words in checks[1].found
    assert checks[1].fix == f"send the secret alone, without {words}"
    assert issued.secret[8:40] not in repr(checks)
    assert desk.explain(issued.secret)[1][1].passed


@pytest.mark.parametrize(("around", "words"), QUOTED)
def test_what_surrounds_an_imported_secret_is_named(around: str, words: str) -> None:
    held = "held-elsewhere-0123456789abcdef"
    desk = open_desk({"API_KEYS": {held: "Till"}})
    _, checks = desk.explain(around.format(held))
    failing = next(check for check in checks if check.passed is False)
    assert words in failing.found
    assert failing.fix == f"send the secret alone, without {words}"
    assert held not in repr(checks)


def test_what_surrounds_a_secret_may_be_part_of_it() -> None:
    held = "'kd_live_is-how-somebody-begins-a-secret'"
    desk = open_desk({"API_KEYS": {held: "Till"}})
    decision, checks = desk.explain(held)
    assert decision.allowed
    assert first_failing(checks) is None


def test_surrounded_and_mistyped(desk: Desk) -> None:
    secret = desk.issue(name="x").secret
    _, checks = desk.explain(f"'{secret[:-1]}'")
    assert "length or checksum is wrong, with single quotes around it" in checks[1].found
    assert checks[1].fix.startswith("copy the secret again, whole, without single quotes")


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


# Limits


def test_limits_are_looked_at_and_nothing_is_taken(desk: Desk) -> None:
    issued = desk.issue(name="x", limits=["2/minute"], quotas=["5/day"])
    for _ in range(5):
        decision, checks = desk.explain(issued.secret)
        assert decision.allowed
    assert (checks[-1].name, checks[-1].found) == ("limits", "2/minute: 2 left; 5/day quota")
    assert desk.explain(desk.issue(name="y").secret)[1][-1].found == "none"


def test_limit_that_is_used_up(desk: Desk) -> None:
    issued = desk.issue(name="x", limits=["1/minute"], quotas=["1/total"])
    desk.verify(issued.secret)
    decision, checks = desk.explain(issued.secret)
    assert decision.reason is Reason.RATE_LIMITED
    assert (checks[-1].passed, checks[-1].found) == (False, "used up: 1/minute")
    assert checks[-1].fix.splitlines()[2] == f"keydesk update {issued.key.id} --limit 1/minute"
    assert "wait for" in checks[-1].fix


def test_quota_that_is_used_up(desk: Desk) -> None:
    issued = desk.issue(name="x", quotas=["1/total"])
    desk.verify(issued.secret)
    decision, checks = desk.explain(issued.secret)
    assert decision.reason is Reason.QUOTA_EXCEEDED
    assert checks[-1].fix == f"give it more, in place of what it has:\nkeydesk update {issued.key.id} --quota 1/total"


def test_limits_of_a_key_that_is_refused_before(desk: Desk) -> None:
    issued = desk.issue(name="x", limits=["1/minute"])
    desk.disable(issued.key.id)
    _, checks = desk.explain(issued.secret)
    assert (checks[-1].passed, checks[-1].found) == (None, "not asked, since it would be refused before")
