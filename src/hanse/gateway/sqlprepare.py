"""PREPARE, EXECUTE and DEALLOCATE of SQL (not of the protocol).

The inner statement is kept as text. EXECUTE puts its arguments into the text, each cast to the parameter's type, and runs
that: the planner then routes it like any other statement. The names are one namespace with the protocol's, as in PostgreSQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pglast import ast

from ..core.errors import PgError
from ..executor.request import Request, Sink
from ..planner.inner import inner_start, without_data_clause
from ..planner.plan import Session as SessionPlan
from ..sql.parse import Parsed, parse_one
from ..sql.walk import walk
from . import error_places
from .inline import argument_list, substitute

if TYPE_CHECKING:
    from .session import Session


async def prepare(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    if plan.name.encode() in session.statements:
        raise PgError("42P05", f'prepared statement "{plan.name}" already exists')
    types = await _type_oids(session, plan.types)
    statement = session.make_statement(plan.argument.encode(), types)
    statement.shown = text
    with error_places.counted_in(text.decode(), plan.argument):
        statement.analysis = await session.analyze(statement)
    session.statements[plan.name.encode()] = statement
    return b"PREPARE"


async def _type_oids(session: Session, types: str) -> tuple[int, ...]:
    names = argument_list(types)
    if not names:
        return ()
    backend = await session.statement_backend()
    try:
        # A type's name cannot be a parameter; the parser has seen it as a type, so it is no injection.
        casts = ", ".join(f"pg_catalog.pg_typeof(NULL::{name})::oid" for name in names)
        rows = await backend.query(f"SELECT {casts}")
    finally:
        session.end_statement_backend(backend)
    return tuple(int(oid or 0) for oid in rows[0])


async def execute(session: Session, plan: SessionPlan, request: Request, sink: Sink) -> bytes:
    from .statements import run_parsed

    text, casts = await _substituted(session, plan)
    formats, extended = request.result_formats, request.extended
    inner = Request(text=text, snapshot=request.snapshot, result_formats=formats, extended=extended)
    try:
        return await run_parsed(session, parse_one(text), sink, inner)
    except PgError as error:
        if error.position is not None:
            given = argument_list(plan.argument)
            error.position = await error_places.of_argument(session, error, request.text.decode(), given, casts)
        raise


async def expanded(session: Session, statement: Parsed) -> Parsed | None:
    """EXPLAIN EXECUTE and CREATE TABLE … AS EXECUTE with the text that EXECUTE stands for. None: it is neither."""
    node = statement.node
    if not isinstance(node, ast.CreateTableAsStmt | ast.ExplainStmt) or not isinstance(node.query, ast.ExecuteStmt):
        return None
    sql = statement.sql
    start = inner_start(statement, "AS" if isinstance(node, ast.CreateTableAsStmt) else "EXPLAIN")
    execute_sql = without_data_clause(sql[start:])
    plan = session.plans.make(parse_one(execute_sql)).plan
    assert isinstance(plan, SessionPlan)
    inner = (await inner_text(session, plan)).decode().rstrip(" \t\r\n;")
    return parse_one(f"{sql[:start]}{inner}\n{sql[start + len(execute_sql) :]}")


async def inner_text(session: Session, plan: SessionPlan) -> bytes:
    """The text that EXECUTE stands for."""
    return (await _substituted(session, plan))[0]


async def _substituted(session: Session, plan: SessionPlan) -> tuple[bytes, list[str]]:
    """The text that EXECUTE stands for, and the arguments as they are in it."""
    statement = session.statements.get(plan.name.encode())
    if statement is None:
        raise PgError("26000", f'prepared statement "{plan.name}" does not exist')
    analysis = statement.analysis or await session.analyze(statement)
    arguments = argument_list(plan.argument)
    expected = len(analysis.parameter_types)
    if len(arguments) != expected:
        raise PgError(
            "42601",
            f'wrong number of parameters for prepared statement "{plan.name}"',
            detail=f"Expected {expected} parameters but got {len(arguments)}.",
        )
    if any("select" in argument.lower() and _has_subquery(argument) for argument in arguments):
        raise PgError("0A000", "cannot use subquery in EXECUTE parameter")
    names = await session.environment.type_names(analysis.parameter_types)
    values = [_cast(argument, name) for argument, name in zip(arguments, names, strict=True)]
    return substitute(parse_one(statement.text).text, values), values


def _cast(argument: str, type_name: str) -> str:
    """A plain constant stays in a form that the planner routes by."""
    return f"{argument}::{type_name}" if argument.isdigit() or _is_string(argument) else f"({argument})::{type_name}"


def _has_subquery(argument: str) -> bool:
    return any(isinstance(found, ast.SubLink) for found in walk(parse_one(f"SELECT {argument}".encode()).node))


def _is_string(argument: str) -> bool:
    return argument.startswith("'") and argument.endswith("'") and "'" not in argument[1:-1].replace("''", "")


async def deallocate(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    if plan.name == "all":
        session.statements.clear()
        return b"DEALLOCATE ALL"
    if session.statements.pop(plan.name.encode(), None) is None:
        raise PgError("26000", f'prepared statement "{plan.name}" does not exist')
    return b"DEALLOCATE"
