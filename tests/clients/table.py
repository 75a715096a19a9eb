"""The table of clients in docs/guide/clients.md: read, and written from a run's reports."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "guide" / "clients.md"
HEAD = "| client | version | tried | result |\n|---|---|---|---|\n"
AFTER = "\n<!-- end of the table -->"


class Row(NamedTuple):
    client: str
    version: str
    tried: str


def declared() -> Iterator[tuple[str, str]]:
    """(client, what is tried) of every test there is, in the order of files and lines."""
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"clients.{path.stem}")
        for name, function in vars(module).items():
            if name.startswith("test_") and hasattr(module, "CLIENT"):
                yield from ((module.CLIENT, each) for each in tried(module, function))


def tried(module: ModuleType, function: Callable[..., object]) -> list[str]:
    """What a test tries: the first line of its docstring; or those of the module's STEPS, where one test takes them all."""
    return [(each.__doc__ or "").strip().splitlines()[0].rstrip(".") for each in getattr(module, "STEPS", (function,))]


def shown() -> list[list[str]]:
    """The cells of the document's rows."""
    text = DOCUMENT.read_text().partition(HEAD)[2].partition(AFTER)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]


def write(reported: list[tuple[Row, str]]) -> None:
    """Rows in the order of the tests; parameters of one test are one row, which works when all of them do."""
    outcomes: dict[tuple[str, str], list[str]] = {}
    versions = {}
    for row, outcome in reported:
        outcomes.setdefault((row.client, row.tried), []).append(outcome)
        versions[row.client] = row.version
    lines = []
    for client, tried in dict.fromkeys(declared()):
        if found := outcomes.get((client, tried)):
            worst = next((outcome for outcome in found if outcome != "works"), "works")
            lines.append(f"| {client} | {versions[client]} | {tried} | {worst} |\n")
    before, _, rest = DOCUMENT.read_text().partition(HEAD)
    DOCUMENT.write_text(before + HEAD + "".join(lines) + AFTER + rest.partition(AFTER)[2])
