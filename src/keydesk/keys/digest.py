"""Room keys: what is stored in place of a secret.

HMAC-SHA-256 (RFC 2104, FIPS 180-4) of the secret under the pepper, or plain SHA-256 where no pepper is set, as 64
lower-case hex characters. A fast hash is enough for a secret of 190 random bits; the pepper makes a stolen table
useless even for weaker, imported ones.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

from ..errors import InvalidField

MIN_PEPPER_BYTES = 32
PLAIN = ""  # the pepper id of a digest made without a pepper
_SHA256_HEX = re.compile(r"[0-9a-fA-F]{64}")


def parse_pepper(text: str) -> bytes:
    """Return the bytes of a pepper given as base64, standard or URL-safe.

    Raises:
        InvalidField: Not base64, or fewer than 32 bytes.
    """
    advice = "make one with: python3 -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"
    try:
        pepper = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidField("pepper", f"is not base64; {advice}") from None
    if len(pepper) < MIN_PEPPER_BYTES:
        raise InvalidField("pepper", f"has {len(pepper)} bytes and needs at least {MIN_PEPPER_BYTES}; {advice}")
    return pepper


def pepper_id(pepper: bytes) -> str:
    """Return eight hex characters that name a pepper without saying anything about it."""
    return hmac.digest(pepper, b"keydesk pepper id", "sha256").hex()[:8]


def parse_sha256(text: str) -> str:
    """Return a SHA-256 given in hex, in lower case.

    Raises:
        InvalidField: Not 64 hex characters.
    """
    if not _SHA256_HEX.fullmatch(text):
        raise InvalidField("sha256", "is not a SHA-256; write its 64 hex characters")
    return text.lower()


class Digester:
    """Digests secrets under the current pepper, and finds those stored under earlier ones.

    Args:
        current: The pepper new digests are made with, or None for plain SHA-256.
        previous: Peppers that digests in the store may still be under. The plain SHA-256 is always tried last, so
            that setting a pepper, like changing one, never invalidates a key.
    """

    def __init__(self, *, current: bytes | None = None, previous: Sequence[bytes] = ()) -> None:
        self._peppers = ([current] if current else []) + [p for p in previous if p != current]
        self.pepper_id = pepper_id(current) if current else PLAIN
        self.known_pepper_ids = frozenset([PLAIN, *(pepper_id(p) for p in self._peppers)])
        self._current = current

    def digest(self, text: str) -> str:
        """Return the digest to store for a secret (64 hex characters)."""
        secret = text.encode()
        if self._current:
            return hmac.digest(self._current, secret, "sha256").hex()
        return hashlib.sha256(secret).hexdigest()

    def candidates(self, text: str) -> tuple[str, ...]:
        """Return every digest the store may hold for a secret, the current one first.

        Where a pepper was added while previous ones exist but none is current, the plain digest is the current one.
        """
        secret = text.encode()
        plain = hashlib.sha256(secret).hexdigest()
        if not self._peppers:
            return (plain,)
        peppered = tuple(hmac.digest(pepper, secret, "sha256").hex() for pepper in self._peppers)
        return (*peppered, plain) if self._current else (plain, *peppered)
