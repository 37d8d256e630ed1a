"""Room keys: the text a client sends. Mint it, tell ours from others', and blank it out of other text.

A secret reads `<prefix>_<live|test>_<32 base62 characters><6 base62 characters of CRC-32>`. The checksum
(CRC-32 as in `zlib.crc32`, ISO 3309) catches typing errors and guesses before any I/O, and lets scanners confirm
a find; it protects nothing.
"""

from __future__ import annotations

import re
import secrets
import zlib
from enum import StrEnum

from ..errors import InvalidField

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_CHARACTERS = 32  # 32 * log2(62) = 190 bits
CHECKSUM_CHARACTERS = 6  # 62**6 > 2**32
MAX_SECRET_BYTES = 256
MAX_PREFIX_CHARACTERS = 20
# A hint shows the last four characters only where at least twelve others stay hidden.
MIN_CHARACTERS_FOR_HINT = 16

_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]  # 62**2 = 3844
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*")
# Printable ASCII without space and comma: servers fold repeated headers into one value with a comma.
_PRESENTABLE = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,256}")
# Whatever stands around it: in `%20kd_live_...` a digit comes before the prefix, and the checksum can be cut off or
# have a letter too many; who has the 32 random characters can make it anew.
_OURS_ANYWHERE = re.compile(r"((?:[A-Za-z][A-Za-z0-9_]{0,40}?)?_(?:live|test)_)[0-9A-Za-z]{28,}([0-9A-Za-z]{4})")


class Environment(StrEnum):
    """Which of a customer's systems a key is for. It is part of the secret, so that a mix-up can be seen."""

    LIVE = "live"
    TEST = "test"


class SecretFormat:
    """The shape of the secrets issued under one prefix.

    Args:
        prefix: Letters, digits and single underscores inside, beginning with a letter; at most 20 characters.

    Raises:
        InvalidField: The prefix has another shape.
    """

    def __init__(self, prefix: str = "kd") -> None:
        if len(prefix) > MAX_PREFIX_CHARACTERS or not _PREFIX.fullmatch(prefix):
            raise InvalidField(
                "prefix",
                f"{shown(prefix)} cannot begin a secret; use at most {MAX_PREFIX_CHARACTERS} letters and digits, "
                "beginning with a letter, with single underscores inside, such as 'acme' or 'acme_eu'",
            )
        self.prefix = prefix
        self._start = prefix + "_"
        self._ours = re.compile(rf"{prefix}_(?:live|test)_[0-9A-Za-z]{{38}}")

    def mint(self, environment: Environment = Environment.LIVE) -> str:
        """Return a new secret with 190 bits from the operating system's random source."""
        body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
        start = f"{self._start}{environment}_{body}"
        return start + checksum(start)

    def claims(self, text: str) -> bool:
        """Return whether the text starts as ours do, whatever follows."""
        return text.startswith(self._start)

    def is_possible(self, text: str) -> bool:
        """Return whether the text may be a secret in the store: ours with a right checksum, or an imported one.

        Costs no I/O. False for what is empty, over 256 bytes, outside printable ASCII, holds a space or comma, or
        starts with our prefix without being ours.
        """
        if text.startswith(self._start):
            return self._ours.fullmatch(text) is not None and text[-CHECKSUM_CHARACTERS:] == checksum(
                text[:-CHECKSUM_CHARACTERS]
            )
        return _PRESENTABLE.fullmatch(text) is not None

    def hint_of_possible(self, text: str) -> str:
        """Return what `hint` does, for a text that `is_possible` said yes to, without asking again."""
        if text.startswith(self._start):
            return f"{text[: -RANDOM_CHARACTERS - CHECKSUM_CHARACTERS]}…{text[-4:]}"
        return f"…{text[-4:]}" if len(text) >= MIN_CHARACTERS_FOR_HINT else "…"

    def hint(self, text: str) -> str:
        """Return what may be shown of a secret: the prefix where it is ours, and the last four characters.

        Never more than that, whatever the text is: a text too short to keep twelve characters hidden gives `…`.
        """
        if text.startswith(self._start) and self._ours.fullmatch(text):
            return f"{text[: -RANDOM_CHARACTERS - CHECKSUM_CHARACTERS]}…{text[-4:]}"
        if len(text) < MIN_CHARACTERS_FOR_HINT or not _PRESENTABLE.fullmatch(text):
            return "…"
        return f"…{text[-4:]}"


def checksum(text: str) -> str:
    """Return CRC-32 of the text in base62, digits first, padded on the left to six characters with `0`."""
    rest, low = divmod(zlib.crc32(text.encode()), 3844)
    high, middle = divmod(rest, 3844)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def redact(text: str) -> str:
    """Return the text with everything shaped like a secret, under any prefix, cut down to its hint."""
    if "_live_" not in text and "_test_" not in text:  # so it is with most, and takes a tenth of the time
        return text
    return _OURS_ANYWHERE.sub(r"\1…\2", text)


def shown(text: str, limit: int = 40) -> str:
    """Return, for a message, the beginning of what somebody wrote in a wrong place, without a secret that is in it."""
    return repr(redact(text)[:limit])
