"""Documents name what there is: every command of the command line, its options, and every setting of a session."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from hanse.cli.main import main as command_line

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "hanse"

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="there are no documents yet")


def documents() -> str:
    """README and everything below docs/, as one text."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(path.read_text() for path in paths if path.exists())


def commands() -> list[tuple[str, click.Command]]:
    assert isinstance(command_line, click.Group)
    context = click.Context(command_line)
    found = [(name, command_line.get_command(context, name)) for name in sorted(command_line.list_commands(context))]
    known = [(name, command) for name, command in found if command is not None and not command.hidden]
    groups = [(name, command) for name, command in known if isinstance(command, click.Group)]
    inner = [(f"{name} {under}", each) for name, group in groups for under, each in group.commands.items()]
    return known + inner


@pytest.mark.parametrize(("name", "command"), commands())
def test_every_command_is_documented(name: str, command: click.Command) -> None:
    text = documents()
    assert re.search(rf"\bhanse {re.escape(name)}\b", text), f"`hanse {name}` is in no document"
    options = [
        option
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    ]
    missing = [option for option in options if not re.search(rf"{re.escape(option)}\b", text)]
    assert missing == [], f"options of `hanse {name}` that are in no document"


def test_there_are_commands() -> None:
    assert {"up", "down", "status", "sql", "demo"} <= {name for name, _ in commands()}


def settings() -> set[str]:
    """Names of settings with our prefix that the source speaks of as strings: 'hanse.read_from'."""
    # In the catalog's and the planner's SQL, hanse.<name> is also a table or function: those are quoted as a whole rarely.
    relations = {"nodes", "groups", "shards", "tables", "placement", "transactions", "gate", "commit"}
    found = set()
    for path in (SOURCE / "gateway").rglob("*.py"):
        found |= set(re.findall(r"[\"'](hanse\.[a-z_]+)[\"']", path.read_text()))
    return {name for name in found if name.removeprefix("hanse.") not in relations}


@pytest.mark.parametrize("name", sorted(settings()))
def test_every_setting_is_documented(name: str) -> None:
    assert name in documents(), f"{name} is in no document"


def test_every_view_is_documented() -> None:
    text = documents()
    missing = [
        view
        for view in ("hanse.nodes", "hanse.groups", "hanse.shards", "hanse.tables", "hanse.transactions", "hanse.jobs")
        if view not in text
    ]
    assert missing == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if not path.exists():
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []
