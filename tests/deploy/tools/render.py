"""Lints and renders a chart with Helm's own library; run by the environment of this folder's lock.

In: {"folder", "values", "namespace"}. Out: {"errors": what lint refuses, "files": texts by file name}.
"""

from __future__ import annotations

import json
import sys

import helm_python

given = json.load(sys.stdin)
errors = helm_python.lint(given["folder"], given["values"], namespace=given["namespace"])["errors"]
files = {}
if not errors:
    with helm_python.Chart.load(given["folder"]) as chart:
        rendered = chart.render(given["values"], name="chat", namespace=given["namespace"])
    files = {path.rpartition("/")[2]: text for path, text in rendered.items()}
json.dump({"errors": errors, "files": files}, sys.stdout)
