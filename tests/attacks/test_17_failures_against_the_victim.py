"""Number 17: whoever fails to get in uses up what belongs to somebody else, or locks them out."""

from __future__ import annotations

from collections.abc import Callable

from ..flask.rig import Rig

TERMS = {"limits": ["2/minute"], "quotas": ["2/day"], "owner": "acme", "networks": ["127.0.0.0/8"]}


def _protected(new_rig: Callable[..., Rig]) -> Rig:
    rig = new_rig()
    rig.app.add_url_rule("/", "view", rig.keys.require("orders:read")(lambda: "in"), methods=["GET"])
    rig.app.add_url_rule("/other", "other", rig.keys.require("other:read")(lambda: "in"), methods=["GET"])
    return rig


def test_failures_take_nothing_from_anybody(new_rig: Callable[..., Rig]) -> None:
    rig = _protected(new_rig)
    victim = rig.issue("orders:read", **TERMS)
    revoked = rig.issue("orders:read", **TERMS)
    rig.desk.revoke(revoked.key.id)
    attempts = [
        victim.secret[:-1] + ("a" if victim.secret[-1] != "a" else "b"),
        rig.desk.mint.secret_format.mint(),
        victim.key.id,
        victim.key.secrets[0].hint,
        victim.key.secrets[0].digest,
        revoked.secret,
        "acme",
    ]
    for attempt in attempts * 20:
        assert rig.status("/", attempt) == 401
    for _ in range(20):
        assert rig.status("/other", victim.secret) == 403  # the victim itself, where it may not
        assert rig.status("/", victim.secret, environ_base={"REMOTE_ADDR": "203.0.113.9"}) == 403
    assert [rig.status("/", victim.secret) for _ in range(3)] == [200, 200, 429]


def test_being_refused_makes_nothing_longer(new_rig: Callable[..., Rig]) -> None:
    """A caller that does not stop asking is let in as soon as one that has waited."""
    rig = _protected(new_rig)
    secret = rig.secret("orders:read", limits=["1/minute"])
    assert rig.status("/", secret) == 200
    wait = int(rig.call("/", secret).headers["Retry-After"])
    for _ in range(wait * 2 - 1):
        rig.clock.advance(0.5)
        assert rig.status("/", secret) == 429
    rig.clock.advance(0.5)
    assert rig.status("/", secret) == 200
