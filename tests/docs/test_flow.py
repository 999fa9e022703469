"""The flow of a message: short, downwards, and every hop where its file's name says it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.docs.flow import seen
from tests.docs.test_house import SERVICE, imports, modules, parsed, part
from tests.support.redis import RedisServer
from tests.support.running import ROOT


async def test_a_message_passes_few_frames_to_redis_and_a_token_few_closures(
    redis_server: RedisServer,
) -> None:
    flow = await seen(redis_server)
    assert flow.frames[0].startswith("api/routes/turns.py create_turn")
    assert len(flow.frames) <= 10, flow.frames
    assert 0 < len(flow.closures) <= 3, flow.closures


def test_the_edge_asks_the_engine_and_never_its_store() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in modules()
        if part(file) in ("api", "app", "cli")
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Attribute)
        and node.attr == "store"
        and ast.unparse(node.value).endswith("engine")
    ]
    assert wrong == []


def test_nothing_is_handed_upward() -> None:
    """No part of the engine is made with a function of one that stands above it."""
    wrong = []
    for file in sorted((SERVICE / "engine").rglob("*.py")):
        for made, argument in _made_with(parsed(file)):
            handed = argument.annotation is not None and "Callable" in ast.unparse(argument.annotation)
            if argument.arg in ("run", "stop", "start") or handed:
                wrong.append(f"{file.relative_to(ROOT)}: {made} is made with {argument.arg}")
    assert wrong == ["service/engine/tokens.py: Counter is made with exact"]  # a tokenizer's


def test_the_engine_knows_no_scripts() -> None:
    """What a send costs is plain data to it."""
    wrong = [
        str(file.relative_to(ROOT))
        for file in sorted((SERVICE / "engine").rglob("*.py"))
        if any("scripts" in imported for imported in imports(parsed(file)))
    ]
    assert wrong == []


def _made_with(tree: ast.Module) -> Iterator[tuple[str, ast.arg]]:
    """Classes, each with an argument of its constructor."""
    for made in ast.walk(tree):
        if isinstance(made, ast.ClassDef):
            for method in made.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    yield from ((made.name, one) for one in (*method.args.args, *method.args.kwonlyargs))


def test_a_request_has_one_object_for_what_the_edge_knows_of_it() -> None:
    """And no string in its scope but that object's."""
    written = {
        f"{file.relative_to(SERVICE)} {node.slice.value}"
        for file in modules()
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
        and node.slice.value.startswith("chat.")
    }
    assert written == set()


def test_one_class_is_named_drain() -> None:
    found = [
        file.name
        for file in modules()
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ClassDef) and node.name == "Drain"
    ]
    assert found == ["drain.py"]
