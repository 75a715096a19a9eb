"""Transcripts: a statement, `----`, and the steps that its procedure takes. HANSE_REWRITE=1 writes what is seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hanse.catalog.ddl import Ask, Fill, Freeze, Introspect, MoveRows, RunGroups, RunWorkspace, Step
from hanse.core.errors import PgError
from support.ddl import Places, places
from support.servers import Server

HERE = Path(__file__).parent


def shown(step: Step) -> str | None:
    """A line per statement; questions to the catalog are left out."""
    match step:
        case RunWorkspace(sql=sql, system=system):
            return f"workspace{'!' if system else ''}: {_short(sql)}"
        case RunGroups(sql=by_group, system=system):
            lines = (
                f"{g}{'!' if system else ''}: {_short(sql)}" for g, texts in sorted(by_group.items()) for sql in texts
            )
            return "\n".join(lines)
        case MoveRows():
            return f"move rows: {step.source} {step.source_groups} -> {step.target} {step.target_groups or 'routed'}"
        case Fill():
            return f"fill {step.target} in {step.groups}: {_short(step.query)}"
        case Freeze(identities=identities):
            return f"freeze {', '.join('.'.join(i) for i in identities)}"
        case Ask() | Introspect():
            return None
    return repr(step)


def _short(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= 160 else text[:120] + " …"


def play(db: Places, text: str) -> str:
    blocks = []
    for block in text.strip().split("\n\n"):
        statement = block.split("\n----")[0].strip()
        try:
            db.run(statement)
            lines = [line.replace(f"OWNER TO {db.user}", "OWNER TO me") for line in map(shown, db.steps) if line]
        except PgError as error:
            lines = [str(error), *(f"DETAIL: {error.detail}",) * bool(error.detail)]
        blocks.append("\n".join([statement, "----", *lines]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("script", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(script: Path, plain_postgres: Server) -> None:
    text = script.read_text("utf-8")
    with places(plain_postgres.dsn) as db:
        seen = play(db, text)
    if os.environ.get("HANSE_REWRITE"):
        script.write_text(seen, "utf-8")
    assert seen == script.read_text("utf-8")
