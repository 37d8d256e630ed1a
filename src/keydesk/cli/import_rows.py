"""Room cli: from what stands in a line of an import to the key it means."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from ..errors import InvalidField
from ..issuing import HeldKey
from ..keys.digest import PLAIN
from ..keys.held import SHA256_MARK, Mint, is_weak
from ..keys.record import KeyFields, Secret, parse_field, parse_text, update_fields
from .import_formats import COLUMNS

MAX_HINT_CHARACTERS = 32  # the longest of ours: prefix, environment, `…` and four characters

_SHARED = ("environment", "plan", "scopes", "networks", "limits", "quotas")
_KNOWN = frozenset(COLUMNS)


class RowParser:
    """Makes keys of rows. Counts those whose secret could be guessed from its hash, if it were not for the pepper.

    Args:
        mint: How secrets are digested.
        now: When they are stored.
    """

    def __init__(self, mint: Mint, now: datetime) -> None:
        self.weak = 0
        self._mint = mint
        self._now = now
        self._peppered = mint.digester.pepper_id != PLAIN
        # Many keys of an import share these few fields: each combination is parsed once.
        self._shared: Callable[..., KeyFields] = lru_cache(maxsize=4096)(_parse_shared)

    def held_key(self, given: Mapping[str, Any]) -> HeldKey:
        """Return the key of a row.

        Raises:
            InvalidField: The row cannot be used. The message does not hold the secret.
        """
        if not _KNOWN.issuperset(given):
            unknown = next(name for name in given if name not in _KNOWN)
            # Where name and secret stand the wrong way round, the unknown name is the secret: do not repeat it.
            raise InvalidField(
                "field", f"number {list(given).index(unknown) + 1} is not known; there are {', '.join(COLUMNS)}"
            )
        if "name" not in given:
            raise InvalidField("name", "is missing; say what the client is called")
        shared = self._shared_fields([given.get(name) for name in _SHARED])
        fields = KeyFields(
            name=parse_field("name", given["name"]),
            owner=parse_field("owner", given.get("owner")),
            description=parse_field("description", given["description"]) if "description" in given else "",
            environment=shared.environment,
            plan=shared.plan,
            scopes=shared.scopes,
            networks=shared.networks,
            limits=shared.limits,
            quotas=shared.quotas,
            expires_at=parse_field("expires_at", given["expires_at"]) if "expires_at" in given else None,
        )
        return HeldKey(fields, self._secret(given))

    def _shared_fields(self, values: list[Any]) -> KeyFields:
        try:
            # JSON has lists, which are no keys of a cache.
            return self._shared(*[tuple(value) if type(value) is list else value for value in values])
        except TypeError:  # something that cannot be in a list of texts: say what
            return self._shared(*map(_hashable, _SHARED, values))

    def _secret(self, given: Mapping[str, Any]) -> Secret:
        text, sha256 = given.get("secret"), given.get("sha256")
        if (text is None) == (sha256 is None):
            raise InvalidField("secret", "give either secret or sha256" + (", not both" if text is not None else ""))
        if sha256 is not None:
            return self._of_sha256(_text("sha256", sha256), given.get("hint"))
        text = _text("secret", text)
        if given.get("hint") is not None and not text.startswith(SHA256_MARK):
            raise InvalidField("hint", "goes with sha256 only; that of a secret is made from it")
        secret = self._mint.secret(text, number=1, now=self._now)
        if is_weak(text):
            self._accept_weak()
        return secret

    def _of_sha256(self, text: str, hint: Any) -> Secret:
        secret = self._mint.secret(SHA256_MARK + text.removeprefix(SHA256_MARK), number=1, now=self._now)
        if hint is None:
            return secret
        hint = parse_text("hint", MAX_HINT_CHARACTERS, hint)
        if "\n" in hint or hashlib.sha256(hint.encode()).hexdigest() == secret.digest:
            raise InvalidField("hint", "must be one line, with no more of the secret than its last four characters")
        return Secret(secret.number, secret.digest, secret.pepper_id, hint, secret.created_at)

    def _accept_weak(self) -> None:
        if not self._peppered:
            raise InvalidField(
                "secret",
                "could be guessed from its hash; set KEYDESK_PEPPER (`keydesk doctor` says how), or give this client "
                "a new secret",
            )
        self.weak += 1


def _parse_shared(*values: Any) -> KeyFields:
    given = {name: value for name, value in zip(_SHARED, values, strict=True) if value is not None}
    return update_fields(KeyFields(name="-"), given)


def _hashable(name: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        raise InvalidField(name, f"must be text or a list of texts, not {type(value).__name__}")
    if not all(isinstance(item, str) for item in value):
        raise InvalidField(name, "must hold texts only")
    return tuple(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidField(name, f"must be text, not {type(value).__name__}; put it in quotes")
    return value
