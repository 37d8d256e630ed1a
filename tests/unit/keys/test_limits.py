from __future__ import annotations

import pytest

from keydesk.errors import InvalidField
from keydesk.keys.limits import Limit, Period, Quota, parse_limit, parse_quota


@pytest.mark.parametrize(
    ("text", "limit", "written"),
    [
        ("100/minute", Limit(100, 60), "100/minute"),
        ("100 per minute", Limit(100, 60), "100/minute"),
        ("1/second", Limit(1, 1), "1/second"),
        ("5/10 seconds", Limit(5, 10), "5/10 seconds"),
        ("5 per 10 Seconds", Limit(5, 10), "5/10 seconds"),
        ("5 per 60 seconds", Limit(5, 60), "5/minute"),
        ("5/90 seconds", Limit(5, 90), "5/90 seconds"),
        ("5/120 seconds", Limit(5, 120), "5/2 minutes"),
        ("7/24 hours", Limit(7, 86400), "7/day"),
        ("7/366 days", Limit(7, 366 * 86400), "7/366 days"),
        (" 100 / MINUTE ", Limit(100, 60), "100/minute"),
        ("4294967295/day", Limit(2**32 - 1, 86400), "4294967295/day"),
        ("0100/minutes", Limit(100, 60), "100/minute"),
    ],
)
def test_parse_limit(text: str, limit: Limit, written: str) -> None:
    assert parse_limit(text) == limit
    assert str(limit) == written
    assert parse_limit(written) == limit


@pytest.mark.parametrize(
    "text",
    [
        "", "100", "/minute", "100/", "0/minute", "-1/minute", "1.5/minute", "100/0 seconds", "100/month",
        "100/367 days", "1000000000001/day", "100perminute", "100 per minute please",
        "5/ſecond", "١٠٠/minute", "100/min", "1e3/day",
        "5/" + " " * 56 + "minute" + "garbage", "9" * 5000 + "/day", "100/minute\n100/day",
    ],
)  # fmt: skip
def test_parse_limit_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="limits"):
        parse_limit(text)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("10000/day", Quota(10000, Period.DAY)),
        ("10000 per month", Quota(10000, Period.MONTH)),
        ("5 in Total", Quota(5, Period.TOTAL)),
        (" 5/total ", Quota(5, Period.TOTAL)),
    ],
)
def test_parse_quota(text: str, quota: Quota) -> None:
    assert parse_quota(text) == quota
    assert parse_quota(str(quota)) == quota


@pytest.mark.parametrize(
    "text", ["", "0/day", "5/hour", "5/year", "5/days", "1000000000001/total", "x/day", "٥/day", "5/day" + " " * 80]
)
def test_parse_quota_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="quotas"):
        parse_quota(text)
