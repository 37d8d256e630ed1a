"""Core: from the text a client presented, or from an id, to a key as it is judged, asked of the store each time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from .errors import KeyNotFound, StoreError
from .keys.effective import in_force
from .keys.held import Mint
from .keys.plans import Agreed
from .keys.record import Key
from .ports import CacheState, Found, KeyStore, Mistake, WritableKeyStore, plans_of

logger = logging.getLogger("keydesk")


def get_in_force(store: KeyStore, key_id: str) -> Key:
    """Return a key as its requests are judged: with what its plan and its owner put it under.

    Raises:
        KeyNotFound: No key has this id.
        StoreUnavailable: The store does not answer, or has no such plan.
    """
    key = store.find_key(key_id)
    if key is None:
        raise KeyNotFound(key_id)
    (key,) = with_agreed(store, [key])
    return in_force(key) if key.agreed else key


def with_agreed(store: KeyStore, keys: Sequence[Key]) -> list[Key]:
    """Return keys with what their plans and their owners put them under. Each plan and each owner is read once.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    plans = plans_of(store)
    if plans is None:
        return list(keys)
    by_plan = {name: plans.find_plan(name) for name in {key.plan for key in keys if key.plan}}
    by_owner = {name: plans.find_owner(name) for name in {key.owner for key in keys if key.owner}}
    return [replace(key, agreed=Agreed(by_plan.get(key.plan or ""), by_owner.get(key.owner or ""))) for key in keys]


class StoreFinder:
    """Finds keys in a store. Holds no state of its own, so any number of threads may share one."""

    def __init__(self, store: KeyStore, mint: Mint) -> None:
        self._store = store
        self._mint = mint

    def find(self, text: str) -> Found | Mistake:
        """See `KeyFinder.find`.

        Raises:
            StoreUnavailable: The store does not answer, or the plan of the key was removed there by hand.
            SchemaMismatch: The tables are not those of this version.
        """
        if not self._mint.secret_format.is_possible(text):
            return "malformed"
        digests = self._mint.digester.candidates(text)
        key = self._store.find_by_digest(digests)
        secret = key.find_secret(digests) if key else None
        if key is None or secret is None:
            return "unknown"
        if secret.digest != digests[0]:
            self._redigest(secret.digest, digests[0])
        return Found(in_force(key), secret)

    def state(self) -> CacheState | None:
        """See `KeyFinder.state`."""
        return None

    def look_again(self) -> None:
        """See `KeyFinder.look_again`. There is nothing to do: the store is asked each time."""

    def _redigest(self, old: str, new: str) -> None:
        """Bring a secret that is stored under an earlier pepper under the current one, now that its text is here."""
        if not isinstance(self._store, WritableKeyStore):
            return
        try:
            self._store.redigest(old, new, self._mint.digester.pepper_id)
        except StoreError as error:
            logger.warning("Keydesk left a digest under an earlier pepper; its next use tries again: %s", error)
