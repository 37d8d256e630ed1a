"""Core: every check of a verification in order, each with what was found and the fix. For the person at the desk.

It runs the same checks as the verifier, but all of them, where the verifier stops at the first that fails.
"""

from __future__ import annotations

import shlex

from .decision import Check, Decision, Denied, Reason
from .errors import StoreError
from .keys.networks import parse_address
from .keys.record import Key, Secret, key_id_of_name
from .keys.scopes import Requirement
from .keys.secret import shown
from .verifier import ANY_KEY, Verifier, check_network, check_scopes, check_status

CHECK_NAMES = ("presented", "shape", "known", "status", "network", "scopes")


def explain(
    verifier: Verifier,
    text: str | None,
    requirement: Requirement = ANY_KEY,
    client_address: str | None = None,
) -> tuple[Decision, list[Check]]:
    """Return the decision about a presented text, and every check behind it.

    Args:
        verifier: Of the desk asked.
        text: What the client presented.
        requirement: The scopes it would need.
        client_address: Where it would come from; None leaves the network check open.
    """
    decision = verifier.verify(text, requirement, client_address)
    checks = [_presented(text), *(_shape(verifier, text) if text else [])]
    if decision.key is None:
        if checks[-1].passed and len(checks) == 2:
            checks.append(_unknown(verifier, decision))
    else:
        checks += _about_key(verifier, decision.key, text or "", requirement, client_address)
    not_reached = [Check(name, None, "not reached") for name in CHECK_NAMES[len(checks) :]]
    return decision, checks + not_reached


def _presented(text: str | None) -> Check:
    if text:
        return Check("presented", True, f"{len(text)} characters")
    return Check("presented", False, "nothing", "send the secret in X-API-Key, or as Authorization: Bearer")


def _shape(verifier: Verifier, text: str) -> list[Check]:
    secret_format = verifier.secret_format
    ours = secret_format.claims(text)
    if secret_format.is_possible(text):
        found = "a secret of this desk, checksum right" if ours else "not made by this desk; perhaps imported"
        return [Check("shape", True, f"{secret_format.hint(text)}: {found}")]
    if ours:
        return [
            Check(
                "shape",
                False,
                f"begins with {secret_format.prefix}_ but its length or checksum is wrong",
                "copy the secret again, whole; a character is missing, added or changed",
            )
        ]
    return [
        Check(
            "shape",
            False,
            "empty, over 256 bytes, or with a space, a comma or something that is not printable ASCII",
            "copy the secret again, without quotes, spaces or line ends",
        )
    ]


def _unknown(verifier: Verifier, decision: Decision) -> Check:
    if decision.reason is Reason.UNAVAILABLE:
        try:
            verifier.store.find_key(key_id_of_name(""))
        except StoreError as error:
            return Check("known", False, str(error), "run `keydesk doctor`")
        return Check("known", False, "the store did not answer, and does so now", "try again")
    return Check(
        "known",
        False,
        "no key has this secret",
        "see whether it was issued by another desk or under another pepper (`keydesk doctor`), or issue a new key",
    )


def _about_key(
    verifier: Verifier, key: Key, text: str, requirement: Requirement, client_address: str | None
) -> list[Check]:
    secret = key.find_secret(verifier.digester.candidates(text)) or key.secrets[-1]
    now = verifier.clock.now()
    return [
        Check("known", True, f"{key.name} ({key.id}), secret {secret.number}"),
        _status(key, check_status(key, secret, now), secret),
        _network(key, check_network(key, secret, client_address), client_address),
        _scopes(key, check_scopes(key, secret, requirement), requirement),
    ]


def _status(key: Key, denied: Denied | None, secret: Secret) -> Check:
    if denied is None:
        ends = [moment for moment in (key.expires_at, secret.expires_at) if moment is not None]
        return Check("status", True, f"active until {min(ends).isoformat()}" if ends else "active")
    since = f"{denied.reason} since {denied.since.isoformat()}" if denied.since else str(denied.reason)
    if denied.reason is Reason.REVOKED:
        because = f" ({key.revoke_reason})" if key.revoke_reason else ""
        return Check("status", False, since + because, "a revoked key stays revoked; issue a new one")
    if denied.reason is Reason.DISABLED:
        return Check("status", False, since, f"keydesk enable {key.id}")
    if denied.since == key.expires_at:
        return Check("status", False, since, f"keydesk update {key.id} --expires 90d")
    newest = key.secrets[-1].hint
    return Check("status", False, f"this secret {since}: it was rotated", f"use the newer secret, {newest}")


def _network(key: Key, denied: Denied | None, client_address: str | None) -> Check:
    listed = ", ".join(key.networks) or "any address"
    if denied is None:
        return Check("network", True, f"{client_address or 'no address given'}; allowed: {listed}")
    if client_address is None:
        return Check("network", False, f"no address given; allowed: {listed}", "say where the client is: --address")
    address = parse_address(client_address)
    if address is None:
        found = f"{shown(client_address, 64)} is no address; allowed: {listed}"
        return Check("network", False, found, "give the address alone, without port or name, such as 203.0.113.7")
    if address.is_unspecified:  # as a network it would mean everywhere
        return Check("network", False, f"{address} is no client's address; allowed: {listed}", "give the real address")
    networks = " ".join(f"--network {network}" for network in (*key.networks, address))
    return Check(
        "network",
        False,
        f"{client_address} is not on the list: {listed}",
        f"keydesk update {key.id} {networks}",
    )


def _scopes(key: Key, denied: Denied | None, requirement: Requirement) -> Check:
    held = ", ".join(key.scopes) or "none"
    if denied is None:
        return Check(
            "scopes",
            True,
            f"needed: {', '.join(requirement.scopes + requirement.any_of) or 'none'}; held: {held}",
        )
    lacking = key.scopes.missing(requirement.scopes)
    if not any(scope in lacking or key.scopes.allow(scope) for scope in requirement.any_of):
        lacking += requirement.any_of[:1]
    scopes = " ".join(f"--scope {shlex.quote(scope)}" for scope in dict.fromkeys((*key.scopes, *lacking)))
    return Check(
        "scopes",
        False,
        f"missing: {', '.join(denied.missing_scopes)}; held: {held}",
        f"keydesk update {key.id} {scopes}",
    )
