"""What documents speak of exists: commands, options, views, limits, settings, files and tests; runnable examples parse.

`test_documents.py` looks the other way: what exists is spoken of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pglast
import pytest

from hanse.cli.main import HIDDEN
from hanse.cli.main import main as command_line
from hanse.core import limits
from hanse.gateway.own_settings import DEFAULTS as SESSION_SETTINGS

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "hanse"
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
)
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))

# Words after "hanse" in running text, in code's typography, that are no commands.
COMMAND = re.compile(r"`hanse ([a-z][a-z-]*)|^\$ hanse ([a-z][a-z-]*)|^hanse ([a-z][a-z-]*) ", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+)")
OTHERS_OPTIONS = {
    "--workload",
    "--seconds",
    "--rounds",
    "--runs",
    "--fault",
    "--no-profile",
    "--auto-compaction-retention",
    "--prefix",
    "--output",
    "--quick",
    "--modes",
    "--clients",
    "--check",
    "--data-only",
    "--load-via-partition-root",
    "--schema-only",
    "--",
}  # of other programs, where a document shows one
# Relations and functions of schema hanse: from the SQL that makes them.
MADE = re.compile(r"CREATE (?:UNLOGGED )?(?:TABLE|VIEW|FUNCTION)(?: IF NOT EXISTS)? hanse\.([a-z_]+)")
NAMED = re.compile(r"\bhanse\.([a-z_]+)\b")
# A module, the session settings, and one that stands for any of them.
OTHER_NAMES = {"something", "retry"} | {name.partition(".")[2] for name in SESSION_SETTINGS}
MODULES = {path.stem for path in SOURCE.rglob("*.py")} | {path.name for path in SOURCE.iterdir()}

each_document = pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in DOCUMENTS])


def commands() -> dict[str, click.Command]:
    assert isinstance(command_line, click.Group)
    context = click.Context(command_line)
    names = (*command_line.list_commands(context), *HIDDEN)
    found = {name: command_line.get_command(context, name) for name in names}
    return {name: command for name, command in found.items() if command is not None}


def options(command: click.Command) -> set[str]:
    found = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*map(options, inner)) | {"--help"}


def system_names() -> set[str]:
    return {name for path in SOURCE.rglob("*.sql") for name in MADE.findall(path.read_text())}


@each_document
def test_commands_exist(path: Path) -> None:
    found = {name for groups in COMMAND.findall(path.read_text()) for name in groups if name}
    assert found - set(commands()) == set()


@each_document
def test_options_exist(path: Path) -> None:
    known = set().union(*(options(command) for command in commands().values())) | OTHERS_OPTIONS
    assert set(OPTION.findall(path.read_text())) - known == set()


@each_document
def test_names_in_schema_hanse_exist(path: Path) -> None:
    text = re.sub(r"\bhanse\.[a-z_]+(?=/|\.py)", "", path.read_text())
    assert set(NAMED.findall(text)) - system_names() - OTHER_NAMES == set()


@each_document
def test_limits_exist(path: Path) -> None:
    """A name in capitals with a unit or _MAX at its end is one of core/limits.py."""
    text = path.read_text()
    found = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*_(?:MAX|MIN|S|BYTES|PER_WORKER))`", text))
    assert {name for name in found if not hasattr(limits, name)} == set()


def limit_rows() -> Iterator[tuple[str, str]]:
    table = (ROOT / "docs" / "guide" / "limits.md").read_text().partition("## Bounds")[2]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`([A-Z_]+)`", cells[0]):
            yield name, cells[1]


UNITS = {"": 1, "s": 1, "each": 1, "MiB": 1 << 20, "GiB": 1 << 30}


@pytest.mark.parametrize(("name", "shown"), sorted(limit_rows()))
def test_limits_have_the_value_that_is_told(name: str, shown: str) -> None:
    number, _, unit = shown.partition(" ")
    value = float(number.replace(",", "")) * UNITS[unit]
    assert getattr(limits, name) in (value, value - 1)  # the largest message is one byte below 1 GiB


def test_there_is_a_table_of_limits() -> None:
    assert len(list(limit_rows())) >= 10


@each_document
def test_files_of_the_source_exist(path: Path) -> None:
    """`planner/plan.py` and `tests/tidy/test_layers.py` in a document are files."""
    missing = []
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|sql))`", path.read_text()):
        places = [ROOT / name, SOURCE / name]
        if not any(place.exists() for place in places) and ("/" in name or Path(name).stem not in MODULES):
            missing.append(name)
    assert missing == []


def test_environment_variables_are_the_ones_that_are_read() -> None:
    read = {
        name for path in SOURCE.rglob("*.py") for name in re.findall(r"[\"'](HANSE_[A-Z_]+)[\"']", path.read_text())
    }
    told = set(re.findall(r"`(HANSE_[A-Z_]+)`", (ROOT / "docs" / "guide" / "settings.md").read_text()))
    assert told == read


def test_the_fields_of_status_are_documented() -> None:
    from hanse.agent import observe

    text = (ROOT / "docs" / "guide" / "operations.md").read_text()
    shapes = (
        observe.ClusterStatus, observe.NodeStatus, observe.GroupStatus, observe.InstanceStatus, observe.GatewayStatus,
        observe.TableStatus, observe.ShardStatus,
    )  # fmt: skip
    names = {field for shape in shapes for field in shape.__struct_fields__}
    assert {name for name in names if not re.search(rf"`\.?{name}(\[\])?`", text)} == set()


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in GUIDE])
def test_sql_examples_parse(path: Path) -> None:
    """Blocks of ```sql are PostgreSQL's grammar. Those that show an elided name (…) are for reading."""
    for block in re.findall(r"```sql\n(.*?)```", path.read_text(), re.DOTALL):
        if "…" not in block:
            pglast.parse_sql(block)


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in DECISIONS])
def test_decisions_have_their_form(path: Path) -> None:
    """Dated in name and text; context, decision, why, cost."""
    date = re.match(r"(\d{4}-\d\d-\d\d)-[a-z0-9-]+\.md$", path.name)
    assert date is not None
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ") and lines[2] == date[1]
    parts = re.findall(r"^\*\*(\w+)\.\*\*", path.read_text(), re.MULTILINE)
    assert parts == ["Context", "Decision", "Why", "Cost"]
