"""deploy/k8s/prometheusrule.yaml, made of the rules and alerts that Prometheus reads as files.

python -m tests.deploy.prometheusrule --write
"""

from __future__ import annotations

import sys
import textwrap

from tests.support.running import ROOT

FILE = ROOT / "deploy" / "k8s" / "prometheusrule.yaml"


def document() -> str:
    head = FILE.read_text().partition("\n  groups:\n")[0]
    groups = ""
    for name in ("rules.yml", "alerts.yml"):
        groups += (ROOT / "deploy" / "prometheus" / name).read_text().partition("\ngroups:\n")[2]
    return f"{head}\n  groups:\n{textwrap.indent(groups, '  ')}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(document())
    else:
        sys.stdout.write(document())
