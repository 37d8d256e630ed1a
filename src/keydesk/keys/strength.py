"""Room keys: how hard a secret that somebody else made would be to guess.

Ours have 190 bits. An imported one may be `my-secret-api-key`; a fast hash of that falls to a word list in minutes,
so it needs a pepper. NIST SP 800-63B-4 and OWASP ASVS 6.5.2 put the limit for fast hashes at 112 bits.
"""

from __future__ import annotations

import math
import re

STRONG_BITS = 112

# Bits a character of English text adds, C. E. Shannon, "Prediction and Entropy of Printed English" (1951).
_WORD_BITS = 2.0
_CLASSES = (
    (re.compile(r"[0-9]*"), 10),
    (re.compile(r"[0-9a-f-]*|[0-9A-F-]*"), 16),
    (re.compile(r"[0-9a-z_-]*|[0-9A-Z_-]*"), 36),
    (re.compile(r"[0-9A-Za-z]*"), 62),
)
_PIECES = re.compile(r"[A-Za-z]+|[0-9]+")
_LETTER = re.compile(r"[A-Za-z]")
_MIXED_CASE = re.compile(r"[a-z][A-Z]|[A-Z][A-Z][a-z]")  # neither `word`, `Word` nor `WORD`
_THREE_NUMBERS = re.compile(r"(?:[0-9]+[^0-9]+){2}[0-9]")


def estimated_bits(text: str) -> float:
    """Return an estimate, in bits, of the entropy of a secret; too low rather than too high.

    A repeated piece counts once. Words joined by separators count two bits a letter. Anything else counts as random
    over the smallest usual alphabet that holds it, or over fewer symbols if it uses few.
    """
    if not text:
        return 0.0
    period = (text + text).find(text, 1)
    text = text[:period]
    if _reads_as_words(text):
        return sum(len(piece) * (math.log2(10) if piece.isdigit() else _WORD_BITS) for piece in _PIECES.findall(text))
    symbols = 64
    for pattern, size in _CLASSES:
        if pattern.fullmatch(text):
            symbols = size
            break
    symbols = min(symbols, len(set(text)) ** 2)
    counted = text.replace("-", "") if symbols <= 16 else text
    return len(counted) * math.log2(symbols)


def _reads_as_words(text: str) -> bool:
    """Random text changes between letters and digits, and between cases, all the time; words do not."""
    return not _THREE_NUMBERS.search(text) and not _MIXED_CASE.search(text) and _LETTER.search(text) is not None
