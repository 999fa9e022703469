"""The rules of the house that a machine can check: layers, sizes, names, imports, locks."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import related
from tests.support.running import ROOT, clean_environment

SERVICE = ROOT / "service"
LONGEST = 400

# a foreign package -> the parts that may import it
ONLY_IN = {
    "redis": {"store"},
    "fakeredis": {"store"},
    "groq": {"upstream"},
    "fastapi": {"api", "dialects", "app"},
    "starlette": {"api", "dialects", "app", "demo"},
    "slowapi": {"api"},
    "prometheus_client": {"telemetry"},
    "opentelemetry": {"telemetry"},
    "gunicorn": {"serving"},
    "uvicorn": {"serving", "cli", "demo"},
    "service.demo": {"demo"},
    "tests": set[str](),
}


def modules() -> list[Path]:
    return sorted(SERVICE.rglob("*.py"))


def part(file: Path) -> str:
    """The layer of a file: its package below service/, or the module itself."""
    return file.relative_to(SERVICE).parts[0].removesuffix(".py")


def name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, anywhere in the file; `from x import y` as x and as x.y."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not the house's style"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


LEAVES = "config errors eventloop events ids images money parts telemetry usage __version__ "
MAY_IMPORT = {"demo": "", "store": LEAVES, "upstream": LEAVES, "engine": LEAVES + "store upstream"}
MAY_IMPORT |= {"dialects": LEAVES + "engine", "api": LEAVES + "engine dialects store upstream"}
MAY_IMPORT |= {"app": LEAVES + "api dialects engine store upstream", "__main__": LEAVES + "cli"}
# The processes around the application. Only a fork of the master imports the store (expire_leases).
MAY_IMPORT |= {"serving": LEAVES + "store", "cli": LEAVES + "serving engine store upstream"}


def test_imports_go_one_way() -> None:
    for file in modules():
        allowed = {part(file), *MAY_IMPORT.get(part(file), LEAVES).split()}
        found = {name.split(".")[1] for name in imports(parsed(file)) if name.startswith("service.")}
        assert found <= allowed, f"{file.relative_to(ROOT)} imports {found - allowed}"


def test_no_modules_import_each_other() -> None:
    known = {name(file) for file in modules()}
    graph = {}
    for file in modules():
        tree = parsed(file)
        tree.body = [node for node in tree.body if not _for_types_only(node)]
        found = set(imports(tree)) & known
        packages = {module.rpartition(".")[0] for module in found}  # `from package import module`
        graph[name(file)] = found - packages - {name(file), "service"}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def _for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def test_foreign_packages_stay_behind_their_border() -> None:
    wrong = []
    for file in modules():
        for imported in set(imports(parsed(file))):
            for package, parts in ONLY_IN.items():
                if (imported + ".").startswith(package + ".") and part(file) not in parts:
                    wrong.append(f"{file.relative_to(ROOT)} imports {imported}")
    assert wrong == []


def test_the_environment_is_read_in_settings_only() -> None:
    readers = {
        file.relative_to(ROOT).as_posix()
        for file in modules()
        for node in ast.walk(parsed(file))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv", "environb"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
    }
    assert readers <= {
        "service/config/environment.py",
        "service/config/loading.py",
        "service/config/settings.py",
        "service/config/validators.py",
    }


def sources() -> list[Path]:
    return [
        file
        for folder in ("service", "tests", "deploy")
        for file in sorted((ROOT / folder).rglob("*"))
        if file.suffix in (".py", ".lua", ".js", ".mjs", ".ts", ".tsx") and "node_modules" not in file.parts
    ]


def test_no_file_is_too_long() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in sources()
        if (lines := len(file.read_text().splitlines())) > LONGEST
    }
    assert long == {}


def test_no_module_is_named_after_nothing() -> None:
    vague = re.compile(r"(utils?|helpers?|common|misc|managers?)(_|$)|_(utils?|helpers?|common|manager)$")
    assert [str(file) for file in sources() if vague.match(file.stem)] == []


NAMED = re.compile(r"(?<![\w/.*-])((?:[\w-]+/)*[\w-]+\.(?:py|lua))\b(?!\()")


def test_files_that_a_comment_names_exist() -> None:
    """From the folder of the file or one above it; scripts in their own."""
    lost = [
        f"{file.relative_to(ROOT)}: {named}"
        for file in [*modules(), *SERVICE.rglob("*.lua")]
        for named in NAMED.findall(file.read_text())
        if not any(
            (place / named).exists() for place in [*file.parents, SERVICE / "store/lua", SERVICE / "store"]
        )
    ]
    assert lost == []


def test_make_quick_relates_files_to_tests_that_exist() -> None:
    for beginning, names in related.BY_PATH.items():
        assert list(ROOT.glob(f"{beginning}*")), beginning
        lost = [name for name in names.split() if not (ROOT / f"tests/integration/test_{name}.py").exists()]
        assert lost == [], beginning


def test_every_module_says_what_it_is_for() -> None:
    written = [file for file in modules() if file.read_text().strip()]
    assert [name(file) for file in written if not ast.get_docstring(parsed(file))] == []


_WATCH = """
import os, sys, threading
happened = []

def watch(event, arguments):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.mkdir", "os.remove"):
        happened.append(f"{event} {arguments}")
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        happened.append(f"{event} {arguments}")

import asyncio, logging
before = dict(os.environ), logging.getLogger().handlers[:], sorted(os.listdir("/proc/self/fd"))
sys.addaudithook(watch)
import service.app
after = dict(os.environ), logging.getLogger().handlers[:], sorted(os.listdir("/proc/self/fd"))
happened += [f"{old} became {new}" for old, new in zip(before, after) if old != new]
happened += [str(thread) for thread in threading.enumerate()[1:]]
happened += [f"thread {task}" for task in os.listdir("/proc/self/task")[1:]]
print("\\n".join(happened))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_importing_the_application_does_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCH],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip() == ""
    assert list(tmp_path.iterdir()) == []


LOCKS = [
    ROOT / "deploy" / "requirements.txt",
    ROOT / "deploy" / "requirements-tracing.txt",
    ROOT / "deploy" / "requirements-local.txt",
    *sorted((ROOT / "tests").rglob("requirements.txt")),
]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_locks_have_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "--index" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,._-]+\])?==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_tests_run_with_the_versions_that_are_deployed() -> None:
    deployed, tested = (_versions(lock) for lock in ("deploy/requirements.txt", "tests/requirements.txt"))
    assert deployed <= tested


def _versions(lock: str) -> set[str]:
    pinned = re.findall(r"^([a-z0-9][^\s;\\]*==[^\s;\\]+)", (ROOT / lock).read_text(), re.M)
    assert pinned
    return set(pinned)


def test_make_knows_its_commands() -> None:
    commands = {"help", "setup", "run", "serve", "test", "check", "fmt", "lock", "fault", "bench", "clean"}
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert commands <= set(re.findall(r"^  make (\w+)", listed, re.M))


#: Words of the past that nobody outside knew; what stands for each now: docs/architecture.md.
GONE = {
    "Tally",
    "Doorbell",
    "doorbell",
    "make_doorbell",
    "bell",
    "ring",
    "beat",
    "Handoff",
    "Vitals",
    "LaneRedis",
    "Lane",
    "lane",
    "_lane",
    "_lanes",
    "Feed",
    "Feeds",
    "feeds",
    "tap",
    "pour",
    "rung",
    "Seen",
    "Entered",
    "Occupied",
    "Own",
    "GLANCE",
    "lapse",
}


def test_words_that_have_gone_stay_away() -> None:
    back = set()
    for file in modules():
        with tokenize.open(file) as source:
            for token in tokenize.generate_tokens(source.readline):
                if token.type == tokenize.NAME and token.string in GONE:
                    back.add(f"{file.relative_to(ROOT)}: {token.string}")
    assert back == set()


def test_the_formatter_wins() -> None:
    skip = "# fmt: " + "skip"
    written = [*modules(), *(ROOT / "tests").rglob("*.py")]
    assert [str(file.relative_to(ROOT)) for file in written if skip in file.read_text()] == []
