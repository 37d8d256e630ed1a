"""Room web: the one line in the log for each refusal, the same at every door."""

from __future__ import annotations

import logging

from ..decision import Denied

logger = logging.getLogger("keydesk")

REFUSAL_LINE = "refused: %s, key %s (%s), from %s, at %s"
_MAX_CHARACTERS = 200


def log_refusal(denied: Denied, address: str | None, place: str | None) -> None:
    """Write down a refusal. Made by hand: `logger.warning` would look through the stack for its caller.

    Args:
        denied: The refusal.
        address: Where the request came from.
        place: What was asked for: an endpoint or a path.
    """
    if not logger.isEnabledFor(logging.WARNING):
        return
    values = (
        denied.reason,
        denied.hint or "-",
        denied.key.id if denied.key else "-",
        _escaped(address),
        _escaped(place),
    )
    logger.handle(logger.makeRecord(logger.name, logging.WARNING, __file__, 0, REFUSAL_LINE, values, None, "_log"))


def _escaped(text: str | None) -> str:
    """Return a text that cannot begin a line of its own in a log or steer a terminal."""
    if text is None:
        return "-"
    if len(text) > _MAX_CHARACTERS:
        text = text[:_MAX_CHARACTERS]
    return text if text.isprintable() else text.encode("unicode_escape").decode()
