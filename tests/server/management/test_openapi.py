"""The API is what its OpenAPI document says: schemathesis asks it, with all checks on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import count
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from keydesk.stores.paging import encode_cursor
from keydesk.testing import ManualClock

from .rig import ManagementRig

FIRST, LAST = datetime(2026, 6, 1), datetime(2900, 1, 1)  # noqa: DTZ001 - Hypothesis adds the zone
LINE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
FORMATS: dict[str, st.SearchStrategy[str]] = {
    "line": LINE,
    "prose": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80),
    "network": st.sampled_from(["203.0.113.0/24", "10.1.2.3", "2001:db8::/32", "0.0.0.0/0"]),
    "limit": st.builds("{}/{}".format, st.integers(1, 9999), st.sampled_from(["second", "minute", "hour", "day"])),
    "quota": st.builds("{}/{}".format, st.integers(1, 9999), st.sampled_from(["day", "month", "total"])),
    "cursor": st.just(encode_cursor("key_" + "0" * 28)),
    "entity-tags": st.sampled_from(['"1"', "*", '"2", W/"3"']),
    "date-time": st.datetimes(FIRST, LAST, timezones=st.just(UTC)).map(datetime.isoformat),
}
for name, strategy in FORMATS.items():
    schemathesis.openapi.format(name, strategy)

RIG = ManagementRig(ManualClock())
RIG.desk.plans.put("everything", scopes=["*"])
NUMBERS = count()
CONFIG = schemathesis.Config()
CONFIG.projects.default.generation.update(with_security_parameters=False, deterministic=True)  # the key is set below
CONFIG.projects.default.checks.positive_data_acceptance.expected_statuses.append("412")  # it is at another version
schema = schemathesis.openapi.from_wsgi("/openapi.json", RIG.app, config=CONFIG).exclude(path="/v1/verify")


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case, kwargs: Any) -> None:
    """Have a range end after it begins, and not be too long. What a schema cannot say, no generator can know."""
    query = case.query if isinstance(case.query, dict) else {}
    for end, moment in (("since", "2025-12-31T12:00:00Z"), ("until", "2026-01-01T12:00:00Z")):
        if _is_moment(query.get(end)):
            query[end] = moment
    for fields in _keys_in(case.body):
        if re.fullmatch(r"[a-z0-9._-]{1,64}", str(fields.get("plan"))):
            fields["plan"] = "everything"  # which is there
    if case.headers and case.headers.get("Idempotency-Key"):
        case.headers["Idempotency-Key"] += str(next(NUMBERS))


def _keys_in(body: Any) -> list[dict[str, Any]]:
    """Return what is or may be a key in a body."""
    if not isinstance(body, dict):
        return []
    many = body.get("keys")
    return [one for one in [body, *(many if isinstance(many, list) else [])] if isinstance(one, dict)]


def _is_moment(text: Any) -> bool:
    try:
        return isinstance(datetime.fromisoformat(text), datetime)
    except (TypeError, ValueError):
        return False


@schema.auth()
class Key:
    """The key of the administrator."""

    def get(self, case: schemathesis.Case, context: Any) -> str:
        return RIG.admin.secret

    def set(self, case: schemathesis.Case, data: str, context: Any) -> None:
        case.headers["X-API-Key"] = data


@schema.parametrize()
@settings(
    max_examples=5, derandomize=True, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
def test_operation(case: schemathesis.Case) -> None:
    case.call_and_validate()
