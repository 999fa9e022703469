"""docker-compose.yml: valid, hardened, local by default, and nothing in it that does not exist."""

from __future__ import annotations

import importlib.resources
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from service.config.loading import NAMES
from service.config.settings import Settings
from service.serving.http_server import grace_seconds
from tests.support.running import ROOT

FILE = ROOT / "docker-compose.yml"
TLS = ROOT / "deploy/compose/tls.yml"
VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")
OURS = {"service", "demo"}  # from our image


def document(file: Path = FILE, /, **variables: str) -> Any:
    """The file as compose reads it, with these variables and no others."""

    def value(found: re.Match[str]) -> str:
        name, operator, word = found.groups()
        if name in variables:
            return variables[name]
        assert operator in (":-", "-"), f"{name} has no default"
        return word or ""

    return yaml.safe_load(VARIABLE.sub(value, file.read_text().replace("$$", "\0")).replace("\0", "$"))


def service(name: str, **variables: str) -> Any:
    return document(FILE, **variables)["services"][name]


NAMED = sorted(document()["services"])


@pytest.mark.parametrize("file", [FILE, TLS], ids=lambda file: file.name)
def test_it_is_valid_by_the_specification(file: Path) -> None:
    vendored = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    given = document(file, TLS_CERTIFICATE_FILE="a", TLS_KEY_FILE="b")
    jsonschema.validate(given, json.loads(vendored.read_text()))


def test_the_real_architecture_is_there() -> None:
    assert set(NAMED) == {"redis", "service", "demo", "nginx", "prometheus", "grafana", "production"}
    assert service("service")["deploy"]["replicas"] >= 2
    for name in ("container_name", "ports"):
        assert name not in service("service"), "several replicas cannot share it"


@pytest.mark.parametrize("name", NAMED)
def test_each_container_is_hardened_and_bounded(name: str) -> None:
    given = service(name)
    assert given["read_only"] is True
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} <= given["deploy"]["resources"]["limits"].keys()
    assert given["logging"]["options"]["max-size"]
    if name in OURS:
        assert given["image"].startswith("chat-service:")
    else:
        assert re.search(r":v?\d+\.\d+\.\d+", given["image"]), "pinned to a release"
        uid, _ = given["user"].split(":")
        assert int(uid) > 0
    if name not in {
        "service",
        "production",
    }:  # the image has a health check of its own; the other ends at once
        assert given["healthcheck"]["test"]


def test_the_page_names_the_releases_that_are_run() -> None:
    page = (ROOT / "docs/deployment.md").read_text()
    images = {service(name)["image"] for name in set(NAMED) - OURS}
    images |= set(re.findall(r"^ARG BASE=(.*)$", (ROOT / "Dockerfile").read_text(), re.M))
    for image in images:
        found = re.fullmatch(r"(?:\w+/)?(\w+):v?([\d.]+)(-[\w-]+)?", image)
        assert found, image
        assert f"{found[1]} {found[2]}" in page.lower()


def test_only_nginx_is_published_to_the_outside_and_only_on_demand() -> None:
    for name in NAMED:
        for port in service(name).get("ports", []):
            assert port.startswith("127.0.0.1:")
    opened = [
        name
        for name in NAMED
        for port in service(name, HTTP_BIND="0.0.0.0").get("ports", [])
        if not port.startswith("127.0.0.1:")
    ]
    assert opened == ["nginx"]


def test_opening_tls_to_the_outside_does_not_open_the_plain_port() -> None:
    tls = document(TLS, TLS_CERTIFICATE_FILE="a", TLS_KEY_FILE="b", HTTPS_BIND="0.0.0.0")
    tls = tls["services"]["nginx"]["ports"]
    assert tls == ["0.0.0.0:8443:8443"]
    assert service("nginx", HTTPS_BIND="0.0.0.0")["ports"] == ["127.0.0.1:8080:8080"]


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({"CHAT_ENV": "production", "HTTP_BIND": "0.0.0.0"}, True),
        ({"CHAT_ENV": "production", "HTTP_BIND": "10.0.0.5"}, True),
        ({"CHAT_ENV": "production", "HTTP_BIND": "0.0.0.0", "HTTP_BEHIND_TLS": "yes"}, False),
        ({"CHAT_ENV": "production", "HTTP_BIND": "127.0.0.1"}, False),
        ({"CHAT_ENV": "local", "HTTP_BIND": "0.0.0.0"}, False),
    ],
    ids=str,
)
def test_production_publishes_no_plain_http(
    tmp_path: Path, environment: dict[str, str], refused: bool
) -> None:
    given = service("nginx", **environment)["environment"]
    assert {name: given[name] for name in environment} == environment
    done = start_nginx(tmp_path, given)
    assert ("production does not publish plain HTTP" in done.stderr) is refused
    assert (done.returncode, done.stdout) == ((1, "") if refused else (0, "nginx runs\n"))


def start_nginx(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The script that both containers run, with a stand-in for nginx."""
    (folder / "nginx").write_text("#!/bin/sh\necho nginx runs\n")
    (folder / "nginx").chmod(0o755)
    return subprocess.run(
        ["sh", str(ROOT / "deploy/nginx/start.sh"), *words],
        env={"PATH": f"{folder}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


PRODUCTION = {"CHAT_ENV": "production"}


@pytest.mark.parametrize(
    ("environment", "tls", "said"),
    [
        ({}, False, "needs CHAT_ENV=production"),
        ({}, True, "needs CHAT_ENV=production"),
        (PRODUCTION, False, "does not publish plain HTTP: use HTTPS_BIND"),
        (
            PRODUCTION | {"HTTP_BIND": "0.0.0.0"},
            False,
            "does not publish plain HTTP on 0.0.0.0: use HTTPS_BIND",
        ),
        (
            PRODUCTION | {"HTTP_BIND": "0.0.0.0"},
            True,
            "does not publish plain HTTP on 0.0.0.0: use HTTPS_BIND",
        ),
        (PRODUCTION, True, ""),
        (PRODUCTION | {"HTTP_BEHIND_TLS": "yes"}, False, ""),
        (PRODUCTION | {"HTTP_BEHIND_TLS": "yes", "HTTP_BIND": "10.0.0.5"}, False, ""),
    ],
    ids=str,
)
def test_the_profile_production_lets_start_what_publishes_no_plain_http(
    tmp_path: Path, environment: dict[str, str], tls: bool, said: str
) -> None:
    given = service("production", **environment)
    merged = dict(given["environment"])
    if tls:
        merged |= document(TLS, TLS_CERTIFICATE_FILE="a", TLS_KEY_FILE="b")["services"]["production"][
            "environment"
        ]
    done = start_nginx(tmp_path, merged, *given["entrypoint"][2:])
    assert said in done.stderr
    assert (done.returncode, done.stdout, done.stderr == "") == (bool(said), "", not said)


def test_with_the_profile_production_nothing_starts_before_it_is_known_and_without_it_nothing_waits() -> None:
    services = document()["services"]
    assert [name for name in NAMED if "profiles" in services[name]] == ["production"]
    assert services["production"]["profiles"] == ["production"]
    assert services["production"]["restart"] == "no"
    for name in set(NAMED) - {"production"}:
        waits: Any = services[name].get("depends_on", {})
        assert waits, f"{name} would start at once"
        if "production" in waits:
            gate = {"condition": "service_completed_successfully", "required": False}
            assert waits == {"production": gate}


def test_redis_is_reached_by_the_replicas_alone() -> None:
    assert document()["networks"]["store"] == {"internal": True}
    assert {name for name in NAMED if "store" in service(name).get("networks", [])} == {"redis", "service"}


def test_secrets_are_files_and_nowhere_in_an_environment() -> None:
    secrets = document()["secrets"]
    names = set(NAMES.values())
    for name in service("service")["secrets"]:
        assert name.upper() in names
    for name in NAMED:
        given = service(name)
        assert set(given.get("secrets", [])) <= secrets.keys()
        for variable in given.get("environment", {}):
            assert not re.search(r"(PASSWORD|KEY|SECRET|TOKEN)$", variable), variable


def test_what_is_mounted_exists_and_the_local_secrets_are_none() -> None:
    for name in NAMED:
        for mount in service(name).get("volumes", []):
            source = mount.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), source
    contents = {
        Path(item["file"]).name: (ROOT / item["file"]).read_text().strip()
        for item in document()["secrets"].values()
    }
    assert contents == {"redis_password": "local-only", "groq_api_key": "", "grafana_password": "local-only"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_settings_exist(name: str) -> None:
    given = {key for key in service(name)["environment"] if key.startswith(("CHAT_", "GROQ_"))}
    assert given <= set(NAMES.values())


def test_it_is_local_with_a_demo_unless_told_otherwise() -> None:
    environment = service("service")["environment"]
    assert environment["CHAT_ENV"] == "local"
    assert environment["CHAT_DEMO_URL"] == "http://demo:9000"
    assert not {"CHAT_AUTH", "GROQ_BASE_URL"} & environment.keys(), (
        "each has its default for local and production"
    )
    assert service("service", CHAT_ENV="production")["environment"]["CHAT_ENV"] == "production"


def test_production_demands_a_key_and_has_auth() -> None:
    environment = service("service", CHAT_ENV="production")["environment"]
    values: dict[str, Any] = {
        name.removeprefix("CHAT_").lower(): value for name, value in environment.items()
    }
    with pytest.raises(ValueError, match="GROQ_API_KEY"):
        Settings(_env_file=None, groq_api_key=None, **values)
    assert Settings(_env_file=None, groq_api_key="gsk_x", **values).auth == ("keys",)


def test_the_demo_model_ends_at_once_in_production() -> None:
    [shell, flag, script] = service("demo")["command"]
    done = subprocess.run(
        [shutil.which(shell) or shell, flag, script],
        env={"CHAT_ENV": "production", "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "The demo model is not for production.\n")
    assert service("demo")["restart"] == "on-failure"


def test_a_container_is_given_more_time_to_end_than_a_drain_takes() -> None:
    grace = float(service("service")["stop_grace_period"].removesuffix("s"))
    assert grace > grace_seconds(Settings(_env_file=None, drain_delay_seconds=5))
    assert float(service("nginx")["stop_grace_period"].removesuffix("s")) >= grace


def test_redis_has_room_to_rewrite_its_file() -> None:
    given = service("redis")
    limit = int(given["deploy"]["resources"]["limits"]["memory"].removesuffix("m"))
    assert limit >= 2 * int(given["environment"]["REDIS_MAXMEMORY"].removesuffix("mb"))
    conf = (ROOT / "deploy/redis/redis.conf").read_text()
    assert re.search(r"^appendonly yes$", conf, re.M)
    assert re.search(r"^maxmemory-policy noeviction$", conf, re.M)


def test_prometheus_finds_the_replicas_where_their_metrics_are() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    [job] = [job for job in config["scrape_configs"] if job["job_name"] == "chat"]
    [discovery] = job["dns_sd_configs"]
    assert discovery["names"] == ["service"]
    assert str(discovery["port"]) == service("service")["environment"]["CHAT_METRICS_PORT"]
    assert set(service("prometheus")["networks"]) & set(service("service")["networks"])
    mounted = {Path(rule).name for rule in config["rule_files"]}
    assert mounted <= {file.name for file in (ROOT / "deploy/prometheus").iterdir()}


def test_the_example_of_env_has_only_settings_that_exist() -> None:
    text = (ROOT / ".env.example").read_text()
    given = set(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", text, re.M))
    used = {found[1] for file in (FILE, TLS) for found in VARIABLE.finditer(file.read_text())}
    assert given <= set(NAMES.values()) | used | {"COMPOSE_FILE", "COMPOSE_PROFILES"}
    not_shown = {"IMAGE_TAG", "CHAT_REDIS_URL"}
    assert used - not_shown <= given
