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
_WORDS = re.compile(r"[a-z]+")
_MIXED_CASE = re.compile(r"[a-z][A-Z]|[A-Z][A-Z][a-z]")  # neither `word`, `Word` nor `WORD`
_THREE_NUMBERS = re.compile(r"(?:[0-9]+[^0-9]+){2}[0-9]")

_MIN_RANDOM_CHARACTERS = 19  # log2(64) * 19 = 114: whatever is shorter has fewer bits than asked for anyway
_MIN_HEX_CHARACTERS = 28  # 4 bits each
_MIN_DISTINCT = 5  # 5**2 > 16
_MIN_PAIRS = 10
_USUAL_SHARE = 0.65  # 2 in 100,000 random texts of one case reach it, and nearly all phrases
# Put together by hand; three in four of the pairs of letters in the source of Python's library are among them.
_USUAL = (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic "
    "ne ea ra ce li ch ll be ma si om ur ap pp pi ke ey ec cr et my us ss la el ta ca ct so pa ow ee mo bi il ut tr ol "
    "di no un ai wo rd rk ay ad ho ot fo rt ge im em ac po lo sh am id ir ts rs ns ie ei ck ul op ev ab wh do ag ig ef "
    "if av tt oo ld pr su cu ni pe sp ob bo kn up qu"
)
_USUAL_PAIRS = frozenset(_USUAL.split())


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


def is_strong(text: str) -> bool:
    """Return whether a secret has at least 112 bits by `estimated_bits`.

    Most random ones are seen to be strong at a glance: 28 characters that change between letters and numbers all the
    time, over 16 symbols or more, make 112 bits at least. An import asks this of every line.
    """
    if (
        len(text) - text.count("-") >= _MIN_HEX_CHARACTERS
        and len(set(text)) >= _MIN_DISTINCT
        and _THREE_NUMBERS.search(text)
        and not text.isdigit()
        and (text + text).find(text, 1) == len(text)
    ):
        return True
    return estimated_bits(text) >= STRONG_BITS


def _reads_as_words(text: str) -> bool:
    """Random text changes between letters and digits, and between cases, all the time; words do not.

    Random text over one case does it too rarely to tell: one in six of base32 would pass for words. So the pairs of
    letters have a say, where there are enough: three in four of a text in a European language are among the usual
    ones, of a random text one in five.
    """
    if _THREE_NUMBERS.search(text) or _MIXED_CASE.search(text):
        return False
    words = _WORDS.findall(text.lower())
    pairs = [word[at : at + 2] for word in words for at in range(len(word) - 1)]
    if len(text) < _MIN_RANDOM_CHARACTERS:
        return bool(words)
    return len(pairs) >= _MIN_PAIRS and sum(pair in _USUAL_PAIRS for pair in pairs) >= _USUAL_SHARE * len(pairs)
