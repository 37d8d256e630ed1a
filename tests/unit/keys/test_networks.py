from __future__ import annotations

import pytest

from keydesk.errors import InvalidField
from keydesk.keys.networks import MAX_NETWORKS, Networks, parse_address


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        ([], "203.0.113.7", True),
        ([], None, True),
        ([], "garbage", True),
        (["203.0.113.7"], "203.0.113.7", True),
        (["203.0.113.7"], "203.0.113.8", False),
        (["203.0.113.0/24"], "203.0.113.255", True),
        (["203.0.113.0/24"], "203.0.114.0", False),
        (["203.0.113.0/24"], "::ffff:203.0.113.9", True),
        (["::ffff:203.0.113.0/120"], "203.0.113.9", True),
        (["::ffff:0:0/96"], "203.0.113.9", True),
        (["::ffff:0:0/96"], "2001:db8::1", False),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "2001:db8::1%eth0", True),
        (["fe80::/10"], "fe80::1%en0", True),
        (["2001:db8::/32"], "203.0.113.7", False),
        (["10.0.0.0/8", "192.168.0.0/16"], "192.168.3.4", True),
        (["203.0.113.7"], None, False),
        (["203.0.113.7"], "", False),
        (["203.0.113.7"], "garbage", False),
        (["203.0.113.7"], "203.0.113.7, 10.0.0.1", False),
        (["203.0.113.7"], "203.0.113.7\n", False),
        (["203.0.113.7"], "203.0.113.007", False),
        (["203.0.113.7"], "3405803783", False),
        (["203.0.113.7"], "[203.0.113.7]", False),
        (["203.0.113.7"], "203.0.113.7:80", False),
        (["0.0.0.0"], "2001:db8::1", True),
        (["0.0.0.0/0"], "2001:db8::1", True),
        (["::/0"], "203.0.113.7", True),
        (["10.0.0.0/8", "0.0.0.0/0"], None, True),
        (["10.0.0.0/255.0.0.0"], "10.1.2.3", True),
        ([" 10.0.0.0/8 "], "10.1.2.3", True),
    ],
)
def test_allow(networks: list[str], address: str | None, allowed: bool) -> None:
    assert Networks(networks).allow(address) is allowed


NO_NETWORKS = ["", "garbage", "10.0.0.0/33", "10.0.0/8", "::/129", "fe80::1%eth0", "10.0.0.0/8/8", "10.0.0.0/-1"]
NO_NETWORKS += ["x" * 65, "010.0.0.1", "1", "10.0.0.0,10.0.0.1"]


@pytest.mark.parametrize("text", NO_NETWORKS)
def test_network_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="networks") as caught:
        Networks([text])
    assert "203.0.113.0/24" in str(caught.value)


def test_network_with_host_bits_says_both_ways_to_write_it() -> None:
    with pytest.raises(InvalidField, match=r"write 203\.0\.113\.0/24 or 203\.0\.113\.7$"):
        Networks(["203.0.113.7/24"])


def test_networks_too_many() -> None:
    Networks(f"10.0.{n}.0/24" for n in range(MAX_NETWORKS))
    with pytest.raises(InvalidField, match="101 are too many"):
        Networks(f"10.0.{n}.0/24" for n in range(MAX_NETWORKS + 1))


def test_networks_are_a_set_in_order() -> None:
    assert list(Networks(["2001:db8::/32", "10.0.0.1/32", "10.0.0.1", "9.0.0.0/8"])) == [
        "9.0.0.0/8",
        "10.0.0.1",
        "2001:db8::/32",
    ]
    assert Networks(["0.0.0.0"]) == Networks([]) == Networks(["::/0", "10.0.0.0/8"])
    assert len({Networks(["10.0.0.1"]), Networks(["10.0.0.1/32"])}) == 1
    assert Networks() != ()
    assert repr(Networks(["10.0.0.1"])) == "Networks(['10.0.0.1'])"


@pytest.mark.parametrize(
    ("mine", "theirs", "within"),
    [
        (["10.1.0.0/16"], ["10.0.0.0/8"], True),
        (["10.0.0.0/8"], ["10.1.0.0/16"], False),
        (["10.0.0.0/8"], ["10.0.0.0/8"], True),
        (["10.0.0.1", "192.168.0.1"], ["10.0.0.0/8"], False),
        (["10.0.0.1", "192.168.0.1"], ["10.0.0.0/8", "192.168.0.0/16"], True),
        ([], ["10.0.0.0/8"], False),
        (["10.0.0.0/8"], [], True),
        ([], [], True),
        (["2001:db8::1"], ["10.0.0.0/8"], False),
        (["2001:db8::1"], ["2001:db8::/32"], True),
        (["::ffff:10.0.0.1"], ["10.0.0.0/8"], True),
        (["0.0.0.0/0"], ["10.0.0.0/8"], False),
    ],
)
def test_within(mine: list[str], theirs: list[str], within: bool) -> None:
    assert Networks(mine).within(Networks(theirs)) is within


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("FE80::1%eth0", "fe80::1"),
        ("", None),
        ("%", None),
        ("1.2.3", None),
    ],
)
def test_parse_address(text: str, expected: str | None) -> None:
    address = parse_address(text)
    assert (str(address) if address else None) == expected
