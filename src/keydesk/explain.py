"""Core: every check of a verification in order, each with what was found and the fix. For the person at the desk.

It runs the same checks as the verifier, but all of them, where the verifier stops at the first that fails. What the
fixes say is in `fixes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from . import fixes
from .clock import Clock
from .decision import Check, Decision, Denied, Reason
from .errors import StoreError, StoreUnavailable
from .keys.effective import in_force
from .keys.held import Mint
from .keys.networks import parse_address
from .keys.pasted import Pasted, find_pasted
from .keys.record import Key, Secret
from .keys.scopes import Requirement
from .keys.secret import SecretFormat, shown
from .lookup import StoreFinder, get_in_force
from .ports import Found, KeyStore
from .quotas import Credits
from .terms import Terms
from .verifier import ANY_KEY, Verifier, check_network, check_scopes, check_status

CHECK_NAMES = ("presented", "shape", "known", "status", "network", "scopes", "limits")


def explain(
    store: KeyStore,
    mint: Mint,
    clock: Clock,
    text: str | None,
    requirement: Requirement = ANY_KEY,
    client_address: str | None = None,
    credits_: Credits | None = None,
    terms: Terms | None = None,
) -> tuple[Decision, list[Check]]:
    """Return the decision about a presented text, and every check behind it.

    Args:
        store: Asked anew, whatever is known of it.
        mint, clock: Of the desk.
        text: What the client presented.
        requirement: The scopes it would need.
        client_address: Where it would come from; None leaves the network check open.
        credits_, terms: Of the desk; nothing is taken.
    """
    verifier = Verifier(StoreFinder(store, mint), mint.secret_format, clock, None, credits_, terms)
    decision = verifier.verify(text, requirement, client_address, test=True)
    checks = [_presented(text)]
    if text:
        pasted = None if decision.key else find_pasted(text, mint.secret_format)
        checks.append(_shape(mint.secret_format, text, pasted))
        if decision.key is not None:
            digests = mint.digester.candidates(text)
            secret = decision.key.find_secret(digests) or decision.key.secrets[-1]
            stated = store.find_by_digest(digests) or decision.key
            checks += _about_key(store, clock.now(), stated, secret, requirement, client_address, decision)
        elif checks[-1].passed or decision.reason is Reason.UNAVAILABLE:
            checks.append(_unknown(store, mint, text, pasted, decision))
    not_reached = [Check(name, None, "not reached") for name in CHECK_NAMES[len(checks) :]]
    return decision, checks + not_reached


def explain_key(
    store: KeyStore,
    clock: Clock,
    key: Key,
    requirement: Requirement = ANY_KEY,
    client_address: str | None = None,
    credits_: Credits | None = None,
    terms: Terms | None = None,
) -> tuple[Decision, list[Check]]:
    """Return what the decision about the newest secret of a key would be, and every check behind it.

    Args:
        store, clock, credits_, terms: As for `explain`.
        key: As it states itself.
        requirement, client_address: As for `explain`.

    Raises:
        KeyNotFound: It was deleted meanwhile.
        StoreUnavailable: The store does not answer, or has no such plan.
    """
    judged, secret = get_in_force(store, key.id), key.secrets[-1]
    verifier = Verifier(_TheKey(Found(judged, secret)), SecretFormat(), clock, None, credits_, terms)
    decision = verifier.verify(key.id, requirement, client_address, test=True)
    return decision, _about_key(store, clock.now(), key, secret, requirement, client_address, decision)


class _TheKey:
    """Finds one key, whatever is presented."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def find(self, text: str) -> Found:  # noqa: ARG002
        return self._found

    def state(self) -> None:
        return None

    def look_again(self) -> None:
        pass


def _presented(text: str | None) -> Check:
    if text:
        return Check("presented", True, f"{len(text)} characters")
    return Check("presented", False, "nothing", "send the secret in X-API-Key, or as Authorization: Bearer")


def _shape(secret_format: SecretFormat, text: str, pasted: Pasted | None) -> Check:
    bare = pasted.secret if pasted else text
    around = f", with {pasted.around} {pasted.where} it" if pasted else ""
    without = f", without {pasted.around}" if pasted else ""
    if secret_format.claims(bare):
        if not secret_format.is_possible(bare):
            return Check(
                "shape",
                False,
                f"begins with {secret_format.prefix}_ but its length or checksum is wrong{around}",
                f"copy the secret again, whole{without}; a character is missing, added or changed",
            )
        found = f"{secret_format.hint(bare)}: a secret of this desk, checksum right{around}"
        return Check("shape", not pasted, found, f"send the secret alone{without}" if pasted else "")
    if secret_format.is_possible(text):
        found = "not made by this desk; perhaps imported"
        return Check("shape", True, f"{secret_format.hint(text)}: {found}")
    if pasted and secret_format.is_possible(bare):
        return Check("shape", False, f"not made by this desk{around}", f"send the secret alone{without}")
    return Check(
        "shape",
        False,
        "empty, over 256 bytes, or with a space, a comma or something that is not printable ASCII",
        "copy the secret again, without quotes, spaces or line ends",
    )


def _unknown(store: KeyStore, mint: Mint, text: str, pasted: Pasted | None, decision: Decision) -> Check:
    try:
        # Asked for the very same once more: what is wrong may be with its row alone.
        key = _find(store, mint, text)
        bare = _find(store, mint, pasted.secret) if pasted and key is None else None
    except StoreError as error:
        problem = error.problem if isinstance(error, StoreUnavailable) else str(error)
        return Check("known", False, problem, "mend that; `keydesk doctor` may say more")
    if decision.reason is Reason.UNAVAILABLE or key is not None:
        return Check("known", False, "the store did not answer, and does so now", "try again")
    if pasted and bare is not None:
        found = f"no key has this, but without the {pasted.around} {pasted.where} it {bare.name} ({bare.id}) has"
        return Check("known", False, found, f"send the secret alone, without {pasted.around}")
    return Check("known", False, "no key has this secret", fixes.write_down(store))


def _find(store: KeyStore, mint: Mint, text: str) -> Key | None:
    key = store.find_by_digest(mint.digester.candidates(text))
    return in_force(key) if key else None


def _about_key(
    store: KeyStore,
    now: datetime,
    stated: Key,  # without its plan: what is to be changed
    secret: Secret,
    requirement: Requirement,
    client_address: str | None,
    decision: Decision,
) -> list[Check]:
    key = decision.key or stated
    return [
        Check("known", True, f"{key.name} ({key.id}), secret {secret.number}"),
        _status(store, stated, check_status(key, secret, now), secret, now),
        _network(store, stated, check_network(key, secret, client_address), client_address),
        _scopes(store, key, stated, check_scopes(key, secret, requirement), requirement),
        _limits(store, key, stated, decision),
    ]


def _status(store: KeyStore, key: Key, denied: Denied | None, secret: Secret, now: datetime) -> Check:
    """Say everything that keeps the key or this secret of it from being used, and not only the first."""
    if denied is None:
        ends = [moment for moment in (key.expires_at, secret.expires_at) if moment is not None]
        return Check("status", True, f"active until {min(ends).isoformat()}" if ends else "active")
    if key.revoked_at is not None:
        because = f" ({key.revoke_reason})" if key.revoke_reason else ""
        found = f"revoked since {key.revoked_at.isoformat()}{because}"
        return Check("status", False, found, fixes.issue_again(key, now))
    found_and_fix = []
    if key.disabled_at is not None:
        found_and_fix.append((f"disabled since {key.disabled_at.isoformat()}", fixes.enable(store, key)))
    if key.expires_at is not None and key.expires_at <= now:
        found_and_fix.append((f"expired since {key.expires_at.isoformat()}", fixes.extend(store, key, now)))
    if secret.expires_at is not None and secret.expires_at <= now:
        ended = f"this secret expired since {secret.expires_at.isoformat()}: it was rotated"
        found_and_fix.append((ended, fixes.replace_secret(store, key, secret, now)))
    return Check(
        "status",
        False,
        "; ".join(found for found, _ in found_and_fix),
        "\n".join(fix for _, fix in found_and_fix),
    )


def _network(store: KeyStore, key: Key, denied: Denied | None, client_address: str | None) -> Check:
    listed = ", ".join(key.networks) or "any address"
    address = parse_address(client_address or "")
    if denied is None:
        given = "no address given" if client_address is None else address or shown(client_address, 64)
        return Check("network", True, f"{given}; allowed: {listed}")
    if client_address is None:
        return Check(
            "network",
            False,
            f"no address given; allowed: {listed}",
            "say where the client is, such as: --address 203.0.113.7",
        )
    if address is None:
        found = f"{shown(client_address, 64)} is no address; allowed: {listed}"
        return Check("network", False, found, "give the address alone, without port or name, such as 203.0.113.7")
    if address.is_unspecified:  # as a network it would mean everywhere
        return Check("network", False, f"{address} is no client's address; allowed: {listed}", "give the real address")
    return Check(
        "network",
        False,
        f"{address} is not on the list: {listed}",
        fixes.give_more(store, key, "networks", [str(address)]),
    )


def _scopes(store: KeyStore, key: Key, stated: Key, denied: Denied | None, requirement: Requirement) -> Check:
    held = (", ".join(key.scopes) or "none") + (f" (under the plan {key.plan})" if key.plan else "")
    if denied is None:
        return Check("scopes", True, f"needed: {_needed(requirement.scopes, requirement.any_of)}; held: {held}")
    lacking, any_of = key.scopes.missing(requirement.scopes), requirement.any_of
    if any(scope in lacking or key.scopes.allow(scope) for scope in any_of):
        any_of = ()
    return Check(
        "scopes",
        False,
        f"missing: {_needed(lacking, any_of)}; held: {held}",
        fixes.grant_more(store, key, stated, lacking + any_of[:1]),
    )


def _limits(store: KeyStore, key: Key, stated: Key, decision: Decision) -> Check:
    taken, quotas = decision.taken, "".join(f"; {quota} quota" for quota in key.quotas)
    if taken is None:
        if decision.allowed:
            return Check("limits", True, "none")
        return Check("limits", None, "not asked, since it would be refused before")
    left = "; ".join(f"{standing.claim.policy}: {standing.remaining} left" for standing in taken.standings)
    if not taken.violated:
        return Check("limits", True, left + quotas if left else quotas.removeprefix("; "))
    return Check(
        "limits", False, f"used up: {', '.join(taken.violated)}", fixes.wait_or_raise(store, key, stated, taken)
    )


def _needed(scopes: Sequence[str], any_of: Sequence[str]) -> str:
    one = f"{'one of ' if len(any_of) > 1 else ''}{', '.join(any_of)}"
    return ", and ".join(filter(None, (", ".join(scopes), one))) or "none"
