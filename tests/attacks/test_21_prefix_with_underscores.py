"""Number 21: a parser that breaks when the prefix has an underscore (seam). Secrets are read from the right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from keydesk import SettingsError

from ..flask.rig import Rig

PREFIXES = ["a_b", "my_company", "a_b_c_d", "x_live", "x_test", "live", "test", "live_test", "test_live_test",
            "kd_live", "A_1", "sk_live_eu", "a_0_9", "kd_eu"]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("environment", ["live", "test"])
def test_mint_and_use(new_rig: Callable[..., Rig], prefix: str, environment: str) -> None:
    rig = new_rig(KEYDESK_PREFIX=prefix)
    rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    issued = rig.issue(environment=environment)
    assert issued.secret.startswith(f"{prefix}_{environment}_")
    assert len(issued.secret) == len(prefix) + len(environment) + 2 + 38
    assert issued.key.secrets[0].hint == f"{prefix}_{environment}_…{issued.secret[-4:]}"
    assert rig.status(secret=issued.secret) == 200
    rotated = rig.desk.rotate(issued.key.id)
    assert rotated.secret.startswith(f"{prefix}_{environment}_")
    assert rig.status(secret=rotated.secret) == 200
    for wrong in (issued.secret[:-1], issued.secret + "0", issued.secret.replace("_", "__", 1), issued.secret.upper()):
        assert rig.status(secret=wrong) == 401
    other = "test" if environment == "live" else "live"
    head, _, tail = issued.secret.rpartition(f"_{environment}_")
    assert rig.status(secret=f"{head}_{other}_{tail}") == 401


@pytest.mark.parametrize(
    ("one", "two"), [("kd", "kd_eu"), ("kd", "kd_live"), ("a_b", "a"), ("x_test", "x"), ("k", "kd")]
)
def test_two_prefixes_one_inside_the_other(new_rig: Callable[..., Rig], one: str, two: str) -> None:
    """Each desk takes its own secrets and refuses the other's."""
    rigs = [new_rig(KEYDESK_PREFIX=prefix) for prefix in (one, two)]
    for rig in rigs:
        rig.app.add_url_rule("/", "view", rig.keys.require()(lambda: "in"))
    secrets = [rig.secret() for rig in rigs]
    assert [[rig.status(secret=secret) for secret in secrets] for rig in rigs] == [[200, 401], [401, 200]]


@pytest.mark.parametrize(
    "prefix", ["_a", "a_", "a__b", "", "9a", "a-b", "a b", "ä", "a" * 21, "_", "a.b", "a\n", "a_b_"]
)
def test_prefix_that_cannot_be(new_rig: Callable[..., Rig], prefix: str) -> None:
    if prefix.strip() == "a":
        return  # white space around a setting is taken off
    with pytest.raises(SettingsError, match="KEYDESK_PREFIX"):
        new_rig(KEYDESK_PREFIX=prefix)
