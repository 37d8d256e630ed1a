from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keydesk import Allowed, Denied, Desk, Reason, open_desk
from keydesk.errors import SchemaMismatch, StoreUnavailable
from keydesk.keys.record import Key
from keydesk.stores.memory import MemoryStore
from keydesk.testing import START, ManualClock

TICK = timedelta(microseconds=1)
PEPPERS = {name: base64.b64encode(name.encode() * 32).decode() for name in "abc"}


class Watched(MemoryStore):
    """A memory store that counts its reads and can be made to fail."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.reads: list[tuple[str, ...]] = []
        self.redigests: list[tuple[str, str, str]] = []
        self.error: Exception | None = None
        self.redigest_error: Exception | None = None

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        self.reads.append(tuple(digests))
        if self.error:
            raise self.error
        return super().find_by_digest(digests)

    def redigest(self, old: str, new: str, pepper_id: str) -> None:
        self.redigests.append((old, new, pepper_id))
        if self.redigest_error:
            raise self.redigest_error
        super().redigest(old, new, pepper_id)


def desk_on(store: MemoryStore, clock: ManualClock, **settings: Any) -> Desk:
    desk = open_desk({"KEYDESK_STORE": "memory://", **settings}, clock=clock)
    return Desk(store=store, mint=desk.mint, clock=clock)


@pytest.fixture
def store(clock: ManualClock) -> Watched:
    return Watched(clock)


@pytest.fixture
def desk(store: Watched, clock: ManualClock) -> Desk:
    return desk_on(store, clock)


@pytest.mark.parametrize("text", [None, ""])
def test_nothing_is_missing_and_reaches_no_store(desk: Desk, store: Watched, text: str | None) -> None:
    assert desk.verify(text) == Denied(Reason.MISSING)
    assert store.reads == []


@pytest.mark.parametrize("text", ["kd_live_wrong", "kd_x", "a b", "a,b", "x" * 257, "é", "a\0b", "\ud800", "x" * 10**6])
def test_impossible_is_invalid_and_reaches_no_store(desk: Desk, store: Watched, text: str) -> None:
    decision = desk.verify(text)
    assert decision.reason is Reason.INVALID
    assert decision.key is None
    assert store.reads == []


def test_unknown_is_invalid_after_one_read(desk: Desk, store: Watched) -> None:
    assert desk.verify(desk.mint.secret_format.mint()).reason is Reason.INVALID
    assert desk.verify("my-secret-api-key").reason is Reason.INVALID
    assert len(store.reads) == 2


def test_known_is_allowed_after_one_read(desk: Desk, store: Watched) -> None:
    issued = desk.issue(name="x", scopes=["a:b"])
    decision = desk.verify(issued.secret, scopes=["a:b"])
    assert decision == Allowed(issued.key, issued.key.secrets[0])
    assert decision.allowed
    assert decision.reason is None
    assert len(store.reads) == 1
    assert store.redigests == []


def test_order_is_status_network_scopes(desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="x", networks=["10.0.0.1"], expires_at=START + timedelta(days=1))

    def reason(address: str = "10.0.0.2") -> Reason | None:
        return desk.verify(issued.secret, scopes=["a:b"], client_address=address).reason

    assert reason("10.0.0.1") is Reason.SCOPE_DENIED
    assert reason() is Reason.NETWORK_DENIED
    clock.advance(timedelta(days=1))
    assert reason() is Reason.EXPIRED
    desk.disable(issued.key.id)
    assert reason() is Reason.DISABLED
    desk.revoke(issued.key.id)
    assert reason() is Reason.REVOKED
    desk.delete(issued.key.id)
    assert reason() is Reason.INVALID


def test_denied_tells_since_when(desk: Desk, clock: ManualClock) -> None:
    issued = desk.issue(name="x", expires_at=START + timedelta(days=1))
    key_id, secret = issued.key.id, issued.secret
    clock.advance(timedelta(days=1) - TICK)
    assert desk.verify(secret).allowed
    clock.advance(TICK)
    expired = desk.verify(secret)
    assert isinstance(expired, Denied)
    assert (expired.reason, expired.since) == (Reason.EXPIRED, START + timedelta(days=1))
    assert expired.hint == issued.key.secrets[0].hint
    at = clock.advance(5)
    desk.disable(key_id)
    clock.advance(5)
    assert desk.verify(secret).since == at  # type: ignore[union-attr]
    at = clock.advance(5)
    desk.revoke(key_id)
    clock.advance(5)
    assert desk.verify(secret).since == at  # type: ignore[union-attr]


def test_rotated_secret_ends_at_the_very_instant(desk: Desk, clock: ManualClock) -> None:
    first = desk.issue(name="x")
    second = desk.rotate(first.key.id, overlap=timedelta(hours=1))
    clock.advance(timedelta(hours=1) - TICK)
    assert desk.verify(first.secret).allowed
    clock.advance(TICK)
    denied = desk.verify(first.secret)
    assert isinstance(denied, Denied)
    assert (denied.reason, denied.since) == (Reason.EXPIRED, START + timedelta(hours=1))
    assert denied.hint == first.key.secrets[0].hint
    assert desk.verify(second.secret).allowed


def test_scopes_are_told(desk: Desk) -> None:
    issued = desk.issue(name="x", scopes=["a:b"])
    denied = desk.verify(issued.secret, scopes=["a:b", "c:d"], any_of=["e:f", "g:h"])
    assert isinstance(denied, Denied)
    assert denied.required_scopes == ("a:b", "c:d", "e:f", "g:h")
    assert denied.missing_scopes == ("c:d", "e:f", "g:h")


@pytest.mark.parametrize("error", [StoreUnavailable("away"), SchemaMismatch("old")])
def test_store_that_does_not_answer_is_unavailable(
    desk: Desk, store: Watched, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    issued = desk.issue(name="x")
    store.error = error
    assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE
    assert desk.verify("my-secret-api-key").reason is Reason.UNAVAILABLE  # nobody knows: not `invalid`
    assert desk.verify("kd_live_wrong").reason is Reason.INVALID  # known without asking
    assert desk.verify("").reason is Reason.MISSING
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    store.error = None
    assert desk.verify(issued.secret).allowed


# Peppers


def test_pepper_is_set_later(store: Watched, clock: ManualClock) -> None:
    issued = desk_on(store, clock).issue(name="x")
    desk = desk_on(store, clock, KEYDESK_PEPPER=PEPPERS["a"])
    assert desk.verify(issued.secret).allowed
    new = desk.mint.digester.digest(issued.secret)
    assert store.redigests == [(issued.key.secrets[0].digest, new, desk.mint.digester.pepper_id)]
    after = store.find_key(issued.key.id)
    assert after is not None
    assert after == replace(
        issued.key, secrets=(replace(after.secrets[0], digest=new, pepper_id=desk.mint.digester.pepper_id),)
    )
    assert desk.verify(issued.secret).allowed
    assert len(store.redigests) == 1
    assert store.position().number == 1


def test_pepper_is_changed(store: Watched, clock: ManualClock) -> None:
    under_a = desk_on(store, clock, KEYDESK_PEPPER=PEPPERS["a"])
    used, unused = under_a.issue(name="used"), under_a.issue(name="unused")
    under_b = desk_on(store, clock, KEYDESK_PEPPER=PEPPERS["b"], KEYDESK_PREVIOUS_PEPPERS=[PEPPERS["a"]])
    assert under_b.verify(used.secret).allowed
    only_b = desk_on(store, clock, KEYDESK_PEPPER=PEPPERS["b"])
    assert only_b.verify(used.secret).allowed
    assert only_b.verify(unused.secret).reason is Reason.INVALID
    under_c = desk_on(store, clock, KEYDESK_PEPPER=PEPPERS["c"], KEYDESK_PREVIOUS_PEPPERS=[PEPPERS["b"], PEPPERS["a"]])
    assert under_c.verify(unused.secret).allowed
    assert under_c.verify(used.secret).allowed
    assert len(store.redigests) == 3


def test_pepper_moves_for_whoever_is_refused_too(store: Watched, clock: ManualClock) -> None:
    issued = desk_on(store, clock).issue(name="x")
    desk = desk_on(store, clock, KEYDESK_PEPPER=PEPPERS["a"])
    desk.revoke(issued.key.id)
    assert desk.verify(issued.secret).reason is Reason.REVOKED
    assert desk.verify(issued.secret).reason is Reason.REVOKED
    assert len(store.redigests) == 1


def test_pepper_that_cannot_be_moved_lets_in_all_the_same(
    store: Watched, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    issued = desk_on(store, clock).issue(name="x")
    desk = desk_on(store, clock, KEYDESK_PEPPER=PEPPERS["a"])
    store.redigest_error = StoreUnavailable("read only")
    for _ in range(2):
        assert desk.verify(issued.secret).allowed
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    store.redigest_error = None
    assert desk.verify(issued.secret).allowed
    assert desk.verify(issued.secret).allowed
    assert len(store.redigests) == 3


def test_pepper_of_a_store_that_is_read_only(clock: ManualClock) -> None:
    import hashlib

    text = "some-imported-secret-0123456789"
    given = {f"sha256:{hashlib.sha256(text.encode()).hexdigest()}": "x"}
    desk = open_desk({"API_KEYS": given, "KEYDESK_PEPPER": PEPPERS["a"]}, clock=clock)
    assert desk.verify(text).allowed
    assert desk.verify(text).allowed


def test_verify_brings_no_older_record_back(store: Watched, clock: ManualClock) -> None:
    """A revoke that comes between the read and the write of a verification stays."""
    issued = desk_on(store, clock).issue(name="x")
    desk = desk_on(store, clock, KEYDESK_PEPPER=PEPPERS["a"])
    write = store.redigest

    def revoke_first(*args: str) -> None:
        store.redigest = write  # type: ignore[method-assign]
        desk.revoke(issued.key.id)
        write(*args)

    store.redigest = revoke_first  # type: ignore[method-assign,assignment]
    desk.verify(issued.secret)
    assert desk.verify(issued.secret).reason is Reason.REVOKED
    assert desk.get_key(issued.key.id).revoked_at == clock.now()


def test_same_secret_imported_under_two_peppers_is_the_newer_key(store: Watched, clock: ManualClock) -> None:
    from keydesk import HeldKey
    from keydesk.keys.record import parse_fields

    text = "some-imported-secret-0123456789"
    for name, settings in (("older", {}), ("newer", {"KEYDESK_PEPPER": PEPPERS["a"]})):
        desk = desk_on(store, clock, **settings)
        desk.import_keys([HeldKey(parse_fields({"name": name}), desk.mint.secret(text, number=1, now=clock.now()))])
    decision = desk.verify(text)
    assert decision.key is not None
    assert decision.key.name == "newer"
    assert len(decision.key.secrets) == 1
