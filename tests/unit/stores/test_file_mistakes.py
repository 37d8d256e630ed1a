"""Mistakes in a key file that would let callers in, or everybody out."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from keydesk import Desk, SettingsError, open_desk
from keydesk.testing import ManualClock

STRONG = "u1-9Jq2vXb7LrT0wYc5Ks8d-Zq7Xw2"


def opened(path: Path, clock: ManualClock) -> Desk:
    return open_desk({"KEYDESK_STORE": f"file:{path}"}, clock=clock)


def test_settings_of_a_file_without_a_part_for_keys_are_no_keys(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "config.yml"
    path.write_text("title: Reports\nport: 8080\n")
    with pytest.raises(SettingsError, match="put those under `api_keys:`"):
        opened(path, clock)


def test_edit_that_drops_the_part_for_keys_lets_nobody_new_in(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.yml"
    path.write_text(f"debug: no\napi_keys:\n  {STRONG}: User 1\n")
    desk = opened(path, clock)
    path.write_text("debug: yes\n")
    clock.advance(timedelta(seconds=1))
    assert not desk.verify("debug").allowed
    assert desk.verify(STRONG).allowed
    assert "looks like the name of a setting" in caplog.text


def test_edit_that_empties_the_file_keeps_the_keys(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An editor may empty a file before it writes it. Who means no keys writes {}."""
    path = tmp_path / "keys.yml"
    path.write_text(f"{STRONG}: User 1\n")
    desk = opened(path, clock)
    os.truncate(path, 0)
    clock.advance(timedelta(seconds=1))
    assert desk.verify(STRONG).allowed
    assert "write {}" in caplog.text
    path.write_text("{}\n")
    clock.advance(timedelta(seconds=1))
    assert not desk.verify(STRONG).allowed
    assert "holds no keys" in caplog.text


def test_guessable_keys_are_told_once(tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.yml"
    path.write_text("my-secret-api-key: User 1\n")
    desk = opened(path, clock)
    clock.advance(timedelta(seconds=1))
    assert desk.verify("my-secret-api-key").allowed
    assert caplog.text.count("could be guessed") == 1


@pytest.mark.parametrize(("text", "name"), [("mobile", STRONG), (STRONG, STRONG), ("same same", "same same")])
def test_wrong_way_round_is_refused(tmp_path: Path, clock: ManualClock, text: str, name: str) -> None:
    with pytest.raises(SettingsError, match="wrong way round") as caught:
        open_desk({"API_KEYS": {text: name}}, clock=clock)
    assert STRONG not in str(caught.value)


def test_every_wrong_entry_is_named_with_its_place(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "keys.yml"
    path.write_text(f"{STRONG}: Good\n'a b': Two\nletmein: Three\n'': Four\nmobile: {STRONG}\n")
    with pytest.raises(SettingsError) as caught:
        opened(path, clock)
    places = [problem.removeprefix(f"KEYDESK_STORE, {path}, ").split(":")[0] for problem in caught.value.problems]
    assert places == ["entry 3", "entry 5", "entry 2", "entry 4", "entry 5"]
    assert all("; " in problem for problem in caught.value.problems)
    for text in (STRONG, "letmein", "mobile", "a b"):
        assert text not in str(caught.value)


def test_broken_edit_is_logged_with_every_wrong_entry(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.yml"
    path.write_text(f"{STRONG}: User 1\n")
    desk = opened(path, clock)
    path.write_text(f"{STRONG}: User 1\n'a b': Two\n'c d': Three\n")
    clock.advance(timedelta(seconds=1))
    assert desk.verify(STRONG).allowed
    (record,) = [record for record in caplog.records if "cannot be used" in record.getMessage()]
    assert "entry 2: " in record.getMessage()
    assert "entry 3: " in record.getMessage()
    check = desk.store.checks()[0]
    assert check.passed is False
    assert "entry 3: " in check.fix


def test_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(SettingsError) as caught:
        opened(tmp_path / "none.yml", clock)
    assert caught.value.problems == (
        f"KEYDESK_STORE names the file {tmp_path}/none.yml, which cannot be used: No such file or directory; correct "
        "the path, or put a file there that this user may read",
    )
