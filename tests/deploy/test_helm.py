"""deploy/helm, linted and rendered by Helm: what deploy/k8s says, and values change what they name."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.config.loading import NAMES
from tests.deploy import chart, programs

VALUES: dict[str, Any] = yaml.safe_load((chart.CHART / "values.yaml").read_text())
NAMES_OF_FILES = sorted(chart.templates())
# The first of these tests installs Helm.
pytestmark = pytest.mark.timeout(300)


@cache
def helm(values: str, namespace: str) -> dict[str, str]:
    return programs.helm(chart.CHART, json.loads(values), namespace)


def rendered(name: str, *, namespace: str = "chat", **changed: Any) -> list[Any]:
    """`changed`: values, with __ between the names of a path."""
    values: dict[str, Any] = {}
    for path, value in changed.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    text = helm(json.dumps(values), namespace)[name]
    return [document for document in yaml.safe_load_all(text) if document]


def test_the_templates_are_made_of_the_manifests() -> None:
    found = {file.name: file.read_text() for file in (chart.CHART / "templates").iterdir()}
    assert found == chart.templates(), "python -m tests.deploy.chart --write"


@pytest.mark.parametrize("name", sorted(chart.TEMPLATES))
def test_with_the_defaults_they_are_the_manifests(name: str) -> None:
    made = rendered(name, gateway__enabled=True)
    given = list(yaml.safe_load_all((chart.K8S / name).read_text()))
    if name == "deployment.yaml":
        annotations = made[0]["spec"]["template"]["metadata"].pop("annotations")
        assert len(annotations["checksum/settings"]) == 64
        container = made[0]["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == "registry.example.com/chat-service:0.1.0"
        container["image"] = "chat-service"  # which kustomize replaces
    elif name == "gateway.yaml":
        assert VALUES["gateway"]["className"] == "your-class"
    assert made == given
    for manifest in made:
        if manifest["kind"] not in {"ServiceMonitor", "PrometheusRule", "Gateway", "HTTPRoute"}:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_settings_are_those_of_the_kustomization() -> None:
    [made] = rendered("settings.yaml")
    lines = (chart.K8S / "settings.env").read_text().splitlines()
    assert made["data"] == dict(line.split("=", 1) for line in lines if line and line[0] != "#")
    assert made["data"].keys() <= set(NAMES.values())


@pytest.mark.parametrize("name", NAMES_OF_FILES)
def test_all_of_it_goes_to_the_releases_namespace(name: str) -> None:
    for manifest in rendered(name, namespace="elsewhere", gateway__enabled=True):
        assert manifest["metadata"]["namespace"] == "elsewhere"


def test_a_changed_setting_changes_the_pods() -> None:
    def checksum(**changed: Any) -> str:
        [made] = rendered("deployment.yaml", **changed)
        return str(made["spec"]["template"]["metadata"]["annotations"]["checksum/settings"])

    assert checksum() == checksum()
    assert checksum() != checksum(settings__CHAT_WORKERS="4")


def test_values_turn_off_what_a_cluster_lacks() -> None:
    off: dict[str, Any] = {
        "autoscaling__enabled": False,
        "ingress__enabled": False,
        "networkPolicy__enabled": False,
    }
    off |= {"monitoring__enabled": False}
    left = {manifest["kind"] for name in NAMES_OF_FILES for manifest in rendered(name, **off)}
    assert left == {"ServiceAccount", "Service", "PodDisruptionBudget", "Deployment", "ConfigMap"}
    [deployment] = rendered("deployment.yaml", replicas=5, **off)
    assert deployment["spec"]["replicas"] == 5
    [scaled] = rendered("deployment.yaml")
    assert "replicas" not in scaled["spec"]
