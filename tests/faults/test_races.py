"""Every change at every place of a verification: the interleaving is forced, and the new verdict is what stays.

The verification runs in this thread, through a store that lets another desk on the same database make the change at the
moment named. What the verification itself says then is of either moment; after `max_staleness` only the new one counts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keydesk import Desk, HeldKey, Reason, open_desk
from keydesk.errors import StoreUnavailable
from keydesk.keys.record import Key, parse_fields
from keydesk.lookup import StoreFinder
from keydesk.ports import KeyStore, Position
from keydesk.stores.cached import CachedFinder
from keydesk.testing import ManualClock

from .conftest import upgraded

STALENESS = 1.0
GRACE = 300.0
ADDRESS = "198.51.100.1"


class Staged:
    """A store during whose reads something happens, once: `staged.at("read", change)`."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._plans: dict[str, Callable[[], object]] = {}
        self.happened: list[str] = []
        self.reads = 0

    def at(self, place: str, happens: Callable[[], object]) -> None:
        self._plans[place] = happens

    def _now(self, place: str) -> None:
        happens = self._plans.pop(place, None)
        if happens is not None:
            self.happened.append(place)
            happens()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        self.reads += 1
        self._now("before the read")
        found: Key | None = self._store.find_by_digest(digests)
        self._now("after the read")
        return found

    def position(self) -> Position:
        self._now("before the position")
        position: Position = self._store.position()
        self._now("after the position")
        return position

    def list_feed(self, **given: Any) -> Any:
        self._now("before the events")
        events = self._store.list_feed(**given)
        self._now("after the events")
        return events


@dataclass
class Stage:
    """A desk that verifies with a cache, on a staged store, and one that changes keys behind its back."""

    clock: ManualClock
    changing: Desk
    behind: KeyStore
    max_staleness: float = STALENESS
    store: Staged = field(init=False)
    verifying: Desk = field(init=False)

    def __post_init__(self) -> None:
        self.store = Staged(self.behind)
        mint: Any = self.changing.mint
        finder = CachedFinder(
            self.store,  # type: ignore[arg-type]
            StoreFinder(self.store, mint),  # type: ignore[arg-type]
            self.clock,
            max_staleness=self.max_staleness,
            outage_grace=GRACE,
            size=100,
        )
        self.verifying = Desk(store=self.store, mint=mint, clock=self.clock, finder=finder)  # type: ignore[arg-type]

    def verdict(self, secret: str) -> Reason | None:
        return self.verifying.verify(secret, scopes=["a:read"], client_address=ADDRESS).reason


@contextmanager
def _stage(url: str, clock: ManualClock) -> Iterator[Stage]:
    settings = {"KEYDESK_STORE": url, "KEYDESK_CACHE_KEYS": 0}
    changing, verifying = open_desk(settings, clock=clock), open_desk(settings, clock=clock)
    yield Stage(clock, changing, changing.store if url == "memory://" else verifying.store)
    changing.close()
    verifying.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with its tables and nothing in them, to be copied."""
    path = tmp_path_factory.mktemp("races") / "keys.db"
    upgraded(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["memory", "sqlite"])
def stage(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path, empty: Path) -> Iterator[Stage]:
    """A stage in memory and on SQLite."""
    sqlite = request.param == "sqlite"
    with _stage(f"sqlite:///{shutil.copy(empty, tmp_path / 'keys.db')}" if sqlite else "memory://", clock) as stage:
        yield stage


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def server_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(request.param)


@pytest.fixture
def stage_on_server(clock: ManualClock, server_url: str) -> Iterator[Stage]:
    """A stage on each server."""
    with _stage(server_url, clock) as stage:
        yield stage


@dataclass(frozen=True)
class Act:
    """A change: what it needs beforehand, what it does, and what is said of the key before and after."""

    before: Reason | None
    after: Reason | None
    make: Callable[[Desk], tuple[str, Callable[[], object]]]


def _on_key(does: Callable[[Desk, str], object], **fields: Any) -> Callable[[Desk], tuple[str, Callable[[], object]]]:
    def make(desk: Desk) -> tuple[str, Callable[[], object]]:
        issued = desk.issue(name="victim", scopes=["a:read"], **fields)
        return issued.secret, lambda: does(desk, issued.key.id)

    return make


def _delete(desk: Desk, key_id: str) -> None:
    desk.revoke(key_id)
    desk.delete(key_id)


def _disabled(desk: Desk) -> tuple[str, Callable[[], object]]:
    issued = desk.issue(name="victim", scopes=["a:read"])
    desk.disable(issued.key.id)
    return issued.secret, lambda: desk.enable(issued.key.id)


def _imported(desk: Desk) -> tuple[str, Callable[[], object]]:
    text = desk.mint.secret_format.mint("live")
    held = HeldKey(
        parse_fields({"name": "victim", "scopes": ["a:read"]}),
        desk.mint.secret(text, number=1, now=desk.clock.now()),
    )
    return text, lambda: desk.import_keys([held])


def _rotated_in(desk: Desk) -> tuple[str, Callable[[], object]]:
    """Return a secret that a rotation is going to bring."""
    issued = desk.issue(name="victim", scopes=["a:read"])
    text = desk.mint.secret_format.mint("live")

    def rotate() -> None:
        desk.mint = _Fixed(desk.mint, text)  # type: ignore[assignment]
        desk.rotate(issued.key.id)
        desk.mint = desk.mint.real  # type: ignore[attr-defined]

    return text, rotate


def _issued(desk: Desk) -> tuple[str, Callable[[], object]]:
    """Return a secret that is going to be issued."""
    text = desk.mint.secret_format.mint("live")

    def issue() -> None:
        desk.mint = _Fixed(desk.mint, text)  # type: ignore[assignment]
        desk.issue(name="victim", scopes=["a:read"])
        desk.mint = desk.mint.real  # type: ignore[attr-defined]

    return text, issue


class _Fixed:
    """A mint whose next secret is known."""

    def __init__(self, real: Any, text: str) -> None:
        self.real, self._text = real, text
        self.secret_format = self

    def mint(self, _: str) -> str:
        return self._text

    def secret(self, *args: Any, **given: Any) -> Any:
        return self.real.secret(*args, **given)


def _pruned(desk: Desk) -> tuple[str, Callable[[], object]]:
    issued = desk.issue(name="victim", scopes=["a:read"])
    desk.revoke(issued.key.id)
    return issued.secret, lambda: list(desk.prune(ended_for=timedelta(0)))


def _plan_edited(before: list[str], after: list[str]) -> Callable[[Desk], tuple[str, Callable[[], object]]]:
    """Change what the plan of a key grants, and not the key."""

    def make(desk: Desk) -> tuple[str, Callable[[], object]]:
        desk.plans.put("gold", scopes=before)
        return desk.issue(name="victim", plan="gold").secret, lambda: desk.plans.put("gold", scopes=after)

    return make


def _to_another_plan(desk: Desk, key_id: str) -> None:
    desk.plans.put("other", scopes=["b:read"])
    desk.update(key_id, plan="other", scopes=[])


def _widen_once_narrowed(desk: Desk) -> tuple[str, Callable[[], object]]:
    """The key loses a scope, and then its plan gains it: at no moment may the key use it."""
    desk.plans.put("gold", scopes=["b:read"])
    issued = desk.issue(name="victim", plan="gold")
    key_id = issued.key.id

    def change() -> None:
        desk.update(key_id, scopes=["b:read"])
        desk.plans.put("gold", scopes=["a:read", "b:read"])

    return issued.secret, change


ACTS = {
    "plan narrowed": Act(None, Reason.SCOPE_DENIED, _plan_edited(["a:read"], ["b:read"])),
    "plan widened": Act(Reason.SCOPE_DENIED, None, _plan_edited(["b:read"], ["a:read"])),
    "key narrowed, then its plan widened": Act(Reason.SCOPE_DENIED, Reason.SCOPE_DENIED, _widen_once_narrowed),
    "another plan": Act(None, Reason.SCOPE_DENIED, _on_key(_to_another_plan)),
    "revoke": Act(None, Reason.REVOKED, _on_key(lambda desk, key: desk.revoke(key))),
    "disable": Act(None, Reason.DISABLED, _on_key(lambda desk, key: desk.disable(key))),
    "enable": Act(Reason.DISABLED, None, _disabled),
    "rotate at once": Act(None, Reason.EXPIRED, _on_key(lambda desk, key: desk.rotate(key, overlap=timedelta(0)))),
    "rotate in": Act(Reason.INVALID, None, _rotated_in),
    "narrow scopes": Act(None, Reason.SCOPE_DENIED, _on_key(lambda desk, key: desk.update(key, scopes=["b:read"]))),
    "narrow networks": Act(
        None, Reason.NETWORK_DENIED, _on_key(lambda desk, key: desk.update(key, networks=["203.0.113.7"]))
    ),
    "expire": Act(
        None,
        Reason.EXPIRED,
        _on_key(lambda desk, key: desk.update(key, expires_at=desk.clock.now() + timedelta(microseconds=1))),
    ),
    "delete": Act(None, Reason.INVALID, _on_key(_delete)),
    "issue": Act(Reason.INVALID, None, _issued),
    "import": Act(Reason.INVALID, None, _imported),
    "prune": Act(Reason.REVOKED, Reason.INVALID, _pruned),
}

# Where the verification is when the change is committed, and whether the key was known in this process before.
PLACES = {
    "before the position": False,
    "after the position": False,
    "before the read": False,
    "after the read": False,
    "once it is known": True,
    "before the position, known": True,
    "after the position, known": True,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ACTS)
def test_change_during_a_verification(stage: Stage, name: str, place: str) -> None:
    _change_during(stage, ACTS[name], place)


@pytest.mark.parametrize("place", ["after the position", "after the read", "once it is known"])
@pytest.mark.parametrize("name", ACTS)
def test_change_during_a_verification_on_a_server(stage_on_server: Stage, name: str, place: str) -> None:
    _change_during(stage_on_server, ACTS[name], place)


def _change_during(stage: Stage, act: Act, place: str) -> None:
    secret, change = act.make(stage.changing)
    stage.clock.advance(timedelta(seconds=1))
    if PLACES[place]:
        assert stage.verdict(secret) is act.before
        assert stage.verdict(secret) is act.before
        if place == "once it is known":
            change()
        else:
            stage.clock.advance(STALENESS + 0.01)
            stage.store.at(place.removesuffix(", known"), change)
            assert stage.verdict(secret) in (act.before, act.after)
            assert stage.store.happened
    else:
        stage.verdict(stage.verifying.mint.secret_format.mint("live"))  # a worker that has been at work
        if "position" in place:
            stage.clock.advance(STALENESS + 0.01)
        stage.store.at(place, change)
        assert stage.verdict(secret) in (act.before, act.after)
        assert stage.store.happened == [place]
    stage.clock.advance(STALENESS + 0.000001)
    for _ in range(3):
        assert stage.verdict(secret) is act.after
        stage.clock.advance(STALENESS / 3)
    assert stage.changing.verify(secret, scopes=["a:read"], client_address=ADDRESS).reason is act.after


@pytest.mark.parametrize("second", ["before the position", "before the events", "after the events", "after the read"])
@pytest.mark.parametrize("name", ACTS)
def test_change_while_another_is_taken_in(stage: Stage, name: str, second: str) -> None:
    """The store moves on while a worker reads what has changed: it must not think it has seen that, too."""
    act = ACTS[name]
    secret, change = act.make(stage.changing)
    other = stage.changing.issue(name="other")
    stage.clock.advance(timedelta(seconds=1))
    assert stage.verdict(secret) is act.before
    stage.verdict(other.secret)
    stage.changing.update(other.key.id, description="changed")
    stage.clock.advance(STALENESS + 0.01)
    stage.store.at(second, change)
    stage.verdict(other.secret)
    assert stage.store.happened == [second]
    stage.clock.advance(STALENESS + 0.000001)
    for _ in range(3):
        assert stage.verdict(secret) is act.after
        stage.clock.advance(STALENESS / 3)


@pytest.mark.parametrize("name", ACTS)
def test_change_during_a_read_that_others_wait_for(stage: Stage, name: str) -> None:
    """A second request for the same text takes in the change while the first has what it read in hand."""
    act = ACTS[name]
    secret, change = act.make(stage.changing)
    other = stage.changing.issue(name="other", scopes=["a:read"])
    stage.clock.advance(timedelta(seconds=1))
    assert stage.verdict(other.secret) is None

    def change_and_take_in() -> None:
        change()
        stage.clock.advance(STALENESS / 2 + 0.01)
        assert stage.verdict(other.secret) is None  # asks for the position, and sees the change

    stage.store.at("after the read", change_and_take_in)
    assert stage.verdict(secret) in (act.before, act.after)
    assert stage.store.happened == ["after the read"]
    # What was read before is not kept, although nothing that was taken in later speaks of it any more.
    assert stage.verdict(secret) is act.after
    stage.clock.advance(STALENESS + 0.000001)
    assert stage.verdict(secret) is act.after


@pytest.mark.parametrize("name", ACTS)
def test_change_during_an_outage(stage: Stage, name: str) -> None:
    """What changes while a worker cannot ask is in force once `max_staleness` has passed since it could."""
    act = ACTS[name]
    secret, change = act.make(stage.changing)
    stage.clock.advance(timedelta(seconds=1))
    assert stage.verdict(secret) is act.before
    change()

    def does_not_answer() -> None:
        raise StoreUnavailable("the store does not answer")

    for _ in range(3):
        stage.clock.advance(STALENESS + 0.01)
        stage.store.at("before the position", does_not_answer)
        # A key that was good still is, for what it was good for; about all others nobody can say anything.
        good = act.before in (None, Reason.SCOPE_DENIED)
        assert stage.verdict(secret) is (act.before if good else Reason.UNAVAILABLE)
    stage.clock.advance(STALENESS)
    for _ in range(3):
        assert stage.verdict(secret) is act.after
        stage.clock.advance(STALENESS / 3)


@pytest.mark.parametrize("max_staleness", [0.05, 0.2, 1.0, 10.0])
def test_store_that_is_back_is_asked_in_time(clock: ManualClock, max_staleness: float) -> None:
    """It may be back right after it did not answer: what changed is in force within `max_staleness` from then."""
    desk = open_desk({"KEYDESK_STORE": "memory://", "KEYDESK_CACHE_KEYS": 0}, clock=clock)
    stage = Stage(clock, desk, desk.store, max_staleness)
    issued = desk.issue(name="victim", scopes=["a:read"])
    assert stage.verdict(issued.secret) is None
    clock.advance(max_staleness * 1.01)

    def does_not_answer() -> None:
        raise StoreUnavailable("the store does not answer")

    stage.store.at("before the position", does_not_answer)
    assert stage.verdict(issued.secret) is None
    assert stage.store.happened
    desk.revoke(issued.key.id)
    clock.advance(max_staleness * 0.99)
    assert stage.verdict(issued.secret) is Reason.REVOKED
    desk.close()
