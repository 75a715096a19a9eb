"""Imports point down: the order of layers is the order of this list, and neighbours on a level are strangers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src" / "hanse"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("config", "retry"),
    ("observe",),
    ("catalog", "sql", "pgwire", "consensus"),
    ("planner", "transactions", "engines", "replication"),
    ("executor",),
    ("gateway", "agent", "console"),
    ("app",),
    ("cli", "__main__"),
)
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    """The top package of a file, or the name of a module that lies at the top itself."""
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, absolute module path) of every import, also inside functions and `if TYPE_CHECKING`."""
    package = ("hanse", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, tuple(name.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = (*base, *(node.module.split(".") if node.module else ()))
            if len(origin) == 1 and origin[0] == "hanse":  # from .. import core
                yield from ((node.lineno, (*origin, name.name)) for name in node.names)
            else:
                yield node.lineno, origin


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(SOURCE))) for p in modules()])
def test_imports_point_down(path: Path) -> None:
    own = package_of(path)
    if own == "__init__":
        return
    assert own in LEVEL, f"{own} has no place in the order of layers"
    wrong = []
    for line, target in imports(path):
        if target[0] != "hanse" or len(target) < 2 or target[1] == own or target[1].startswith("__version"):
            continue
        if target[1] not in LEVEL or LEVEL[target[1]] >= LEVEL[own]:
            wrong.append(f"line {line}: {own} may not import {'.'.join(target)}")
    assert wrong == []


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in sorted((SOURCE / "core").rglob("*.py"))])
def test_core_is_standard_library_only(path: Path) -> None:
    foreign = [
        f"line {line}: {'.'.join(target)}"
        for line, target in imports(path)
        if target[0] not in sys.stdlib_module_names and target[:2] != ("hanse", "core") and target[0] != "__future__"
    ]
    assert foreign == []
