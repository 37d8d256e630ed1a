"""Room keys: secrets that somebody already holds, and keys written down in a file or in the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..errors import InvalidField, SettingsError, first_problems
from .digest import PLAIN, Digester, parse_sha256
from .record import MAX_SECRETS, Key, KeyFields, Secret, key_id_of_name, parse_fields
from .secret import SecretFormat
from .strength import is_strong

SHA256_MARK = "sha256:"
UNKNOWN_HINT = "…"
_NO_PLANS = "keys in a file or in the configuration have no plans; state its scopes and limits here, or use a database"


@dataclass(frozen=True, slots=True)
class Mint:
    """What it takes to store a secret: its shape, and how it is digested."""

    secret_format: SecretFormat
    digester: Digester

    def secret(self, text: str, *, number: int, now: datetime) -> Secret:
        """Return what is stored of a secret that may be used here.

        Args:
            text: The secret, or `sha256:` and its SHA-256 in hex.
            number: Which secret of its key it is, from 1.
            now: When it is stored.

        Raises:
            InvalidField: No client could present it.
        """
        if text.startswith(SHA256_MARK):
            return Secret(number, parse_sha256(text.removeprefix(SHA256_MARK)), PLAIN, UNKNOWN_HINT, now)
        if not self.secret_format.is_possible(text):
            raise InvalidField("secret", self._why_impossible(text))
        hint = self.secret_format.hint_of_possible(text)
        return Secret(number, self.digester.digest(text), self.digester.pepper_id, hint, now)

    def _why_impossible(self, text: str) -> str:
        if not text:
            return "is empty; write the secret, or sha256: and its SHA-256 in hex"
        if self.secret_format.claims(text):
            return (
                f"begins with {self.secret_format.prefix}_ as the secrets of this desk do, but has another length or "
                "a wrong checksum; copy it again, or set KEYDESK_PREFIX to something else"
            )
        return "cannot be sent in a header; use 1 to 256 printable ASCII characters without space or comma"


def is_weak(text: str) -> bool:
    """Return whether a secret could be guessed from a plain SHA-256 of it: under 112 bits, see `strength`."""
    return not text.startswith(SHA256_MARK) and not is_strong(text)


def keys_of_mapping(
    given: Mapping[str, Any], mint: Mint, now: datetime, *, place: Callable[[int], str] = "entry {}".format
) -> list[Key]:
    """Return the keys of a mapping of secret, or `sha256:<hex>`, to a name or to a table of fields.

    Entries of one name are one key with several secrets, as during a rotation. They must agree in everything but
    `expires_at`, which then ends the secret and not the key.

    Args:
        given: The mapping.
        mint: How secrets are digested.
        now: When the keys were made.
        place: Names an entry in a message, by its position from 1.

    Raises:
        SettingsError: Entries cannot be used. All are in it, up to 20, each named by its place: where somebody wrote
            name and secret the wrong way round, its name is the secret.
    """
    fields_of: dict[str, list[tuple[KeyFields, Secret]]] = {}
    taken: dict[str, str] = {}
    problems = []
    for position, (text, value) in enumerate(given.items(), 1):
        here = place(position)
        try:
            fields = parse_fields({"name": value} if isinstance(value, str) else _table(value))
            if fields.plan is not None:
                raise InvalidField("plan", _NO_PLANS)
            entries = fields_of.get(fields.name, [])
            _require_right_way_round(text, fields.name)
            secret = mint.secret(text, number=len(entries) + 1, now=now)
            if secret.digest in taken:
                raise InvalidField("secret", f"is the same as that of {taken[secret.digest]}; each needs its own")
            if len(entries) == MAX_SECRETS:
                raise InvalidField("secret", f"is one too many of its name; a key has at most {MAX_SECRETS} secrets")
        except InvalidField as error:
            problems.append(f"{here}: {error}")
        else:
            taken[secret.digest] = here
            fields_of.setdefault(fields.name, []).append((fields, secret))
    keys = []
    for name, entries in fields_of.items():
        try:
            keys.append(_key(name, entries, now))
        except InvalidField as error:
            problems.append(f"{taken[entries[0][1].digest]}: {error}")
    if problems:
        raise SettingsError(first_problems(problems))
    return keys


def _require_right_way_round(text: object, name: str) -> None:
    """Refuse an entry whose name is a secret: it would be shown to people, and the real name would let callers in."""
    if not isinstance(text, str):  # in app.config it may be anything
        raise InvalidField("secret", f"must be text, not {type(text).__name__}; write it in quotes")
    if text == name or (is_weak(text) and " " not in name and is_strong(name)):
        raise InvalidField("secret", "looks the wrong way round; write the secret first, then the name")


def _table(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise InvalidField("value", f"must be a name or a table of fields, not {type(value).__name__}; put names in quotes")


def _key(name: str, entries: list[tuple[KeyFields, Secret]], now: datetime) -> Key:
    fields, expires_at = entries[0][0], entries[0][0].expires_at
    secrets = tuple(secret for _, secret in entries)
    if len(entries) > 1:
        expires_at = None
        secrets = tuple(replace(secret, expires_at=own.expires_at) for own, secret in entries)
        for own, _ in entries[1:]:
            if replace(own, expires_at=None) != replace(fields, expires_at=None):
                raise InvalidField(
                    f"entries named {name!r}",
                    "differ; entries of one name are one key with several secrets, so make their fields the same "
                    "or give one another name",
                )
    return Key(
        id=key_id_of_name(name),
        name=name,
        owner=fields.owner,
        description=fields.description,
        environment=fields.environment,
        scopes=fields.scopes,
        networks=fields.networks,
        limits=fields.limits,
        quotas=fields.quotas,
        secrets=secrets,
        created_at=now,
        updated_at=now,
        expires_at=expires_at,
    )
