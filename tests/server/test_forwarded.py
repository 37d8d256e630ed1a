"""Number 6 of the list: the left-most entry of X-Forwarded-For believed. Only what a trusted proxy wrote is."""

from __future__ import annotations

import pytest

from keydesk.keys.networks import Networks
from keydesk.server.forwarded import MOST_PROXIES, ClientAddresses
from keydesk.testing import ManualClock

from .rig import ServerRig

TRUSTED = ClientAddresses(Networks(["10.0.0.0/8", "2001:db8:1::/48"]))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7, 10.9.9.9", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1,203.0.113.7 ,\t10.9.9.9,10.8.8.8", "203.0.113.7"),
        ("10.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1"),  # a client within
        ("2001:db8:1::1", "2001:db8:2::7", "2001:db8:2::7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # nobody's proxy
        ("203.0.113.9", "10.0.0.1", "203.0.113.9"),
        ("", "198.51.100.1", None),
        # What is no address is on nobody's list.
        ("10.0.0.1", "198.51.100.1, garbage", "garbage"),
        ("10.0.0.1", "198.51.100.1, ", ""),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7:1234", "203.0.113.7:1234"),
        ("10.0.0.1", "unknown", "unknown"),
    ],
)
def test_client_is_the_last_that_is_no_trusted_proxy(peer: str, forwarded: str | None, client: str | None) -> None:
    environ = {"REMOTE_ADDR": peer} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    assert TRUSTED.of(environ) == client


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert ClientAddresses(Networks()).of({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "1.2.3.4"}) == "10.0.0.1"


def test_endless_list_costs_little() -> None:
    listed = ", ".join(["10.0.0.1"] * 100_000)
    client = TRUSTED.of({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": listed})
    assert client is not None
    assert client.count(",") == 100_000 - MOST_PROXIES - 1  # which is no address


@pytest.mark.parametrize("path", ["/authz/forwarded", "/v1/keys"])
def test_key_with_networks_behind_a_proxy(clock: ManualClock, path: str) -> None:
    rig = ServerRig(clock, KEYDESK_TRUSTED_PROXIES="192.0.2.1")
    secret = rig.issue("keydesk:keys:read", networks=["203.0.113.0/24"]).secret

    def status(forwarded: str, peer: str = "192.0.2.1") -> int:
        return rig.call(path, secret, headers={"X-Forwarded-For": forwarded}, peer=peer).status_code

    assert status("203.0.113.7") == 200
    assert status("203.0.113.7, 198.51.100.1") == 403
    assert status("203.0.113.7", peer="198.51.100.1") == 403
    rig.close()
