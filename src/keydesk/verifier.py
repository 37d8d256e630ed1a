"""Core: THE flow. From the text a client presented to a decision; every door calls this and nothing else decides."""

from __future__ import annotations

import logging
from datetime import datetime

from .clock import Clock
from .decision import Allowed, Decision, Denied, Reason
from .errors import LimiterUnavailable, StoreError
from .keys.record import Key, Secret, Status
from .keys.scopes import Requirement
from .keys.secret import SecretFormat
from .ports import Found, KeyFinder, Meter
from .quotas import Credits, reason_of
from .terms import Terms, ViewLimits
from .usage import ALLOWED

logger = logging.getLogger("keydesk")

_new = tuple.__new__  # half as long as calling the class of a named tuple

ANY_KEY = Requirement()
MISSING = Denied(Reason.MISSING)

_REASONS = {
    Status.EXPIRED: Reason.EXPIRED,
    Status.DISABLED: Reason.DISABLED,
    Status.REVOKED: Reason.REVOKED,
}


class Verifier:
    """Decides about presented secrets. Holds no state of its own, so any number of threads may share one."""

    def __init__(
        self,
        finder: KeyFinder,
        secret_format: SecretFormat,
        clock: Clock,
        meter: Meter | None = None,
        credits_: Credits | None = None,
        terms: Terms | None = None,
    ) -> None:
        self._finder = finder
        self._credits = credits_
        self._terms = terms or Terms()
        self._meter = meter
        self._secret_format = secret_format
        self._clock = clock

    def verify(
        self,
        text: str | None,
        requirement: Requirement = ANY_KEY,
        client_address: str | None = None,
        *,
        cost: int = 1,
        view: ViewLimits | None = None,
        test: bool = False,
    ) -> Decision:
        """Return whether the holder of this text may do what the requirement names, from this address.

        Never raises for anything a client can send, nor when the store or the limiter does not answer.

        Args:
            text, requirement, client_address: What is presented, what it is needed for, and where it comes from.
            cost: How much is taken from the key's limits.
            view: Further limits, of what is asked for.
            test: Take nothing, and count nothing.
        """
        if not text:
            return MISSING
        try:
            found = self._finder.find(text)
        except StoreError as error:
            logger.error("Keydesk cannot verify keys: %s", error)
            return Denied(Reason.UNAVAILABLE, hint=self._secret_format.hint(text))
        now = self._clock.now()
        if isinstance(found, str):
            if self._meter is not None and not test:
                self._meter.count_mistake(found, client_address, now)
            possible = found == "unknown"
            hint = self._secret_format.hint_of_possible(text) if possible else self._secret_format.hint(text)
            return Denied(Reason.INVALID, hint=hint)
        decision: Decision | None = found.always
        if decision is None:
            decision = self.judge(found.key, found.secret, requirement, client_address, now)
        elif requirement is not ANY_KEY:
            decision = check_scopes(found.key, found.secret, requirement) or decision
        if found.limited is not False or view is not None:  # None until somebody has looked
            decision = self._limit(found, decision, cost, view, test, now)
        if self._meter is not None and not test:
            self._meter.count(found.key.id, decision.reason or ALLOWED, now)
            if found.superseded:
                self._meter.count_earlier(found.key.id, found.secret.number, client_address, now)
        return decision

    def _limit(
        self, found: Found, decision: Decision, cost: int, view: ViewLimits | None, test: bool, now: datetime
    ) -> Decision:
        """Take a request from all limits and quotas of a key that may make it, or from none."""
        key, secret, credits_ = found.key, found.secret, self._credits
        if credits_ is None or isinstance(decision, Denied):
            return decision
        if found.limited is None:
            found.claims, found.allowances = self._terms.claims_of(key), self._terms.allowances_of(key)
            found.limited = bool(found.claims or found.allowances)
        claims = found.claims if view is None else self._terms.claims_in_view(key, found.claims, view)
        if not claims and not found.allowances:
            return decision
        try:
            if found.allowances:
                taken = credits_.take(key, claims, found.allowances, cost=cost, test=test, now=now)
            else:
                taken = credits_.limiter.take(claims, cost=cost, test=test)
        except (LimiterUnavailable, StoreError) as error:
            if not getattr(error, "logged", False):
                logger.error("Keydesk cannot count requests: %s", error)
            return Denied(Reason.UNAVAILABLE, key, secret.hint)
        if taken.violated:
            return Denied(reason_of(taken), key, secret.hint, taken=taken)
        return _new(Allowed, (key, secret, taken))

    def judge(
        self,
        key: Key,
        secret: Secret,
        requirement: Requirement,
        client_address: str | None,
        now: datetime | None = None,
    ) -> Decision:
        """Return the decision about a caller whose secret has matched: status, then network, then scopes."""
        return (
            check_status(key, secret, now or self._clock.now())
            or check_network(key, secret, client_address)
            or check_scopes(key, secret, requirement)
            or Allowed(key, secret)
        )


def check_status(key: Key, secret: Secret, now: datetime) -> Denied | None:
    """Refuse a key that is revoked, disabled or expired, and a secret that a rotation has ended."""
    end, own_end = key.expires_at, secret.expires_at
    if (
        key.revoked_at is None
        and key.disabled_at is None
        and (end is None or now < end)
        and (own_end is None or now < own_end)
    ):
        return None
    status = key.status_at(now)
    if status is not Status.ACTIVE:
        since = {Status.REVOKED: key.revoked_at, Status.DISABLED: key.disabled_at}.get(status, key.expires_at)
        return Denied(_REASONS[status], key, secret.hint, since=since)
    return Denied(Reason.EXPIRED, key, secret.hint, since=own_end)


def check_network(key: Key, secret: Secret, client_address: str | None) -> Denied | None:
    """Refuse an address that is not on the key's list."""
    return None if key.networks.allow(client_address) else Denied(Reason.NETWORK_DENIED, key, secret.hint)


def check_scopes(key: Key, secret: Secret, requirement: Requirement) -> Denied | None:
    """Refuse a key that lacks a required scope."""
    missing = requirement.missing(key.scopes)
    if not missing:
        return None
    return Denied(
        Reason.SCOPE_DENIED,
        key,
        secret.hint,
        required_scopes=requirement.scopes + requirement.any_of,
        missing_scopes=missing,
    )
