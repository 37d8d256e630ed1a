"""What all tests share: real servers, fresh databases, and the watch for secrets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from . import servers, watch

pytest_plugins = ["keydesk.testing.fixtures"]

ALL_REQUIRED = os.environ.get("KEYDESK_TEST_REQUIRE") == "all"
_FOLDER = pytest.StashKey[Path]()
_OWNER = pytest.StashKey[int]()
_FIGURE = "figure: "


# The house


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows_secrets: this test logs or prints a secret on purpose, to see it blanked")
    _settle_hypothesis()
    given = getattr(config, "workerinput", None)
    if given is None:
        config.stash[_FOLDER] = Path(tempfile.mkdtemp(prefix="keydesk-servers-"))
        config.stash[_OWNER] = os.getpid()
    else:
        config.stash[_FOLDER], config.stash[_OWNER] = Path(given["servers"]), given["owner"]


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Note a figure in seconds, to be told at the end of the run and in its report: `figures("the slowest", 0.02)`."""
    return lambda name, seconds: record_property(_FIGURE + name, f"{seconds:.3f} s")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    found = {name: value for report in reports for name, value in report.user_properties if name.startswith(_FIGURE)}
    if found:
        terminalreporter.section("figures")
        for name, value in sorted(found.items()):
            terminalreporter.write_line(f"{value:>9}  {name.removeprefix(_FIGURE)}")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs it, nor those that say how the tests are run."""
    for name in [name for name in os.environ if name.startswith(("KEYDESK_", "API_KEY", "FLASK_"))]:
        monkeypatch.delenv(name)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["servers"] = str(node.config.stash[_FOLDER])
    node.workerinput["owner"] = node.config.stash[_OWNER]


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and _FOLDER in config.stash:
        servers.end_servers(config.stash[_FOLDER])


def _settle_hypothesis() -> None:
    from hypothesis import HealthCheck, settings

    # The same examples in every run: a test that fails on one machine fails on all. `--hypothesis-seed=random` or the
    # profile `explore` look for new ones. Deadlines would measure the machine.
    common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("suite", derandomize=True, database=None, **common)
    settings.register_profile("explore", max_examples=2000, **common)
    settings.load_profile(os.environ.get("KEYDESK_TEST_HYPOTHESIS", "suite"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[misc,assignment]
    if item.get_closest_marker("shows_secrets") is None:
        for title, text in report.sections:
            if title.startswith(("Captured stderr", "Captured log")):
                watch.look_at(text, title)
    if report.when == "teardown":
        watch.forget()
    if report.when == "teardown" and watch.LEAKS:
        leaks = sorted(set(watch.LEAKS))
        watch.LEAKS.clear()
        if item.get_closest_marker("shows_secrets") is None:
            report.outcome = "failed"
            report.longrepr = "This test let secrets be seen:\n" + "\n".join(leaks)
    _refuse_skip(report)
    return report  # type: ignore[return-value]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report: pytest.CollectReport = yield  # type: ignore[misc,assignment]
    _refuse_skip(report)
    return report  # type: ignore[return-value]


def _refuse_skip(report: Any) -> None:
    if ALL_REQUIRED and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"KEYDESK_TEST_REQUIRE=all, and this was skipped: {report.longrepr}"


@pytest.fixture(scope="session", autouse=True)
def _watch_for_secrets() -> Iterator[None]:
    """Fail every test during which a secret is logged, put into an error, or printed on standard error."""
    end = watch.begin()
    read, invoke = pytest.CaptureFixture.readouterr, None

    def readouterr(self: Any) -> Any:
        got = read(self)
        watch.look_at(got.err if isinstance(got.err, str) else got.err.decode(errors="replace"), "standard error")
        return got

    pytest.CaptureFixture.readouterr = readouterr  # type: ignore[method-assign]
    from click.testing import CliRunner

    invoke = CliRunner.invoke

    def watched_invoke(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = invoke(self, *args, **kwargs)
        watch.look_at(result.stderr, "standard error of a command")
        # Ours are printed there, once. One that somebody else made is not ours to print anywhere.
        watch.LEAKS.extend(f"{hint} in standard output of a command" for hint in watch.foreign_in(result.stdout))
        return result

    CliRunner.invoke = watched_invoke  # type: ignore[method-assign]
    yield
    pytest.CaptureFixture.readouterr = read  # type: ignore[method-assign]
    CliRunner.invoke = invoke  # type: ignore[method-assign]
    end()


# Databases


class Databases:
    """Makes databases on one server."""

    def __init__(self, url: str, worker: str) -> None:
        self._url, self._worker, self._numbers = url, worker, count(1)
        self._admin = url.format("postgres" if url.startswith("postgresql") else "mysql")

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Give the URL of a new, empty database, and drop it afterwards."""
        from sqlalchemy import create_engine, text

        name = f"keydesk_{self._worker}_{next(self._numbers)}"
        force = " WITH (FORCE)" if self._url.startswith("postgresql") else ""
        engine = create_engine(self._admin, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            yield self._url.format(name)
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name}{force}"))
        finally:
            engine.dispose()


def _databases(kind: str, request: pytest.FixtureRequest) -> Databases:
    try:
        url = servers.shared_server(kind, request.config.stash[_FOLDER], request.config.stash[_OWNER])
    except servers.ServerMissing as missing:
        (pytest.fail if ALL_REQUIRED else pytest.skip)(str(missing))
    return Databases(url, getattr(request.config, "workerinput", {}).get("workerid", "main"))


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Databases:
    """A real PostgreSQL, shared by the workers."""
    return _databases("postgres", request)


@pytest.fixture(scope="session")
def mariadb(request: pytest.FixtureRequest) -> Databases:
    """A real MariaDB, shared by the workers."""
    return _databases("mariadb", request)


@pytest.fixture
def postgres_url(postgres: Databases) -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database."""
    with postgres.fresh() as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb: Databases) -> Iterator[str]:
    """The URL of a new, empty MariaDB database."""
    with mariadb.fresh() as url:
        yield url


# Counters


def _started(kind: str) -> Iterator[Any]:
    try:
        server = servers.KINDS[kind]()
    except servers.ServerMissing as missing:
        (pytest.fail if ALL_REQUIRED else pytest.skip)(str(missing))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def _valkey() -> Iterator[servers.Valkey]:
    yield from _started("valkey")


@pytest.fixture(scope="session")
def _valkey_cluster() -> Iterator[servers.ValkeyCluster]:
    yield from _started("valkey-cluster")


@pytest.fixture
def valkey(_valkey: servers.Valkey) -> servers.Valkey:
    """A real Valkey, empty. It is this worker's, and must not be stopped."""
    _valkey.ask("FLUSHALL")
    return _valkey


@pytest.fixture
def valkey_cluster(_valkey_cluster: servers.ValkeyCluster) -> servers.ValkeyCluster:
    """A real cluster of three servers, empty. It is this worker's, and must not be stopped."""
    for node in _valkey_cluster.nodes:
        node.ask("FLUSHALL")
    return _valkey_cluster


@pytest.fixture
def own_server() -> Iterator[Callable[[str], servers.Server]]:
    """Start a server of this test's own, which it may stop: `own_server("postgres")`."""
    started: list[servers.Server] = []

    def start(kind: str) -> servers.Server:
        try:
            server = servers.KINDS[kind]()
        except servers.ServerMissing as missing:
            (pytest.fail if ALL_REQUIRED else pytest.skip)(str(missing))
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.remove()


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="kd-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
