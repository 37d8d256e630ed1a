"""Room cli: `serve --demo`, which fills an empty store with plausible life: plans, keys, their events and requests.

All of it goes through a desk of its own, over the same store, whose clock stands in the past and moves forward. So the
log of events is in order, and its hashes verify. Nobody knows a secret of these keys: each is forgotten at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

from ..desk import Desk
from ..keys.record import IssuedKey, Key
from ..ports import WritableKeyStore
from .context import Run
from .demo_data import DANA, IBRAHIM, KEYS, OWNERS, PLANS, MadeUpKey
from .demo_usage import requests_until

SEED = 2042
FOUNDED_DAYS = 420.0  # before the first key
JITTER_SECONDS = 8 * 3600  # nobody does everything at one time of day; what follows one another is a day apart
DAY = timedelta(days=1)
ANOTHER_STORE = "set KEYDESK_STORE to a new database, such as sqlite:///demo.db, or leave --demo out"


class PastClock:
    """A clock that stands where it is set, and only goes forward."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        """Return the moment it is set to."""
        return self._at

    def monotonic(self) -> float:
        """Return that moment in seconds."""
        return self._at.timestamp()

    def move_to(self, at: datetime) -> None:
        """Set it to a later moment; an earlier one leaves it."""
        self._at = max(self._at, at)


def fill(run: Run) -> None:
    """Fill the empty store of the environment with made-up keys.

    Raises:
        StoreUnavailable: The store does not answer.
        click.exceptions.Exit: The server is not being tried out, or the store is no database, or not empty.
    """
    if not run.read_settings().development:
        run.refuse(
            "--demo makes up keys and their events, and what is in the log of events stays there; it is for trying the "
            "server out. Set KEYDESK_DEVELOPMENT=true and a KEYDESK_STORE for it alone, or leave --demo out"
        )
    with run.open_desk() as desk:
        if not isinstance(desk.store, WritableKeyStore) or desk.usage_store is None or not desk.usage_store.shared:
            run.refuse(
                "--demo fills a database before the server starts, and this store is none: what is in memory ends with "
                f"its process, and the others are changed elsewhere; {ANOTHER_STORE}"
            )
        if desk.store.position().number:
            run.refuse(f"the store is not empty, and --demo leaves it alone; {ANOTHER_STORE}")
        run.note("Making up keys to look at ...")
        make_up_life(desk)
        owners = len({life.owner for life in KEYS if life.owner})
        run.note(
            f"The store has {owners} owners, {len(PLANS)} plans, {len(KEYS)} keys and two weeks of requests now, all "
            "made up. Nobody knows the secrets of these keys."
        )


def make_up_life(desk: Desk) -> None:
    """Fill the store of a desk with plans, owners, keys, events and requests up to now.

    Raises:
        StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
        StoreUnavailable: The store does not answer. What was made up so far stays.
    """
    now, chance = desk.clock.now(), Random(SEED)  # noqa: S311 - made-up numbers, the same each time
    issued = _make_up_keys(desk, now, chance)
    if desk.usage_store is not None:
        kept = [(life, desk.get_key(each.key.id)) for life, each in issued]
        desk.usage_store.add(requests_until(now, kept, chance))
    for life, each in issued:
        _spend(desk, life, each)


def _make_up_keys(desk: Desk, now: datetime, chance: Random) -> list[tuple[MadeUpKey, IssuedKey]]:
    """Let everything that has become of plans, owners and keys happen, in the order of time."""
    clock = PastClock(now - (FOUNDED_DAYS + 1) * DAY)
    past = Desk(store=desk.store, mint=desk.mint, clock=clock, terms=desk.terms)
    issued: list[tuple[MadeUpKey, IssuedKey]] = []
    happened: list[tuple[datetime, Callable[[], object]]] = []
    for life in KEYS:
        happened.extend(_life_of(past, life, now, chance, issued))
    _agree(past)
    for at, happen in sorted(happened, key=lambda one: one[0]):
        clock.move_to(at)
        happen()
    return issued


def _agree(past: Desk) -> None:
    for name, plan in PLANS.items():
        past.plans.put(name, **plan, actor=DANA)
    for owner, terms in OWNERS.items():
        past.owners.put(owner, **terms, actor=IBRAHIM)


def _life_of(
    past: Desk, life: MadeUpKey, now: datetime, chance: Random, issued: list[tuple[MadeUpKey, IssuedKey]]
) -> list[tuple[datetime, Callable[[], object]]]:
    """Return what happened to a key, each with its moment: that it was issued comes first."""
    made: list[Key] = []

    def issue() -> None:
        ends = None if life.ends is None else now + life.ends * DAY
        new = past.issue(name=life.name, owner=life.owner, expires_at=ends, actor=DANA, **life.fields)
        issued.append((life, new))
        made.append(new.key)

    def follow(actor: str, method: str, arguments: dict[str, object]) -> Callable[[], object]:
        return lambda: getattr(past, method)(made[0].id, actor=actor, **arguments)

    steps = [(_moment(now, days, chance), follow(actor, method, dict(more))) for days, actor, method, more in life.then]
    return [(_moment(now, life.made, chance), issue), *steps]


def _moment(now: datetime, days: float, chance: Random) -> datetime:
    jitter = timedelta(seconds=chance.uniform(0, JITTER_SECONDS)) if days >= 1 else timedelta(0)
    return now - days * DAY - jitter


def _spend(desk: Desk, life: MadeUpKey, issued: IssuedKey) -> None:
    """Take from the quotas and limits of a key what is gone by now."""
    if life.spent:
        desk.quotas.reserve(issued.key.id, life.spent)
    if life.taken:
        desk.verify(issued.secret, cost=life.taken)
