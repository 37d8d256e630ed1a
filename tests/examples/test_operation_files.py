"""The files that the server is run with are well-formed, and name what is there."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from keydesk.cli import keydesk
from keydesk.cli.serving import STOP_SECONDS
from keydesk.setting_table import NAMES

FILES = Path(__file__).parents[2] / "examples" / "operation"
UNIT, CONTAINER, COMPOSE, NGINX = (
    FILES / name for name in ("keydesk.service", "Containerfile", "compose.yaml", "nginx.conf")
)
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "RestrictSUIDSGID": "yes",
    "UMask": "0077",
}
INSTRUCTIONS = {"FROM", "RUN", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def _assert_command(*arguments: str) -> None:
    """See that a command takes these arguments, without running it."""
    run = CliRunner().invoke(keydesk, [*arguments, "--help"])
    assert run.exit_code == 0, run.output


def _unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text("utf-8"))
    return parser


def test_unit_is_hardened_and_stops_in_order() -> None:
    unit = _unit()
    service = dict(unit["Service"])
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert {name: service.get(name) for name in HARDENED} == HARDENED
    assert service["User"] not in ("", "root")
    assert service["EnvironmentFile"].startswith("/")
    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) > STOP_SECONDS
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/keydesk")
    _assert_command(*arguments)


def test_unit_is_taken_by_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; on Debian: apt-get install systemd")
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text("utf-8")), "utf-8")
    run = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=30)
    assert UNIT.name not in run.stderr, run.stderr  # what it says of other units is none of ours


def test_names_of_settings_are_right() -> None:
    for file in FILES.iterdir():
        for name in re.findall(r"\bKEYDESK_[A-Z_]+", file.read_text("utf-8")):
            assert name in NAMES, f"{file.name}: {name}"


def _instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile, each with its arguments on one line."""
    text = re.sub(r"(?m)^#.*\n", "", CONTAINER.read_text("utf-8"))
    lines = re.sub(r"\\\n\s*", "", text).strip().splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line]


def test_container_runs_the_server_as_nobody_special() -> None:
    instructions = _instructions()
    assert {name for name, _ in instructions} == INSTRUCTIONS
    found = dict(instructions)
    assert instructions[0][0] == "FROM"
    assert re.fullmatch(r"python:3\.\d+-slim", found["FROM"])
    assert "'keydesk[server,postgres,redis]'" in found["RUN"]
    assert int(found["USER"]) > 0
    assert [name for name, _ in instructions].index("USER") < [name for name, _ in instructions].index("CMD")
    assert json.loads(found["ENTRYPOINT"]) == ["keydesk"]
    arguments = json.loads(found["CMD"])
    _assert_command(*arguments)
    assert arguments[arguments.index("--port") + 1] == found["EXPOSE"]
    options, _, check = found["HEALTHCHECK"].partition(" CMD ")
    assert set(re.findall(r"--([a-z-]+)=\d+s", options)) == {"interval", "timeout", "start-period"}
    _assert_check(json.loads(check), found["EXPOSE"])


def _assert_check(command: list[str], port: str) -> None:
    assert command[:2] == ["python", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert f":{port}/" in command[2]


def _compose() -> dict[str, Any]:
    composed = yaml.safe_load(COMPOSE.read_text("utf-8"))
    assert isinstance(composed, dict)
    return composed


def test_compose_services_know_each_other() -> None:
    composed = _compose()
    services = composed["services"]
    assert set(services) == {"first", "second", "tables", "nginx", "postgres", "valkey"}
    conditions = {"service_healthy": "healthcheck", "service_completed_successfully": "command"}
    for name, service in services.items():
        for other, needed in service.get("depends_on", {}).items():
            assert conditions[needed["condition"]] in services[other], f"{name} waits for {other}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (FILES / source).exists() if source.startswith("./") else source in composed["volumes"]
    assert (FILES / services["first"]["build"]["dockerfile"]).exists()
    assert services["tables"]["command"] == ["db", "upgrade"]
    _assert_command("db", "upgrade")
    _assert_check(services["first"]["healthcheck"]["test"][1:], dict(_instructions())["EXPOSE"])


def test_compose_settings_lead_to_its_services() -> None:
    services = _compose()["services"]
    settings = services["first"]["environment"]
    assert settings == services["second"]["environment"] == services["tables"]["environment"]
    assert set(settings) <= set(NAMES)
    postgres = services["postgres"]["environment"]
    user, password, host, port, database = re.fullmatch(  # type: ignore[union-attr]
        r"postgresql\+psycopg://(\w+):(\$\{.+\})@(\w+):(\d+)/(\w+)", settings["KEYDESK_STORE"]
    ).groups()
    assert (user, password, database) == tuple(postgres[f"POSTGRES_{n}"] for n in ("USER", "PASSWORD", "DB"))
    assert (host in services, port) == (True, "5432")
    assert settings["KEYDESK_LIMITER"] == "valkey://valkey:6379/0"
    assert settings["KEYDESK_PEPPER"].startswith("${KEYDESK_PEPPER:?")  # there is no default secret
    text = COMPOSE.read_text("utf-8")
    assert {m[0] for m in re.findall(r"\$\{(\w+)(:\?)?", text)} == {"POSTGRES_PASSWORD", "KEYDESK_PEPPER"}
    subnet = _compose()["networks"]["default"]["ipam"]["config"][0]["subnet"]
    assert settings["KEYDESK_TRUSTED_PROXIES"] == subnet


def test_compose_lets_only_nginx_out() -> None:
    services = _compose()["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    listened = services["nginx"]["ports"][0].rsplit(":", 1)[1]
    assert f"listen {listened};" in NGINX.read_text("utf-8")


def test_nginx_takes_its_file_and_knows_the_servers(tmp_path: Path) -> None:
    text = NGINX.read_text("utf-8")
    port = dict(_instructions())["EXPOSE"]
    assert re.findall(r"server (\w+):(\d+) ", text) == [("first", port), ("second", port)]
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("nginx is not installed; on Debian: apt-get install nginx-light")
    inner = re.sub(r"server (first|second):", "server 127.0.0.1:", text)
    main = tmp_path / "nginx.conf"
    main.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {inner} }}", "utf-8")
    run = subprocess.run(
        [program, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(main)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 0, run.stderr
