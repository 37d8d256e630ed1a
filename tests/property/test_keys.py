"""What holds for any secret, scope, network and limit."""

from __future__ import annotations

import ipaddress
import json
import string
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from keydesk.errors import InvalidField
from keydesk.events import encode_details
from keydesk.keys.limits import (
    MAX_COUNT,
    MAX_LIMIT_COUNT,
    MAX_WINDOW_SECONDS,
    Limit,
    Period,
    Quota,
    parse_limit,
    parse_quota,
)
from keydesk.keys.networks import Networks
from keydesk.keys.record import parse_fields
from keydesk.keys.scopes import Scopes
from keydesk.keys.secret import ALPHABET, Environment, SecretFormat, redact

from ..watch import secrets_in

words = st.text(string.ascii_letters + string.digits, min_size=1, max_size=5)
prefixes = st.builds(
    lambda letter, parts: (letter + "_".join(parts))[:20].rstrip("_"),
    st.sampled_from(string.ascii_letters),
    st.lists(words, min_size=1, max_size=4),
)
environments = st.sampled_from(Environment)


# Secrets


@given(prefixes, environments)
@example("live", Environment.TEST)
@example("a_live", Environment.LIVE)
def test_minted_is_possible_and_hinted(prefix: str, environment: Environment) -> None:
    form = SecretFormat(prefix)
    secret = form.mint(environment)
    assert form.claims(secret)
    assert form.is_possible(secret)
    assert form.hint(secret) == f"{prefix}_{environment}_…{secret[-4:]}"
    assert secret.rsplit("_", 2)[:2] == [prefix, environment.value]  # parsed from the right


@given(prefixes, environments, st.data())
def test_minted_and_changed_is_impossible(prefix: str, environment: Environment, data: st.DataObject) -> None:
    form = SecretFormat(prefix)
    secret = form.mint(environment)
    position = data.draw(st.integers(len(prefix) + 1, len(secret) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "_").filter(lambda c: c != secret[position]))
    assert not form.is_possible(secret[:position] + other + secret[position + 1 :])


@given(st.text(max_size=300))
def test_is_possible_takes_anything(text: str) -> None:
    form = SecretFormat()
    if form.is_possible(text):
        assert text.isascii()
        assert 1 <= len(text) <= 256
    assert len(form.hint(text)) <= len("kd_live_…1234")


@given(st.text(max_size=60), prefixes, environments, st.text(max_size=60))
def test_redact_leaves_no_secret(before: str, prefix: str, environment: Environment, after: str) -> None:
    text = before + SecretFormat(prefix).mint(environment) + after
    redacted = redact(text)
    assert secrets_in(redacted) == []
    assert redact(redacted) == redacted


@given(st.text(max_size=200))
def test_redact_leaves_other_text_alone(text: str) -> None:
    assume("_live_" not in text and "_test_" not in text)
    assert redact(text) == text


# Scopes

parts = st.text("ab.-_1", min_size=1, max_size=3)
requirements = st.lists(parts, min_size=2, max_size=4).map(":".join)
grants = st.one_of(
    requirements, st.just("*"), st.lists(parts, min_size=1, max_size=3).map(lambda p: ":".join([*p, "*"]))
)
grant_sets = st.lists(grants, max_size=5)


def covers(grant: str, requirement: str) -> bool:
    """What one grant covers, in the words of the documentation."""
    if grant == "*":
        return True
    held, needed = grant.split(":"), requirement.split(":")
    if held[-1] == "*":
        return needed[: len(held) - 1] == held[:-1] and len(needed) >= len(held)
    return held == needed


@given(grant_sets, requirements)
@example(["a:*"], "ab:c")
@example(["a:*"], "a:b:c")
def test_scopes_allow_what_a_grant_covers(held: list[str], requirement: str) -> None:
    assert Scopes(held).allow(requirement) is any(covers(grant, requirement) for grant in held)


@given(grant_sets, grant_sets, requirements)
def test_scopes_beyond_is_sound(mine: list[str], holder: list[str], requirement: str) -> None:
    """What is not beyond the holder allows nothing the holder is not allowed."""
    beyond = set(Scopes(mine).beyond(Scopes(holder)))
    given_ = Scopes(grant for grant in mine if grant not in beyond)
    assert not given_.allow(requirement) or Scopes(holder).allow(requirement)


@given(grant_sets, grant_sets)
def test_scopes_beyond_is_complete(mine: list[str], holder: list[str]) -> None:
    """What is beyond allows something that no single grant of the holder's allows."""
    for grant in Scopes(mine).beyond(Scopes(holder)):
        witness = grant[:-1] + "zz" if grant.endswith("*") else grant
        witness = witness if ":" in witness else "zz:zz"
        assert not Scopes(holder).allow(witness)


@given(grant_sets)
def test_scopes_within_themselves(held: list[str]) -> None:
    assert Scopes(held).beyond(Scopes(held)) == ()
    assert Scopes(held) == Scopes(reversed(held))


# Networks

v4 = st.builds(
    lambda address, length: ipaddress.ip_network((address, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(1, 32),
)
v6 = st.builds(
    lambda address, length: ipaddress.ip_network((address, length), strict=False),
    st.integers(2**125, 2**128 - 1),
    st.integers(3, 128),
)
networks = st.lists(st.one_of(v4, v6), max_size=4)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(networks, addresses, st.data())
def test_networks_allow_agrees_with_ipaddress(listed: list[Any], address: Any, data: st.DataObject) -> None:
    if listed and data.draw(st.booleans()):  # or else hardly any address would be on the list
        network = data.draw(st.sampled_from(listed))
        offset = data.draw(st.integers(0, network.num_addresses - 1))
        address = network.network_address + offset
    address = getattr(address, "ipv4_mapped", None) or address
    expected = not listed or any(address in network for network in listed)
    held = Networks(map(str, listed))
    assert held.allow(str(address)) is expected
    if address.version == 4:
        assert held.allow(f"::ffff:{address}") is expected


@given(networks, networks, st.data())
def test_networks_within_is_sound(mine: list[Any], theirs: list[Any], data: st.DataObject) -> None:
    if mine and data.draw(st.booleans()):
        theirs = [
            *theirs,
            *(network.supernet(new_prefix=max(3, network.prefixlen - 4)) for network in mine if network.prefixlen > 7),
        ]
    held, holder = Networks(map(str, mine)), Networks(map(str, theirs))
    if not held.within(holder):
        return
    for network in mine:
        for address in (network[0], network[-1], network[data.draw(st.integers(0, network.num_addresses - 1))]):
            assert holder.allow(str(address))
    if not mine:
        assert not theirs


@given(networks)
def test_networks_come_back_from_their_text(listed: list[Any]) -> None:
    held = Networks(map(str, listed))
    assert Networks(list(held)) == held
    assert held.within(held)


@given(st.text(max_size=70), st.one_of(st.none(), st.text(max_size=70)))
def test_networks_take_any_text(text: str, address: str | None) -> None:
    try:
        held = Networks([text])
    except InvalidField:
        held = Networks(["203.0.113.7"])
    assert held.allow(address) in (True, False)


# Limits

limits = st.builds(Limit, st.integers(1, MAX_LIMIT_COUNT), st.integers(1, MAX_WINDOW_SECONDS))
quotas = st.builds(Quota, st.integers(1, MAX_COUNT), st.sampled_from(Period))


@given(limits)
def test_limit_comes_back_from_its_text(limit: Limit) -> None:
    assert parse_limit(str(limit)) == limit
    assert parse_limit(f" {str(limit).replace('/', ' PER ').upper()} ") == limit


@given(quotas)
def test_quota_comes_back_from_its_text(quota: Quota) -> None:
    assert parse_quota(str(quota)) == quota


@given(st.text(max_size=80))
@example("5/ſecond")
def test_parsers_refuse_or_take_any_text(text: str) -> None:
    for parse in (parse_limit, parse_quota):
        try:
            parsed = parse(text)
        except InvalidField:
            continue
        assert parse(str(parsed)) == parsed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["owner", "description", "environment", "scopes", "networks", "limits", "quotas", "expires_at", "other"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4), json_values)
def test_parse_fields_refuses_or_takes_anything(fields: dict[str, Any], name: Any) -> None:
    try:
        parsed = parse_fields({"name": name, **fields})
    except InvalidField:
        return
    assert 1 <= len(parsed.name) <= 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_details_are_the_json_that_the_library_makes(details: dict[str, Any]) -> None:
    """What is hashed must not depend on who encodes it: rows are checked with what was read back."""
    assert encode_details(details) == json.dumps(details, sort_keys=True, separators=(",", ":"))


@given(st.text(max_size=60) | st.sampled_from(["kd_live_", "kd_test_"]).map(lambda s: s + "a" * 38))
def test_hint_of_possible_is_the_hint(text: str) -> None:
    secret_format = SecretFormat()
    for possible in (text, secret_format.mint()):
        if secret_format.is_possible(possible):
            assert secret_format.hint_of_possible(possible) == secret_format.hint(possible)
