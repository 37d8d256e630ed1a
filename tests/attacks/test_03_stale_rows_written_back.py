"""Number 3: verification writing a stale row back, so that a revoked key lives again.

The only thing a verification writes is a digest under the new pepper. Here the other change always comes in between
its read and its write, and the other way round.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keydesk import Allowed, Denied, Desk, KeyNotFound, Reason
from keydesk.keys.record import IssuedKey, Key

OLD = base64.b64encode(b"old pepper, at least 32 bytes long").decode()
NEW = base64.b64encode(b"new pepper, at least 32 bytes long").decode()


class Between:
    """A store that lets something happen after a verification has read, and before it writes."""

    def __init__(self, store: Any, happens: Callable[[], object]) -> None:
        self._store = store
        self._happens: Callable[[], object] | None = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        found: Key | None = self._store.find_by_digest(digests)
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        return found

    # Named in the class, since `isinstance(store, WritableKeyStore)` looks there.
    def add(self, keys: Any) -> Any:
        return self._store.add(keys)

    def change(self, key_id: str, decide: Any) -> Any:
        return self._store.change(key_id, decide)

    def redigest(self, old: str, new: str, pepper_id: str) -> None:
        self._store.redigest(old, new, pepper_id)


@pytest.fixture
def desks(everywhere: Callable[..., Desk]) -> tuple[Desk, Desk]:
    """A desk under the old pepper, and one under the new that re-digests what it sees."""
    return everywhere(KEYDESK_PEPPER=OLD), everywhere(KEYDESK_PEPPER=NEW, KEYDESK_PREVIOUS_PEPPERS=[OLD])


def _racing(desk: Desk, happens: Callable[[], object]) -> Desk:
    return Desk(store=Between(desk.store, happens), mint=desk.mint, clock=desk.clock)  # type: ignore[arg-type]


def _pepper_ids(desk: Desk, key_id: str) -> list[str]:
    return [secret.pepper_id for secret in desk.get_key(key_id).secrets]


CHANGES: dict[str, tuple[Callable[[Desk, str], object], Reason | None]] = {
    "revoke": (lambda desk, key_id: desk.revoke(key_id), Reason.REVOKED),
    "disable": (lambda desk, key_id: desk.disable(key_id), Reason.DISABLED),
    "rotate at once": (lambda desk, key_id: desk.rotate(key_id, overlap=timedelta(0)), Reason.EXPIRED),
    "rotate": (lambda desk, key_id: desk.rotate(key_id), None),
    "narrow": (lambda desk, key_id: desk.update(key_id, scopes=[]), Reason.SCOPE_DENIED),
    "narrow networks": (lambda desk, key_id: desk.update(key_id, networks=["203.0.113.7"]), Reason.NETWORK_DENIED),
    "expire": (
        lambda desk, key_id: desk.update(key_id, expires_at=desk.clock.now() + timedelta(microseconds=1)),
        Reason.EXPIRED,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_between_read_and_redigest(desks: tuple[Desk, Desk], name: str, clock: Any) -> None:
    old, new = desks
    change, reason = CHANGES[name]
    issued = old.issue(name="victim", scopes=["a:read"])
    racing = _racing(new, lambda: change(old, issued.key.id))
    racing.verify(issued.secret, scopes=["a:read"])  # it read before; what it decides itself is the earlier moment's
    clock.advance(timedelta(microseconds=1))
    after = new.get_key(issued.key.id)
    events = new.list_events()
    for _ in range(2):
        decision = new.verify(issued.secret, scopes=["a:read"], client_address="198.51.100.1")
        assert decision.reason is reason
    # Verifications told of no change, and made none but to the digest.
    assert new.list_events() == events
    assert len(events) == 2
    now = new.get_key(issued.key.id)
    assert replace(now, secrets=()) == replace(after, secrets=())
    assert [(s.number, s.expires_at, s.hint) for s in now.secrets] == [
        (s.number, s.expires_at, s.hint) for s in after.secrets
    ]
    assert new.check_chain().problem is None


def test_delete_between_read_and_redigest(desks: tuple[Desk, Desk]) -> None:
    old, new = desks
    issued = old.issue(name="victim")

    def delete() -> None:
        old.revoke(issued.key.id)
        old.delete(issued.key.id)

    _racing(new, delete).verify(issued.secret)
    assert new.find_key(issued.key.id) is None
    assert new.verify(issued.secret).reason is Reason.INVALID
    with pytest.raises(KeyNotFound):
        new.get_key(issued.key.id)


def test_prune_between_read_and_redigest(desks: tuple[Desk, Desk], clock: Any) -> None:
    """A secret that was rotated away and pruned does not come back."""
    old, new = desks
    issued = old.issue(name="victim")
    newer = old.rotate(issued.key.id, overlap=timedelta(hours=1))
    clock.advance(timedelta(hours=2))
    _racing(new, lambda: list(old.prune(ended_for=timedelta(0)))).verify(issued.secret)
    assert new.verify(issued.secret).reason is Reason.INVALID
    assert isinstance(new.verify(newer.secret), Allowed)
    assert len(new.get_key(issued.key.id).secrets) == 1


def test_redigest_between_read_and_redigest(desks: tuple[Desk, Desk]) -> None:
    """Two workers see the same old digest: one moves it, the other finds it moved."""
    old, new = desks
    issued = old.issue(name="victim")
    racing = _racing(new, lambda: new.verify(issued.secret))
    assert isinstance(racing.verify(issued.secret), Allowed)
    assert _pepper_ids(new, issued.key.id) == [new.mint.digester.pepper_id]
    assert isinstance(new.verify(issued.secret), Allowed)


def _change_racing_with_redigest(old: Desk, new: Desk, issued: IssuedKey, change: Callable[[Desk], object]) -> None:
    """Change a key, and while the change holds the record it read, let another thread verify and re-digest.

    Stores that lock make the other wait, so it is joined after the change there.
    """
    decisions: list[Any] = []
    worker = threading.Thread(target=lambda: decisions.append(new.verify(issued.secret)))
    real = old.store.change  # type: ignore[attr-defined]

    def racing(key_id: str, decide: Callable[[Key], Any]) -> Any:
        def deciding(key: Key) -> Any:
            made = decide(key)
            worker.start()
            worker.join(0.1)
            return made

        return real(key_id, deciding)

    old.store.change = racing  # type: ignore[attr-defined]
    try:
        change(old)
    finally:
        old.store.change = real  # type: ignore[attr-defined]
    worker.join(20)
    assert not worker.is_alive()
    assert len(decisions) == 1


@pytest.mark.parametrize("name", CHANGES)
def test_redigest_while_a_change_holds_the_record(desks: tuple[Desk, Desk], name: str, clock: Any) -> None:
    old, new = desks
    change, reason = CHANGES[name]
    issued = old.issue(name="victim", scopes=["a:read"])
    _change_racing_with_redigest(old, new, issued, lambda desk: change(desk, issued.key.id))
    clock.advance(timedelta(microseconds=1))
    for _ in range(2):
        decision = new.verify(issued.secret, scopes=["a:read"], client_address="198.51.100.1")
        assert decision.reason is reason
    assert new.check_chain().problem is None
    assert len(new.list_events()) == 2


def test_verification_never_writes_a_record(everywhere: Callable[..., Desk]) -> None:
    """Whatever is presented, what the store holds stays the same to the last field."""
    desk = everywhere()
    issued = [desk.issue(name=f"key {number}") for number in range(3)]
    desk.revoke(issued[0].key.id)
    desk.disable(issued[1].key.id)
    keys, events = desk.list_keys().keys, desk.list_events()
    for text in [one.secret for one in issued] + [desk.mint.secret_format.mint(), "", "x" * 300, "imported-perhaps"]:
        assert isinstance(desk.verify(text), Allowed | Denied)
    assert desk.list_keys().keys == keys
    assert desk.list_events() == events
