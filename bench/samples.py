"""The keys that are measured with. Made from a number, so that nobody needs to remember a million of them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from keydesk.keys.secret import SecretFormat

_FORMAT = SecretFormat()


def held_secret(number: int) -> str:
    """Return the secret of the sample key of this number: a UUID, as clients of other systems hold them."""
    return str(UUID(bytes=hashlib.blake2b(str(number).encode(), digest_size=16).digest()))


def held_key(number: int) -> dict[str, Any]:
    """Return one line of an import: a secret and the fields most keys have."""
    return {
        "secret": held_secret(number),
        "name": f"Client {number}",
        "owner": f"team-{number % 1000}",
        "scopes": ["orders:read"],
    }


def write_import(path: Path, count: int) -> None:
    """Write an import of JSON lines, one key a line."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(json.dumps(held_key(number)) + "\n")


def some_held_secrets(of: int, *, count: int) -> Iterator[str]:
    """Return secrets of keys drawn at random from the first `of`, the same in every run."""
    draw = random.Random(of)
    return (held_secret(draw.randrange(of)) for _ in range(count))


def unknown_secrets(count: int) -> list[str]:
    """Return secrets in Keydesk's own shape, with right checksums, that no store holds."""
    return [_FORMAT.mint() for _ in range(count)]


def foreign_secrets(count: int) -> list[str]:
    """Return UUIDs that no store holds."""
    return [held_secret(-number) for number in range(1, count + 1)]
