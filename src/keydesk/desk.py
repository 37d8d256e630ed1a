"""Core: the desk. It issues, rotates, updates, disables and revokes keys, and verifies them.

A change checks who may, builds the new record and one event, and hands both to the store, which puts them in force
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from . import changes, explain
from .callers import DEFAULT_ACTOR, Callers
from .clock import Clock
from .decision import Allowed, Check, Decision, Refused
from .errors import InvalidField, KeyNotFound
from .events import ChainedEvent, ChainReport, Event
from .keys.held import Mint
from .keys.limits import check_cost
from .keys.record import (
    MAX_REASON_CHARACTERS,
    IssuedKey,
    Key,
    KeyFields,
    Secret,
    Status,
    mint_key_ids,
    parse_actor,
    parse_fields,
    parse_text,
)
from .keys.scopes import requirement_of
from .lookup import StoreFinder
from .plans import Owners, Plans
from .ports import Change, KeyFilter, KeyFinder, KeyStore, Limiter, Meter, Page, UsageStore, writable
from .terms import Terms
from .usage import Kept, MistakeReport, Span, TopReport, UsageReport, check_top, parse_range
from .verifier import Verifier

DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=366)
MAX_AGE = timedelta(days=36_525)


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key whose secret a client already holds, to be imported: its fields, and what `Mint.secret` made of it."""

    fields: KeyFields
    secret: Secret


class Desk:
    """The desk of one store.

    Every method that changes something takes `by` and `actor`. `by` is the key of the caller on whose behalf it
    happens: then the change goes no further than what that key holds. Without it the code that calls is trusted, and
    `actor` says who it is: one line of at most 200 characters. Either ends up in the event.

    Attributes:
        plans: Named bundles of scopes, limits and quotas that many keys share.
        owners: The limits and quotas that the keys of one owner share.
    """

    def __init__(
        self,
        *,
        store: KeyStore,
        mint: Mint,
        clock: Clock,
        finder: KeyFinder | None = None,
        meter: Meter | None = None,
        usage: UsageStore | None = None,
        kept: Kept = Kept(),  # noqa: B008 - a value
        limiter: Limiter | None = None,
        terms: Terms | None = None,
    ) -> None:
        self.store = store
        self.mint = mint
        self.clock = clock
        self.meter = meter
        self.usage_store = usage
        self._kept = kept
        self.limiter = limiter
        self._finder = finder or StoreFinder(store, mint)
        self.terms = terms or Terms()
        self.verifier = Verifier(self._finder, mint.secret_format, clock, meter, limiter, self.terms)
        self._callers = Callers(store, self.terms)
        self.plans = Plans(store, clock, self._callers, self._finder.look_again)
        self.owners = Owners(store, clock, self._callers, self._finder.look_again)

    # Verifying

    def verify(
        self,
        secret: str | None,
        *,
        scopes: Iterable[str] = (),
        any_of: Iterable[str] = (),
        client_address: str | None = None,
        cost: int = 1,
        test: bool = False,
    ) -> Decision:
        """Return whether the holder of a secret may pass, and take it from the limits of the key if so.

        Args:
            secret: What the client presented; None or empty for nothing.
            scopes: All of them are needed.
            any_of: At least one of them is needed.
            client_address: Where the request came from. A key with networks is refused without it.
            cost: For how many requests it counts with the key's limits; 0 to 1,000,000.
            test: Only say what would become of it: nothing is taken, and nothing is counted.

        Raises:
            InvalidField: A scope asked for is none, or the cost is out of range. Nothing a client sends raises.
        """
        requirement = requirement_of(scopes, any_of)
        return self.verifier.verify(secret, requirement, client_address, cost=check_cost(cost), test=test)

    def require(
        self,
        secret: str | None,
        *,
        scopes: Iterable[str] = (),
        any_of: Iterable[str] = (),
        client_address: str | None = None,
        cost: int = 1,
    ) -> Key:
        """Return the key a secret belongs to, if its holder may pass. Arguments as for `verify`.

        Raises:
            Refused: The holder may not; its `decision` says why.
            InvalidField: A scope asked for is none, or the cost is out of range.
        """
        decision = self.verify(secret, scopes=scopes, any_of=any_of, client_address=client_address, cost=cost)
        if isinstance(decision, Allowed):
            return decision.key
        raise Refused(decision)

    def explain(
        self,
        secret: str | None,
        *,
        scopes: Iterable[str] = (),
        any_of: Iterable[str] = (),
        client_address: str | None = None,
    ) -> tuple[Decision, list[Check]]:
        """Return the decision about a secret and every check behind it, in order, each with its fix.

        Raises:
            InvalidField: A scope asked for is none.
        """
        requirement = requirement_of(scopes, any_of)
        return explain.explain(self.store, self.mint, self.clock, secret, requirement, client_address)

    # Changing

    def issue(
        self,
        *,
        name: str,
        owner: str | None = None,
        description: str = "",
        environment: str = "live",
        plan: str | None = None,
        scopes: Iterable[str] = (),
        networks: Iterable[str] = (),
        limits: Iterable[str] = (),
        quotas: Iterable[str] = (),
        expires_at: datetime | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> IssuedKey:
        """Make a key and its secret. The secret is in the result and nowhere else, ever.

        Args:
            name, owner, description, environment, plan, scopes, networks, limits, quotas, expires_at: See `KeyFields`.
            by, actor: See `Desk`.

        Raises:
            InvalidField: A field or the actor cannot be used, there is no such plan, or it grants less.
            NotPermitted: `by` would give more than it holds.
            StoreReadOnly: Keys of this store are made by editing a file or the configuration.
            StoreUnavailable: The store does not answer. Nothing was issued.
        """
        given = parse_fields(
            {
                "name": name,
                "owner": owner,
                "description": description,
                "environment": environment,
                "plan": plan,
                "scopes": scopes,
                "networks": networks,
                "limits": limits,
                "quotas": quotas,
                "expires_at": expires_at,
            }
        )
        now = self.clock.now()
        if given.expires_at is not None and given.expires_at <= now:
            raise InvalidField("expires_at", f"{given.expires_at.isoformat()} is not in the future")
        caller = self._callers.of(by, actor, plan=given.plan)
        caller.permit(given.owner, now, given)
        caller.require_granted(given)
        text = self.mint.secret_format.mint(given.environment)
        key = changes.new_key(given, self.mint.secret(text, number=1, now=now), now)
        self._add([(key, changes.issued(key, caller.name))])
        return IssuedKey(key, text)

    def import_keys(self, held: Iterable[HeldKey], *, actor: str = DEFAULT_ACTOR) -> int:
        """Take in keys whose secrets clients already hold, all or none, and return how many.

        The iterable is read as it goes, in bounded memory. What it raises is raised on, and nothing is imported.

        Raises:
            InvalidField: The actor cannot be used, or a key has a plan that is not there or grants less.
            DuplicateSecret: A secret is in the store already, or twice among these.
            StoreReadOnly: Keys of this store are made by editing a file or the configuration.
            StoreUnavailable: The store does not answer. Nothing was imported.
        """
        caller = self._callers.importing(actor)
        now = self.clock.now()

        def keys() -> Iterator[tuple[Key, Event]]:
            for one, key_id in zip(held, mint_key_ids(now), strict=False):
                caller.require_granted(one.fields)
                key = changes.new_key(one.fields, one.secret, now, key_id)
                yield key, changes.imported(key, caller.name)

        return self._add(keys())

    def rotate(
        self,
        key_id: str,
        *,
        overlap: timedelta = DEFAULT_OVERLAP,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> IssuedKey:
        """Make a new secret for a key. The earlier ones go on for the overlap and then end; the key stays the same.

        Args:
            key_id: Which key.
            overlap: 0 to 366 days; 0 ends the earlier secrets at once.
            by, actor: See `Desk`.

        Raises:
            InvalidField: The overlap is out of range, or the actor cannot be used.
            KeyNotFound: No key has this id.
            StateConflict: The key is not active, or has 10 secrets that still go on.
            NotPermitted: `by` may not touch this key, or the key holds more than `by` does.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        if not timedelta(0) <= overlap <= MAX_OVERLAP:
            raise InvalidField("overlap", f"must be 0 to {MAX_OVERLAP.days} days, not {overlap}")
        text = ""
        caller = self._callers.of(by, actor, key_id=key_id)

        def decide(key: Key, now: datetime) -> Change:
            nonlocal text
            caller.permit(key.owner, now, key)
            changes.require_rotatable(key, now)
            text = self.mint.secret_format.mint(key.environment)
            secret = self.mint.secret(text, number=key.secrets[-1].number + 1, now=now)
            return changes.rotate(key, secret, overlap, caller.name)

        return IssuedKey(self._change_kept(key_id, decide), text)

    def update(self, key_id: str, *, by: Key | None = None, actor: str = DEFAULT_ACTOR, **fields: Any) -> Key:
        """Change fields of a key. Where nothing differs, nothing is written.

        Args:
            key_id: Which key.
            by, actor: See `Desk`.
            fields: Fields of `KeyFields`, but for the environment, which is part of the secret.

        Raises:
            InvalidField: A field or the actor cannot be used.
            KeyNotFound: No key has this id.
            StateConflict: The key is revoked.
            NotPermitted: `by` may not touch this key, or the key would hold, or holds, more than `by` does.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        if "environment" in fields:
            raise InvalidField("environment", "is part of the secret; issue another key instead")
        caller = self._callers.of(by, actor, key_id=key_id, plan=fields.get("plan"))

        def decide(key: Key, now: datetime) -> Change | None:
            caller.permit(key.owner, now, key)
            change = changes.update(key, fields, now, caller.name)
            if change is not None and change.key is not None:
                caller.permit(change.key.owner, now, change.key)
                if "scopes" in fields or "plan" in fields:
                    caller.require_granted(change.key)
            return change

        return self._change_kept(key_id, decide)

    def disable(self, key_id: str, *, by: Key | None = None, actor: str = DEFAULT_ACTOR) -> Key:
        """Switch a key off until it is enabled again.

        Raises:
            InvalidField: The actor cannot be used.
            KeyNotFound: No key has this id.
            StateConflict: The key is disabled or revoked already.
            NotPermitted: `by` may not touch this key.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        caller = self._callers.of(by, actor)

        def decide(key: Key, now: datetime) -> Change:
            caller.permit(key.owner, now)
            return changes.disable(key, now, caller.name)

        return self._change_kept(key_id, decide)

    def enable(self, key_id: str, *, by: Key | None = None, actor: str = DEFAULT_ACTOR) -> Key:
        """Switch a disabled key on again.

        Raises:
            InvalidField: The actor cannot be used.
            KeyNotFound: No key has this id.
            StateConflict: The key is not disabled.
            NotPermitted: `by` may not touch this key, or the key holds more than `by` does.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        caller = self._callers.of(by, actor, key_id=key_id)

        def decide(key: Key, now: datetime) -> Change:
            caller.permit(key.owner, now, key)
            return changes.enable(key, now, caller.name)

        return self._change_kept(key_id, decide)

    def revoke(self, key_id: str, *, reason: str = "", by: Key | None = None, actor: str = DEFAULT_ACTOR) -> Key:
        """End a key for good, with all its secrets.

        Args:
            key_id: Which key.
            reason: Why; at most 500 characters.
            by, actor: See `Desk`.

        Raises:
            InvalidField: The reason or the actor is too long, or holds control characters or a secret.
            KeyNotFound: No key has this id.
            StateConflict: The key is revoked already.
            NotPermitted: `by` may not touch this key.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        reason = parse_text("reason", MAX_REASON_CHARACTERS, reason)
        caller = self._callers.of(by, actor)

        def decide(key: Key, now: datetime) -> Change:
            caller.permit(key.owner, now)
            return changes.revoke(key, reason, now, caller.name)

        return self._change_kept(key_id, decide)

    def delete(self, key_id: str, *, by: Key | None = None, actor: str = DEFAULT_ACTOR) -> None:
        """Remove the record of a revoked key. Its events stay.

        Raises:
            InvalidField: The actor cannot be used.
            KeyNotFound: No key has this id.
            StateConflict: The key is not revoked.
            NotPermitted: `by` may not touch this key.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        caller = self._callers.of(by, actor)

        def decide(key: Key, now: datetime) -> Change:
            caller.permit(key.owner, now)
            return changes.delete(key, now, caller.name)

        self._change(key_id, decide)

    def prune(self, *, ended_for: timedelta, actor: str = DEFAULT_ACTOR) -> Iterator[tuple[str, str]]:
        """Remove keys that were revoked or expired, and secrets that were rotated away, long enough ago.

        Work is done as the result is read. The events of what is removed stay.

        Args:
            ended_for: How long ago at least; 0 to 100 years.
            actor: See `Desk`.

        Yields:
            The id of each key and the kind of event written about it: `key.deleted` or `key.pruned`.

        Raises:
            InvalidField: `ended_for` is negative or over 100 years, or the actor cannot be used.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        if not timedelta(0) <= ended_for <= MAX_AGE:
            raise InvalidField("ended_for", f"must be 0 to {MAX_AGE.days} days, not {ended_for}")
        checked_actor = parse_actor(actor)
        before, kind = self.clock.now() - ended_for, ""

        def decide(key: Key, now: datetime) -> Change | None:
            nonlocal kind
            change = changes.prune(key, before, now, checked_actor)
            kind = change.event.kind if change else ""
            return change

        for key_id in writable(self.store).prunable(ended_before=before):
            kind = ""
            with suppress(KeyNotFound):  # somebody deleted it in the meantime
                self._change(key_id, decide)
            if kind:
                yield key_id, kind

    def _add(self, keys: Iterable[tuple[Key, Event]]) -> int:
        try:
            return writable(self.store).add(keys)
        finally:  # even what the store gave no answer to may have happened
            self._finder.look_again()

    def _change_kept(self, key_id: str, decide: Callable[[Key, datetime], Change | None]) -> Key:
        after = self._change(key_id, decide)
        assert after is not None  # only `delete` and `prune` return no key
        return after

    def _change(self, key_id: str, decide: Callable[[Key, datetime], Change | None]) -> Key | None:
        try:
            return writable(self.store).change(key_id, lambda key: decide(key, self.clock.now()))
        finally:
            self._finder.look_again()

    # Reading

    def find_key(self, key_id: str) -> Key | None:
        """Return the key of this id, or None.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        return self.store.find_key(key_id)

    def get_key(self, key_id: str) -> Key:
        """Return the key of this id.

        Raises:
            KeyNotFound: No key has it.
            StoreUnavailable: The store does not answer.
        """
        key = self.store.find_key(key_id)
        if key is None:
            raise KeyNotFound(key_id)
        return key

    def list_keys(
        self,
        *,
        owner: str | None = None,
        status: Status | None = None,
        text: str | None = None,
        idle_since: datetime | None = None,
        plan: str | None = None,
        cursor: str | None = None,
        size: int = 100,
    ) -> Page:
        """Return one page of keys, newest first.

        Args:
            owner, status, text, idle_since, plan: See `KeyFilter`.
            cursor: `next_cursor` of the page before; None for the first.
            size: 1 to 1000 keys.

        Raises:
            InvalidField: A filter, the cursor or the size cannot be used.
            StoreUnavailable: The store does not answer.
        """
        if idle_since is not None:
            self._flush()
        where = KeyFilter(owner=owner, status=status, text=text, idle_since=idle_since, plan=plan)
        return self.store.list_keys(where, cursor=cursor, size=size)

    def list_events(self, *, after: int = 0, key_id: str | None = None, size: int = 100) -> list[ChainedEvent]:
        """Return events with numbers above `after`, in order.

        Args:
            after: A number of an event; 0 for the beginning.
            key_id: Only those of this key.
            size: 1 to 1000 events.

        Raises:
            InvalidField: The size is out of range.
            StoreReadOnly: This store has no events.
            StoreUnavailable: The store does not answer.
        """
        return writable(self.store).list_events(after=after, key_id=key_id, size=size)

    def check_chain(self, progress: Callable[[int, int], None] | None = None) -> ChainReport:
        """Walk all events and report the first that was changed, removed or inserted.

        Args:
            progress: Called now and then with the rows read and the rows there are.

        Raises:
            StoreReadOnly: This store has no events.
            StoreUnavailable: The store does not answer.
        """
        return writable(self.store).check_chain(progress)

    # What was counted

    def usage(
        self,
        key_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        span: Span | None = None,
    ) -> UsageReport:
        """Return how many requests were allowed and refused, by the minute, the hour or the day.

        What this process counted is in it; what others did within their last interval may not be.

        Args:
            key_id: Only those of this key; None for all keys.
            since: From the span on that this moment lies in; aware. None for 24 hours before `until`.
            until: Up to this moment, without it; aware. None for now.
            span: What to count by; None for what fits the range. Minutes are kept for 48 hours and hours for 90 days,
                or as set.

        Raises:
            InvalidField: The range ends before it begins, has a moment without time zone or over 5000 spans.
            StoreUnavailable: The store does not answer.
        """
        range_ = parse_range(since, until, span, self.clock.now(), timedelta(hours=24), self._kept)
        self._flush()
        return UsageReport(range_, tuple(self.usage_store.counts(range_, key_id)) if self.usage_store else ())

    def top_keys(self, *, since: datetime | None = None, until: datetime | None = None, size: int = 10) -> TopReport:
        """Return the keys that sent the most requests, allowed or refused, with their records.

        Args:
            since: See `usage`; None for one hour before `until`.
            until: See `usage`.
            size: 1 to 1000 keys.

        Raises:
            InvalidField: The range or the size cannot be used.
            StoreUnavailable: The store does not answer.
        """
        range_ = parse_range(since, until, None, self.clock.now(), timedelta(hours=1), self._kept)
        check_top(size)
        self._flush()
        total, keys = self.usage_store.top(range_, size) if self.usage_store else (0, [])
        return TopReport(range_, total, tuple(replace(each, key=self.store.find_key(each.key_id)) for each in keys))

    def mistakes(
        self, *, since: datetime | None = None, until: datetime | None = None, size: int = 10
    ) -> MistakeReport:
        """Return where the texts came from that are no key's: how many from which network.

        Args:
            since: See `usage`; None for one hour before `until`.
            until: See `usage`.
            size: 1 to 1000 networks.

        Raises:
            InvalidField: The range or the size cannot be used.
            StoreUnavailable: The store does not answer.
        """
        range_ = parse_range(since, until, None, self.clock.now(), timedelta(hours=1), self._kept)
        check_top(size)
        self._flush()
        total, networks = self.usage_store.mistakes(range_, size) if self.usage_store else (0, [])
        return MistakeReport(range_, total, tuple(networks))

    def _flush(self) -> None:
        if self.meter is not None:
            self.meter.flush()

    def close(self) -> None:
        """Write down what was counted and give back what the store holds. The desk cannot be used afterwards."""
        if self.meter is not None:
            self.meter.close()
        if self.limiter is not None:
            self.limiter.close()
        self.store.close()
