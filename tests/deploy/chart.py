"""deploy/helm/templates, made of deploy/k8s.

python -m tests.deploy.chart --write
"""

from __future__ import annotations

import re
import sys
from typing import Final

from tests.support.running import ROOT

K8S: Final = ROOT / "deploy" / "k8s"
CHART: Final = ROOT / "deploy" / "helm"

_CHECKSUM = """    metadata:
      annotations:
        # A changed setting makes new pods.
        checksum/settings: {{ toYaml .Values.settings | sha256sum }}
"""
_REPLICAS = """spec:
{{- if not .Values.autoscaling.enabled }}
  replicas: {{ .Values.replicas }}
{{- end }}
"""
#: manifest -> (the value that turns it on, what of it is a value)
TEMPLATES: Final[dict[str, tuple[str, list[tuple[str, str]]]]] = {
    "serviceaccount.yaml": ("", []),
    "service.yaml": ("", []),
    "poddisruptionbudget.yaml": ("", []),
    "deployment.yaml": (
        "",
        [
            ("spec:\n  # No `replicas`: the autoscaler has them.\n", _REPLICAS),
            ("    metadata:\n", _CHECKSUM),
            ("image: chat-service", 'image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"'),
            (
                "terminationGracePeriodSeconds: 90",
                "terminationGracePeriodSeconds: {{ .Values.graceSeconds }}",
            ),
            (
                '          resources:\n            requests: { cpu: "2", memory: 512Mi }\n'
                '            limits: { cpu: "2", memory: 1Gi }\n',
                "          resources:\n            {{- toYaml .Values.resources | nindent 12 }}\n",
            ),
            ("secretName: chat-secrets", "secretName: {{ .Values.secretName }}"),
        ],
    ),
    "horizontalpodautoscaler.yaml": (
        "autoscaling.enabled",
        [
            ("minReplicas: 2", "minReplicas: {{ .Values.autoscaling.minReplicas }}"),
            ("maxReplicas: 20", "maxReplicas: {{ .Values.autoscaling.maxReplicas }}"),
            ('averageValue: "400"', "averageValue: {{ .Values.autoscaling.turnsPerPod | quote }}"),
        ],
    ),
    "ingress.yaml": (
        "ingress.enabled",
        [
            ("ingressClassName: nginx", "ingressClassName: {{ .Values.ingress.className }}"),
            ("hosts: [chat.example.com]", "hosts: [{{ .Values.host | quote }}]"),
            ("host: chat.example.com", "host: {{ .Values.host | quote }}"),
            ("secretName: chat-tls", "secretName: {{ .Values.tlsSecretName }}"),
        ],
    ),
    "gateway.yaml": (
        "gateway.enabled",
        [
            ("gatewayClassName: your-class", "gatewayClassName: {{ .Values.gateway.className }}"),
            ("hostname: chat.example.com", "hostname: {{ .Values.host | quote }}"),
            ("hostnames: [chat.example.com]", "hostnames: [{{ .Values.host | quote }}]"),
            (
                "certificateRefs: [{ name: chat-tls }]",
                "certificateRefs: [{ name: {{ .Values.tlsSecretName }} }]",
            ),
        ],
    ),
    "networkpolicy-default-deny.yaml": ("networkPolicy.enabled", []),
    "networkpolicy-redis.yaml": ("networkPolicy.enabled", []),
    "networkpolicy.yaml": (
        "networkPolicy.enabled",
        [("metadata.name: ingress-nginx", "metadata.name: {{ .Values.networkPolicy.ingressNamespace }}")],
    ),
    "servicemonitor.yaml": (
        "monitoring.enabled",
        [
            ("release: prometheus", "release: {{ .Values.monitoring.release }}"),
            ("name: chat-secrets", "name: {{ .Values.secretName }}"),
        ],
    ),
    "prometheusrule.yaml": ("monitoring.enabled", []),
}
_MONITORING = ("metadata.name: monitoring", "metadata.name: {{ .Values.networkPolicy.monitoringNamespace }}")
_SETTINGS = """apiVersion: v1
kind: ConfigMap
metadata:
  name: chat-settings
  namespace: {{ .Release.Namespace }}
  labels: { app.kubernetes.io/name: chat }
data:
  {{- toYaml .Values.settings | nindent 2 }}
"""


def templates() -> dict[str, str]:
    """What the files of the chart have to be, by name."""
    made = {"settings.yaml": _SETTINGS}
    for name, (condition, values) in TEMPLATES.items():
        text = re.sub(r"\A(#.*\n)+", "", (K8S / name).read_text())
        if name == "prometheusrule.yaml":  # its annotations are Prometheus's templates, not Helm's
            text = text.replace("{{", '{{ "{{" }}')
            text = text.replace("release: prometheus", "release: {{ .Values.monitoring.release }}", 1)
        for old, new in values:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        text = text.replace(*_MONITORING).replace(
            "namespace: chat\n", "namespace: {{ .Release.Namespace }}\n"
        )
        if condition:
            text = f"{{{{- if .Values.{condition} }}}}\n{text}{{{{- end }}}}\n"
        made[name] = text
    return made


if __name__ == "__main__" and "--write" in sys.argv:
    for name, text in templates().items():
        (CHART / "templates" / name).write_text(text)
