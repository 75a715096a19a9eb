"""Transcripts of the planner: a statement, `----`, its plan over the snapshot of `towns.py`.

A line `# context: temporary=t1 forward_allowed=no parameter_types=20,25 search_path=a,b` before a statement changes
the context for it. `HANSE_REWRITE=1 pytest tests/scripts/planner` writes the files anew; read the difference before
keeping it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))

from towns import SNAPSHOT

from hanse.core.errors import PgError
from hanse.planner.plan import (
    AnyOf,
    Arithmetic,
    Asked,
    Between,
    Cast,
    Constant,
    Context,
    Equal,
    FromSequence,
    Literal,
    Param,
    Planned,
    Prune,
    Rename,
    Replaced,
    RowSpan,
)
from hanse.planner.planner import plan
from hanse.sql.parse import Parsed, parse_one

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))
SEPARATOR = "----"


def cases(path: Path) -> Iterator[tuple[str, str, str]]:
    """(context line, statement, expected plan)"""
    for block in path.read_text().strip().split("\n\n"):
        head, _, expected = block.partition(f"\n{SEPARATOR}\n")
        lines = head.removesuffix(f"\n{SEPARATOR}").split("\n")
        context = lines.pop(0) if lines[0].startswith("# context:") else ""
        comments = [line for line in lines if line.startswith("#")]
        yield "\n".join([*comments, context] if context else comments), "\n".join(lines[len(comments) :]), expected


def context_of(line: str) -> Context:
    given = dict(word.split("=") for word in line.partition("# context:")[2].split())
    return Context(
        search_path=tuple(given.get("search_path", "public").split(",")),
        user="hanse",
        temporary=frozenset(name for name in given.get("temporary", "").split(",") if name),
        forward_allowed=given.get("forward_allowed", "yes") == "yes",
        parameter_types=tuple(int(oid) for oid in given.get("parameter_types", "").split(",") if oid),
    )


def shown(value: object, parsed: Parsed) -> str:
    """A plan's part in few words."""
    match value:
        case Literal(index):
            return f"literal {index}"
        case Param(index):
            return f"${index + 1}"
        case Constant(known):
            return repr(known)
        case Cast(type_oid, operand):
            return f"{shown(operand, parsed)}::{type_oid}"
        case Arithmetic(operator, left, right):
            return f"({shown(left, parsed)} {operator} {shown(right, parsed)})"
        case Asked(sql):
            return f"asked [{sql}]"
        case FromSequence(sequence):
            return f"nextval({'.'.join(sequence)})"
        case Equal(values):
            return "(" + ", ".join(shown(each, parsed) for each in values) + ")"
        case AnyOf(alternatives):
            return "any of " + " ".join(shown(each, parsed) for each in alternatives)
        case Between(lower, upper, lower_inclusive, upper_inclusive):
            ends = [None if end is None else shown(end, parsed) for end in (lower, upper)]
            return f"{'[' if lower_inclusive else '('}{ends[0]}, {ends[1]}{']' if upper_inclusive else ')'}"
        case Prune(relation, condition):
            return f"{relation[1]} = {'all' if condition is None else shown(condition, parsed)}"
        case Rename():
            name = parsed.parts[2 * value.segment][value.start : value.end].decode()
            return f"{name} → partition{value.alias.decode()}"
        case RowSpan():
            return span(value, parsed)
        case Replaced():
            return f"row {value.row} {value.column}: {span(value.span, parsed)} → {shown(value.value, parsed)}"
        case Planned():
            return described(value, parsed).replace("\n", "; ")
    return other(value, parsed)


def other(value: object, parsed: Parsed) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple) and value and all(isinstance(each, str) for each in value):
        return ".".join(value) if len(value) == 2 and value[0] == "public" else " ".join(value)
    if isinstance(value, tuple | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        return "[" + ", ".join(shown(item, parsed) for item in items) + "]"
    return repr(value)


def span(value: RowSpan, parsed: Parsed) -> str:
    parts = parsed.parts
    first, last = 2 * value.first_segment, 2 * value.last_segment
    if first == last:
        return parts[first][value.start : value.end].decode()
    inner = b"".join(parts[first + 1 : last])
    return (parts[first][value.start :] + inner + parts[last][: value.end]).decode()


def described(planned: Planned, parsed: Parsed) -> str:
    lines = [type(planned.plan).__name__]
    assert is_dataclass(planned.plan)
    for field in fields(planned.plan):
        value = getattr(planned.plan, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default  # type: ignore[misc]
        if value != default and field.name not in ("merge",):
            lines.append(f"  {field.name}: {shown(value, parsed)}")
    return "\n".join([*lines, *notes(planned)])


def notes(planned: Planned) -> Iterator[str]:
    words = [planned.verb]
    words += ["rows"] if planned.returns_rows else []
    words += ["writes"] if planned.writes else []
    words += [] if planned.neutral else ["not neutral"]
    words += ["template"] if planned.template_safe else []
    words += [f"frozen {planned.frozen}"] if planned.frozen else []
    words += [f"pins: {planned.pins}"] if planned.pins else []
    yield "  (" + ", ".join(words) + ")"


def answer(context: str, sql: str) -> str:
    try:
        parsed = parse_one(sql)
        return described(plan(parsed, context_of(context), SNAPSHOT), parsed)
    except PgError as error:
        lines = [f"ERROR {error.sqlstate}: {error.message}"]
        lines += [f"  DETAIL: {error.detail}"] if error.detail else []
        lines += [f"  HINT: {error.hint}"] if error.hint else []
        return "\n".join(lines)


def rewrite(path: Path) -> None:
    blocks = []
    for context, sql, _ in cases(path):
        head = f"{context}\n{sql}" if context else sql
        blocks.append(f"{head}\n{SEPARATOR}\n{answer(context, sql)}")
    path.write_text("\n\n".join(blocks) + "\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_plans_are_as_written(path: Path) -> None:
    if os.environ.get("HANSE_REWRITE"):
        rewrite(path)
    wrong = [
        f"{sql}\n  expected:\n{expected}\n  found:\n{found}"
        for context, sql, expected in cases(path)
        if (found := answer(context, sql)) != expected
    ]
    assert not wrong, "\n\n".join(wrong)


def test_there_are_enough_statements() -> None:
    assert sum(len(list(cases(path))) for path in FILES) >= 150
