"""Room server: GitHub's public keys, which say whether a leak report is GitHub's.

They are asked for over HTTPS, kept with their ETag, and asked for again when one is named that is not among them.
Anybody may name one, so that is done every two minutes at most, by one thread, for which nobody waits long.

Source: GitHub's documentation of its secret scanning partner programme.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import threading
from enum import StrEnum
from typing import Any

import httpx
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ..clock import Clock

logger = logging.getLogger("keydesk")

META_URL = "https://api.github.com/meta/public_keys/secret_scanning"
FRESH_SECONDS = 3600  # then they are asked for again: one may have been taken back
KEPT_SECONDS = 86_400  # for so long they are used while GitHub does not answer
ASK_AGAIN_SECONDS = 120  # GitHub answers 60 an hour to one address
WAIT_SECONDS = 5.0
MAX_ANSWER_BYTES = 262_144
MAX_KEYS = 100
MAX_SIGNATURE_CHARACTERS = 256
_READ_SECONDS = 2.0
_IDENTIFIER = re.compile(r"[0-9A-Za-z_-]{1,128}")


class Verdict(StrEnum):
    """What a signature is worth."""

    GOOD = "good"
    WRONG = "wrong"
    NOT_KNOWN = "not known"  # the key it names is not known here, and GitHub cannot be asked now


class GithubKeys:
    """Checks GitHub's signatures. Any number of threads may share it.

    Args:
        clock: What tells the time.
        url: Where the keys are.
        wait_seconds: How long a report waits for them.
    """

    def __init__(self, clock: Clock, url: str = META_URL, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._clock = clock
        self._url = url
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._keys: dict[str, EllipticCurvePublicKey] = {}
        self._etag = ""
        self._answers = 0  # that were of use
        self._answered_at: float | None = None
        self._asked_at: float | None = None
        self._asking: threading.Thread | None = None

    def check(self, identifier: str, signature: str, body: bytes) -> Verdict:
        """Return whether GitHub has signed a body: ECDSA on P-256 with SHA-256, DER in base64.

        Args:
            identifier: Of the key, as the header `Github-Public-Key-Identifier` has it, whatever that is.
            signature: As the header `Github-Public-Key-Signature` has it, whatever that is.
            body: What came, byte by byte.
        """
        if not _IDENTIFIER.fullmatch(identifier) or len(signature) > MAX_SIGNATURE_CHARACTERS:
            return Verdict.WRONG
        try:
            decoded = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            return Verdict.WRONG
        found = self._find(identifier)
        if isinstance(found, Verdict):
            return found
        try:
            found.verify(decoded, body, ECDSA(SHA256()))
        except InvalidSignature:
            return Verdict.WRONG
        return Verdict.GOOD

    def _find(self, identifier: str) -> EllipticCurvePublicKey | Verdict:
        now = self._clock.monotonic()
        key = self._kept(now, FRESH_SECONDS).get(identifier)
        if key is not None:
            return key
        answered = self._ask(now)
        key = self._kept(now, KEPT_SECONDS).get(identifier)
        if key is not None:
            return key
        return Verdict.WRONG if answered else Verdict.NOT_KNOWN

    def _kept(self, now: float, seconds: float) -> dict[str, EllipticCurvePublicKey]:
        """Return the keys, if GitHub has last said that they are its keys so many seconds ago at most."""
        at = self._answered_at
        return self._keys if at is not None and now - at <= seconds else {}

    def _ask(self, now: float) -> bool:
        """Ask GitHub for its keys, or wait for who asks already. Return whether it has answered since."""
        with self._lock:
            before, asking, asked_at = self._answers, self._asking, self._asked_at
            if asking is None or asked_at is None or not asking.is_alive():
                if asked_at is not None and now - asked_at < ASK_AGAIN_SECONDS:
                    return False
                self._asked_at = asked_at = now
                # A thread of its own: an answer that comes byte by byte would hold up whoever reads it for hours.
                asking = self._asking = threading.Thread(target=self._fetch, name="keydesk-github-keys", daemon=True)
                asking.start()
        asking.join(max(0.0, asked_at + self._wait_seconds - now))
        return self._answers > before

    def _fetch(self) -> None:
        try:
            keys, etag = self._fetched()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError) as error:
            logger.warning("Keydesk cannot get the keys of GitHub's leak reports: %s", type(error).__name__)
            return
        with self._lock:
            self._keys, self._etag = keys, etag
            self._answered_at = self._clock.monotonic()
            self._answers += 1

    def _fetched(self) -> tuple[dict[str, EllipticCurvePublicKey], str]:
        """Return GitHub's keys and their ETag, perhaps those there were.

        Raises:
            httpx.HTTPError, OSError: It does not answer, not in time, or something else.
            ValueError: The answer is too long, or holds no keys.
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        headers |= {"If-None-Match": self._etag} if self._etag else {}
        end, body = self._clock.monotonic() + self._wait_seconds, b""
        # A redirect is not followed: whose keys would those be?
        with (
            httpx.Client(timeout=min(_READ_SECONDS, self._wait_seconds)) as client,
            client.stream("GET", self._url, headers=headers) as answer,
        ):
            if answer.status_code == httpx.codes.NOT_MODIFIED and self._keys:
                return self._keys, self._etag
            if answer.status_code != httpx.codes.OK:
                raise ValueError("no answer of use")
            for piece in answer.iter_raw():
                body += piece
                if len(body) > MAX_ANSWER_BYTES or self._clock.monotonic() > end:
                    raise ValueError("too long an answer")
            etag = answer.headers.get("ETag", "")
        keys = _read_keys(json.loads(body))
        if not keys:
            raise ValueError("no keys")
        return keys, etag if len(etag) <= MAX_SIGNATURE_CHARACTERS else ""


def _read_keys(said: Any) -> dict[str, EllipticCurvePublicKey]:
    """Return the keys of an answer that can be used, by their identifiers."""
    listed = said.get("public_keys") if isinstance(said, dict) else None
    keys: dict[str, EllipticCurvePublicKey] = {}
    for entry in listed[:MAX_KEYS] if isinstance(listed, list) else ():
        identifier, text = (entry.get("key_identifier"), entry.get("key")) if isinstance(entry, dict) else (None, None)
        if not isinstance(identifier, str) or not isinstance(text, str):
            continue
        try:
            key = load_pem_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm):
            continue
        # GitHub goes on signing with a key that is no longer `is_current` while it changes over, and lists it so long.
        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            keys[identifier] = key
    return keys
