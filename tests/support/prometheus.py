"""A real Prometheus with the rules of deploy/, pointed at the replicas of a test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.needed import program
from tests.support.processes import ROOT
from tests.support.redis import free_port
from tests.support.waiting import eventually

DEPLOY = ROOT / "deploy" / "prometheus"


class Prometheus:
    """deploy/prometheus/prometheus.yml with fixed targets and a second instead of fifteen."""

    def __init__(self, directory: Path, targets: Sequence[int]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOY / Path(file).name) for file in config["rule_files"]]
        [chat] = [job for job in config["scrape_configs"] if job["job_name"] == "chat"]
        del chat["dns_sd_configs"]
        chat["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in targets]}]
        config["scrape_configs"] = [chat]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._targets = len(targets)
        port = free_port()
        self._log = directory / "prometheus.log"
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, verify=False)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        eventually(self._ready, within=20)

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def caught_up(self) -> float:
        """A time at which it knows of all targets what they count now; for `at`. Waits for their scrapes."""
        begin = (
            time.time() + 0.5
        )  # a request is counted when its response has ended, a moment after its last byte

        def scraped() -> float:
            """When the target that was scraped longest ago was, 0 where the scrape of one has failed."""
            newest = self.query('timestamp(up{job="chat"}) and up{job="chat"} == 1')
            return min(value for _, value in newest) if len(newest) == self._targets else 0.0

        eventually(lambda: scraped() > begin, within=20, what="a scrape of all targets")
        return time.time()

    def query(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """The samples of an instant query, now or at a time."""
        params = {"query": expression} if at is None else {"query": expression, "time": f"{at:.3f}"}
        answer = self._client.get("/api/v1/query", params=params).json()
        assert answer["status"] == "success", (expression, answer)
        result = answer["data"]["result"]
        if answer["data"]["resultType"] == "scalar":
            return [({}, float(result[1]))]
        return [(item["metric"], float(item["value"][1])) for item in result]

    def value(self, expression: str, at: float | None = None) -> float:
        samples = self.query(expression, at)
        return samples[0][1] if samples else float("nan")

    def rules(self) -> list[dict[str, Any]]:
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def close(self) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait(10)
