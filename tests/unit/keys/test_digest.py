from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from keydesk.errors import InvalidField
from keydesk.keys.digest import PLAIN, Digester, parse_pepper, parse_sha256, pepper_id

A, B, C = b"a" * 32, b"b" * 40, b"c" * 64
TEXT = "some-imported-secret"
PLAIN_DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()


def under(pepper: bytes) -> str:
    return hmac.new(pepper, TEXT.encode(), hashlib.sha256).hexdigest()


def test_digest_fixed() -> None:
    assert Digester().digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4
    # RFC 4231 test case 6, whose key is long enough to be a pepper
    text = "Test Using Larger Than Block-Size Key - Hash Key First"
    expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    assert Digester(current=b"\xaa" * 131).digest(text) == expected


@pytest.mark.parametrize(
    ("digester", "expected"),
    [
        (Digester(), [PLAIN_DIGEST]),
        (Digester(current=A), [under(A), PLAIN_DIGEST]),
        (Digester(current=A, previous=[B, C]), [under(A), under(B), under(C), PLAIN_DIGEST]),
        (Digester(current=A, previous=[A, B]), [under(A), under(B), PLAIN_DIGEST]),
        (Digester(previous=[B, C]), [PLAIN_DIGEST, under(B), under(C)]),
    ],
)
def test_candidates_current_first(digester: Digester, expected: list[str]) -> None:
    assert list(digester.candidates(TEXT)) == expected
    assert digester.digest(TEXT) == expected[0]


def test_pepper_id_names_without_telling() -> None:
    assert pepper_id(A) != pepper_id(B)
    assert len(pepper_id(A)) == 8
    assert Digester().pepper_id == PLAIN == ""
    assert Digester(current=A).pepper_id == pepper_id(A)
    assert Digester(current=A, previous=[B]).known_pepper_ids == {"", pepper_id(A), pepper_id(B)}


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_parse_pepper(encode: object) -> None:
    for pepper in (A, B, bytes(range(200, 256)), b"\xff" * 32):
        assert parse_pepper(encode(pepper).decode()) == pepper  # type: ignore[operator]


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 31, "é" * 40, "!" * 44, base64.b64encode(b"a" * 31).decode(), "=" * 44]
)
def test_parse_pepper_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="pepper") as caught:
        parse_pepper(text)
    assert "python3 -c" in str(caught.value)
    assert len(text) < 10 or text not in str(caught.value)


def test_parse_sha256() -> None:
    assert parse_sha256("AB" * 32) == "ab" * 32
    for text in ("", "ab" * 31, "ab" * 33, "zz" * 32, " " + "ab" * 32, "ab" * 32 + "\n", "٣" * 64):
        with pytest.raises(InvalidField, match="64 hex"):
            parse_sha256(text)
