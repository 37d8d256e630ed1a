"""Room stores: keys in the application's configuration, `config://`: `API_KEY` and `API_KEYS`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..clock import Clock
from ..decision import Check
from ..keys.held import Mint, is_weak, keys_of_mapping
from ..keys.record import Key
from ..ports import FeedEntry, KeyFilter, Page, Position
from .index import KeyIndex

logger = logging.getLogger("keydesk")

NAME_OF_SINGLE_KEY = "default"


class ConfigStore:
    """A store of the keys in the configuration. They change when the configuration does, at the next start.

    Args:
        api_key: One secret, or nothing. An empty one lets nobody in.
        api_keys: A mapping of secret, or `sha256:<hex>`, to a name or to a table of fields.
        mint: How secrets are digested.
        clock: What `list_keys` calls now.

    Raises:
        SettingsError: Entries cannot be used. All are in it, up to 20.
    """

    def __init__(self, api_key: str | None, api_keys: Mapping[str, Any], mint: Mint, clock: Clock) -> None:
        self._clock = clock
        self._single = bool(api_key) and api_key not in api_keys
        single = {api_key: NAME_OF_SINGLE_KEY} if api_key and self._single else {}
        given = {**single, **api_keys}
        self._index = KeyIndex(keys_of_mapping(given, mint, clock.now(), place=self._place))
        self._weak = sum(is_weak(text) for text in given)

    def _place(self, position: int) -> str:
        at = position - self._single
        return f"API_KEYS, entry {at}" if at else "API_KEY"

    def warn(self) -> None:
        """Say in the log what lets nobody in or anybody guess. Not at once: this start may yet fail."""
        if not len(self._index):
            logger.warning("API_KEY and API_KEYS are empty: every request that needs a key is refused")
        if self._weak:
            logger.warning(
                "%d of the keys in API_KEY and API_KEYS could be guessed; replace them with what "
                "`python3 -c 'import secrets; print(secrets.token_urlsafe(32))'` prints",
                self._weak,
            )

    def find_by_digest(self, digests: Sequence[str]) -> Key | None:
        """See `KeyStore.find_by_digest`."""
        return self._index.find_by_digest(digests)

    def find_key(self, key_id: str) -> Key | None:
        """See `KeyStore.find_key`."""
        return self._index.find(key_id)

    def list_keys(self, where: KeyFilter, *, cursor: str | None = None, size: int = 100) -> Page:
        """See `KeyStore.list_keys`.

        Raises:
            InvalidField: The cursor is none of this list, or the size is out of range.
        """
        return self._index.page(where, cursor=cursor, size=size, now=self._clock.now())

    def position(self) -> Position:
        """See `KeyStore.position`. Nothing changes here."""
        return Position(0)

    def list_feed(self, *, after: int, size: int = 100) -> list[FeedEntry]:  # noqa: ARG002
        """See `KeyStore.list_feed`. There are no events here."""
        return []

    def note_used(self, used: Mapping[str, datetime]) -> None:
        """See `KeyStore.note_used`. It is known until the process ends."""
        self._index.note_used(used)

    def edited_in(self, key: Key | None = None) -> str:
        """See `EditedKeyStore.edited_in`."""
        return "API_KEY" if self._single and key is not None and key.name == NAME_OF_SINGLE_KEY else "API_KEYS"

    def checks(self) -> list[Check]:
        """See `KeyStore.checks`."""
        count = len(self._index)
        checks = [
            Check(
                "store",
                bool(count),
                f"configuration, {count} keys",
                "" if count else "set API_KEY or API_KEYS",
            )
        ]
        if self._weak:
            checks.append(
                Check("strength", False, f"{self._weak} keys could be guessed", "replace them by random ones")
            )
        return checks

    def close(self) -> None:
        """See `KeyStore.close`."""
