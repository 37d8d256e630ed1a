"""Core: the desk. It issues, rotates, updates, disables and revokes keys, and verifies them.

A change checks who may, builds the new record and one event, and hands both to the store, which puts them in force
together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from . import changes, explain
from .callers import DEFAULT_ACTOR, Callers
from .clock import Clock
from .decision import Allowed, Check, Decision, Refused
from .errors import InvalidField, KeyNotFound, StateConflict
from .issuing import DeskIssuer
from .keys.held import Mint
from .keys.limits import check_cost
from .keys.record import (
    MAX_REASON_CHARACTERS,
    IssuedKey,
    Key,
    Status,
    parse_actor,
    parse_text,
)
from .keys.scopes import requirement_of
from .lookup import StoreFinder
from .plans import Owners, Plans
from .ports import (
    MAX_PAGE,
    CacheState,
    Change,
    KeyFilter,
    KeyFinder,
    KeyStore,
    Limiter,
    Meter,
    QuotaStore,
    UsageStore,
    every_key,
    writable,
)
from .quota_desk import QuotaDesk
from .quotas import Credits
from .terms import Terms
from .usage import Kept
from .verifier import Verifier

DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=366)
MAX_AGE = timedelta(days=36_525)
_TO_REVOKE = (Status.ACTIVE, Status.EXPIRED, Status.DISABLED)


class Desk(DeskIssuer):
    """The desk of one store.

    Every method that changes something takes `by` and `actor`. `by` is the key of the caller on whose behalf it
    happens: then the change goes no further than what that key holds. Without it the code that calls is trusted, and
    `actor` says who it is: one line of at most 200 characters. Either ends up in the event.

    Those that change what is there take `if_version`: the versions of it that the caller knows of. At another one,
    nothing is changed. None takes any.

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
        quotas: QuotaStore | None = None,
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
        self._credits = Credits(limiter, quotas, clock) if limiter else None
        self.quotas = QuotaDesk(store, quotas, self._credits, self.terms, clock)
        self.verifier = Verifier(self._finder, mint.secret_format, clock, meter, self._credits, self.terms)
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
        return explain.explain(
            self.store, self.mint, self.clock, secret, requirement, client_address, self._credits, self.terms
        )

    def explain_key(
        self,
        key_id: str,
        *,
        scopes: Iterable[str] = (),
        any_of: Iterable[str] = (),
        client_address: str | None = None,
    ) -> tuple[Decision, list[Check]]:
        """Return what the decision about the newest secret of a key would be, and every check behind it.

        Raises:
            InvalidField: A scope asked for is none.
            KeyNotFound: No key has this id.
            StoreUnavailable: The store does not answer, or has no such plan.
        """
        requirement, key = requirement_of(scopes, any_of), self.get_key(key_id)
        return explain.explain_key(self.store, self.clock, key, requirement, client_address, self._credits, self.terms)

    # Changing

    def rotate(
        self,
        key_id: str,
        *,
        overlap: timedelta = DEFAULT_OVERLAP,
        if_version: Collection[int] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> IssuedKey:
        """Make a new secret for a key. The earlier ones go on for the overlap and then end; the key stays the same.

        Args:
            key_id: Which key.
            overlap: 0 to 366 days; 0 ends the earlier secrets at once.
            if_version, by, actor: See `Desk`.

        Raises:
            InvalidField: The overlap is out of range, or the actor cannot be used.
            KeyNotFound: No key has this id.
            VersionConflict: It is at none of these versions.
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

        return IssuedKey(self._change_kept(key_id, decide, if_version), text)

    def update(
        self,
        key_id: str,
        *,
        if_version: Collection[int] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
        **fields: Any,
    ) -> Key:
        """Change fields of a key. Where nothing differs, nothing is written.

        Args:
            key_id: Which key.
            if_version, by, actor: See `Desk`.
            fields: Fields of `KeyFields`, but for the environment, which is part of the secret.

        Raises:
            InvalidField: A field or the actor cannot be used.
            KeyNotFound: No key has this id.
            VersionConflict: It is at none of these versions.
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

        return self._change_kept(key_id, decide, if_version)

    def disable(
        self,
        key_id: str,
        *,
        if_version: Collection[int] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> Key:
        """Switch a key off until it is enabled again.

        Raises:
            InvalidField: The actor cannot be used.
            KeyNotFound: No key has this id.
            VersionConflict: It is at none of these versions.
            StateConflict: The key is disabled or revoked already.
            NotPermitted: `by` may not touch this key.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        caller = self._callers.of(by, actor)

        def decide(key: Key, now: datetime) -> Change:
            caller.permit(key.owner, now)
            return changes.disable(key, now, caller.name)

        return self._change_kept(key_id, decide, if_version)

    def enable(
        self,
        key_id: str,
        *,
        if_version: Collection[int] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> Key:
        """Switch a disabled key on again.

        Raises:
            InvalidField: The actor cannot be used.
            KeyNotFound: No key has this id.
            VersionConflict: It is at none of these versions.
            StateConflict: The key is not disabled.
            NotPermitted: `by` may not touch this key, or the key holds more than `by` does.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        caller = self._callers.of(by, actor, key_id=key_id)

        def decide(key: Key, now: datetime) -> Change:
            caller.permit(key.owner, now, key)
            return changes.enable(key, now, caller.name)

        return self._change_kept(key_id, decide, if_version)

    def revoke(
        self,
        key_id: str,
        *,
        reason: str = "",
        if_version: Collection[int] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> Key:
        """End a key for good, with all its secrets.

        Args:
            key_id: Which key.
            reason: Why; at most 500 characters.
            if_version, by, actor: See `Desk`.

        Raises:
            InvalidField: The reason or the actor is too long, or holds control characters or a secret.
            KeyNotFound: No key has this id.
            VersionConflict: It is at none of these versions.
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

        return self._change_kept(key_id, decide, if_version)

    def revoke_all(
        self, where: KeyFilter, *, reason: str = "", by: Key | None = None, actor: str = DEFAULT_ACTOR
    ) -> tuple[tuple[str, ...], bool]:
        """End up to 1000 keys that match for good, each with an event of its own; never that of the caller.

        Each is a change of its own: where the store fails on the way, those before are revoked.

        Args:
            where: Which keys; at least one condition.
            reason: Why; at most 500 characters.
            by, actor: See `Desk`.

        Returns:
            The ids of those that were revoked, and whether there are more.

        Raises:
            InvalidField: There is no condition, or the reason or the actor cannot be used.
            NotPermitted: `by` may not touch one of them. Those before it are revoked.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        if where == KeyFilter():
            raise InvalidField("where", "has no condition; say which keys, such as those of an owner")
        writable(self.store)
        revoked: list[str] = []
        for key in self._live(where):
            if by is not None and key.id == by.id:
                continue
            if len(revoked) == MAX_PAGE:
                return tuple(revoked), True
            with suppress(KeyNotFound, StateConflict):  # somebody deleted it, or did the same, in the meantime
                self.revoke(key.id, reason=reason, by=by, actor=actor)
                revoked.append(key.id)
        return tuple(revoked), False

    def _live(self, where: KeyFilter) -> Iterator[Key]:
        """Yield the keys that match and are not revoked."""
        for status in _TO_REVOKE:
            if where.status in (None, status):
                yield from every_key(self.store, replace(where, status=status))

    def delete(
        self,
        key_id: str,
        *,
        if_version: Collection[int] | None = None,
        by: Key | None = None,
        actor: str = DEFAULT_ACTOR,
    ) -> None:
        """Remove the record of a revoked key. Its events stay.

        Raises:
            InvalidField: The actor cannot be used.
            KeyNotFound: No key has this id.
            VersionConflict: It is at none of these versions.
            StateConflict: The key is not revoked.
            NotPermitted: `by` may not touch this key.
            StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
            StoreUnavailable: The store does not answer.
        """
        caller = self._callers.of(by, actor)

        def decide(key: Key, now: datetime) -> Change:
            caller.permit(key.owner, now)
            return changes.delete(key, now, caller.name)

        self._change(key_id, decide, if_version)

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

    def _change_kept(
        self, key_id: str, decide: Callable[[Key, datetime], Change | None], if_version: Collection[int] | None
    ) -> Key:
        after = self._change(key_id, decide, if_version)
        assert after is not None  # only `delete` and `prune` return no key
        return after

    def _change(
        self,
        key_id: str,
        decide: Callable[[Key, datetime], Change | None],
        if_version: Collection[int] | None = None,
    ) -> Key | None:
        def checked(key: Key) -> Change | None:
            changes.require_version(key.version, if_version)
            return decide(key, self.clock.now())

        try:
            return writable(self.store).change(key_id, checked)
        finally:
            self._finder.look_again()

    def cache_state(self) -> CacheState | None:
        """Return how what this process knows of keys is; None where it keeps nothing."""
        return self._finder.state()

    def close(self) -> None:
        """Write down what was counted and give back what the store holds. The desk cannot be used afterwards."""
        if self.meter is not None:
            self.meter.close()
        if self.limiter is not None:
            self.limiter.close()
        self.store.close()
