"""`init`: the first administrator's key, once."""

from __future__ import annotations

import re

from keydesk.stores import listing


def test_init_makes_one_key_that_may_do_everything(run, desk):
    secret = run("init").stdout.strip()
    assert re.fullmatch(r"kd_live_\w{38}", secret)
    assert desk.verify(secret, scopes=["keydesk:keys:write", "keydesk:plans:write", "orders:read"]).allowed
    (key,) = desk.list_keys().keys
    said = run.refused("init")
    assert f"{key.id} may manage keys" in said
    assert f"keydesk rotate {key.id} --overlap 0s" in said


def test_init_makes_another_once_nobody_may_manage_keys(run, desk):
    run("init")
    (first,) = desk.list_keys().keys
    desk.revoke(first.id)
    desk.issue(name="reader", scopes=["keydesk:keys:read"])
    assert run("init").stdout.startswith("kd_live_")


def test_init_as_json(run):
    assert run.json("init")["key"]["scopes"] == ["*"]


def test_init_finds_an_administrator_behind_many_keys(run, desk, monkeypatch):
    monkeypatch.setattr(listing, "KEYS_LOOKED_AT", 2)
    run("init")
    for number in range(9):
        desk.issue(name=f"client {number}")
    assert "may manage keys" in run.refused("init")
