"""Number 8: a cache keyed by part of a key, so that one client is taken for another.

Keys that share almost everything: each text must be found as itself, or not at all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keydesk import Allowed, Desk, DuplicateSecret, HeldKey, Reason, open_desk
from keydesk.flask import current_key
from keydesk.keys.record import parse_fields
from keydesk.testing import ManualClock

from ..flask.rig import Rig

LONG = "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu" * 7  # 224 characters
NEAR = [
    "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu",
    "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEv",  # the last character
    "g8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu",  # the first
    "F8ZR2QXY7LMN4VBC6KPW9STD1HJG3AEU",  # case
    "f8zr2qxy7lmn4vbc6kpw9std1hjg3aeu",
    "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aE",  # a prefix of another
    "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEuu",
    "8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu",  # a suffix of another
    "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu=",
    "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu==",
    "f8Zr2QxY7LmN4vBc6KpW9sTd1HjG3aEu.",
    LONG + "a" * 32,  # as long as fits: 256, and one less
    LONG + "a" * 31 + "b",
    LONG + "a" * 31,
    "0d9b1b0e-7d3c-4b0e-9b6e-2f1f0a4a9c11",
    "0D9B1B0E-7D3C-4B0E-9B6E-2F1F0A4A9C11",
    "0d9b1b0e7d3c4b0e9b6e2f1f0a4a9c11",
]


def _held(desk: Desk, text: str, name: str) -> HeldKey:
    return HeldKey(parse_fields({"name": name}), desk.mint.secret(text, number=1, now=desk.clock.now()))


def test_near_keys_over_http(new_rig: Callable[..., Rig]) -> None:
    rig = new_rig()
    rig.app.add_url_rule("/", "who", rig.keys.require()(lambda: current_key.name))
    rig.desk.import_keys(_held(rig.desk, text, f"client {number}") for number, text in enumerate(NEAR))
    for _ in range(2):
        for number, text in enumerate(NEAR):
            assert rig.call(secret=text).text == f"client {number}"
            assert rig.call(headers={"Authorization": f"Bearer {text}"}).text == f"client {number}"
    for text in NEAR:
        for wrong in (text + "x", text[:-1] + "!", "x" + text, text.swapcase() + "!", text[::-1]):
            if wrong not in NEAR:
                assert rig.status(secret=wrong) == 401


def test_near_keys_each_alone_revoked(everywhere: Callable[..., Desk]) -> None:
    """Ending one ends no other."""
    desk = everywhere()
    desk.import_keys(_held(desk, text, f"client {number}") for number, text in enumerate(NEAR))
    for gone, text in enumerate(NEAR):
        decision = desk.verify(text)
        assert isinstance(decision, Allowed)
        assert decision.key.name == f"client {gone}"
        desk.revoke(decision.key.id)
        assert [desk.verify(other).reason for other in NEAR] == [
            Reason.REVOKED if number <= gone else None for number in range(len(NEAR))
        ]


def test_minted_keys_with_one_character_changed(rig: Rig) -> None:
    """The checksum refuses each; even with the checksum mended, none is another's."""
    from keydesk.keys.secret import ALPHABET, checksum

    secret = rig.secret()
    for place in range(len(secret)):
        other = ALPHABET[(ALPHABET.find(secret[place]) + 1) % 62]
        changed = secret[:place] + other + secret[place + 1 :]
        assert rig.status(secret=changed) == 401
        mended = changed[:-6] + checksum(changed[:-6])
        assert rig.status(secret=mended) == 401 or mended == secret


def test_hint_and_id_are_no_key(rig: Rig) -> None:
    issued = rig.issue()
    secret = issued.key.secrets[0]
    for text in (secret.hint, issued.key.id, secret.digest, f"sha256:{secret.digest}", issued.secret[-4:],
                 issued.secret[:-4], issued.secret[:12]):  # fmt: skip
        assert rig.call(environ_overrides={"HTTP_X_API_KEY": text}).status_code == 401


def test_the_same_secret_imported_as_text_and_as_sha256(everywhere: Callable[..., Desk]) -> None:
    """Under a pepper the two have different digests, so the database sees no duplicate. Whoever it is taken for, the
    record is one key's whole: never the name of one with the secrets of the other."""
    pepper = base64.b64encode(bytes(range(32))).decode()
    desk = everywhere(KEYDESK_PEPPER=pepper)
    text = NEAR[0]
    by_hash = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    desk.import_keys([_held(desk, by_hash, "by hash")])
    try:
        desk.import_keys([_held(desk, text, "by text")])
    except DuplicateSecret:
        return  # better still
    decision = desk.verify(text)
    assert isinstance(decision, Allowed)
    assert decision.key == desk.get_key(decision.key.id)
    assert decision.secret in decision.key.secrets
    assert desk.verify(text).key == decision.key


@pytest.fixture(scope="module")
def config_desk() -> Iterator[Desk]:
    desk = open_desk({"API_KEYS": dict(zip(NEAR, map(str, range(len(NEAR))), strict=True))}, clock=ManualClock())
    yield desk
    desk.close()


def test_near_keys_in_the_configuration(config_desk: Desk) -> None:
    for number, text in enumerate(NEAR):
        decision = config_desk.verify(text)
        assert isinstance(decision, Allowed)
        assert decision.key.name == str(number)


PRESENTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1)


@settings(max_examples=150)
@given(
    one=PRESENTABLE.filter(lambda text: not text.startswith(("kd_", "sha256:"))),
    edit=st.tuples(st.integers(0, 300), PRESENTABLE, st.sampled_from(["insert", "replace", "cut", "append"])),
)
def test_any_two_keys_are_two_clients(one: str, edit: tuple[int, str, str]) -> None:
    place, piece, how = edit
    place %= len(one) + 1
    other = {
        "insert": one[:place] + piece + one[place:],
        "replace": one[:place] + piece + one[place + len(piece) :],
        "cut": one[:place] + one[place + 1 :],
        "append": one + piece,
    }[how]
    desk = open_desk({"KEYDESK_STORE": "memory://"}, clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    desk.import_keys([_held(desk, one[:256], "one")])
    decision = desk.verify(other)
    assert decision.allowed == (other == one[:256])
