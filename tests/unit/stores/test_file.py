"""The file store: edits, broken edits, and everything a file can hold."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from keydesk import Desk, Reason, open_desk
from keydesk.errors import SettingsError, StoreReadOnly
from keydesk.keys.secret import checksum
from keydesk.testing import ManualClock

FIRST = "first-held-secret-0123456789abcdef"
SECOND = "second-held-secret-0123456789abcdef"


class Keys:
    """A file of keys and the desk that reads it."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.path, self.clock = path, clock
        self.desk: Desk | None = None

    def write(self, content: str | bytes) -> None:
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)

    def open(self, content: str | bytes | None = None) -> Desk:
        if content is not None:
            self.write(content)
        self.path.exists() and self.path.chmod(0o600)
        if self.desk is not None:
            self.desk.close()
        self.desk = open_desk({"KEYDESK_STORE": f"file:{self.path}"}, clock=self.clock)
        return self.desk

    def name_of(self, secret: str, *, after: float = 1.0) -> str | None:
        assert self.desk is not None
        self.clock.advance(after)
        decision = self.desk.verify(secret)
        return decision.key.name if decision.allowed and decision.key else None


def _closed(keys: Keys) -> Iterator[Keys]:
    """Close the desk after the test: its thread, which writes usage, looks at the file too."""
    yield keys
    if keys.desk is not None:
        keys.desk.close()


@pytest.fixture
def yml(tmp_path: Path, clock: ManualClock) -> Iterator[Keys]:
    yield from _closed(Keys(tmp_path / "keys.yml", clock))


@pytest.fixture
def toml(tmp_path: Path, clock: ManualClock) -> Iterator[Keys]:
    yield from _closed(Keys(tmp_path / "keys.toml", clock))


@pytest.fixture(params=["yml", "toml"])
def keys(request: pytest.FixtureRequest) -> Keys:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def entries(keys: Keys, given: dict[str, str]) -> str:
    mark = ":" if keys.path.suffix == ".yml" else " ="
    return "".join(f'"{text}"{mark} "{name}"\n' for text, name in given.items())


# Edits


def test_edit_is_in_force_within_a_second(keys: Keys) -> None:
    keys.open(entries(keys, {FIRST: "One"}))
    assert keys.name_of(FIRST) == "One"
    keys.write(entries(keys, {SECOND: "Two"}))
    assert keys.name_of(SECOND, after=1.0) == "Two"
    assert keys.name_of(FIRST, after=0) is None


def test_edit_is_looked_for_twice_a_second_at_most(yml: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    yml.open(entries(yml, {FIRST: "One"}))
    reads = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: reads.append(self) or read(self))
    for _ in range(50):
        yml.name_of(FIRST, after=0.01)
    assert len(reads) <= 1


def test_settled_file_is_not_read_again(yml: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    yml.write(entries(yml, {FIRST: "One"}))
    os.utime(yml.path, (1_700_000_000, 1_700_000_000))
    yml.open()
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("nothing has changed"))
    for _ in range(10):
        assert yml.name_of(FIRST) == "One"


def test_edit_of_the_same_size_within_a_tick_of_the_clock(keys: Keys) -> None:
    keys.open(entries(keys, {FIRST: "One"}))
    state = keys.path.stat()
    assert keys.name_of(FIRST) == "One"
    keys.write(entries(keys, {FIRST: "Two"}))
    os.utime(keys.path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert keys.name_of(FIRST) == "Two"


def test_replaced_in_one_step(keys: Keys) -> None:
    keys.write(entries(keys, {FIRST: "One"}))
    os.utime(keys.path, (1_700_000_000, 1_700_000_000))
    keys.open()
    other = keys.path.with_name("new")
    other.write_text(entries(keys, {FIRST: "Two"}))
    os.utime(other, (1_700_000_000, 1_700_000_000))  # as `rsync --times` and `cp -p` leave it
    other.replace(keys.path)
    assert keys.name_of(FIRST) == "Two"


def test_removed_and_put_back(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    keys.open(entries(keys, {FIRST: "One"}))
    assert keys.desk is not None
    keys.path.unlink()
    assert keys.name_of(FIRST) == "One"
    assert keys.desk.store.checks()[0].passed is False
    keys.write(entries(keys, {SECOND: "Two"}))
    assert keys.name_of(SECOND) == "Two"
    told = [record for record in caplog.records if str(keys.path) in record.getMessage()]
    assert [record.levelname for record in told if "could be guessed" not in record.getMessage()] == [
        "ERROR",
        "WARNING",
    ]
    assert keys.desk.store.checks()[0].passed


def test_symlink_turned_elsewhere(yml: Keys) -> None:
    """How Kubernetes brings a new version of a mounted secret."""
    for number in ("1", "2"):
        folder = yml.path.parent / number
        folder.mkdir()
        (folder / "keys.yml").write_text(entries(yml, {FIRST: f"Version {number}"}))
        os.utime(folder / "keys.yml", (1_700_000_000, 1_700_000_000))
    current = yml.path.parent / "current"
    current.symlink_to("1")
    yml.path.symlink_to(Path("current") / "keys.yml")
    yml.open()
    assert yml.name_of(FIRST) == "Version 1"
    fresh = yml.path.parent / "fresh"
    fresh.symlink_to("2")
    fresh.replace(current)
    assert yml.name_of(FIRST) == "Version 2"


# Broken edits

BROKEN = {
    "yml": [
        (f"{FIRST}: One\n{SECOND}: [unclosed\n", "line"),
        (f"{FIRST}: One\n{FIRST}: Two\n", "line 2"),
        (f"{FIRST}: One\n\t{SECOND}: Two\n", "line 2"),
        (f"{FIRST}: One\n'{SECOND}\n", "line"),
        (f"- {FIRST}\n- {SECOND}\n", "mapping"),
        (FIRST, "mapping"),
        (f"{FIRST}: &a [*a]\n", ""),
        (f"? [{FIRST}]\n: One\n", "line 1"),
        (f"{FIRST}: *{SECOND}\n", "line 1"),
        (f"{FIRST}: One\n---\n{SECOND}: Two\n", "line"),
        (f"{FIRST}: 'a\x00b'\n", ""),
    ],
    "toml": [
        (f"'{FIRST}' = 'One'\n'{SECOND}' = unclosed\n", "line 2"),
        (f"'{FIRST}' = 'One'\n'{FIRST}' = 'Two'\n", "line 2"),
        (f"'{FIRST}' = 'One'\n{SECOND}\n", "line 2"),
        (f"'{FIRST}' = 'One\n'{SECOND}' = 'Two'\n", "line 1"),
        (f"'{FIRST}' = {'9' * 5000}\n", ""),
        (f"'{FIRST}' = 2027-13-45\n", ""),
    ],
}


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [(kind, content, words) for kind, cases in BROKEN.items() for content, words in cases],
    ids=str,
)
def test_broken_edit_keeps_the_keys_and_is_logged_once(
    kind: str, content: str, words: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    keys: Keys = request.getfixturevalue(kind)
    keys.open(entries(keys, {FIRST: "Good"}))
    keys.write(content)
    for _ in range(5):
        assert keys.name_of(FIRST) == "Good"
    logged = [record for record in caplog.records if "cannot be used" in record.getMessage()]
    assert len(logged) == 1
    assert logged[0].levelname == "ERROR"
    message = logged[0].getMessage()
    assert str(keys.path) in message
    assert words in message
    for part in (FIRST, SECOND, "unclosed", "One", "Two"):
        assert part not in message
    assert keys.desk is not None
    assert keys.desk.store.checks()[0].passed is False
    keys.write(entries(keys, {SECOND: "Mended"}))
    assert keys.name_of(SECOND) == "Mended"
    assert keys.desk.store.checks()[0].passed


@pytest.mark.parametrize("content", [b"\xff\xfe", b'"\xe9": x', f"{FIRST}: caf\xe9".encode("latin-1")])
def test_not_utf8(keys: Keys, content: bytes) -> None:
    keys.write(content)
    with pytest.raises(SettingsError, match="UTF-8"):
        keys.open()


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nested_without_end(yml: Keys, opening: str, caplog: pytest.LogCaptureFixture) -> None:
    yml.open(entries(yml, {FIRST: "Good"}))
    yml.write("a: " + opening * 30_000 if opening != "- " else opening * 3_000)
    assert yml.name_of(FIRST) == "Good"
    with pytest.raises(SettingsError, match="cannot be used"):
        yml.open()


def test_nested_without_end_in_toml(toml: Keys) -> None:
    toml.write("a = " + "[" * 30_000)
    with pytest.raises(SettingsError, match="cannot be used"):
        toml.open()


def test_folder_in_place_of_the_file(keys: Keys) -> None:
    keys.path.mkdir()
    with pytest.raises(SettingsError, match="cannot be used"):
        keys.open()


def test_no_file(keys: Keys) -> None:
    with pytest.raises(SettingsError, match=re.escape(str(keys.path))):
        keys.open()


def test_not_allowed_to_read(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.open(entries(keys, {FIRST: "Good"}))

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    keys.write(entries(keys, {SECOND: "Two"}))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)  # root, who often runs this, is refused nothing
        assert keys.name_of(FIRST) == "Good"
        with pytest.raises(SettingsError, match="Permission denied"):
            Keys(keys.path, keys.clock).open()
    assert keys.name_of(SECOND) == "Two"


def test_too_large(yml: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    from keydesk.stores import file

    monkeypatch.setattr(file, "MAX_FILE_BYTES", 10)
    with pytest.raises(SettingsError, match=r"keep so many keys in SQLite"):
        yml.open(entries(yml, {FIRST: "One"}))


# What a file can hold


@pytest.mark.parametrize("content", ["", "\n", "# nothing yet\n", "{}", "api_keys:\n", "api_keys: {}\n", "---\n"])
def test_empty_lets_nobody_in(yml: Keys, content: str) -> None:
    desk = yml.open(content)
    assert desk.list_keys().keys == ()
    assert desk.verify(FIRST).reason is Reason.INVALID
    assert desk.verify("").reason is Reason.MISSING


@pytest.mark.parametrize("content", ["", "# nothing\n", "[api_keys]\n"])
def test_empty_toml_lets_nobody_in(toml: Keys, content: str) -> None:
    assert toml.open(content).list_keys().keys == ()


@pytest.mark.parametrize(
    "text", ["12345", "1e10", "yes", "no", "null", "~", "0o17", "0x1F", "1_000", "2027-01-31", ".5"]
)
def test_yaml_secret_is_what_it_looks_like(yml: Keys, text: str) -> None:
    desk = yml.open(f"api_keys:\n  {text}: Odd client\n")
    decision = desk.verify(text)
    assert decision.allowed
    assert decision.key is not None
    assert decision.key.name == "Odd client"
    for other in ("10000000000.0", "True", "False", "None", "15", "31", "1000"):
        assert not desk.verify(other).allowed


def test_yaml_names_are_text_too(yml: Keys) -> None:
    yml.open(f"{FIRST}: 12345\n{SECOND}: yes\n")
    assert yml.name_of(FIRST) == "12345"
    assert yml.name_of(SECOND) == "yes"


@pytest.mark.parametrize("start", ["", "\ufeff", "%YAML 1.2\n---\n", "debug: true\nurl: http://x\n"])
def test_yaml_section_of_a_larger_file(yml: Keys, start: str) -> None:
    yml.open(f"{start}api_keys:\n  {FIRST}: User 1\n  {SECOND}: App 1\n")
    assert yml.name_of(FIRST) == "User 1"
    assert yml.name_of(SECOND) == "App 1"


@pytest.mark.parametrize("start", ["", "\ufeff", "debug = true\n[server]\nport = 8080\n"])
def test_toml_section_of_a_larger_file(toml: Keys, start: str) -> None:
    toml.open(f"{start}[api_keys]\n{FIRST} = 'User 1'\n[api_keys.{SECOND}]\nname = 'App 1'\nscopes = ['a:b']\n")
    assert toml.name_of(FIRST) == "User 1"
    assert toml.name_of(SECOND) == "App 1"


def test_crlf_and_comments(yml: Keys) -> None:
    yml.open(f"# our clients\r\n{FIRST}: One # the first\r\n\r\n{SECOND}: Two\r\n")
    assert yml.name_of(FIRST) == "One"
    assert yml.name_of(SECOND) == "Two"


def test_sha256_entry(keys: Keys) -> None:
    digest = hashlib.sha256(FIRST.encode()).hexdigest()
    keys.open(entries(keys, {f"sha256:{digest}": "One", f"sha256:{hashlib.sha256(b'x').hexdigest().upper()}": "Two"}))
    assert keys.name_of(FIRST) == "One"
    assert keys.name_of("x") == "Two"
    assert keys.name_of(digest) is None
    assert keys.name_of(f"sha256:{digest}") is None


def test_sha256_entry_under_a_pepper(yml: Keys) -> None:
    yml.write(f"sha256:{hashlib.sha256(FIRST.encode()).hexdigest()}: One\n{SECOND}: Two\n")
    desk = open_desk({"KEYDESK_STORE": f"file:{yml.path}", "KEYDESK_PEPPER": b"p" * 32}, clock=yml.clock)
    assert desk.verify(FIRST).allowed
    assert desk.verify(SECOND).allowed


@pytest.mark.parametrize("text", ["sha256:", "sha256:abc", "sha256:" + "g" * 64, "sha256:" + "0" * 65])
def test_sha256_entry_that_is_none(yml: Keys, text: str) -> None:
    with pytest.raises(SettingsError, match=r"entry 1.*64 hex"):
        yml.open(f'"{text}": One\n')


def test_two_secrets_of_one_name_are_one_key(yml: Keys) -> None:
    desk = yml.open(f"{FIRST}: {{name: One, expires_at: 2026-01-01T12:00:10Z}}\n{SECOND}: One\n")
    first, second = desk.verify(FIRST), desk.verify(SECOND)
    assert first.allowed
    assert second.allowed
    assert first.key == second.key
    assert len(desk.list_keys().keys) == 1
    yml.clock.advance(10)
    assert desk.verify(FIRST).reason is Reason.EXPIRED
    assert desk.verify(SECOND).allowed


def test_two_secrets_of_one_name_must_agree(yml: Keys) -> None:
    with pytest.raises(SettingsError, match="differ"):
        yml.open(f"{FIRST}: {{name: One, scopes: [a:b]}}\n{SECOND}: One\n")


def test_same_secret_twice(yml: Keys) -> None:
    digest = hashlib.sha256(FIRST.encode()).hexdigest()
    with pytest.raises(SettingsError, match="entry 2: secret: is the same as that of entry 1"):
        yml.open(f"{FIRST}: One\nsha256:{digest}: Two\n")


def test_more_than_ten_secrets_of_one_name(yml: Keys) -> None:
    with pytest.raises(SettingsError, match="10"):
        yml.open("".join(f"{FIRST}{n}: One\n" for n in range(11)))


_START = "kd_live_" + "A1b2C3d4" * 4
OURS = _START + checksum(_START)


@pytest.mark.parametrize(
    "content",
    [
        f"User 1: {OURS}\n",  # the wrong way round
        f"User 1: {{name: {OURS}}}\n",
        f"{OURS}x: User 1\n",
        f"{OURS[:-1]}: User 1\n",
        f"{OURS}: {{{OURS}: x}}\n",
        f"team:\n  {OURS}: User 1\n  name: x\n",  # one level too deep
        f"team:\n  {OURS}: User 1\n",
        f"some-secret: {{name: x, scopes: [{OURS}]}}\n",
        f"some-secret: {{name: x, networks: [{OURS}]}}\n",
        f"some-secret: {{name: x, limits: [{OURS}]}}\n",
        f"some-secret: {{name: x, quotas: {OURS}}}\n",
        f"some-secret: {{name: x, environment: {OURS}}}\n",
        f"some-secret: {{name: x, expires_at: {OURS}}}\n",
        f"some-secret: {{name: x, description: see {OURS} there}}\n",
        f"a: {{name: x, owner: {OURS}}}\n",
        f"{OURS}: User 1\n{OURS}: User 2\n",
    ],
)
def test_error_shows_no_secret(yml: Keys, content: str) -> None:
    with pytest.raises(SettingsError) as caught:
        yml.open(content)
    body = OURS.rpartition("_")[2]
    assert body[:20] not in str(caught.value)
    assert body[5:30] not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [f"team:\n  {FIRST}: User 1\n", f"User 1: {{{FIRST}: x}}\n", f"User 1: {FIRST}\n", f"{FIRST}:\n  - User 1\n"],
)
def test_error_shows_no_foreign_secret(yml: Keys, content: str) -> None:
    with pytest.raises(SettingsError) as caught:
        yml.open(content)
    assert FIRST[:12] not in str(caught.value)


def test_yaml_tags_make_nothing(yml: Keys) -> None:
    desk = yml.open(f"{FIRST}: !!python/name:os.system x\n")
    assert desk.list_keys().keys[0].name == "x"


def test_store_is_read_only(keys: Keys) -> None:
    desk = keys.open(entries(keys, {FIRST: "One"}))
    key = desk.list_keys().keys[0]
    calls = [
        lambda: desk.issue(name="x"),
        lambda: desk.rotate(key.id),
        lambda: desk.update(key.id, name="x"),
        lambda: desk.disable(key.id),
        lambda: desk.enable(key.id),
        lambda: desk.revoke(key.id),
        lambda: desk.delete(key.id),
        lambda: list(desk.prune(ended_for=timedelta(0))),
        lambda: desk.import_keys([]),
        lambda: desk.list_events(),
        lambda: desk.check_chain(),
    ]
    for call in calls:
        with pytest.raises(StoreReadOnly, match="KEYDESK_STORE"):
            call()


def test_checks_tell_of_modes_and_weak_keys(yml: Keys) -> None:
    desk = yml.open("let-me-in: One\n")
    assert [check.name for check in desk.store.checks() if check.passed is False] == ["strength"]
    yml.path.chmod(0o644)
    assert [check.fix for check in desk.store.checks() if check.name == "file"] == [f"chmod 600 {yml.path}"]


@pytest.mark.parametrize("name", ["keys.json", "keys", "keys.yml.bak", ""])
def test_name_of_another_kind(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"\.yml, \.yaml or \.toml"):
        open_desk({"KEYDESK_STORE": f"file:{tmp_path / name if name else ''}"})


def test_url_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys.yaml").write_text(f"{FIRST}: One\n")
    monkeypatch.chdir(tmp_path)
    for url in ("file:keys.yaml", "file://keys.yaml", f"file:{tmp_path}/keys.yaml", f"file://{tmp_path}/keys.yaml"):
        assert open_desk({"KEYDESK_STORE": url}).verify(FIRST).allowed
