"""Room server: the texts and numbers that bodies and queries are made of, as pydantic types.

They say in the OpenAPI document what fits. The core has the last word, with a message that says what to do.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ...keys.limits import MAX_CHARACTERS, MAX_LIMITS
from ...keys.networks import MAX_NETWORK_CHARACTERS, MAX_NETWORKS
from ...keys.record import MAX_DESCRIPTION_CHARACTERS, MAX_NAME_CHARACTERS, MAX_OWNER_CHARACTERS, MAX_REASON_CHARACTERS
from ...keys.scopes import MAX_SCOPE_CHARACTERS, MAX_SCOPES
from ...ports import MAX_FILTER_CHARACTERS, MAX_PAGE

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PART = r"[A-Za-z0-9._-]+"


def _moment(value: Any) -> Any:
    """Take texts of RFC 3339 only: pydantic reads numbers as seconds, and nobody who sends one means that."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(_MOMENT.fullmatch(value)[0].upper())  # type: ignore[index]
    except (ValueError, TypeError):  # no text, or none that fits
        raise PydanticCustomError(
            "moment", "is no moment with its time zone; write one such as 2027-01-31T12:00:00Z"
        ) from None


def _format(name: str) -> dict[str, str]:
    return {"format": name}


Whole = Annotated[int, BeforeValidator(lambda v: int(v) if isinstance(v, float) and v.is_integer() else v)]
"""A whole number; 60.0 is one, too, in JSON."""

Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A moment with its offset, RFC 3339."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS, json_schema_extra=_format("line"))]
Owner = Annotated[str, Field(min_length=1, max_length=MAX_OWNER_CHARACTERS, json_schema_extra=_format("line"))]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARACTERS, json_schema_extra=_format("prose"))]
Why = Annotated[str, Field(max_length=MAX_REASON_CHARACTERS, json_schema_extra=_format("prose"))]
PlanName = Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,64}$")]
Grant = Annotated[str, Field(max_length=MAX_SCOPE_CHARACTERS, pattern=rf"^(\*|{_PART}(:{_PART})*:({_PART}|\*))$")]
Grants = Annotated[list[Grant], Field(max_length=MAX_SCOPES)]
Scope = Annotated[str, Field(max_length=MAX_SCOPE_CHARACTERS, pattern=rf"^{_PART}(:{_PART})+$")]
Network = Annotated[str, Field(max_length=MAX_NETWORK_CHARACTERS, json_schema_extra=_format("network"))]
NetworkList = Annotated[list[Network], Field(max_length=MAX_NETWORKS)]
LimitText = Annotated[str, Field(max_length=MAX_CHARACTERS, json_schema_extra=_format("limit"))]
LimitList = Annotated[list[LimitText], Field(max_length=MAX_LIMITS)]
QuotaText = Annotated[str, Field(max_length=MAX_CHARACTERS, json_schema_extra=_format("quota"))]
QuotaList = Annotated[list[QuotaText], Field(max_length=MAX_LIMITS)]
Environment = Literal["live", "test"]
KeyStatus = Literal["active", "expired", "disabled", "revoked"]
SpanName = Literal["minute", "hour", "day"]
Part = Annotated[str, Field(max_length=MAX_FILTER_CHARACTERS, json_schema_extra=_format("line"))]
Size = Annotated[int, Field(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str, Field(max_length=200, json_schema_extra=_format("cursor"))]
EventCursor = Annotated[str, Field(pattern="^e[0-9a-f]{1,16}$")]
PlanCursor = Annotated[str, Field(pattern="^p-[a-z0-9._-]{1,64}$")]
KeyId = Annotated[str, Field(json_schema_extra={"pattern": "^key_[0-9a-f]{28}$"})]
KeyIdGiven = Annotated[str, Field(pattern="^key_[0-9a-f]{28}$")]
