"""Files and functions stay small, every module says what it is, and no file names a place of somebody's machine."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "hanse"
FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 80
FUNCTION_LINES_MEDIAN_MAX = 12

MODULES = [pytest.param(path, id=str(path.relative_to(SOURCE))) for path in sorted(SOURCE.rglob("*.py"))]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", MODULES)
def test_sizes(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX
    assert [f"{name}: {lines} lines" for name, lines in functions(path) if lines > FUNCTION_LINES_MAX] == []


@pytest.mark.parametrize("path", MODULES)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a module begins with a docstring"


def test_functions_are_short_as_a_rule() -> None:
    lengths = [lines for path in SOURCE.rglob("*.py") for _, lines in functions(path)]
    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN_MAX
    assert sum(lines > 50 for lines in lengths) <= len(lengths) * 0.05


def project_files() -> list[Path]:
    """What git tracks or would track; without git, the folders that hold the project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [
        path
        for folder in ("src", "tests", "docs", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    ]


# A path below somebody's home, a checkout's own place, or a scratch directory that a session made.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|work|workspace|mnt)/[\w.-]+")


def test_no_path_of_a_machine() -> None:
    found = []
    for path in project_files():
        if path.suffix in (".png", ".ico", ".gz", ".bin") or path == Path(__file__):
            continue
        for number, text in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if MACHINE_PATH.search(text) or str(ROOT) in text:
                found.append(f"{path.relative_to(ROOT)}:{number}: {text.strip()[:100]}")
    assert found == []


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports them by their base names: of two that are called alike it refuses the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert [name for name in names if names.count(name) > 1] == []


def test_no_unfinished_work() -> None:
    """TODO and its kin: what is not done is said in the documents, or is an issue."""
    marks = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in project_files()
        if path.suffix in (".py", ".sql", ".md", ".toml") and path != Path(__file__)
        for number, text in enumerate(path.read_text().splitlines(), start=1)
        if marks.search(text)
    ]
    assert found == []
