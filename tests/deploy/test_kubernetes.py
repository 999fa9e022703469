"""deploy/k8s: valid by Kubernetes' own schemas, and fit for a namespace that allows little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.config.loading import NAMES
from service.config.settings import Settings
from service.serving.http_server import grace_seconds
from tests.deploy import prometheusrule
from tests.support.running import ROOT

K8S = ROOT / "deploy" / "k8s"
KUSTOMIZATION = yaml.safe_load((K8S / "kustomization.yaml").read_text())
#: kinds that custom resource definitions bring; no schema of them ships with Kubernetes
CUSTOM = {"ServiceMonitor", "PrometheusRule"}


def load(name: str) -> Any:
    return yaml.safe_load((K8S / name).read_text())


@pytest.fixture
def pod() -> Any:
    return load("deployment.yaml")["spec"]["template"]


@pytest.fixture
def container(pod: Any) -> Any:
    [only] = pod["spec"]["containers"]
    return only


@pytest.fixture
def config() -> dict[str, str]:
    """The settings of the ConfigMap that kustomize makes: name=value, as it reads them."""
    [generator] = KUSTOMIZATION["configMapGenerator"]
    assert generator["name"] == "chat-settings"
    [file] = generator["envs"]
    lines = [line for line in (K8S / file).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", [*KUSTOMIZATION["resources"], "secret.example.yaml"])
def test_each_manifest_is_valid(name: str) -> None:
    manifest = load(name)
    assert manifest["metadata"]["name"]
    if manifest["kind"] not in CUSTOM:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_names_every_manifest() -> None:
    others = {
        "kustomization.yaml",
        "secret.example.yaml",
        "prometheus-adapter.yaml",
        "settings.env",
        "gateway.yaml",
    }
    assert {file.name for file in K8S.glob("*")} - others == set(KUSTOMIZATION["resources"])
    for name in KUSTOMIZATION["resources"]:
        if name != "namespace.yaml":
            assert load(name)["metadata"]["namespace"] == KUSTOMIZATION["namespace"]


def test_a_changed_setting_makes_new_pods(container: Any) -> None:
    """The generator's name has a hash of the content behind it, and the reference follows."""
    assert container["envFrom"] == [{"configMapRef": {"name": "chat-settings"}}]
    assert "generatorOptions" not in KUSTOMIZATION


def test_the_operators_rules_are_those_of_the_files() -> None:
    assert prometheusrule.FILE.read_text() == prometheusrule.document()
    groups = yaml.safe_load(prometheusrule.FILE.read_text())["spec"]["groups"]
    assert {"chat-objectives", "chat-availability-alerts"} <= {group["name"] for group in groups}


def test_a_gateway_leads_where_the_ingress_does() -> None:
    gateway, route = yaml.safe_load_all((K8S / "gateway.yaml").read_text())
    ingress = load("ingress.yaml")["spec"]
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    assert [rule["host"] for rule in ingress["rules"]] == route["spec"]["hostnames"]
    assert gateway["spec"]["listeners"][0]["hostname"] in route["spec"]["hostnames"]
    assert gateway["spec"]["listeners"][0]["tls"]["certificateRefs"] == [
        {"name": ingress["tls"][0]["secretName"]}
    ]
    service = load("service.yaml")
    [backend] = route["spec"]["rules"][0]["backendRefs"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}


def test_a_collector_in_the_monitoring_namespace_can_be_reached() -> None:
    rules = load("networkpolicy.yaml")["spec"]["egress"]
    assert [rule["to"] for rule in rules if rule["ports"] == [{"protocol": "TCP", "port": 4318}]]


def test_the_pod_may_do_nothing_but_serve(pod: Any, container: Any) -> None:
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001  # the user of the image
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert load("namespace.yaml")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_container_has_limits_requests_and_probes(container: Any) -> None:
    for bound in ("requests", "limits"):
        assert {"cpu", "memory"} == container["resources"][bound].keys()
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
        assert container[probe]["timeoutSeconds"] >= 3  # a readiness check may take 2.2 s
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"].startswith("/readyz")


def test_what_is_written_has_a_place_in_memory_or_on_a_scratch_volume(pod: Any, container: Any) -> None:
    mounts = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert mounts == {"/dev/shm", "/tmp"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }


def test_the_grace_period_is_longer_than_the_drain(pod: Any, container: Any, config: dict[str, str]) -> None:
    settings = Settings(
        _env_file=None,
        drain_seconds=float(config["CHAT_DRAIN_SECONDS"]),
        drain_delay_seconds=float(config["CHAT_DRAIN_DELAY_SECONDS"]),
    )
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert float(pause) + grace_seconds(settings) < pod["spec"]["terminationGracePeriodSeconds"]


def test_settings_exist_and_secrets_are_files(config: dict[str, str]) -> None:
    names = set(NAMES.values())
    assert config.keys() <= names
    secrets = load("secret.example.yaml")["stringData"]
    assert {name.upper() for name in secrets} <= names
    assert not {name.upper() for name in secrets} & config.keys()
    values: dict[str, Any] = {name.removeprefix("CHAT_").lower(): value for name, value in config.items()}
    assert Settings(_env_file=None, groq_api_key="gsk", **values).production


def test_selectors_find_the_pods_and_ports_are_those_of_the_container(pod: Any, container: Any) -> None:
    labels = pod["metadata"]["labels"]
    assert load("deployment.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert load("service.yaml")["spec"]["selector"] == labels
    for name in ("poddisruptionbudget.yaml", "servicemonitor.yaml"):
        assert load(name)["spec"]["selector"]["matchLabels"] == labels
    assert load("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in load("service.yaml")["spec"]["ports"]} == ports
    opened = {
        port["port"] for rule in load("networkpolicy.yaml")["spec"]["ingress"] for port in rule["ports"]
    }
    assert opened == ports


def test_pods_that_no_policy_names_reach_nothing_and_are_reached_by_nothing() -> None:
    spec = load("networkpolicy-default-deny.yaml")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_redis_is_reached_by_the_service_alone(pod: Any, config: dict[str, str]) -> None:
    spec = load("networkpolicy-redis.yaml")["spec"]
    redis = spec["podSelector"]
    [rule] = spec["ingress"]
    service = {"podSelector": {"matchLabels": pod["metadata"]["labels"]}}
    assert rule["from"] == [service, {"podSelector": redis}]
    assert f":{rule['ports'][0]['port']}/" in config["CHAT_REDIS_URL"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert {"podSelector": redis} in [
        to for out in load("networkpolicy.yaml")["spec"]["egress"] for to in out["to"]
    ], "the service may go there"


def test_the_autoscaler_goes_by_running_turns_that_the_adapter_knows() -> None:
    autoscaler = load("horizontalpodautoscaler.yaml")["spec"]
    [metric] = autoscaler["metrics"]
    [rule] = load("prometheus-adapter.yaml")["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"] == "chat_turns_running"
    assert autoscaler["scaleTargetRef"]["name"] == load("deployment.yaml")["metadata"]["name"]
    assert autoscaler["minReplicas"] >= 2


def test_the_ingress_does_not_buffer_and_waits_longer_than_a_turn() -> None:
    annotations = load("ingress.yaml")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    turn = Settings(_env_file=None).turn_timeout_seconds
    assert float(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > turn
    assert "non_idempotent" not in annotations["nginx.ingress.kubernetes.io/proxy-next-upstream"]


def test_no_secret_is_committed() -> None:
    values = load("secret.example.yaml")["stringData"].values()
    assert all(value.endswith("...") for value in values)
    assert "secret.example.yaml" not in KUSTOMIZATION["resources"]


def test_files_are_yaml_and_the_settings() -> None:
    assert {file.name for file in Path(K8S).iterdir() if file.suffix != ".yaml"} == {"settings.env"}
