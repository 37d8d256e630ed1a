"""Room stores: the opaque cursor that continues a list of keys."""

from __future__ import annotations

import base64
import binascii
import re

from ..errors import InvalidField
from ..ports import MAX_PAGE

KEY_ID = re.compile(r"key_[0-9a-f]{28}")


def encode_cursor(key_id: str) -> str:
    """Return the cursor that continues after this key."""
    return base64.urlsafe_b64encode(key_id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Return the id of the key a cursor continues after.

    Raises:
        InvalidField: It was not made by `encode_cursor`.
    """
    try:
        key_id = base64.b64decode(cursor[:64] + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        key_id = ""
    if not KEY_ID.fullmatch(key_id):
        raise InvalidField("cursor", "is not one of this list; begin again without it")
    return key_id


def check_size(size: int) -> int:
    """Return the size of a page.

    Raises:
        InvalidField: Not 1 to 1000.
    """
    if not 1 <= size <= MAX_PAGE:
        raise InvalidField("size", f"must be 1 to {MAX_PAGE}, not {size}")
    return size
