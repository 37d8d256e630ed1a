"""Room server: the calls of applications that have this server for a store. See `keydesk.sync` for what is said.

Their keys have the scope `keydesk:sync` and no owner. They learn of a key what they ask for by a digest, which says
that they know the secret or were presented it; to read others they need the scopes that the management API asks for.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, TypeVar

from .. import sync
from ..allowances import Account
from ..claims import Taken
from ..decision import Denied
from ..desk import Desk
from ..errors import InvalidField, LimiterUnavailable, StoreError, StoreUnavailable
from ..events import QuotaReached
from ..keys.authority import KEYS_READ, USAGE_READ
from ..keys.limits import MAX_CHARACTERS, MAX_LIMIT_COUNT, MAX_WINDOW_SECONDS, Period, parse_quota
from ..keys.networks import UNKNOWN_NETWORK
from ..keys.plans import OwnerTerms, Plan
from ..keys.record import Key, as_utc, parse_field
from ..keys.scopes import Requirement, requirement_of
from ..ports import Balance, FeedEntry, QuotaStore, RemoteKeyStore, UsageStore
from ..quotas import ACTOR
from ..usage import MAX_POINTS, OTHERS, Batch, H, Range, Span, Usage, check_keys
from ..web.responses import Answer, Answers, problem_answer
from .deciding import Decider
from .messages import answer_post, encoded_answer, read_body, require_json
from .metrics import OUTCOMES

Q = TypeVar("Q")
A = TypeVar("A")

_SYNC = "keydesk:sync"
_CALLER = requirement_of((_SYNC,), ())
_READER_OF_KEYS = requirement_of((_SYNC, KEYS_READ), ())
_READER_OF_USAGE = requirement_of((_SYNC, USAGE_READ), ())
_OWNED = problem_answer(
    HTTPStatus.FORBIDDEN,
    "not_permitted",
    "The key of an application that has this server for a store may have no owner: it sees the keys of all.",
)
CLOCK_TOLERANCE = timedelta(minutes=5)  # by which clocks of machines may differ
_CLOCKS = (-CLOCK_TOLERANCE, timedelta(0), CLOCK_TOLERANCE)
_COUNTS_NOTHING = "this server's store counts no quotas and no requests"


@dataclass(frozen=True, slots=True)
class _Place:
    """What answers one call, and what its caller needs."""

    call: sync.Call[Any, Any]
    requirement: Requirement
    handle: Callable[[Any], Any]


class Sync:
    """Answers applications that have this server for a store.

    Args:
        desk: Whose store, limiter and counts they use.
        answers, decider: As every door has them.
    """

    def __init__(self, desk: Desk, answers: Answers, decider: Decider) -> None:
        self._desk = desk
        self._store = desk.store
        self._answers = answers
        self._decide = decider.decide
        self._name = secrets.token_hex(16)
        self._places: dict[str, _Place] = {}
        self._put(sync.HEAD, self._head)
        self._put(sync.FEED, self._feed)
        self._put(sync.FIND_BY_DIGEST, self._find_by_digest)
        self._put(sync.NOTE_USED, self._note_used)
        self._put(sync.ADD_USAGE, self._add_usage)
        self._put(sync.TAKE, self._take)
        self._put(sync.LEASE, self._lease)
        self._put(sync.BALANCE, self._balance)
        self._put(sync.TELL, self._tell)
        self._put(sync.FIND_KEY, self._find_key, _READER_OF_KEYS)
        self._put(sync.LIST_KEYS, self._list_keys, _READER_OF_KEYS)
        self._put(sync.FIND_PLAN, self._find_plan, _READER_OF_KEYS)
        self._put(sync.LIST_PLANS, self._list_plans, _READER_OF_KEYS)
        self._put(sync.FIND_OWNER, self._find_owner, _READER_OF_KEYS)
        self._put(sync.LIST_OWNERS, self._list_owners, _READER_OF_KEYS)
        self._put(sync.COUNTS, self._counts, _READER_OF_USAGE)
        self._put(sync.COUNTS_OF_KEYS, self._counts_of_keys, _READER_OF_USAGE)
        self._put(sync.MISTAKE_COUNTS, self._mistake_counts, _READER_OF_USAGE)
        self._put(sync.EARLIER_SECRETS, self._earlier_secrets, _READER_OF_USAGE)
        self._put(sync.TOP_KEYS, self._top_keys, _READER_OF_USAGE)
        self._put(sync.TOP_NETWORKS, self._top_networks, _READER_OF_USAGE)

    def _put(self, call: sync.Call[Q, A], handle: Callable[[Q], A], requirement: Requirement = _CALLER) -> None:
        self._places[call.path] = _Place(call, requirement, handle)

    @property
    def paths(self) -> Iterable[str]:
        """The paths it answers."""
        return self._places

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return answer_post(self._answer, environ, start_response)

    def _answer(self, environ: dict[str, Any]) -> Answer:
        place = self._places[environ["PATH_INFO"]]
        caller = self._decide(environ, place.requirement)
        if isinstance(caller, Denied):
            return self._answers.answer(caller)
        if caller.key.owner is not None:
            return _OWNED
        require_json(environ)
        try:
            asked = place.call.read_question(read_body(environ, place.call.most))
        except ValueError as error:
            raise InvalidField("body", f"is no such question: {str(error)[:200]}") from None
        try:
            return encoded_answer(sync.write(place.handle(asked)))
        except (StoreError, LimiterUnavailable) as error:
            return problem_answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", str(error))

    # What a cache needs

    def _head(self, _: sync.Nothing) -> sync.Head:
        if isinstance(self._store, RemoteKeyStore):
            raise StoreUnavailable("this server asks another one for its keys; let KEYDESK_STORE name that one")
        number, own_hash = self._store.position()
        # Numbers of a store without events are those of one process: what another one numbers so is something else.
        return sync.Head(number, own_hash or f"{self._name}{os.getpid()}", self._desk.mint.digester.pepper_id)

    def _feed(self, asked: sync.AfterEvent) -> list[FeedEntry]:
        return self._store.list_feed(after=asked.after, size=asked.size)

    def _find_by_digest(self, asked: sync.ByDigest) -> Key | None:
        return self._store.find_by_digest(asked.digests)

    # What requests leave behind

    def _note_used(self, asked: sync.Used) -> sync.Nothing:
        self._store.note_used({key_id: self._past(at) for key_id, at in asked.used.items()})
        return sync.Nothing()

    def _add_usage(self, asked: sync.Counted) -> sync.Written:
        if any(outcome not in OUTCOMES for _, _, _, outcome, _ in asked.keys):
            raise InvalidField("keys", "name an outcome that is none")
        for *_, network, _ in (*asked.mistakes, *asked.earlier):
            if network not in (OTHERS, UNKNOWN_NETWORK):
                parse_field("networks", [network])
        earlier = [(span, at, (own, number), network, count) for span, at, own, number, network, count in asked.earlier]
        batch = Batch(self._entries(asked.keys), self._entries(asked.mistakes), self._entries(earlier))
        return sync.Written(self._usage().add(batch))

    def _entries(
        self, counts: Iterable[tuple[Span, datetime, H, str, int]]
    ) -> dict[tuple[Span, datetime, H, str], int]:
        """Return counts by what was counted. Those of a clock that was ahead are of now: the others come with them.

        Raises:
            InvalidField: A beginning is none.
        """
        now = self._desk.clock.now()
        entries: dict[tuple[Span, datetime, H, str], int] = {}
        for span, at, first, second, count in counts:
            start_at = as_utc("body", at)
            if span.start_of(start_at) != start_at:
                raise InvalidField("body", f"names a moment at which no {span} begins")
            if start_at > now + CLOCK_TOLERANCE:
                start_at = span.start_of(now)
            entry = (span, start_at, first, second)
            entries[entry] = entries.get(entry, 0) + count
        return entries

    def _past(self, moment: datetime) -> datetime:
        """Return a moment in UTC.

        Raises:
            InvalidField: It has yet to come, has no time zone, or lies too far away.
        """
        moment = as_utc("body", moment)
        if moment > self._desk.clock.now() + CLOCK_TOLERANCE:
            raise InvalidField("body", "names a moment that has yet to come; set the clock of that machine")
        return moment

    # Limits and quotas

    def _take(self, asked: sync.Take) -> Taken:
        if self._desk.limiter is None:
            raise LimiterUnavailable("this server counts no requests")
        _check_claims(asked)
        taken = self._desk.limiter.take(asked.claims, asked.pools, cost=asked.cost, test=asked.test)
        return taken._replace(claims=())  # who asks has them

    def _lease(self, asked: sync.Leasing) -> sync.Leased:
        granted, balance = self._quotas().lease(_checked(asked.account), asked.count, asked.least)
        return sync.Leased(granted, balance)

    def _balance(self, asked: sync.Asked) -> Balance:
        return self._quotas().balance(_checked(asked.account))

    def _tell(self, asked: sync.Told) -> sync.Nothing:
        account, now, quota = _checked(asked.account), self._desk.clock.now(), parse_quota(asked.quota)
        key = self._store.find_key(asked.key_id)
        if key is None or account.holder not in (f"key:{key.id}", f"owner:{key.owner}"):
            raise InvalidField("account", "is of no such key, nor of its owner")
        named = (str(quota.period), quota.zone) == account[1:3]
        if not named or account.start_at not in {quota.period_at(now + by)[0] for by in _CLOCKS}:
            raise InvalidField("account", "is not in the period that runs")
        details = {
            "quota": str(quota),
            "holder": account.holder,
            "percent": asked.percent,
            "period_start_at": account.start_at.isoformat(),
        }
        event = QuotaReached(at=now, actor=ACTOR, key_id=key.id, owner=key.owner, details=details)
        self._quotas().tell(account, asked.percent, event)
        return sync.Nothing()

    # Reading, for people

    def _find_key(self, asked: sync.ById) -> Key | None:
        key = self._store.find_key(asked.key_id)
        return _without_digests(key) if key else None

    def _list_keys(self, asked: sync.Listed) -> sync.Keys:
        page = self._store.list_keys(asked.where, cursor=asked.cursor, size=asked.size)
        return sync.Keys(tuple(map(_without_digests, page.keys)), page.next_cursor)

    def _find_plan(self, asked: sync.ByName) -> Plan | None:
        return self._desk.plans.find(asked.name)

    def _list_plans(self, asked: sync.AfterName) -> list[Plan]:
        return list(self._desk.plans.list(after=asked.after, size=asked.size))

    def _find_owner(self, asked: sync.ByName) -> OwnerTerms | None:
        return self._desk.owners.find(asked.name)

    def _list_owners(self, asked: sync.AfterName) -> list[OwnerTerms]:
        return list(self._desk.owners.list(after=asked.after, size=asked.size))

    def _counts(self, asked: sync.Within) -> list[Usage]:
        return self._usage().counts(_checked_range(asked.range), asked.key_id, asked.owner)

    def _counts_of_keys(self, asked: sync.OfKeys) -> dict[str, list[Usage]]:
        range_ = _checked_range(asked.range)
        return self._usage().counts_of_keys(range_, check_keys(asked.key_ids, range_))

    def _mistake_counts(self, asked: sync.During) -> list[Usage]:
        return self._usage().mistake_counts(_checked_range(asked.range))

    def _earlier_secrets(self, asked: sync.OfKey) -> sync.EarlierSecrets:
        range_ = _checked_range(asked.range)
        return sync.EarlierSecrets(*self._usage().earlier_secrets(range_, asked.key_id, asked.size))

    def _top_keys(self, asked: sync.Most) -> sync.TopKeys:
        return sync.TopKeys(*self._usage().top(_checked_range(asked.range), asked.size))

    def _top_networks(self, asked: sync.Most) -> sync.TopNetworks:
        return sync.TopNetworks(*self._usage().mistakes(_checked_range(asked.range), asked.size))

    def _usage(self) -> UsageStore:
        if self._desk.usage_store is None:
            raise LimiterUnavailable(_COUNTS_NOTHING)
        return self._desk.usage_store

    def _quotas(self) -> QuotaStore:
        quotas: QuotaStore | None = getattr(self._store, "quotas", None)
        if quotas is None:
            raise LimiterUnavailable(_COUNTS_NOTHING)
        return quotas


def _without_digests(key: Key) -> Key:
    """Return a key as people see it: nobody who reads keys needs to know what their secrets are found by."""
    return replace(key, secrets=tuple(replace(secret, digest="") for secret in key.secrets))


def _check_claims(asked: sync.Take) -> None:
    """Return if all of this can be counted.

    Raises:
        InvalidField: It cannot.
    """
    for claim in asked.claims:
        if not (0 < claim.most <= MAX_LIMIT_COUNT and 0 < claim.window_seconds <= MAX_WINDOW_SECONDS):
            raise InvalidField("claims", "are no limits")
    for pool in asked.pools:
        if not (0 < pool.seconds <= MAX_WINDOW_SECONDS and 0 <= pool.deposit <= sync.MAX_COUNT):
            raise InvalidField("pools", "are none")
    counted = [claim[1::2] for claim in asked.claims] + [pool[1:2] for pool in asked.pools]
    if len(set(counted)) < len(counted):
        raise InvalidField("claims", "name one counter twice")
    for policy, subject, *_ in (*asked.claims, *asked.pools):
        if len(subject) > sync.MAX_SUBJECT_CHARACTERS or len(policy) > sync.MAX_TEXT_CHARACTERS:
            raise InvalidField("claims", "have names that are too long")


def _checked_range(range_: Range) -> Range:
    """Return a range.

    Raises:
        InvalidField: It is none, or has over 5000 spans.
    """
    since, until = as_utc("since", range_.since), as_utc("until", range_.until)
    if not since < until or (until - since) / range_.span.length > MAX_POINTS:
        raise InvalidField("since", f"is not before the end, or over {MAX_POINTS} {range_.span}s before it")
    return Range(range_.span, since, until)


def _checked(account: Account) -> Account:
    """Return an account.

    Raises:
        InvalidField: It cannot be one.
    """
    holder, period, zone, start_at = account
    known = period in tuple(Period) and holder.startswith(("key:", "owner:")) and holder.isprintable()
    if not known or len(holder) > sync.MAX_TEXT_CHARACTERS or len(zone) > MAX_CHARACTERS:
        raise InvalidField("account", "is none")
    return account._replace(start_at=as_utc("account", start_at))
