"""Core: a logging filter that blanks anything shaped like a secret."""

from __future__ import annotations

import logging
import re
import traceback

from .keys.secret import redact

_BLANK = "…"
# What follows the places a secret is sent in, as headers, in a WSGI environ or as pairs of bytes: an Authorization
# header, and one called like an API key.
_BETWEEN = r"['\"]?\s*[:=,]\s*b?['\"]?"
_SENT = re.compile(
    rf"(?i)(\b(?:http_)?authorization{_BETWEEN}(?:[a-z]+\s+)?|\b(?:http_)?x[_-]api[_-]key{_BETWEEN}|\bbearer\s+)"
    r"([^\s'\",;)\]}]+)"
)


class RedactSecrets(logging.Filter):
    """Blanks secrets in the message, the arguments and the traceback of every record.

    Put it on handlers, where it sees the records of all loggers: `handler.addFilter(RedactSecrets())`. It knows
    secrets minted by any Keydesk by their shape, and others by where they stand: after `Authorization:`, `Bearer` or
    `X-API-Key:`, and after the query parameter it is given.

    Args:
        parameter: The query parameter that may hold a secret, as in `KEYDESK_QUERY_PARAMETER`.
    """

    def __init__(self, *, parameter: str | None = None) -> None:
        super().__init__()
        self._parameter = re.compile(rf"([?&]{re.escape(parameter)}=)[^&\s\"#]+") if parameter else None

    def filter(self, record: logging.LogRecord) -> bool:
        """Blank the record in place, and let it through."""
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit, or that cannot be shown: logging tells of that, and shows them
            record.msg, record.args = self.blank(str(record.msg)), (self.blank(f"{record.args!r}"),)
        else:
            blanked = self.blank(message)
            if blanked != message:
                record.msg, record.args = blanked, None
        if record.exc_info and not record.exc_text:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if record.exc_text:
            record.exc_text = self.blank(record.exc_text)
        if record.stack_info:
            record.stack_info = self.blank(record.stack_info)
        return True

    def blank(self, text: str) -> str:
        """Return the text with what looks like a secret taken out."""
        text = _SENT.sub(rf"\1{_BLANK}", redact(text))
        return self._parameter.sub(rf"\1{_BLANK}", text) if self._parameter else text
