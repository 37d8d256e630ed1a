"""Two servers, PostgreSQL and Valkey behind nginx, put together as examples/operation/compose.yaml does it."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from keydesk import Desk, open_desk
from keydesk.usage import ALLOWED

from ..conftest import ALL_REQUIRED, Databases
from ..servers import ServerMissing, Valkey, wait_until
from .gateways import CLIENT, OPERATION, Answer, Balancer, ask
from .serving import Served, environment, served

ASKED = "/authz/forwarded"
MAX_STALENESS_SECONDS = 1.0
_HIDDEN = re.compile(rb'<input type="hidden" name="([^"]+)" value="([^"]*)">')


@dataclass
class Installation:
    """Both servers, and the way in that clients take."""

    front: Balancer
    servers: tuple[Served, Served]
    desk: Desk
    administrator: str
    ask: Callable[..., Answer]

    def many(self, secret: str, count: int) -> Counter[int]:
        """Return the statuses of so many questions, eight at a time."""
        with ThreadPoolExecutor(8) as pool:
            return Counter(pool.map(lambda _: self.ask(ASKED, secret).status, range(count)))

    def change(self, method: str, path: str, body: object, *more: tuple[str, str], port: int | None = None) -> Answer:
        """Ask for a change, as the administrator."""
        headers = [("Content-Type", "application/json"), *more]
        text = json.dumps(body).encode()
        return ask(port or self.front.port, path, self.administrator, method, headers=headers, body=text)


def _settings(postgres_url: str, valkey_url: str) -> dict[str, str]:
    """Return the settings of the file, led to the servers of this test."""
    composed = yaml.safe_load((OPERATION / "compose.yaml").read_text())["services"]
    ours = {
        "KEYDESK_STORE": postgres_url,
        "KEYDESK_PEPPER": base64.b64encode(secrets.token_bytes(32)).decode(),
        "KEYDESK_LIMITER": valkey_url,
        "KEYDESK_TRUSTED_PROXIES": "127.0.0.1",
    }
    of_file = composed["first"]["environment"]
    assert set(ours) < set(of_file)
    return {**of_file, **ours, "KEYDESK_DEVELOPMENT": "false"}


def _run(settings: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-c", "from keydesk.cli import main; main()", *arguments]
    run = subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def settings(postgres: Databases, _valkey: Valkey) -> Iterator[dict[str, str]]:
    _valkey.ask("FLUSHALL")
    with postgres.fresh() as url:
        yield _settings(url, _valkey.url())


@pytest.fixture(scope="module")
def installation(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    _run(settings, "db", "upgrade")
    said = _run(settings, "issue", "Administrator", "--scope", "keydesk:*")
    (administrator,) = re.findall(r"^kd_live_\w+$", said, re.MULTILINE)
    with ExitStack() as stack:
        both = [stack.enter_context(served(tmp_path_factory.mktemp(name), settings)) for name in ("first", "second")]
        try:
            front = Balancer(*(server.port for server in both))
        except ServerMissing as missing:
            (pytest.fail if ALL_REQUIRED else pytest.skip)(str(missing))
        stack.callback(front.remove)
        front.start()
        desk = open_desk(settings)
        stack.callback(desk.close)

        def through(*arguments: Any, **more: Any) -> Answer:
            return ask(front.port, *arguments, **more)

        yield Installation(front, (both[0], both[1]), desk, administrator, through)


def _answered(server: Served, path: str) -> int:
    return server.log.read_text().count(f'"path": "{path}"')


def test_both_answer(installation: Installation) -> None:
    secret = installation.desk.issue(name="client").secret
    before = [_answered(server, ASKED) for server in installation.servers]
    assert installation.many(secret, 20) == {200: 20}
    after = [_answered(server, ASKED) for server in installation.servers]
    assert all(later > earlier for earlier, later in zip(before, after, strict=True))
    assert sum(after) - sum(before) == 20


@pytest.mark.parametrize("under", [{"limits": ["20/hour"]}, {"quotas": ["20/total"]}], ids=["limit", "quota"])
def test_both_count_together(installation: Installation, under: dict[str, list[str]]) -> None:
    """Neither more than there are nor fewer, whichever of them is asked."""
    issued = installation.desk.issue(name="client", **under)  # type: ignore[arg-type]
    assert installation.many(issued.secret, 60) == {200: 20, 429: 40}


def test_revoked_through_one_is_refused_by_both(installation: Installation) -> None:
    issued = installation.desk.issue(name="client")
    ports = [server.port for server in installation.servers]
    assert [ask(port, ASKED, issued.secret).status for port in ports] == [200, 200]
    assert installation.change("POST", f"/v1/keys/{issued.key.id}/revoke", {}).status == 200
    answered_at = time.monotonic()
    left = set(ports)
    while left:
        sent_at = time.monotonic()
        left -= {port for port in left if ask(port, ASKED, issued.secret).status == 401}
        assert not left or sent_at - answered_at <= MAX_STALENESS_SECONDS


def test_request_repeated_at_the_other_is_done_once(installation: Installation) -> None:
    """A client that heard nothing sends it again, and nginx gives it to the other server."""
    once = ("Idempotency-Key", secrets.token_hex(8))
    name = f"once {once[1]}"

    def send(port: int) -> Answer:
        return installation.change("POST", "/v1/keys", {"name": name}, once, port=port)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, [server.port for server in installation.servers] * 4))
    assert len(installation.desk.list_keys(text=name).keys) == 1
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 7}
    with_secret = [re.search(rb"kd_live_\w{38}", answer.body) is not None for answer in answers]
    assert with_secret == [answer.status == 201 for answer in answers]


def test_pages_go_on_at_the_other(installation: Installation) -> None:
    """Both know a session that one has begun, and a form that one has sent."""
    key = installation.desk.issue(name="client").key
    cookies: dict[str, str] = {}

    def ask_as_browser(path: str, **form: str) -> Answer:
        sent = ("Content-Type", "application/x-www-form-urlencoded")
        body = urlencode(form).encode() if form else None
        kept = ("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
        answer = installation.ask(path, None, "POST" if form else "GET", headers=[sent, kept], body=body)
        for given in answer.headers.get_all("Set-Cookie", []):
            name, _, value = given.partition(";")[0].partition("=")
            cookies[name] = value
        return answer

    def post(page: str, path: str, **form: str) -> None:
        hidden = {name.decode(): value.decode() for name, value in _HIDDEN.findall(ask_as_browser(page).body)}
        answer = ask_as_browser(path, **hidden, **form)
        assert answer.status in (302, 303), answer.body

    post("/admin/sign-in", "/admin/sign-in", secret=installation.administrator)
    for action in ("disable", "enable", "disable"):  # each page by the one, and each form by the other
        post(f"/admin/keys/{key.id}", f"/admin/keys/{key.id}/{action}")
    assert installation.desk.get_key(key.id).disabled_at is not None


def test_address_is_what_nginx_saw(installation: Installation) -> None:
    here = installation.desk.issue(name="here", networks=[f"{CLIENT}/32"])
    elsewhere = installation.desk.issue(name="elsewhere", networks=["10.0.0.0/8"])
    claimed = [("X-Forwarded-For", "10.1.2.3")]
    assert installation.ask(ASKED, here.secret, headers=claimed).status == 200
    assert installation.ask(ASKED, elsewhere.secret, headers=claimed).status == 403


def test_figures_are_for_those_within(installation: Installation) -> None:
    for path in ("/metrics", "/readyz"):
        assert installation.ask(path).status == 404
        assert {server.status(path) for server in installation.servers} == {200}


def test_each_is_restarted_and_nobody_notices(settings: dict[str, str], tmp_path: Path) -> None:
    """As for a new version: one after the other, while requests come. Each of them is answered, and counted."""
    desk = open_desk(settings)
    issued = desk.issue(name="client", limits=["1000000/hour"])
    began_at, statuses, ended = desk.clock.now(), Counter[int](), threading.Event()
    with ExitStack() as stack:
        stack.callback(desk.close)
        stacks = [stack.enter_context(ExitStack()) for _ in range(2)]
        both = [own.enter_context(served(_folder(tmp_path, "old"), settings)) for own in stacks]
        front = Balancer(*(server.port for server in both))
        stack.callback(front.remove)
        front.start()

        def send() -> None:
            while not ended.is_set():
                statuses[ask(front.port, ASKED, issued.secret).status] += 1

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            try:
                for own, server in zip(stacks, both, strict=True):
                    own.close()
                    newer = own.enter_context(served(_folder(tmp_path, "new"), settings, port=server.port))
                    wait_until(lambda newer=newer: _answered(newer, ASKED) > 0)  # nginx asks it again
            finally:
                ended.set()
            sending.result(30)
        for own in stacks:
            own.close()
        assert set(statuses) == {200}
        assert desk.usage(issued.key.id, since=began_at).totals() == {ALLOWED: statuses[200]}


def _folder(parent: Path, name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=name, dir=parent))
