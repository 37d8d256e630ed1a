"""The desk against a plain model: whatever happens in whatever order, every secret ever minted is let in or refused
as the model says, on a store in memory and on SQLite."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from keydesk import Desk, InvalidField, KeyNotFound, Reason, StateConflict, open_desk
from keydesk.testing import ManualClock
from keydesk.testing.stores import all_events, all_keys

HOUR = timedelta(hours=1)
STEPS = st.sampled_from([timedelta(microseconds=1), HOUR - timedelta(microseconds=1), HOUR, 3 * HOUR, 10 * HOUR])
SCOPES = st.lists(st.sampled_from(["a:b", "a:*", "c:d"]), max_size=2, unique=True)
NEEDED = "a:b"
MOST_SECRETS = 10  # of one key, see the record


@dataclass
class ModelSecret:
    text: str
    ends_at: datetime | None = None


@dataclass
class ModelKey:
    """A key as one would explain it on a blackboard."""

    scopes: list[str]
    expires_at: datetime | None
    secrets: list[ModelSecret] = field(default_factory=list)
    disabled: bool = False
    revoked_at: datetime | None = None
    deleted: bool = False
    changes: int = 1

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def active(self, now: datetime) -> bool:
        return not (self.deleted or self.revoked_at or self.disabled or self.expired(now))

    def answer(self, secret: ModelSecret, now: datetime) -> Reason | None:
        """Why this secret is refused; None where it is let in."""
        if self.deleted or secret not in self.secrets:
            return Reason.INVALID
        if self.revoked_at:
            return Reason.REVOKED
        if self.disabled:
            return Reason.DISABLED
        if self.expired(now) or (secret.ends_at and now >= secret.ends_at):
            return Reason.EXPIRED
        if not {"a:b", "a:*"} & set(self.scopes):
            return Reason.SCOPE_DENIED
        return None


class DeskMachine(RuleBasedStateMachine):
    """What people do at a desk."""

    ids = Bundle("ids")
    template: Path | None = None  # a SQLite file with tables, to be copied

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.keys: dict[str, ModelKey] = {}
        self.minted: list[tuple[str, ModelSecret]] = []
        self.events = 0
        self.folder: Path | None = None
        self.desk = self.open()

    def open(self) -> Desk:
        return open_desk({"KEYDESK_STORE": "memory://"}, clock=self.clock)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def changed(self, key: ModelKey) -> None:
        key.changes += 1
        self.events += 1

    @initialize(target=ids, scopes=SCOPES)
    def first(self, scopes: list[str]) -> str:
        return self.issue(scopes, None)

    @rule(target=ids, scopes=SCOPES, lives=st.none() | STEPS)
    def issue(self, scopes: list[str], lives: timedelta | None) -> str:
        ends = self.now + lives if lives else None
        issued = self.desk.issue(name="x", scopes=scopes, expires_at=ends)
        secret = ModelSecret(issued.secret)
        self.keys[issued.key.id] = ModelKey(scopes, ends, [secret])
        self.minted.append((issued.key.id, secret))
        self.events += 1
        return issued.key.id

    @rule(key_id=ids, overlap=st.just(timedelta(0)) | STEPS)
    def rotate(self, key_id: str, overlap: timedelta) -> None:
        key = self.keys[key_id]
        end = self.now + overlap
        going_on = [s for s in key.secrets if min(s.ends_at or end, end) > self.now]
        if not key.active(self.now) or len(going_on) >= MOST_SECRETS:
            self.refused(key, lambda: self.desk.rotate(key_id, overlap=overlap))
            return
        secret = ModelSecret(self.desk.rotate(key_id, overlap=overlap).secret)
        for earlier in key.secrets:
            earlier.ends_at = min(earlier.ends_at or end, end)
        # The record keeps ten: those that still go on, and the newest of the ended ones.
        ended = [s for s in key.secrets if s not in going_on]
        dropped = ended[: max(0, len(key.secrets) + 1 - MOST_SECRETS)]
        key.secrets = [s for s in key.secrets if s not in dropped] + [secret]
        self.minted.append((key_id, secret))
        self.changed(key)

    @rule(key_id=ids, scopes=SCOPES)
    def update_scopes(self, key_id: str, scopes: list[str]) -> None:
        key = self.keys[key_id]
        if key.deleted or key.revoked_at:
            self.refused(key, lambda: self.desk.update(key_id, scopes=scopes))
            return
        self.desk.update(key_id, scopes=scopes)
        if sorted(scopes) != sorted(key.scopes):
            self.changed(key)
        key.scopes = scopes

    @rule(key_id=ids, lives=st.none() | STEPS)
    def update_expiry(self, key_id: str, lives: timedelta | None) -> None:
        key = self.keys[key_id]
        ends = self.now + lives if lives else None
        if key.deleted or key.revoked_at:
            self.refused(key, lambda: self.desk.update(key_id, expires_at=ends))
            return
        self.desk.update(key_id, expires_at=ends)
        if ends != key.expires_at:
            self.changed(key)
        key.expires_at = ends

    @rule(key_id=ids)
    def disable(self, key_id: str) -> None:
        key = self.keys[key_id]
        if key.deleted or key.revoked_at or key.disabled:
            self.refused(key, lambda: self.desk.disable(key_id))
            return
        self.desk.disable(key_id)
        key.disabled = True
        self.changed(key)

    @rule(key_id=ids)
    def enable(self, key_id: str) -> None:
        key = self.keys[key_id]
        if key.deleted or key.revoked_at or not key.disabled:
            self.refused(key, lambda: self.desk.enable(key_id))
            return
        self.desk.enable(key_id)
        key.disabled = False
        self.changed(key)

    @rule(key_id=ids)
    def revoke(self, key_id: str) -> None:
        key = self.keys[key_id]
        if key.deleted or key.revoked_at:
            self.refused(key, lambda: self.desk.revoke(key_id))
            return
        self.desk.revoke(key_id)
        key.revoked_at = self.now
        self.changed(key)

    @rule(key_id=consumes(ids))
    def delete(self, key_id: str) -> None:
        key = self.keys[key_id]
        if key.deleted or not key.revoked_at:
            self.refused(key, lambda: self.desk.delete(key_id))
            return
        self.desk.delete(key_id)
        key.deleted = True
        self.changed(key)

    @rule(ended_for=st.just(timedelta(0)) | STEPS)
    def prune(self, ended_for: timedelta) -> None:
        before = self.now - ended_for
        expected = {}
        for key_id, key in self.keys.items():
            if key.deleted:
                continue
            if (key.revoked_at and key.revoked_at < before) or (key.expires_at and key.expires_at < before):
                expected[key_id] = "key.deleted"
                key.deleted = True
                self.changed(key)
            elif gone := [s for s in key.secrets if s.ends_at and s.ends_at < before]:
                expected[key_id] = "key.pruned"
                key.secrets = [s for s in key.secrets if s not in gone]
                self.changed(key)
        assert dict(self.desk.prune(ended_for=ended_for)) == expected

    @rule(step=STEPS)
    def time_passes(self, step: timedelta) -> None:
        self.clock.advance(step)

    def refused(self, key: ModelKey, call: Any) -> None:
        with pytest.raises(KeyNotFound if key.deleted else StateConflict):
            call()

    @rule()
    def ask_for_a_key_in_the_past(self) -> None:
        with pytest.raises(InvalidField):
            self.desk.issue(name="x", expires_at=self.now)

    @invariant()
    def every_secret_is_answered_as_the_model_says(self) -> None:
        for key_id, secret in self.minted:
            key = self.keys[key_id]
            decision = self.desk.verify(secret.text, scopes=[NEEDED])
            assert decision.reason is key.answer(secret, self.now), (decision, key)
            assert decision.key is None or decision.key.id == key_id

    @invariant()
    def records_and_events_are_as_many_as_the_model_says(self) -> None:
        assert self.desk.store.position().number == self.events  # type: ignore[attr-defined]
        for key_id, key in self.keys.items():
            record = self.desk.find_key(key_id)
            assert (record is None) is key.deleted
            assert record is None or record.version == key.changes

    def teardown(self) -> None:
        events = all_events(self.desk.store)  # type: ignore[arg-type]
        assert len(events) == self.events
        told = {key_id: sum(row.event.key_id == key_id for row in events) for key_id in self.keys}
        assert told == {key_id: key.changes for key_id, key in self.keys.items()}
        there = {key.id for key in all_keys(self.desk.store)}
        assert there == {key_id for key_id, key in self.keys.items() if not key.deleted}
        self.desk.close()
        if self.folder is not None:
            shutil.rmtree(self.folder)


class SqliteMachine(DeskMachine):
    """The same on SQLite."""

    def open(self) -> Desk:
        self.folder = Path(tempfile.mkdtemp(prefix="keydesk-machine-"))
        if SqliteMachine.template is None:
            SqliteMachine.template = self.folder.parent / f"{self.folder.name}.template"
            desk = open_desk({"KEYDESK_STORE": f"sqlite:///{SqliteMachine.template}"})
            desk.store.upgrade()  # type: ignore[attr-defined]
            desk.close()
        shutil.copy(SqliteMachine.template, self.folder / "keys.db")
        return open_desk({"KEYDESK_STORE": f"sqlite:///{self.folder}/keys.db"}, clock=self.clock)


TestDeskOnMemory = DeskMachine.TestCase
TestDeskOnMemory.settings = settings(max_examples=80, stateful_step_count=40)
TestDeskOnSqlite = SqliteMachine.TestCase
TestDeskOnSqlite.settings = settings(max_examples=20, stateful_step_count=30)


@pytest.fixture(scope="module", autouse=True)
def _no_template_is_left() -> Any:
    yield
    if SqliteMachine.template is not None:
        SqliteMachine.template.unlink()
        SqliteMachine.template = None
