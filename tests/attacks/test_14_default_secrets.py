"""Number 14: a default administrator's secret (CVE-2020-13945). There is none: nobody gets in until a key is issued."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from keydesk import Desk
from keydesk.keys.secret import checksum

from ..flask.rig import Rig

ROOT = Path(__file__).parents[2]
KNOWN = [
    "admin", "password", "changeme", "secret", "test", "default", "keydesk", "api_key", "API_KEY", "x", "0", "1",
    "true", "null", "None", "undefined", "edd1c9f034335f136f87ad84b625c8f1", "your-api-key", "my-secret-api-key",
    "kd_live_", "kd_test_", "kd_live_" + "0" * 38, "kd_test_" + "0" * 38, "kd", "Bearer", "*", "root", "admin:admin",
]  # fmt: skip


def test_a_new_store_is_empty(everywhere: Callable[..., Desk]) -> None:
    desk = everywhere()
    assert desk.list_keys().keys == ()
    assert desk.list_events() == []
    for text in KNOWN:
        assert not desk.verify(text).allowed
    assert desk.list_keys().keys == ()


def test_known_secrets_over_http(rig: Rig) -> None:
    for text in KNOWN:
        assert rig.status(secret=text) == 401


@pytest.mark.parametrize("pepper", [None, ""])
def test_no_default_pepper(new_rig: Callable[..., Rig], pepper: str | None) -> None:
    """Without one the digest is plain SHA-256: never an HMAC under a key that everybody can read in the source."""
    import hashlib

    rig = new_rig(KEYDESK_PEPPER=pepper)
    issued = rig.issue()
    assert issued.key.secrets[0].digest == hashlib.sha256(issued.secret.encode()).hexdigest()


def test_every_secret_is_new(rig: Rig) -> None:
    secrets = {rig.secret() for _ in range(50)}
    assert len({secret[8:20] for secret in secrets}) == 50


@pytest.mark.parametrize("folder", ["src", "examples", "docs", "bench"])
def test_no_working_secret_in_the_repository(folder: str) -> None:
    """A secret in the source is everybody's. A text that only looks like one has a wrong checksum."""
    shape = re.compile(r"\b\w+_(?:live|test)_[0-9A-Za-z]{38}\b")
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in (".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".sh", ".html", ".env"):
            for text in shape.findall(path.read_text()):
                assert checksum(text[:-6]) != text[-6:], f"{path} holds a secret with a right checksum"
