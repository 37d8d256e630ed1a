"""Stores that Keydesk only reads say where their keys are edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from keydesk import Desk, open_desk
from keydesk.ports import EditedKeyStore

ONE = "one-held-secret-0123456789abcdefg"
TWO = "two-held-secret-0123456789abcdefg"


def places(desk: Desk) -> dict[str, str]:
    """Return where each key of a desk is edited, by its name."""
    assert isinstance(desk.store, EditedKeyStore)
    return {key.name: desk.store.edited_in(key) for key in desk.list_keys().keys} | {"": desk.store.edited_in()}


def test_edited_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.yml").write_text(f"{ONE}: App\n")
    assert places(open_desk({"KEYDESK_STORE": "file:keys.yml"})) == {"App": "keys.yml", "": "keys.yml"}


def test_edited_in_the_configuration() -> None:
    assert places(open_desk({"API_KEY": ONE, "API_KEYS": {TWO: "App"}})) == {
        "default": "API_KEY",
        "App": "API_KEYS",
        "": "API_KEYS",
    }
    # What API_KEYS says of a secret goes before API_KEY.
    assert places(open_desk({"API_KEY": ONE, "API_KEYS": {ONE: "default"}}))["default"] == "API_KEYS"


def test_a_store_that_changes_is_edited_nowhere(desk: Desk) -> None:
    assert not isinstance(desk.store, EditedKeyStore)
