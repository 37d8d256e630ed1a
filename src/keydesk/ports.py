"""Core: what the core needs of the rooms behind it, as Protocols. What each promises, raises and does atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from .allowances import Account, Allowance
from .claims import Claim, Claims, Pool, Taken
from .decision import Allowed, Check
from .errors import InvalidField, StateConflict, StoreReadOnly
from .events import ChainedEvent, ChainReport, Event
from .keys.plans import OwnerTerms, Plan
from .keys.record import Key, Secret, Status, as_utc
from .keys.scopes import parse_requirement
from .usage import Batch, EarlierUsage, KeyUsage, MistakeUsage, Range, Span, Usage

_NO_CLAIMS = Claims()
MAX_PAGE = 1000
MAX_FILTER_CHARACTERS = 200
REMEMBERED = timedelta(hours=24)  # for which it is known what was asked for, see `Once`


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Which keys to list. Every condition given must hold.

    Attributes:
        owner: Exactly this owner; at most 200 characters.
        status: In this state now.
        text: Part of the name, the description, the owner or the id, without regard to case; at most 200 characters.
        idle_since: Made before this moment, aware, and not used since.
        plan: Of exactly this plan; at most 200 characters.
        scope: May do this, by their own scopes and by their plan's: `orders:read`, without `*`.

    Raises:
        InvalidField: The scope is none, a text is too long or holds control characters, or the moment has no time zone.
    """

    owner: str | None = None
    status: Status | None = None
    text: str | None = None
    idle_since: datetime | None = None
    plan: str | None = None
    scope: str | None = None

    def __post_init__(self) -> None:
        if self.idle_since is not None:
            as_utc("idle_since", self.idle_since)
        if self.scope is not None:
            parse_requirement(self.scope)
        for name, value in (("owner", self.owner), ("text", self.text), ("plan", self.plan)):
            if value is not None and (len(value) > MAX_FILTER_CHARACTERS or not value.isprintable()):
                raise InvalidField(name, f"must be one line of at most {MAX_FILTER_CHARACTERS} characters")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the keys, newest first. `next_cursor` continues after them; None at the end.

    There may be fewer than were asked for, or none, before the end: a store looks at so many at a time.
    """

    keys: tuple[Key, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What a change makes of a key: its new record (None to delete it) and the one event that tells of it."""

    key: Key | None
    event: Event


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What a change makes of a plan: its new record (None to delete it) and the one event that tells of it."""

    plan: Plan | None
    event: Event


@dataclass(frozen=True, slots=True)
class OwnerChange:
    """What a change makes of an owner's terms: the new record (None to delete it) and the event that tells of it."""

    terms: OwnerTerms | None
    event: Event


def digest_of_json(value: object) -> str:
    """Return the SHA-256 of a JSON value, in hex: the same for equal values, in whatever order their members come."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """That keys are to be added once, however often the same is asked for.

    Attributes:
        caller: On whose behalf: the id of a key, or an actor. Callers do not see each other's requests.
        name: The SHA-256 of what the caller calls this request, in hex.
        request: The SHA-256 of what is asked for, in hex.
        at: When, aware. It is remembered for 24 hours.
    """

    caller: str
    name: str
    request: str
    at: datetime

    @classmethod
    def of(cls, caller: str, called: str, asked: object, at: datetime) -> Once:
        """Return it of what the caller calls a request, and of what is asked for: JSON values, however written."""
        return cls(caller=caller, name=digest_of_json(called), request=digest_of_json(asked), at=at)


class Position(NamedTuple):
    """How far a store has come. Two that are equal have the same keys between them.

    Attributes:
        number: Of the newest event, 0 where there is none; elsewhere one more with each change.
        hash: Of the newest event; empty where a store has no events.
    """

    number: int
    hash: str = ""


class FeedEntry(NamedTuple):
    """One event, as far as who keeps keys in memory needs to know of it.

    Attributes:
        number: Its place in the chain.
        kind: Of the event, such as `key.revoked`.
        key_id: The key that changed; empty where it is about no single key.
        previous_hash, hash: Of the row before it, and its own.
    """

    number: int
    kind: str
    key_id: str
    previous_hash: str
    hash: str


class KeyStore(Protocol):
    """Where keys live. Every method may be called from any thread."""

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        """Return the key that has a secret under one of these digests, in one read, or None.

        A store with plans says with it, in `agreed`, what its plan and its owner's terms are at the same moment.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...

    def find_key(self, key_id: str) -> Key | None:
        """Return the key of this id, or None.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...

    def list_keys(self, where: KeyFilter, *, cursor: str | None = None, size: int = 100) -> Page:
        """Return one page of keys, newest first (by id, downwards).

        A store that would look at many keys to fill the page returns what it has found, and the cursor to go on with.

        Args:
            where: Which keys.
            cursor: `next_cursor` of the page before; None for the first.
            size: 1 to 1000 keys at most.

        Raises:
            InvalidField: The cursor is none of this store, or the size is out of range.
            StoreUnavailable: The store does not answer.
        """
        ...

    def position(self) -> Position:
        """Return how far the store has come. It costs little to ask: what is known of keys is as old as the answer.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...

    def list_feed(self, *, after: int, size: int = 100) -> list[FeedEntry]:
        """Return up to `size` (1 to 1000) events with numbers above `after`, in order; none where a store has none.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The store does not answer.
        """
        ...

    def note_used(self, used: Mapping[str, datetime]) -> None:
        """Note when keys were last used, each by its id; where a later moment is noted, leave it.

        This is no change: it writes no event and touches nothing else of a record. Ids that no key has are passed over.

        Raises:
            StoreUnavailable: The store does not answer. Nothing was noted.
        """
        ...

    def checks(self) -> list[Check]:
        """Return what the store finds about itself. Problems are results here, never exceptions."""
        ...

    def close(self) -> None:
        """Give back connections and files. The store cannot be used afterwards."""
        ...


@runtime_checkable
class EditedKeyStore(KeyStore, Protocol):
    """A store whose keys people write down somewhere, and which Keydesk only reads."""

    def edited_in(self, key: Key | None = None) -> str:
        """Return where people edit this key, or write down a new one.

        That is the path of a file, or the name of a setting: `API_KEYS`, or `API_KEY`, where no fields fit.
        """
        ...


@runtime_checkable
class RemoteKeyStore(KeyStore, Protocol):
    """A store whose keys are on a server of Keydesk, and which are changed there alone.

    Attributes:
        server_url: Where that is.
    """

    server_url: str


@runtime_checkable
class WritableKeyStore(KeyStore, Protocol):
    """A store that Keydesk can change. Each change and its event are in force together or not at all.

    Events are numbered from 1 without gaps in the order in which their changes come into force: who has seen
    event n has seen every event before it.
    """

    def add(self, keys: Iterable[tuple[Key, Event]], once: Once | None = None) -> int:
        """Add new keys, all or none, and return how many.

        The iterable is read as it goes, so a million keys need no more memory than a batch of them.

        Args:
            keys: Each with the event of it; at most 1000 where they are to be added once.
            once: That they are. It is written down with the keys, or nothing is.

        Raises:
            AddedBefore: The same was asked for before, and done.
            OtherRequest: Something else was asked for before, by the same name.
            DuplicateSecret: A digest is in the store already, or twice among these.
            InvalidField: The store has no plan of the name that a key has.
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def change(self, key_id: str, decide: Callable[[Key], Change | None]) -> Key | None:
        """Hand the newest record to `decide` and put what it returns in its place, with nobody in between.

        What `decide` raises is raised on, and nothing changes. Where it returns None, nothing changes either.

        Returns:
            The record as it is now; None where it was deleted.

        Raises:
            KeyNotFound: No key has this id.
            DuplicateSecret: A new digest is in the store already.
            InvalidField: The store has no plan of the name that the key is given.
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def redigest(self, old: str, new: str, pepper_id: str) -> None:
        """Replace the digest of one secret, if the store still holds the old one; touch nothing else.

        This is the only thing a verification writes. It brings back no record and tells of no change.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...

    def list_events(
        self, *, after: int = 0, key_id: str | None = None, owner: str | None = None, size: int = 100
    ) -> list[ChainedEvent]:
        """Return up to `size` (1 to 1000) events with numbers above `after`, in order.

        Args:
            after: A number of an event.
            key_id: Only those of this key.
            owner: Only those of this owner, and of keys that were this owner's at that moment.
            size: How many.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...

    def list_newest_events(
        self, *, before: int | None = None, key_id: str | None = None, owner: str | None = None, size: int = 100
    ) -> list[ChainedEvent]:
        """Return up to `size` (1 to 1000) of the newest events, the newest first.

        Args:
            before: Only events with numbers below this one.
            key_id, owner: As of `list_events`.
            size: How many.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The store does not answer.
        """
        ...

    def check_chain(self, progress: Callable[[int, int], None] | None = None) -> ChainReport:
        """Walk all events from the first and report the first break.

        Args:
            progress: Called now and then with the rows read and the rows there are.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...

    def prunable(self, *, ended_before: datetime) -> Iterator[str]:
        """Yield the ids of keys that were revoked or expired, or hold a secret that ended, before a moment.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...


def every_key(store: KeyStore, where: KeyFilter, *, size: int = MAX_PAGE) -> Iterator[Key]:
    """Yield all keys that match, newest first, reading one page of so many after the other.

    Raises:
        InvalidField: The size is out of range.
        StoreUnavailable: The store does not answer.
    """
    cursor = None
    while True:
        page = store.list_keys(where, cursor=cursor, size=size)
        yield from page.keys
        cursor = page.next_cursor
        if cursor is None:
            return


def writable(store: KeyStore) -> WritableKeyStore:
    """Return the store, as one that Keydesk can change.

    Raises:
        StoreReadOnly: It is not.
    """
    if isinstance(store, WritableKeyStore):
        return store
    if isinstance(store, RemoteKeyStore):
        raise changed_elsewhere(store.server_url)
    raise StoreReadOnly(
        "Keys of this store are kept in a file or in the configuration: change them there. "
        "To issue, rotate and revoke keys, set KEYDESK_STORE to a database, such as sqlite:///keydesk.db."
    )


def changed_elsewhere(server_url: str) -> StoreReadOnly:
    """Return what to raise where keys, plans and quotas are on a server and are changed there."""
    return StoreReadOnly(
        f"Keys, plans and quotas are changed on the server {server_url}: by its management API, or by `keydesk` with "
        "the settings that are in force there."
    )


class PlanStore(Protocol):
    """Where the plans and the owners' terms of a store are: its attribute `plans`. Each change writes one event.

    Every method may be called from any thread. Changes of plans, owners' terms and keys follow one another, so no key
    has a plan that is not there.
    """

    def find_plan(self, name: str) -> Plan | None:
        """Return the plan of this name, or None.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def list_plans(self, *, after: str = "", size: int = 100) -> list[Plan]:
        """Return up to `size` (1 to 1000) plans whose names come after this one, in the order of their names.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def change_plan(self, name: str, decide: Callable[[Plan | None], PlanChange | None]) -> Plan | None:
        """Hand the newest record, or None, to `decide` and put what it returns in its place, with nobody in between.

        What `decide` raises is raised on, and nothing changes. Where it returns None, nothing changes either. It may
        be called more than once.

        Returns:
            The record as it is now; None where there is none.

        Raises:
            StateConflict: It was to be deleted, and keys that are not revoked have it.
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def find_owner(self, owner: str) -> OwnerTerms | None:
        """Return what was agreed for this owner, or None.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def list_owners(self, *, after: str = "", size: int = 100) -> list[OwnerTerms]:
        """Return what was agreed for up to `size` (1 to 1000) owners who come after this one, in their order.

        Raises:
            InvalidField: The size is out of range.
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def change_owner(self, owner: str, decide: Callable[[OwnerTerms | None], OwnerChange | None]) -> OwnerTerms | None:
        """Do for an owner's terms what `change_plan` does for a plan.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...


def plans_of(store: KeyStore) -> PlanStore | None:
    """Return where the plans of a store are; None where it keeps none, as files and the configuration do."""
    plans: PlanStore | None = getattr(store, "plans", None)
    return plans


def unknown_plan(name: str) -> InvalidField:
    """Return what to raise where a key is given a plan that is not there."""
    return InvalidField("plan", f"there is no plan {name}; make it with `keydesk plans put {name}`, or name another")


def plan_in_use(name: str, count: int) -> StateConflict:
    """Return what to raise where a plan that keys have is to be deleted."""
    have = "1 key has" if count == 1 else f"{count} keys have"
    return StateConflict(
        f"The plan {name} cannot be deleted: {have} it. Give them another plan or none first (`keydesk list --plan "
        f"{name}` shows them), or revoke them; revoked keys do not count."
    )


@dataclass(slots=True, eq=False)
class Found:
    """The key that has a presented text, and which of its secrets that is.

    `always` is the decision about it where neither time nor place can change that, scopes aside; else None. It is
    made once, and a request that needs it touches little else of a key that was not used for a while. `claims` are
    its limits and `allowances` its quotas, and `limited` says whether there are any, once somebody has asked for them.
    `superseded` says whether the key has a newer secret.
    `used` is for a cache: whether it was since room was last needed.
    """

    key: Key
    secret: Secret
    always: Allowed | None = field(init=False)
    superseded: bool = field(init=False)
    used: bool = field(init=False, default=False)
    limited: bool | None = field(init=False, default=None)
    claims: Claims = field(init=False, default=_NO_CLAIMS)
    allowances: tuple[Allowance, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        key, secret = self.key, self.secret
        limits = (key.revoked_at, key.disabled_at, key.expires_at, secret.expires_at)
        free = all(moment is None for moment in limits) and not key.networks
        self.always = Allowed(key, secret) if free else None
        self.superseded = secret.number != key.secrets[-1].number


Mistake: TypeAlias = Literal["unknown", "malformed"]  # of a text that is no key's: whether it could be a secret at all


class CacheState(NamedTuple):
    """How a finder that keeps keys is.

    Attributes:
        known: How many texts it knows the key of.
        age_seconds: How long ago the store last answered it; None where it never has.
    """

    known: int
    age_seconds: float | None


class KeyFinder(Protocol):
    """What the verifier asks for the key of a presented text. May be called from any thread."""

    def find(self, text: str) -> Found | Mistake:
        """Return the key that has this text for a secret, or why none has. Whatever a client sends may be asked for.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def state(self) -> CacheState | None:
        """Return how what it keeps is; None where it keeps nothing."""
        ...

    def look_again(self) -> None:
        """Take notice that a key was changed by this process: the next answer comes after that."""
        ...


class Limiter(Protocol):
    """Where limits and credits are counted. Every method may be called from any thread.

    In every window of a limit's length, wherever it begins, at most so many requests are admitted, of all processes
    that share the limiter. Nothing is refused that an exact log of times would admit, but for what was taken within
    one thirty-second of the window before its edge. A counter takes at most 256 bytes, and goes when it is idle.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes count in the same place."""
        ...

    def take(self, claims: Sequence[Claim], pools: Sequence[Pool] = (), *, cost: int = 1, test: bool = False) -> Taken:
        """Take what a request costs from every limit and every pool in one atomic step, or nothing from any.

        Deposits go into their pools in the same step, whether or not anything is taken from them.

        Args:
            claims: The limits it is under, no two with the same subject and window.
            pools: Where its credits come from, no two with the same subject.
            cost: 0 to 1,000,000. What costs nothing passes where it is not more than used up.
            test: Say what would become of it, and take nothing.

        Raises:
            LimiterUnavailable: The limiter does not answer. What was to be taken may have been; deposits may be lost.
        """
        ...

    def checks(self) -> list[Check]:
        """Return what the limiter finds about itself. Problems are results here, never exceptions."""
        ...

    def close(self) -> None:
        """Give back connections and files. The limiter cannot be used afterwards."""
        ...


class Balance(NamedTuple):
    """What has become of a quota in one period.

    Attributes:
        leased: How many credits were handed out to limiters, spent or not.
        refilled: How many there are on top of the quota.
        told_percent: Of what an event has told: 0, 80 or 100.
    """

    leased: int
    refilled: int
    told_percent: int


class QuotaStore(Protocol):
    """A store that hands out the credits of quotas. Every method may be called from any thread.

    What was leased is written down for good before it is handed out, so no crash of anybody brings it back: it can be
    lost, and never be handed out twice.
    """

    def lease(self, account: Account, count: int, least: int) -> tuple[int, Balance]:
        """Hand out credits of a quota: at least so many, or none.

        Args:
            account: Which.
            count: The size of the quota.
            least: How many are needed; 1 or more. A part of what is left is handed out on top, so that not every
                request has to come here.

        Returns:
            How many were handed out, and the balance after that.

        Raises:
            StoreUnavailable: The store does not answer. What was handed out, if anything, is lost.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def balance(self, account: Account) -> Balance:
        """Return what was handed out.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def tell(self, account: Account, percent: int, event: Event) -> None:
        """Write an event that so much was handed out, unless one has told of as much in this period.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def refill(self, account: Account, credits_: int, event: Event) -> Balance:
        """Add credits to this period and write the event, both or neither. Return the balance after that.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...


class Meter(Protocol):
    """Counts verifications. Called on the path of each request: nothing here waits, and nothing is raised."""

    def count(self, key_id: str, outcome: str, now: datetime) -> None:
        """Count one verification of a key.

        Args:
            key_id: Which key.
            outcome: `allowed`, or the `Reason` why not.
            now: When.
        """
        ...

    def count_mistake(self, mistake: Mistake, client_address: str | None, now: datetime) -> None:
        """Count one text that is no key's.

        Args:
            mistake: Whether it could be a secret at all.
            client_address: Where it came from.
            now: When.
        """
        ...

    def count_earlier(self, key_id: str, number: int, client_address: str | None, now: datetime) -> None:
        """Count one use of a secret that is not the newest of its key.

        Args:
            key_id: Which key.
            number: Of the secret.
            client_address: Where it came from.
            now: When.
        """
        ...

    def flush(self) -> None:
        """Write down what was counted. What cannot be written is kept, and tried again."""
        ...

    def close(self) -> None:
        """Write down what was counted, for the last time."""
        ...


class UsageStore(Protocol):
    """Where counts of requests are kept. Every method may be called from any thread.

    A count is never too high: what may be there already is not added again.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes see what this one writes."""
        ...

    def add(self, batch: Batch) -> bool:
        """Add what was counted, all or nothing, and note when its keys were last used.

        Returns:
            Whether it is known to be written. False where the store broke off so late that nobody knows: it may be
            there, and must not be added again.

        Raises:
            StoreUnavailable: The store does not answer. Nothing was written.
            SchemaMismatch: The tables are not those of this version. Nothing was written.
        """
        ...

    def counts(self, range_: Range, key_id: str | None = None, owner: str | None = None) -> list[Usage]:
        """Return what was counted within a range, in order of time and outcome: of one key, of an owner's, or of all.

        Args:
            range_: When.
            key_id: Only what this key sent.
            owner: Only what keys sent that are there and are this owner's now.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def counts_of_keys(self, range_: Range, key_ids: Sequence[str]) -> dict[str, list[Usage]]:
        """Return what was counted of each of these keys, as `counts` does of one, in one read.

        Keys that sent nothing are left out. The rows of other keys are not read.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def top(self, range_: Range, size: int) -> tuple[int, list[KeyUsage]]:
        """Return how many requests there were within a range, and the keys that sent the most, without their records.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def mistakes(self, range_: Range, size: int) -> tuple[int, list[MistakeUsage]]:
        """Return how many texts were no key's within a range, and the networks most came from.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def mistake_counts(self, range_: Range) -> list[Usage]:
        """Return how many texts were no key's within a range, in order of time and mistake.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def earlier_secrets(self, range_: Range, key_id: str, size: int) -> tuple[list[EarlierUsage], dict[int, datetime]]:
        """Return which networks used earlier secrets of a key most within a range, and when each was used last.

        The latter by the number of the secret, whenever it was, and as exactly as is still kept.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...

    def forget(self, span: Span, before: datetime) -> bool:
        """Remove counts of one span that begin before a moment, some thousand rows at most, the oldest first.

        Returns:
            Whether there are more.

        Raises:
            StoreUnavailable: The store does not answer.
            SchemaMismatch: The tables are not those of this version.
        """
        ...
