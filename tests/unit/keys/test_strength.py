from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Callable

import pytest

from keydesk.keys.secret import ALPHABET
from keydesk.keys.strength import STRONG_BITS, estimated_bits

TRIALS = 20_000


def base36(dice: random.Random) -> str:
    return "".join(dice.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(25))


RANDOM: dict[str, Callable[[random.Random], str]] = {
    "uuid": lambda dice: str(uuid.UUID(int=dice.getrandbits(128), version=4)),
    "uuid without hyphens": lambda dice: uuid.UUID(int=dice.getrandbits(128), version=4).hex,
    "md5": lambda dice: f"{dice.getrandbits(128):032x}",
    "md5 in capitals": lambda dice: f"{dice.getrandbits(128):032X}",
    "sha256": lambda dice: f"{dice.getrandbits(256):064x}",
    "token_urlsafe(16)": lambda dice: base64.urlsafe_b64encode(dice.randbytes(16)).decode().rstrip("="),
    "token_urlsafe(32)": lambda dice: base64.urlsafe_b64encode(dice.randbytes(32)).decode().rstrip("="),
    "base64": lambda dice: base64.b64encode(dice.randbytes(16)).decode(),
    "base36": base36,
    "base36 in capitals": lambda dice: base36(dice).upper(),
    "base32": lambda dice: base64.b32encode(dice.randbytes(16)).decode().rstrip("="),
    "base62": lambda dice: "".join(dice.choice(ALPHABET) for _ in range(22)),
    "prefixed": lambda dice: "sk_live_" + "".join(dice.choice(ALPHABET) for _ in range(24)),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_estimate_calls_no_random_secret_weak(kind: str) -> None:
    dice = random.Random(f"keydesk {kind}")
    weak = [text for text in (RANDOM[kind](dice) for _ in range(TRIALS)) if estimated_bits(text) < STRONG_BITS]
    assert weak == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "secret",
        "my-secret-api-key",
        "letmein123",
        "correct-horse-battery-staple",
        "Correct-Horse-Battery-Staple-2024",
        "this_is_the_api_key_of_our_mobile_application",
        "THIS-IS-THE-API-KEY-OF-OUR-CLIENT",
        "production-api-key-for-customer-portal-2",
        "supersecretkeythatnobodyknows",
        "changemechangemechangemechangeme",
        "passwordpasswordpasswordpassword",
        "0123456789",
        "123456789012345678901234567890",
        "1111111111111111111111111111111111111111",
        "abababababababababababababababababababab",
        "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
        "00000000-0000-0000-0000-000000000000",
        "d41d8cd98f00",
        "abc" * 50,
        "------------------------------------------",
        "~" * 200,
    ],
)
def test_estimate_calls_what_people_make_up_weak(text: str) -> None:
    assert estimated_bits(text) < STRONG_BITS


def test_estimate_grows_with_length_and_is_never_over_what_can_be() -> None:
    text = "q7Zk2mXv9RbLw4TnYc8PfJ3hDs6GaE5u"
    estimates = [estimated_bits(text[:length]) for length in range(len(text) + 1)]
    assert estimates == sorted(estimates)
    assert estimates[-1] <= len(text) * 6
