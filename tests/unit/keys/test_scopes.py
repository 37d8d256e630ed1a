from __future__ import annotations

import pytest

from keydesk.errors import InvalidField
from keydesk.keys.scopes import MAX_SCOPES, Requirement, Scopes, parse_requirement


@pytest.mark.parametrize(
    ("grants", "requirement", "allowed"),
    [
        (["orders:read"], "orders:read", True),
        (["orders:read"], "orders:write", False),
        (["orders:read"], "orders:reader", False),
        (["orders:read"], "orders:read:all", False),
        (["orders:*"], "orders:read", True),
        (["orders:*"], "orders:read:all", True),
        (["orders:*"], "orders2:read", False),
        (["orders:*"], "Orders:read", False),
        (["keydesk:keys:*"], "keydesk:keys:read", True),
        (["keydesk:keys:*"], "keydesk:verify", False),
        (["*"], "anything:at:all", True),
        ([], "orders:read", False),
        (["a:b", "c:*", "d:e"], "c:d", True),
    ],
)
def test_allow(grants: list[str], requirement: str, allowed: bool) -> None:
    assert Scopes(grants).allow(requirement) is allowed


@pytest.mark.parametrize(
    "grant",
    [
        "",
        "orders",
        ":read",
        "orders:",
        "a::b",
        "*:read",
        "a:*:b",
        "a:b*",
        "**",
        "a b:c",
        "a,b:c",
        "é:a",
        "a:b\n",
        "x" * 127 + ":y",
    ],
)
def test_grant_refused(grant: str) -> None:
    with pytest.raises(InvalidField, match="scopes"):
        Scopes([grant])


@pytest.mark.parametrize("text", ["", "orders", "*", "orders:*", "a:b\n", "a b:c", "x" * 127 + ":y"])
def test_requirement_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="scopes"):
        parse_requirement(text)


def test_scopes_too_many() -> None:
    Scopes(f"a:{n}" for n in range(MAX_SCOPES))
    with pytest.raises(InvalidField, match="201 are too many"):
        Scopes(f"a:{n}" for n in range(MAX_SCOPES + 1))


def test_scopes_are_a_set_in_order() -> None:
    assert list(Scopes(["b:c", "a:b", "b:c"])) == ["a:b", "b:c"]
    assert Scopes(["a:b", "b:c"]) == Scopes(["b:c", "a:b"])
    assert len({Scopes(["a:b"]), Scopes(["a:b", "a:b"])}) == 1
    assert "a:b" in Scopes(["a:b"])
    assert Scopes([]) != []
    assert repr(Scopes(["a:b"])) == "Scopes(['a:b'])"


@pytest.mark.parametrize(
    ("mine", "holder", "beyond"),
    [
        (["a:b"], ["a:b"], ()),
        (["a:b"], ["a:*"], ()),
        (["a:*"], ["a:b"], ("a:*",)),
        (["a:*"], ["*"], ()),
        (["*"], ["a:*", "b:*"], ("*",)),
        (["a:b:*"], ["a:*"], ()),
        (["a:*"], ["a:b:*"], ("a:*",)),
        (["ab:c"], ["a:*"], ("ab:c",)),
        (["a:b", "c:d"], [], ("a:b", "c:d")),
        ([], [], ()),
    ],
)
def test_beyond(mine: list[str], holder: list[str], beyond: tuple[str, ...]) -> None:
    assert Scopes(mine).beyond(Scopes(holder)) == beyond


@pytest.mark.parametrize(
    ("scopes", "any_of", "grants", "missing"),
    [
        ((), (), [], ()),
        (("a:b",), (), ["a:b"], ()),
        (("a:b", "c:d"), (), ["a:b"], ("c:d",)),
        ((), ("a:b", "c:d"), ["c:d"], ()),
        ((), ("a:b", "c:d"), ["e:f"], ("a:b", "c:d")),
        (("x:y",), ("a:b", "c:d"), [], ("x:y", "a:b", "c:d")),
        (("x:y",), ("a:b",), ["a:b"], ("x:y",)),
        (("a:b",), ("a:b", "c:d"), [], ("a:b", "c:d")),
    ],
)
def test_requirement_missing(
    scopes: tuple[str, ...], any_of: tuple[str, ...], grants: list[str], missing: tuple[str, ...]
) -> None:
    assert Requirement(scopes, any_of).missing(Scopes(grants)) == missing


def test_requirement_of_a_text_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"write \['orders:read'\]"):
        Requirement("orders:read")
    with pytest.raises(InvalidField, match="any_of"):
        Requirement((), "orders:read")
