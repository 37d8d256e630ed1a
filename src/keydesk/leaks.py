"""Core: what becomes of a secret that was found where it should not be.

Whoever has it may use it, so its key is revoked, with all its secrets. But not for a secret that has ended for good
after a rotation: such ones lie in old logs for years, and whoever came upon one could end a key that is safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .desk import Desk
from .errors import KeyNotFound, StateConflict
from .keys.record import Key, Secret, Status


class LeakState(StrEnum):
    """What a secret that was found is still worth."""

    ACTIVE = "active"
    EXPIRED = "expired"  # its key; a later `expires_at` would bring it back
    DISABLED = "disabled"  # and could be enabled again
    REVOKED = "revoked"
    ENDED = "ended"  # it alone, by a rotation


_OVER = frozenset({LeakState.REVOKED, LeakState.ENDED})
_OF_KEY = {
    Status.ACTIVE: LeakState.ACTIVE,
    Status.EXPIRED: LeakState.EXPIRED,
    Status.DISABLED: LeakState.DISABLED,
    Status.REVOKED: LeakState.REVOKED,
}


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret of a key in the store that was found somewhere: of which key, which of its secrets, and its state."""

    key: Key
    secret: Secret
    state: LeakState

    @property
    def is_over(self) -> bool:
        """Whether nobody can ever use it again."""
        return self.state in _OVER


def find_leak(desk: Desk, text: str) -> Leak | None:
    """Return which key a text is a secret of, asked of the store itself; None where no key has it. Nothing is counted.

    Args:
        desk: Whose keys.
        text: What was found, whatever it is. Of what cannot be a secret the store is not asked.

    Raises:
        StoreUnavailable: The store does not answer.
        SchemaMismatch: The tables are not those of this version.
    """
    if not desk.mint.secret_format.is_possible(text):
        return None
    digests = desk.mint.digester.candidates(text)
    key = desk.store.find_by_digest(digests)
    secret = key.find_secret(digests) if key else None
    if key is None or secret is None:
        return None
    now = desk.clock.now()
    state = _OF_KEY[key.status_at(now)]
    if state is not LeakState.REVOKED and secret.expired_at(now):
        state = LeakState.ENDED
    return Leak(key, secret, state)


def revoke_leak(desk: Desk, leak: Leak, *, reason: str, actor: str) -> bool:
    """Revoke the key of a secret that was found, if it is not over with the secret already.

    Args:
        desk, leak: The desk, and what `find_leak` returned.
        reason: Where it was found; at most 500 characters.
        actor: See `Desk`.

    Returns:
        Whether this call has revoked the key, and so written its one event.

    Raises:
        InvalidField: The reason or the actor cannot be used.
        StoreReadOnly: Keys of this store are changed by editing a file or the configuration.
        StoreUnavailable: The store does not answer.
    """
    if leak.is_over:
        return False
    try:
        desk.revoke(leak.key.id, reason=reason, actor=actor)
    except (StateConflict, KeyNotFound):  # somebody else has revoked it meanwhile, or deleted it after that
        return False
    return True
