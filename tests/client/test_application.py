"""An application whose store is a server: what it does as any other, and what it is told when it cannot."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from keydesk import Desk, Reason, open_desk
from keydesk.cli import keydesk as command_line
from keydesk.client.store import is_open
from keydesk.errors import InvalidField, SettingsError, StoreReadOnly, StoreUnavailable
from keydesk.server import Server, create_app
from keydesk.testing import ManualClock
from keydesk.usage import ALLOWED

from .running import EVERY_SCOPE, listening

PEPPER, OTHER = "cGVwcGVy" * 8, "b3RoZXIh" * 8


class Site:
    """A server, and applications that have it for a store. All share one clock."""

    def __init__(self, clock: ManualClock, **settings: Any) -> None:
        self.clock = clock
        given = {"KEYDESK_STORE": "memory://", "KEYDESK_DEVELOPMENT": True, **settings}
        self.server: Server = create_app(given, clock=clock)
        self.requests: list[tuple[str, bytes]] = []
        self.status: str | None = None  # answered to everything instead
        self._opened: list[Desk] = []

    @property
    def desk(self) -> Desk:
        return self.server.desk

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer, and note what came over the wire."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.requests.append((environ["PATH_INFO"], body))
        if self.status is not None:
            start_response(self.status, [("Content-Length", "0"), ("Location", "/elsewhere")])
            return ()
        environ["wsgi.input"] = BytesIO(body)
        return self.server(environ, start_response)

    def application(self, url: str, *scopes: str, **settings: Any) -> Desk:
        """Return the desk of an application, whose key has these scopes, or all that it can use."""
        key = self.desk.issue(name="application", scopes=scopes or EVERY_SCOPE)
        given = {"KEYDESK_STORE": url, "KEYDESK_SERVER_KEY": key.secret, "KEYDESK_USAGE_FLUSH_SECONDS": 3600}
        desk = open_desk(given | settings, clock=self.clock)
        self._opened.append(desk)
        return desk

    def paths(self) -> list[str]:
        """Return what was asked since the last time."""
        paths = [path.removeprefix("/v1/sync/") for path, _ in self.requests]
        self.requests.clear()
        return paths

    def close_applications(self) -> None:
        while self._opened:
            self._opened.pop().close()

    def close(self) -> None:
        self.close_applications()
        self.server.close()


@pytest.fixture
def site(clock: ManualClock) -> Iterator[Site]:
    site = Site(clock)
    yield site
    site.close()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with listening(site) as url:
        yield url
        site.close_applications()


@pytest.fixture
def application(site: Site, url: str) -> Desk:
    return site.application(url)


def test_known_key_is_verified_without_asking(site: Site, application: Desk) -> None:
    """Rule 7, across a network: one read of the record, and one question for as long as it is young enough."""
    issued = site.desk.issue(name="client", owner="acme", scopes=["orders:read"], networks=["203.0.113.0/24"])
    for _ in range(5):
        decision = application.verify(issued.secret, scopes=["orders:read"], client_address="203.0.113.7")
        assert decision.allowed
    assert decision.key == site.desk.get_key(issued.key.id)
    assert site.paths() == ["head", "find-by-digest"]
    refused = application.verify(issued.secret, scopes=["orders:write"], client_address="203.0.113.7")
    assert refused.reason is Reason.SCOPE_DENIED
    assert site.paths() == []


def test_secret_never_leaves_the_application(site: Site, application: Desk) -> None:
    """Not in a body, not in a path: its digest does."""
    issued = site.desk.issue(name="client", limits=["5/minute"])
    made_up = "kd_live_" + "A" * 38
    for secret in (issued.secret, made_up, "imported-key"):
        application.verify(secret, client_address="203.0.113.7")
    application.close()
    sent = repr(site.requests)
    for secret in (issued.secret, made_up, "imported-key"):
        assert secret not in sent
    assert site.desk.mint.digester.digest(issued.secret) in sent


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda desk, key: desk.revoke(key), Reason.REVOKED),
        (lambda desk, key: desk.disable(key), Reason.DISABLED),
        (lambda desk, key: desk.update(key, plan=None, scopes=["other:read"]), Reason.SCOPE_DENIED),
        (lambda desk, key: desk.rotate(key, overlap=timedelta(0)), Reason.EXPIRED),
        (lambda desk, key: desk.plans.put("gold", scopes=["other:read"]), Reason.SCOPE_DENIED),
    ],
    ids=["revoke", "disable", "narrow", "rotate", "plan"],
)
def test_change_is_in_force_within_max_staleness(
    site: Site, application: Desk, change: Callable[[Desk, str], object], reason: Reason
) -> None:
    """Rule 2, for an application that never sees the database."""
    site.desk.plans.put("gold", scopes=["orders:read"])
    issued = site.desk.issue(name="client", plan="gold", scopes=["orders:read"])
    assert application.verify(issued.secret, scopes=["orders:read"]).allowed
    change(site.desk, issued.key.id)
    site.clock.advance(timedelta(seconds=1, microseconds=1))
    assert application.verify(issued.secret, scopes=["orders:read"]).reason is reason


def test_new_key_works_at_once_where_its_text_was_tried_before(site: Site, application: Desk) -> None:
    issued = site.desk.issue(name="client")
    assert application.verify("kd_live_" + "A" * 38).reason is Reason.INVALID
    site.clock.advance(timedelta(seconds=1))
    assert application.verify(issued.secret).allowed


def test_limits_are_those_of_the_server(site: Site, url: str) -> None:
    """Two applications and the server itself count in one place."""
    issued = site.desk.issue(name="client", limits=["3/minute"])
    first, second = site.application(url), site.application(url)
    assert first.verify(issued.secret).allowed
    assert second.verify(issued.secret).allowed
    assert site.desk.verify(issued.secret).allowed
    assert {desk.verify(issued.secret).reason for desk in (first, second, site.desk)} == {Reason.RATE_LIMITED}
    assert site.paths().count("take") == 4


def test_limiter_of_its_own_is_used_instead(site: Site, url: str) -> None:
    issued = site.desk.issue(name="client", limits=["3/minute"])
    application = site.application(url, KEYDESK_LIMITER="memory://")
    assert [application.verify(issued.secret).allowed for _ in range(4)] == [True] * 3 + [False]
    assert "take" not in site.paths()


def test_quota_is_never_oversold(site: Site, url: str) -> None:
    issued = site.desk.issue(name="client", quotas=["10/day"])
    desks = [site.application(url, KEYDESK_LIMITER="memory://") for _ in range(3)] + [site.desk]
    assert sum(desk.verify(issued.secret).allowed for _ in range(10) for desk in desks) == 10
    told = [row.event for row in site.desk.list_events(key_id=issued.key.id) if row.event.kind == "quota.reached"]
    assert told[-1].details["percent"] == 100


def test_usage_arrives(site: Site, application: Desk) -> None:
    """What an application counts is counted on the server, and the server says when a key was last used."""
    issued = site.desk.issue(name="client", owner="acme")
    for _ in range(3):
        application.verify(issued.secret, client_address="203.0.113.7")
    application.verify("kd_live_" + "A" * 38, client_address="203.0.113.7")
    assert application.usage(issued.key.id).totals() == {ALLOWED: 3}
    assert site.desk.usage(issued.key.id).totals() == {ALLOWED: 3}
    assert site.desk.get_key(issued.key.id).last_used_at == site.clock.now().replace(second=0, microsecond=0)
    assert [each.network for each in application.mistakes().networks] == ["203.0.113.0/24"]
    assert [each.key_id for each in application.top_keys().keys if each.count == 3] == [issued.key.id]
    asked = [issued.key.id, "key_" + "0" * 28, "é"]
    assert application.usage_of_keys(asked) == site.desk.usage_of_keys(asked)
    assert application.usage_of_keys(asked)[issued.key.id].totals() == {ALLOWED: 3}
    assert application.mistake_counts() == site.desk.mistake_counts()
    assert application.mistake_counts().totals() == {"malformed": 1}


def test_uses_of_earlier_secrets_arrive(site: Site, application: Desk) -> None:
    old = site.desk.issue(name="client")
    new = site.desk.rotate(old.key.id)
    for secret in (old.secret, old.secret, new.secret):
        assert application.verify(secret, client_address="203.0.113.7").allowed
    report = application.earlier_secrets(old.key.id)
    assert [(each.secret, each.network, each.count) for each in report.networks] == [(1, "203.0.113.0/24", 2)]
    assert report.last_used == {1: site.clock.now().replace(second=0, microsecond=0)}
    assert report == site.desk.earlier_secrets(old.key.id)
    assert application.earlier_secrets("é").networks == ()


def test_plans_and_what_is_left_of_quotas_are_read(site: Site, application: Desk) -> None:
    site.desk.plans.put("gold", scopes=["orders:read"], quotas=["10/day"])
    site.desk.owners.put("acme", quotas=["50/month"])
    issued = site.desk.issue(name="client", owner="acme", plan="gold")
    application.verify(issued.secret)
    assert application.plans.list() == site.desk.plans.list()
    assert application.plans.get("gold") == site.desk.plans.get("gold")
    assert application.plans.find("silver") is None
    assert application.owners.list() == site.desk.owners.list()
    assert application.owners.get("acme") == site.desk.owners.get("acme")
    assert application.quotas.balances(issued.key.id) == site.desk.quotas.balances(issued.key.id)
    assert [each.policy for each in application.quotas.balances(issued.key.id)] == [
        "10/day quota",
        "50/month quota per owner",
    ]


def test_reading_needs_the_scopes_of_the_management_api(site: Site, url: str) -> None:
    issued = site.desk.issue(name="client")
    application = site.application(url, "keydesk:sync")
    assert application.verify(issued.secret).allowed
    for read in (
        lambda: application.find_key(issued.key.id),
        lambda: application.list_keys(),
        lambda: application.usage(issued.key.id),
    ):
        with pytest.raises(StoreUnavailable, match=r"keydesk:(keys|usage):read"):
            read()


def test_keys_are_changed_on_the_server(site: Site, url: str, application: Desk) -> None:
    issued = site.desk.issue(name="client")
    for change in (
        lambda: application.issue(name="another"),
        lambda: application.revoke(issued.key.id),
        lambda: application.plans.put("gold"),
        lambda: application.owners.put("acme", limits=["1/minute"]),
    ):
        with pytest.raises(StoreReadOnly, match=url):
            change()


@pytest.mark.parametrize(
    ("scopes", "owner", "said"),
    [(["keydesk:verify"], None, "keydesk:sync"), (["keydesk:sync"], "acme", "no owner")],
    ids=["scope", "owner"],
)
def test_key_that_may_not_ask(site: Site, url: str, scopes: list[str], owner: str | None, said: str) -> None:
    """Nobody is let in, and the log says what to do about the application's key."""
    key = site.desk.issue(name="application", scopes=scopes, owner=owner)
    desk = open_desk({"KEYDESK_STORE": url, "KEYDESK_SERVER_KEY": key.secret}, clock=site.clock)
    assert desk.verify(key.secret).reason is Reason.UNAVAILABLE
    assert said in desk.store.checks()[0].found
    assert key.secret not in desk.store.checks()[0].found
    desk.close()


def test_key_of_the_application_that_is_revoked(site: Site, url: str) -> None:
    """It is as if the server did not answer: known keys go on for the grace, and not for longer."""
    issued = site.desk.issue(name="client")
    key = site.desk.issue(name="application", scopes=["keydesk:sync"])
    settings = {"KEYDESK_STORE": url, "KEYDESK_SERVER_KEY": key.secret, "KEYDESK_OUTAGE_GRACE_SECONDS": 60}
    desk = open_desk(settings, clock=site.clock)
    assert desk.verify(issued.secret).allowed
    site.desk.revoke(key.key.id)
    site.clock.advance(timedelta(seconds=50))
    assert desk.verify(issued.secret).allowed
    site.clock.advance(timedelta(seconds=12))
    assert desk.verify(issued.secret).reason is Reason.UNAVAILABLE
    found = desk.store.checks()[0].found
    assert "KEYDESK_SERVER_KEY" in found
    assert "revoked" in found
    desk.close()


@pytest.mark.parametrize(
    ("server", "application", "good"),
    [
        ({"KEYDESK_PEPPER": PEPPER}, {"KEYDESK_PEPPER": PEPPER}, True),
        ({"KEYDESK_PEPPER": PEPPER}, {}, False),
        ({}, {"KEYDESK_PEPPER": PEPPER}, False),
        ({"KEYDESK_PEPPER": PEPPER}, {"KEYDESK_PEPPER": OTHER}, False),
        ({"KEYDESK_PEPPER": PEPPER}, {"KEYDESK_PEPPER": OTHER, "KEYDESK_PREVIOUS_PEPPERS": [PEPPER]}, True),
    ],
    ids=["the same", "none here", "none there", "another", "known as previous"],
)
def test_peppers_must_agree(
    clock: ManualClock, server: dict[str, str], application: dict[str, Any], good: bool
) -> None:
    """With another pepper no key would be found. That is 503 with a reason, and not 401 to everybody."""
    site = Site(clock, **server)
    with listening(site) as url:
        issued = site.desk.issue(name="client")
        desk = site.application(url, **application)
        decision = desk.verify(issued.secret)
        assert decision.allowed is good
        if not good:
            assert decision.reason is Reason.UNAVAILABLE
            assert "KEYDESK_PEPPER" in desk.store.checks()[0].found
    site.close()


@pytest.mark.parametrize("status", ["404 Not Found", "302 Found", "200 OK", "500 Oh", "502 Bad Gateway", "418 Tea"])
def test_what_is_no_such_server(site: Site, url: str, application: Desk, status: str) -> None:
    """Nobody is let in by what is at a wrong address, and no redirection takes the key elsewhere."""
    issued = site.desk.issue(name="client", limits=["5/minute"])
    site.status = status
    assert application.verify(issued.secret).reason is Reason.UNAVAILABLE
    assert application.store.checks()[0].passed is False
    assert set(site.paths()) == {"head"}


def test_server_that_is_away(clock: ManualClock) -> None:
    """Rule 3: what was never known is 503; known keys go on for the grace; and it is all there when it comes back."""
    site = Site(clock)
    issued, other = site.desk.issue(name="client"), site.desk.issue(name="other")
    with listening(site) as url:
        desk = site.application(url)
        assert desk.verify(issued.secret).allowed
        place = int(url.rpartition(":")[2])
    clock.advance(timedelta(seconds=200))
    assert desk.verify(issued.secret).allowed
    assert desk.verify(other.secret).reason is Reason.UNAVAILABLE
    assert "does not answer" in desk.store.checks()[0].found
    site.desk.revoke(issued.key.id)
    with listening(site, port=place):
        clock.advance(timedelta(seconds=2))
        assert desk.verify(other.secret).allowed
        assert desk.verify(issued.secret).reason is Reason.REVOKED
    clock.advance(timedelta(seconds=302))
    assert desk.verify(other.secret).reason is Reason.UNAVAILABLE
    site.close()


def test_server_over_a_store_without_events_that_is_started_anew(clock: ManualClock) -> None:
    """What is removed there is refused: the same number of another process says nothing about what is known here."""
    entries = {"first-secret-of-thirty-two-bytes!": "first", "other-secret-of-thirty-two-bytes!": "other"}
    application = "application-secret-of-32-bytes!!"
    keys = {**entries, application: {"name": "application", "scopes": ["keydesk:sync"]}}
    settings = {"KEYDESK_STORE": "config://", "KEYDESK_PEPPER": PEPPER}
    site = Site(clock, **settings, API_KEYS=keys)
    place = 0
    with listening(site) as url:
        place = int(url.rpartition(":")[2])
        given = {"KEYDESK_STORE": url, "KEYDESK_SERVER_KEY": application, "KEYDESK_PEPPER": PEPPER}
        desk = open_desk(given, clock=clock)
        assert all(desk.verify(secret).allowed for secret in entries)
    site.close()
    del keys["first-secret-of-thirty-two-bytes!"]
    site = Site(clock, **settings, API_KEYS=keys)
    with listening(site, port=place):
        clock.advance(timedelta(seconds=2))
        assert [desk.verify(secret).reason for secret in entries] == [Reason.INVALID, None]
        desk.close()
    site.close()


def test_over_tls_the_server_must_be_who_it_says(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    issued = site.desk.issue(name="client")
    with listening(site, ssl_context=context) as url:
        assert url.startswith("https://")
        stranger.cert_pem.write_to_path(str(tmp_path / "stranger.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "stranger.pem"))
        refused = site.application(url)
        assert refused.verify(issued.secret).reason is Reason.UNAVAILABLE
        assert "certificate" in refused.store.checks()[0].found
        assert site.paths() == []
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert site.application(url).verify(issued.secret).allowed


@pytest.mark.parametrize(
    ("url", "open_"),
    [
        ("https://desk.example", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080/desk", False),
        ("http://localhost", False),
        ("http://desk.example", True),
        ("http://10.0.0.7:8080", True),
    ],
)
def test_requests_that_can_be_read_on_their_way(url: str, open_: bool) -> None:
    assert is_open(url) is open_


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"KEYDESK_STORE": "https://desk.example"}, "KEYDESK_SERVER_KEY is not set"),
        ({"KEYDESK_STORE": "https://", "KEYDESK_SERVER_KEY": "k"}, "no URL of a server"),
        ({"KEYDESK_STORE": "https://desk.example:port", "KEYDESK_SERVER_KEY": "k"}, "no URL of a server"),
        ({"KEYDESK_STORE": "https://me:kd_secret@desk.example", "KEYDESK_SERVER_KEY": "k"}, "into KEYDESK_SERVER_KEY"),
        ({"KEYDESK_STORE": "https://desk.example/?key=1", "KEYDESK_SERVER_KEY": "k"}, "into KEYDESK_SERVER_KEY"),
        ({"KEYDESK_STORE": "https://desk.example", "KEYDESK_SERVER_KEY": "a b"}, "cannot be a key"),
        ({"KEYDESK_STORE": "https://desk.example", "KEYDESK_SERVER_KEY": "ä"}, "cannot be a key"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        open_desk(settings)
    assert "kd_secret" not in str(caught.value)


@pytest.mark.parametrize("cursor", ["nonsense!", "x" * 500, "\ud800"])
def test_cursor_that_is_none(application: Desk, cursor: str) -> None:
    with pytest.raises(InvalidField):
        application.list_keys(cursor=cursor)


def test_doctor_looks_at_what_an_application_may_see(site: Site, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the one scope it needs it finds nothing wrong."""
    key = site.desk.issue(name="application", scopes=["keydesk:sync"])
    monkeypatch.setenv("KEYDESK_STORE", url)
    monkeypatch.setenv("KEYDESK_SERVER_KEY", key.secret)
    run = CliRunner().invoke(command_line, ["doctor", "--json"])
    assert run.exit_code == 0, run.output
    assert {each["name"] for each in json.loads(run.stdout)} == {"settings", "pepper", "store", "limiter"}
    assert key.secret not in run.output
