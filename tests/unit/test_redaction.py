from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pytest

from keydesk import RedactSecrets
from keydesk.keys.secret import checksum

pytestmark = pytest.mark.shows_secrets
_START = "acme_eu_live_" + "A1b2C3d4" * 4
SECRET = _START + checksum(_START)
BODY = SECRET.rpartition("_")[2][:34]


def logged(message: Any, *args: Any, parameter: str | None = None, **kwargs: Any) -> str:
    """Return what a handler with the filter writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactSecrets(parameter=parameter))
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error(message, *args, **kwargs)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"key {SECRET} refused", ()),
        ("key %s refused", (SECRET,)),
        ("keys %s and %r", (SECRET, [SECRET])),
        ("key %(key)s", ({"key": SECRET},)),
        ("headers %s", ({"X-API-Key": SECRET},)),
        ({"secret": SECRET}, ()),
        ("%d of %s", (5, SECRET)),
    ],
)
def test_filter_blanks_message_and_arguments(message: Any, args: Any) -> None:
    assert BODY not in logged(message, *args)
    assert "…" in logged(message, *args)


def test_filter_blanks_the_traceback() -> None:
    try:
        raise ValueError(f"cannot use {SECRET}")
    except ValueError:
        text = logged("failed", exc_info=True)
        stack = logged("failed", exc_info=sys.exc_info(), stack_info=True)
    for written in (text, stack):
        assert "ValueError: cannot use acme_eu_live_…" in written
        assert BODY not in written


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer {}",
        "authorization=Bearer {}",
        "'Authorization': 'Bearer {}'",
        "('Authorization', 'Bearer {}')",
        "Authorization: ApiKey {}",
        "X-API-Key: {}",
        "x-api-key={}",
        "{{'X-Api-Key': '{}'}}",
        "bearer {}",
        "GET /orders?api_key={}&page=2 HTTP/1.1",
        "GET /orders?page=2&api_key={} HTTP/1.1",
        '"GET /orders?api_key={}"',
    ],
)
def test_filter_blanks_a_foreign_secret_where_it_stands(line: str) -> None:
    secret = "0b6b1c1e-6a55-4a0e-9a43-0a4a6a7ff1f5"
    written = logged(line.format(secret), parameter="api_key")
    assert secret not in written
    assert "…" in written
    assert ("page=2" in written) is ("page=2" in line)


def test_filter_leaves_the_rest() -> None:
    for line in ("a bearer of news", "nothing to see", "100% of %s", "GET /orders?page=2", "x_api_keys loaded"):
        assert logged("%s", line, parameter="api_key") in (f"ERROR {line}\n", "ERROR a bearer … news\n")


def test_filter_lets_every_record_through() -> None:
    record = logging.makeLogRecord({"msg": "plain %s", "args": ("x",)})
    assert RedactSecrets().filter(record) is True
    assert record.getMessage() == "plain x"
    assert record.args == ("x",)


def test_filter_survives_a_broken_format() -> None:
    """A record whose arguments do not fit is the logging module's to report, not the filter's to fail on."""
    record = logging.makeLogRecord({"msg": "one %s two %s", "args": (SECRET,)})
    assert RedactSecrets().filter(record) is True
    assert BODY not in str(record.msg) + str(record.args)
