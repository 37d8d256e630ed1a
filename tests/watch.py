"""The watch: no secret in any log line, message or repr that the suite produces, nor on standard error.

What counts is a text of the shape of our secrets whose checksum is right, and 16 characters of either end of a secret
that somebody else made and this test had digested to be stored, if nobody could have guessed it. A test that must log
one, to see it blanked, says so with `@pytest.mark.shows_secrets`.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from typing import Any

from keydesk.errors import KeydeskError
from keydesk.keys.held import SHA256_MARK, Mint
from keydesk.keys.record import Secret
from keydesk.keys.secret import checksum
from keydesk.keys.strength import is_strong

_SHAPE = re.compile(r"[A-Za-z0-9_]*_(?:live|test)_[0-9A-Za-z]{38}")
LEAKS: list[str] = []
_END = 16  # a hint shows four; a message may cut a text short
_DISTINCT = 6  # characters of an end; with fewer it is found in texts that are no secrets
_FOREIGN: set[str] = set()


def secrets_in(text: str) -> list[str]:
    """Return the hints of the secrets a text holds, whatever letters stand before the prefix."""
    if "_live_" not in text and "_test_" not in text:
        return []
    found = []
    for match in _SHAPE.finditer(text):
        word = match[0]
        starts = range(word.rindex("_", 0, -39))  # the prefix begins somewhere before `_live_`
        if any(checksum(word[start:-6]) == word[-6:] for start in starts):
            found.append(f"{word[:-38]}…{word[-4:]}")
    return found


def remember(text: str) -> None:
    """Watch for a secret that is not of our shape. A weak one might be any word: it is not watched for."""
    if is_strong(text) and not _SHAPE.search(text):
        _FOREIGN.update(end for end in (text[:_END], text[-_END:]) if len(set(end)) >= _DISTINCT)


def forget() -> None:
    """Watch for no foreign secret any more. What is one in a test may be the id of a key in the next."""
    _FOREIGN.clear()


def foreign_in(text: str) -> list[str]:
    """Return the hints of the ends of foreign secrets that a text holds."""
    ends = (text[start : start + _END] for start in range(len(text) - _END + 1))
    return [f"a foreign secret, …{end[-4:]}" for end in ends if end in _FOREIGN]


def look_at(text: str, where: str) -> None:
    """Note what a text should not hold. The test that runs fails for it."""
    LEAKS.extend(f"{hint} in {where}" for hint in secrets_in(text) + foreign_in(text))


def _look_at_record(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except Exception:
        text = f"{record.msg!r} {record.args!r}"
    if record.exc_info and record.exc_info[0]:
        text += "".join(traceback.format_exception(*record.exc_info))
    look_at(text, f"a log record of {record.name} from {record.filename}:{record.lineno}")


def begin() -> Callable[[], None]:
    """Begin to watch all log records and errors of this process; return what ends it."""
    make_record = logging.getLogRecordFactory()
    store = Mint.secret

    def watched_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        _look_at_record(record)
        return record

    def watched_init(self: KeydeskError, *args: object) -> None:
        Exception.__init__(self, *args)
        look_at(f"{self} {self!r}", f"a {type(self).__name__}")

    def watched_store(self: Mint, text: str, **given: Any) -> Secret:
        secret = store(self, text, **given)
        if not text.startswith(SHA256_MARK):
            remember(text)
        return secret

    logging.setLogRecordFactory(watched_record)
    Mint.secret = watched_store  # type: ignore[method-assign]
    KeydeskError.__init__ = watched_init  # type: ignore[method-assign,assignment]

    def end() -> None:
        logging.setLogRecordFactory(make_record)
        Mint.secret = store  # type: ignore[method-assign]
        del KeydeskError.__init__

    return end
