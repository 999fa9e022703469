"""deploy/systemd: units that systemd itself accepts. No systemd has started them."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

from service.config.loading import NAMES
from service.config.settings import Settings
from service.serving.http_server import grace_seconds
from tests.support.needed import program
from tests.support.running import ROOT

UNIT = ROOT / "deploy/systemd/chat.service"


def test_the_systemd_unit_gives_a_drain_its_time_and_has_settings_that_exist() -> None:
    text = UNIT.read_text()
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # its documented way to keep case
    unit.read_string(text)
    assert float(unit["Service"]["TimeoutStopSec"]) > grace_seconds(
        Settings(_env_file=None, drain_delay_seconds=5)
    )
    assert unit["Service"]["KillMode"] == "mixed"
    assert int(unit["Service"]["LimitNOFILE"]) >= 4_256
    assert set(re.findall(r"\b(CHAT_\w+)=", text)) <= set(NAMES.values())
    for secret in re.findall(r"^LoadCredential=(\w+):", text, re.M):
        assert secret.upper() in NAMES.values()


def test_systemd_knows_each_line_of_it(tmp_path: Path) -> None:
    """Verified as it stands, but for its programs, which are on the host alone."""
    text, found = re.subn("ExecStart=/opt/chat/.venv/bin/python ", "ExecStart=/bin/true ", UNIT.read_text())
    assert found == 1

    def refused(text: str) -> list[str]:
        (tmp_path / UNIT.name).write_text(text)
        done = subprocess.run(
            [program("systemd-analyze"), "verify", "--man=no", str(tmp_path / UNIT.name)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return [line for line in done.stderr.splitlines() if UNIT.name in line]

    assert refused(text) == []
    [line] = refused(text.replace("KillMode=", "KillModes="))
    assert "KillModes" in line
