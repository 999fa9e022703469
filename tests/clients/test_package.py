"""The npm package of the client modules: what is in it, how it is installed, its types, and what it does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.pages import blocks
from tests.double import expected_text
from tests.support.needed import program
from tests.support.node import FOLDER, Node, linked
from tests.support.running import ROOT
from tests.support.service import Served

CLIENT: Final = ROOT / "service" / "web" / "client"
MODULES: Final = {"index.js", "resumable-fetch.js", "follow-turn.js"}
FILES: Final = {*MODULES, "index.d.ts", "resumable-fetch.d.ts", "package.json", "README.md", "LICENSE"}


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_can_be_packed_installed_and_imported(tmp_path: Path) -> None:
    npm = program("npm")
    [packed] = json.loads(run(npm, "pack", "--json", "--pack-destination", str(tmp_path), cwd=CLIENT))
    assert {file["path"] for file in packed["files"]} == FILES
    (tmp_path / "package.json").write_text('{"type": "module", "private": true}')
    install = (npm, "install", "--offline", "--no-audit", "--no-fund", packed["filename"])
    run(*install, cwd=tmp_path)
    code = 'import * as all from "chat-service-client"; console.log(JSON.stringify(Object.keys(all)))'
    names = json.loads(run(program("node"), "--input-type=module", "-e", code, cwd=tmp_path))
    assert sorted(names) == ["TurnError", "followTurn", "resumableFetch"]
    # node 20.19 and 22.12 were the first that `require` such modules; 20 before them says it is experimental.
    code = 'import("chat-service-client").then((all) => console.log(Object.keys(all).length))'
    assert run(program("node"), "--input-type=commonjs", "-e", code, cwd=tmp_path) == "3\n"


def test_the_package_has_the_version_of_the_service_and_types_for_all_that_it_exports() -> None:
    package: dict[str, Any] = json.loads((CLIENT / "package.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (package["version"], package["license"]) == (project["version"], project["license"])
    assert (package["sideEffects"], package.get("dependencies")) == (False, None)
    paths = [entry if isinstance(entry, str) else [*entry.values()] for entry in package["exports"].values()]
    assert all(
        (CLIENT / path).is_file()
        for entry in paths
        for path in ([entry] if isinstance(entry, str) else entry)
    )
    exported = set(re.findall(r"\b(\w+)(?=[, ]+(?:\w+ )?\}|, )", (CLIENT / "index.js").read_text()))
    types = (CLIENT / "index.d.ts").read_text()
    typed = set(re.findall(r"^export (?:class|function|\{) ?(\w+)", types, re.MULTILINE))
    assert exported == typed == {"TurnError", "followTurn", "resumableFetch"}


def test_the_types_are_those_of_what_it_does_as_a_strict_compiler_has_it(tmp_path: Path, node: Node) -> None:
    """types.ts uses all that is exported, and has what the compiler has to refuse."""
    linked(tmp_path)
    shutil.copy(FOLDER / "types.ts", tmp_path)
    options = (
        "--strict --noEmit --module nodenext --target es2022 --lib es2023,dom,dom.iterable,dom.asynciterable"
    )
    compiler = str(FOLDER / "node_modules" / ".bin" / "tsc")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    run(compiler, *options.split(), "--skipLibCheck", "types.ts", cwd=tmp_path)


async def test_the_examples_of_its_readme_do_what_they_say(served: Served, node: Node) -> None:
    asked = "[[tokens=12]]"
    at_ours = {
        '"/': f'"{served.url}/',
        '"chat-service-client"': f'"{CLIENT / "index.js"}"',
        "Why is the sky blue?": asked,
    }
    codes = [block.text for block in blocks(CLIENT / "README.md")]
    for word, ours in at_ours.items():
        codes = [code.replace(word, ours) for code in codes]
    transport, headers, followed = codes
    assert await node.play("example", "transport", code=transport, text=asked) == [asked, expected_text(12)]
    assert (
        await node.play("example", "show", code=f"{headers}process.stdout.write(typeof fetching);")
        == "function"
    )
    assert await node.play("example", "show", code=f"{followed}process.stdout.write(text);") == expected_text(
        12
    )


async def turn(served: Served, text: str) -> str:
    answer = await served.client.post(
        "/v1/sessions/s/turns", json={"content": text}, headers={"Prefer": "respond-async"}
    )
    return f"{served.url}{answer.headers['location']}/events"


async def test_a_turn_is_followed_to_its_end_from_any_place(served: Served, node: Node) -> None:
    url = await turn(served, "[[tokens=30 rate=200]]")
    whole = await node.play("follow", "follow", url=url)
    assert whole["error"] is None
    numbers = [number for number, _, _ in whole["events"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert whole["events"][-1][1] == "turn.completed"
    rest = await node.play("follow", "follow", url=url, after=numbers[3])
    assert rest["events"] == whole["events"][4:]
    assert await node.play("follow", "follow", url=url, after=numbers[-1]) == {"events": [], "error": None}


@pytest.mark.parametrize("after", [0, 1])
async def test_a_turn_that_is_not_there_is_an_error(served: Served, node: Node, after: int) -> None:
    url = (await turn(served, "[[say=here]]")).replace("/turns/", "/turns/t_0")
    seen = await node.play("follow", "follow", url=url, after=after)
    assert seen == {"events": [], "error": {"name": "TurnError", "status": 404, "code": "turn_not_found"}}


async def test_who_has_seen_what_the_store_has_lost_begins_again(served: Served, node: Node) -> None:
    url = await turn(served, "[[say=here]]")
    seen = await node.play("follow", "follow", url=url, after=500)
    assert seen["events"][0] == [0, "turn.restarted", None]
    assert "".join(text or "" for _, _, text in seen["events"]) == "here"
    assert seen["events"][-1][1] == "turn.completed"


LOCKS: Final = [
    *(ROOT / "docs" / "examples").glob("*/package-lock.json"),
    *(folder / "package-lock.json" for folder in (FOLDER, FOLDER / "frameworks")),
]


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.parent.name for lock in LOCKS])
def test_npm_s_locks_have_hashes_and_no_addresses(lock: Path) -> None:
    packages: dict[str, dict[str, Any]] = json.loads(lock.read_text())["packages"]
    del packages[""]
    ours = packages.pop("node_modules/chat-service-client", {})
    assert ours.get("resolved", "file:").startswith("file:")
    assert packages
    for name, package in packages.items():
        assert package["version"], name
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
