"""Room keys: a secret that somebody pasted with quotes, a header's name or spaces around it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .secret import CHECKSUM_CHARACTERS, RANDOM_CHARACTERS, SecretFormat

_TYPOGRAPHIC = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a"
_INVISIBLE = "\u200b-\u200f\u2060\ufeff\\x00-\\x08\\x0e-\\x1f"
_CHARACTER = rf"[\s'\"`{_TYPOGRAPHIC}{_INVISIBLE}]"
_FRONT = re.compile(rf"(?:{_CHARACTER}|(?:x-api-key|authorization)\s*:|bearer(?={_CHARACTER}))*", re.IGNORECASE)
_BEHIND = re.compile(_CHARACTER)

# In this order: the words take the spaces behind them along, as nobody would name those.
_NAMES = (
    ("`Authorization:`", re.compile(r"\bauthorization\s*:\s*", re.IGNORECASE)),
    ("`X-API-Key:`", re.compile(r"\bx-api-key\s*:\s*", re.IGNORECASE)),
    ("`Bearer`", re.compile(r"\bbearer\b\s*", re.IGNORECASE)),
    ("double quotes", re.compile('"')),
    ("single quotes", re.compile("'")),
    ("backticks", re.compile("`")),
    ("typographic quotes", re.compile(f"[{_TYPOGRAPHIC}]")),
    ("line ends", re.compile(r"[\r\n]+")),
    ("invisible characters", re.compile(f"[{_INVISIBLE}]+")),
    ("spaces", re.compile(r"\s+")),
)


@dataclass(frozen=True, slots=True)
class Pasted:
    """A secret that was found within a text.

    Attributes:
        secret: It alone. Left out of the repr.
        around: What stands around it, in words, such as `double quotes`. Nothing of the text is repeated.
        where: Where that stands: `in front of`, `behind` or `around`.
    """

    secret: str = field(repr=False)
    around: str
    where: str


def find_pasted(text: str, secret_format: SecretFormat) -> Pasted | None:
    """Return the secret in a text that has something around it, or None where nothing is.

    One of ours is known by its checksum, whatever stands around it. Any other is what is left without quotes, spaces
    and what comes before a secret in a header.
    """
    start, end = _find_ours(text, secret_format) or _bare(text)
    if start == end or end - start == len(text):
        return None
    where = "in front of" if end == len(text) else "around" if start else "behind"
    return Pasted(text[start:end], _in_words(text[:start], text[end:]), where)


def _find_ours(text: str, secret_format: SecretFormat) -> tuple[int, int] | None:
    length = RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
    # Looked ahead for: a beginning without its end may stand right before the whole secret.
    ours = re.compile(rf"(?={re.escape(secret_format.prefix)}_(?:live|test)_[0-9A-Za-z]{{{length}}})")
    for match in ours.finditer(text):
        end = text.index("_", match.start() + len(secret_format.prefix) + 1) + 1 + length
        if secret_format.is_possible(text[match.start() : end]):
            return match.start(), end
    return None


def _bare(text: str) -> tuple[int, int]:
    front = _FRONT.match(text)
    start = front.end() if front else 0
    end = len(text)
    while end > start and _BEHIND.match(text, end - 1):
        end -= 1
    return start, end


def _in_words(*parts: str) -> str:
    names = []
    for name, pattern in _NAMES:
        shorter = tuple(pattern.sub("", part) for part in parts)
        if shorter != parts:
            names.append(name)
        parts = shorter
    if any(parts):
        names.append("other characters")
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
