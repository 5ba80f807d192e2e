"""The arrows between the rooms, drawn from the imports (CONTRIBUTING, "The rooms").

agent_service  ->  routing, tools, checkpoints      three leaves that do not know each other
agent_service.app  ->  agent_service.api  ->  agent_service.agent
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAVES = ("checkpoints", "routing", "tools")
ROOMS = ("agent_service", *LEAVES)

ENTRIES = (
    "agent_service.__main__",
    "agent_service.app",
    "agent_service.cli",
    "agent_service.local_model.child",
)
"""Where a process begins: these hand its environment on as a whole, or find their orders in it."""


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(file): ast.parse(file.read_text(encoding="utf-8"), str(file))
    for room in ROOMS
    for file in sorted((ROOT / room).rglob("*.py"))
}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`, which never run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from running(node)


def imported_names(module: str) -> Iterator[tuple[str, str]]:
    """Each import that runs: the name it binds, and the module it comes from."""
    for node in running(MODULES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{module}: imports here are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield alias.asname or alias.name, submodule if submodule in MODULES else node.module


def imports(module: str) -> set[str]:
    """The modules of ours that a module imports."""
    return {source for _, source in imported_names(module) if source in MODULES}


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def arrows(source: str, *targets: str) -> list[str]:
    """The imports that lead from one place to others, as `from -> to`."""
    return [
        f"{module} -> {imported}"
        for module in MODULES
        if within(module, source)
        for imported in sorted(imports(module))
        if within(imported, *targets)
    ]


def test_the_rooms_are_where_we_look() -> None:
    assert all(within("agent_service.settings", room) or room in MODULES for room in ROOMS)
    assert arrows("agent_service", *LEAVES), "no import was found at all: this test looks at nothing"


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_knows_no_other_room(leaf: str) -> None:
    assert arrows(leaf, *(room for room in ROOMS if room != leaf)) == []


def test_the_agent_knows_neither_http_nor_the_command_line() -> None:
    outer = ("agent_service.api", "agent_service.app", "agent_service.cli")
    assert arrows("agent_service.agent", *outer) == []


def test_the_api_does_not_know_who_builds_it() -> None:
    assert arrows("agent_service.api", "agent_service.app", "agent_service.cli") == []


def test_the_api_builds_nothing_of_the_rooms_below() -> None:
    """It is given its collaborators; of their words it makes only plain values, and errors."""
    built = []
    for module in MODULES:
        if not within(module, "agent_service.api"):
            continue
        collaborators = {
            name
            for name, source in imported_names(module)
            if within(source, "agent_service.agent", *LEAVES) and not is_value(name, source)
        }
        built += [
            f"{module} line {node.lineno}: {node.func.id}(...)"
            for node in running(MODULES[module])
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in collaborators
            and node.func.id[0].isupper()
        ]
    assert built == []


def is_value(name: str, module: str) -> bool:
    """Whether that class is plain data (a frozen dataclass or a pydantic model) or an error."""
    if module.endswith(".errors"):
        return True
    found = [node for node in MODULES[module].body if isinstance(node, ast.ClassDef) and node.name == name]
    bases = [ast.unparse(base) for each in found for base in each.bases]
    frozen = any("frozen=True" in " ".join(map(ast.unparse, each.decorator_list)) for each in found)
    plain = ("BaseModel", "Documented", "TypedDict")
    return frozen or any(base in plain or is_value(base, module) for base in bases)


@pytest.mark.parametrize("room", ROOMS)
def test_no_two_modules_need_each_other(room: str) -> None:
    graph = {
        module: {imported for imported in imports(module) if within(imported, room)} - {module}
        for module in MODULES
        if within(module, room)
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a knot: " + " -> ".join(error.args[1]))


def test_one_module_reads_the_environment() -> None:
    readers = {
        module
        for module in MODULES
        if any(touches_environment(node) for node in ast.walk(MODULES[module]))
        and not within(module, "agent_service.settings", *ENTRIES)
    }
    assert readers == set()


def touches_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) in ("os.environ", "os.environb", "os.getenv")
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "os"
        and any(alias.name in ("environ", "environb", "getenv") for alias in node.names)
    )
