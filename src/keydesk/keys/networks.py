"""Room keys: networks. The addresses a key may be used from, as CIDR lists (RFC 4632, RFC 4291)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ..errors import InvalidField
from .secret import shown

MAX_NETWORKS = 100
MAX_NETWORK_CHARACTERS = 64
UNKNOWN_NETWORK = "unknown"  # of a client whose address is not known or is none

# Three ways people write "from anywhere". Each means every address of both families.
_EVERYWHERE = frozenset({"0.0.0.0", "0.0.0.0/0", "::/0"})  # noqa: S104 - compared with, not bound to


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return a client's address, or None where the text is none.

    An IPv4 address mapped into IPv6 (RFC 4291 section 2.5.5.2) becomes IPv4; a zone such as `%eth0` is dropped.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(address: str) -> str:
    """Return the network that a client's address counts for: the /24 of IPv4, the /56 of IPv6; `unknown` if it is none.

    A /56 is what providers give one customer, RFC 6177; who has it has all of its addresses.
    """
    parsed = parse_address(address)
    if parsed is None:
        return UNKNOWN_NETWORK
    return str(ip_network((parsed, 24 if parsed.version == 4 else 56), strict=False))


class Networks:
    """The networks a key may be used from. None listed means from anywhere.

    Args:
        networks: At most 100 addresses or networks, such as `203.0.113.7`, `10.0.0.0/8` or `2001:db8::/32`.
            `0.0.0.0`, `0.0.0.0/0` and `::/0` mean from anywhere.

    Raises:
        InvalidField: One of them is neither, has bits set behind its mask, or there are too many.
    """

    __slots__ = ("_joined", "_networks", "_texts")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        texts = [text.strip() for text in networks]
        if len(texts) > MAX_NETWORKS:
            raise InvalidField("networks", f"{len(texts)} are too many; a key holds at most {MAX_NETWORKS}")
        parsed = {_parse_network(text) for text in texts}
        everywhere = any(text in _EVERYWHERE for text in texts)
        self._networks = () if everywhere else tuple(sorted(parsed, key=lambda n: (n.version, n)))
        self._texts = tuple(_text(network) for network in self._networks)
        self._joined = ",".join(self._texts)

    def allow(self, address: str | None) -> bool:
        """Return whether a client at this address may use the key. An address that is none is never on a list."""
        if not self._networks:
            return True
        parsed = parse_address(address) if address else None
        return parsed is not None and any(parsed in network for network in self._networks)

    def within(self, holder: Networks) -> bool:
        """Return whether every address these allow is one the holder's allow."""
        if not holder._networks:
            return True
        return bool(self._networks) and all(
            any(mine.version == theirs.version and mine.subnet_of(theirs) for theirs in holder._networks)  # type: ignore[arg-type]
            for mine in self._networks
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self._texts == other._texts

    def __hash__(self) -> int:
        return hash(self._texts)

    def __str__(self) -> str:
        return self._joined

    def __repr__(self) -> str:
        return f"Networks({list(self._texts)!r})"


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    if len(text) > MAX_NETWORK_CHARACTERS or "%" in text:
        raise InvalidField("networks", f"{shown(text, 80)} is not a network; write 203.0.113.7 or 203.0.113.0/24")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise InvalidField(
            "networks",
            f"{shown(text, 80)} is not a network; write 203.0.113.7 or 203.0.113.0/24, or 0.0.0.0/0 for anywhere",
        ) from None
    if text not in _EVERYWHERE and str(network) != text and "/" in text:
        given = ip_address(text.partition("/")[0])
        if given != network.network_address:
            raise InvalidField(
                "networks", f"{shown(text, 80)} has bits set behind its mask; write {network} or {given}"
            )
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped and network.prefixlen >= 96:
        return ip_network((mapped, network.prefixlen - 96))
    return network


def _text(network: IPv4Network | IPv6Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
