"""Core: THE flow. From the text a client presented to a decision; every door calls this and nothing else decides."""

from __future__ import annotations

import logging
from datetime import datetime

from .clock import Clock
from .decision import Allowed, Decision, Denied, Reason
from .errors import StoreError
from .keys.digest import Digester
from .keys.record import Key, Secret, Status
from .keys.scopes import Requirement
from .keys.secret import SecretFormat
from .ports import KeyStore, WritableKeyStore

logger = logging.getLogger("keydesk")

ANY_KEY = Requirement()
MISSING = Denied(Reason.MISSING)

_REASONS = {
    Status.EXPIRED: Reason.EXPIRED,
    Status.DISABLED: Reason.DISABLED,
    Status.REVOKED: Reason.REVOKED,
}


class Verifier:
    """Decides about presented secrets. Holds no state of its own, so any number of threads may share one."""

    def __init__(self, store: KeyStore, digester: Digester, secret_format: SecretFormat, clock: Clock) -> None:
        self.store = store
        self.digester = digester
        self.secret_format = secret_format
        self.clock = clock

    def verify(
        self, text: str | None, requirement: Requirement = ANY_KEY, client_address: str | None = None
    ) -> Decision:
        """Return whether the holder of this text may do what the requirement names, from this address.

        Never raises for anything a client can send, nor when the store does not answer.
        """
        if not text:
            return MISSING
        if not self.secret_format.is_possible(text):
            return Denied(Reason.INVALID, hint=self.secret_format.hint(text))
        digests = self.digester.candidates(text)
        try:
            key = self.store.find_by_digest(digests)
        except StoreError as error:
            logger.error("Keydesk cannot verify keys: %s", error)
            return Denied(Reason.UNAVAILABLE, hint=self.secret_format.hint_of_possible(text))
        secret = key.find_secret(digests) if key else None
        if key is None or secret is None:
            return Denied(Reason.INVALID, hint=self.secret_format.hint_of_possible(text))
        if secret.digest != digests[0]:
            self._redigest(secret, digests[0])
        return self.judge(key, secret, requirement, client_address)

    def judge(self, key: Key, secret: Secret, requirement: Requirement, client_address: str | None) -> Decision:
        """Return the decision about a caller whose secret has matched: status, then network, then scopes."""
        return (
            check_status(key, secret, self.clock.now())
            or check_network(key, secret, client_address)
            or check_scopes(key, secret, requirement)
            or Allowed(key, secret)
        )

    def _redigest(self, secret: Secret, digest: str) -> None:
        """Bring a secret that is stored under an earlier pepper under the current one, now that its text is here."""
        if not isinstance(self.store, WritableKeyStore):
            return
        try:
            self.store.redigest(secret.digest, digest, self.digester.pepper_id)
        except StoreError as error:
            logger.warning("Keydesk left a digest under an earlier pepper; its next use tries again: %s", error)


def check_status(key: Key, secret: Secret, now: datetime) -> Denied | None:
    """Refuse a key that is revoked, disabled or expired, and a secret that a rotation has ended."""
    status = key.status_at(now)
    if status is not Status.ACTIVE:
        since = {Status.REVOKED: key.revoked_at, Status.DISABLED: key.disabled_at}.get(status, key.expires_at)
        return Denied(_REASONS[status], key, secret.hint, since=since)
    if secret.expired_at(now):
        return Denied(Reason.EXPIRED, key, secret.hint, since=secret.expires_at)
    return None


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
