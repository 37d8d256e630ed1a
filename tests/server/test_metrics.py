"""What Prometheus is told, by one process and by several that count together; and the access log."""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keydesk import open_desk
from keydesk.server.metrics import Metrics
from keydesk.testing import ManualClock

from ..faults.conftest import upgraded
from .rig import ServerRig
from .serving import Served, served


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return what a scrape holds, by name and the values of labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_decisions_are_counted_by_reason(rig: ServerRig) -> None:
    secret, limited = rig.issue().secret, rig.issue(limits=["1/hour"]).secret
    caller = rig.issue("keydesk:verify").secret
    for presented in (secret, secret, "made up", None, limited, limited):
        rig.call("/authz/forwarded", presented)
    rig.verify(caller, secret=secret)
    rig.verify(caller, secret="")
    found = samples(rig.call("/metrics").text)
    reasons = {labels[1]: count for labels, count in found.items() if labels[0] == "keydesk_decisions_total" and count}
    assert reasons == {"allowed": 4, "invalid": 1, "missing": 2, "rate_limited": 1}
    assert found["keydesk_request_duration_seconds_count", "authz"] == 6
    assert found["keydesk_request_duration_seconds_count", "verify"] == 2
    assert found["keydesk_request_duration_seconds_bucket", "authz", "+Inf"] == 6
    assert found["keydesk_known_keys",] == 3


def test_durations_are_in_their_buckets(rig: ServerRig) -> None:
    metrics = Metrics(rig.desk, None)
    for seconds in (0.0, 0.00005, 0.00006, 0.3, 100.0):
        metrics.time("authz", seconds)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name.startswith("keydesk_request")
    }
    buckets = {labels[2]: count for labels, count in found.items() if labels[1] == "authz" and len(labels) == 3}
    assert [buckets[edge] for edge in ("5e-05", "0.0001", "0.25", "0.5", "2.5", "+Inf")] == [2, 3, 3, 4, 4, 5]
    assert found["keydesk_request_duration_seconds_sum", "authz"] == pytest.approx(100.30011)


def test_how_long_ago_the_store_answered(rig: ServerRig, clock: ManualClock) -> None:
    rig.call("/authz/forwarded", rig.issue().secret)
    clock.advance(0.5)
    assert samples(rig.call("/metrics").text)["keydesk_feed_age_seconds",] == pytest.approx(0.5)


def test_no_label_names_a_key(rig: ServerRig) -> None:
    issued = rig.issue(name="Mobile", owner="acme")
    rig.call("/authz/forwarded", issued.secret)
    scraped = rig.call("/metrics").text
    assert not any(text in scraped for text in (issued.key.id, "Mobile", "acme", issued.secret))


@pytest.fixture
def two_workers(tmp_path: Path) -> tuple[str, dict[str, str]]:
    store = upgraded(f"sqlite:///{tmp_path / 'keys.db'}")
    desk = open_desk({"KEYDESK_STORE": store})
    secret = desk.issue(name="client").secret
    desk.close()
    return secret, {"KEYDESK_STORE": store, "KEYDESK_ACCESS_LOG": "true"}


def _scraped(server: Served) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        return samples(answer.read().decode())


def test_workers_count_together(two_workers: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    secret, settings = two_workers
    with served(tmp_path, settings, "--workers", "2") as server:
        for number in range(1, 41):
            assert server.status("/authz/forwarded", secret) == 200
            if number % 10 == 0:  # whichever answers
                assert _scraped(server)["keydesk_decisions_total", "allowed"] == number


def test_workers_count_where_the_file_of_settings_says(two_workers: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """The environment, which the workers inherit, goes before the file: what is set there is left alone."""
    secret, settings = two_workers
    folder, file = tmp_path / "counts", tmp_path / "keydesk.toml"
    folder.mkdir()
    file.write_text(f'KEYDESK_METRICS_FOLDER = "{folder}"\n')
    with served(tmp_path, {**settings, "KEYDESK_CONFIG": str(file)}) as server:
        assert server.status("/authz/forwarded", secret) == 200
        assert len(list(folder.iterdir())) == 1


def test_access_log_is_json_and_names_the_key(two_workers: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    secret, settings = two_workers
    with served(tmp_path, settings) as server:
        asked = {"X-Forwarded-Method": "POST", "X-Forwarded-Uri": f"/orders/{secret}?key={secret}"}
        server.status("/authz/forwarded", secret, **asked)
        server.status(f"/nowhere/{secret}?key={secret}", "made-up", **{"X-Request-Id": "7f3a"})
        end = time.monotonic() + 10
        while server.log.read_text().count("{") < 3 and time.monotonic() < end:
            time.sleep(0.02)
        text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (allowed,) = (line for line in lines if line["path"] == "/authz/forwarded")
    assert (allowed["method"], allowed["status"], allowed["original_method"]) == ("GET", 200, "POST")
    assert allowed["key"].startswith("key_")
    assert allowed["client"] == "127.0.0.1"
    assert allowed["duration_ms"] > 0
    nowhere = next(line for line in lines if line["path"].startswith("/nowhere/"))
    assert (nowhere["status"], nowhere["key"], nowhere["request_id"]) == (404, None, "7f3a")
    assert secret not in text


def test_refusals_are_written_down(rig: ServerRig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "keydesk"):
        rig.call("/authz/nginx", "made up", peer="203.0.113.7")
    assert "refused: invalid" in caplog.text
    assert "from 203.0.113.7, at /authz/nginx" in caplog.text


def test_refused_report_of_a_leak_is_counted_and_written_down(rig: ServerRig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "keydesk"):
        rig.call("/v1/leaks", "made up", "POST", data="{}", content_type="application/json")
    assert "at /v1/leaks" in caplog.text
    assert samples(rig.call("/metrics").text)["keydesk_decisions_total", "invalid"] == 1
