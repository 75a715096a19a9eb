"""Runs the planner's plans with psycopg, simply and synchronously, over two databases as groups and one as workspace.

Pruning is left out: every plan runs on all its groups, which may only add rows that the statement itself rejects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import pq
from select_data import ROWS

from hanse.catalog.model import Bound, Column, Function, Group, Kind, Relation, Shard, Snapshot, Strategy, UniqueKey
from hanse.executor.merge import Merger, Unsortable, bounds, key_function
from hanse.pgwire.backend import data_row
from hanse.planner.clock import with_time
from hanse.planner.plan import Context, Forward, Gather, Planned, Pull, Scatter, TwoPhase
from hanse.planner.select import plan_select
from hanse.sql.parse import parse_one

GROUPS = ("g1", "g2")
SHARDED = {  # table → (strategy, key, clause name)
    "users": (Strategy.HASH, ("id",), "by_id"),
    "orders": (Strategy.HASH, ("user_id",), "by_user"),
    "pairs": (Strategy.HASH, ("a", "b"), "by_pair"),
    "events": (Strategy.RANGE, ("at",), "by_at"),
    "nothing": (Strategy.HASH, ("k",), "by_k"),
}
RANGES = (("MINVALUE", "'2024-03-01'"), ("'2024-03-01'", "MAXVALUE"))
SINGLE = {"settings": "g1", "labels": "g2"}


@dataclass(frozen=True, slots=True)
class Answer:
    """columns: (name, type as format_type says); rows as PostgreSQL's text; or the SQLSTATE."""

    columns: tuple[tuple[str, str], ...] = ()
    rows: tuple[tuple[bytes | None, ...], ...] = ()
    sqlstate: str | None = None


@dataclass(slots=True)
class World:
    """All databases, and the catalog snapshot that describes them."""

    plain: psycopg.Connection
    groups: dict[str, psycopg.Connection]
    workspace: psycopg.Connection
    snapshot: Snapshot

    def expected(self, sql: str) -> Answer:
        return _ask(self.plain, sql)

    def plan(self, sql: str, **context: object) -> Planned:
        return plan_select(parse_one(sql), Context(**context), self.snapshot)  # type: ignore[arg-type]

    def run(self, sql: str, planned: Planned) -> Answer:
        plan = planned.plan
        if isinstance(plan, Scatter):
            try:
                return self._scatter(sql, plan)
            except Unsortable:
                return self.run(sql, self.plan(sql, merge_allowed=False))
        if isinstance(plan, TwoPhase):
            return self._two_phase(plan)
        if isinstance(plan, Gather):
            return self._gather(sql, plan)
        assert isinstance(plan, Forward)
        assert plan.any_group
        return _ask(self.groups["g2"], sql)

    # --- plans -------------------------------------------------------------------------------------------------

    def _scatter(self, sql: str, plan: Scatter) -> Answer:
        text = _timed(plan.sql or sql, plan.clock)
        results = [self.groups[group].pgconn.exec_(text.encode()) for group in plan.groups]
        for result in results:
            if result.status != pq.ExecStatus.TUPLES_OK:
                return _failed(result)
        first = results[0]
        fields = [_Field(first.ftype(i)) for i in range(first.nfields)]
        keep = first.nfields - plan.merge.drop_columns
        limit, offset = bounds(plan.merge)
        merger = Merger(
            sources=len(results),
            key=key_function(plan.merge.keys, fields) if plan.merge.keys else None,
            limit=limit,
            offset=offset,
            keep=keep if plan.merge.drop_columns else None,
        )
        for source, result in enumerate(results):
            merger.feed(source, b"".join(data_row(row) for row in _rows(result)))
            merger.finish(source)
        rows = _decoded(merger.take())
        assert merger.done
        columns = _columns(first, self.groups[plan.groups[0]])[:keep]
        return Answer(columns, rows)

    def _two_phase(self, plan: TwoPhase) -> Answer:
        text = _timed(plan.partial_sql, plan.clock)
        results = []
        for group in plan.groups:
            result = self.groups[group].pgconn.exec_(text.encode())
            if result.status != pq.ExecStatus.TUPLES_OK:
                return _failed(result)
            results.append(result)
        described = _columns(results[0], self.groups[plan.groups[0]])
        columns = [
            f"{name} {kind or seen[1]}" for (name, kind), seen in zip(plan.partial_columns, described, strict=True)
        ]
        with self.workspace.transaction(force_rollback=True):
            self.workspace.execute(f"CREATE TEMPORARY TABLE hanse_partial ({', '.join(columns)})")  # type: ignore[arg-type]
            for result in results:
                self._copy_in("hanse_partial", [_copy_line(row) for row in _rows(result)])
            return _ask(self.workspace, _timed(plan.final_sql, plan.clock))

    def _gather(self, sql: str, plan: Gather) -> Answer:
        with self.workspace.transaction(force_rollback=True):
            for pull in plan.pulls:
                self._pull(pull)
            return _ask(self.workspace, plan.sql or sql)

    def _pull(self, pull: Pull) -> None:
        relation = self.snapshot.relation_by_identity[pull.relation]
        places = {Kind.SHARDED: relation.groups, Kind.REFERENCE: GROUPS[:1]}.get(relation.kind, (relation.group,))
        columns = ", ".join(f'"{name}"' for name in pull.columns)
        where = f" WHERE {pull.where}" if pull.where else ""
        for place in places:
            query = f'COPY (SELECT {columns} FROM "{relation.name}"{where} {pull.lock}) TO STDOUT'
            with self.groups[place].cursor() as cursor, cursor.copy(query) as copy:  # type: ignore[index, arg-type]
                lines = b"".join(bytes(chunk) for chunk in copy)
            self._copy_in(f'"{relation.name}" ({columns})', [lines])

    def _copy_in(self, target: str, lines: Sequence[bytes]) -> None:
        with self.workspace.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN") as copy:  # type: ignore[arg-type]
            for line in lines:
                copy.write(line)


@dataclass(frozen=True, slots=True)
class _Field:
    type_oid: int
    format: int = 0


def _timed(sql: str, clock: bool) -> str:
    moment = datetime.now(UTC)
    return with_time(sql, moment, moment) if clock else sql


def _ask(connection: psycopg.Connection, sql: str) -> Answer:
    if connection.info.transaction_status == pq.TransactionStatus.INTRANS:
        connection.pgconn.exec_(b"SAVEPOINT asked")
    result = connection.pgconn.exec_(sql.encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        failed = _failed(result)
        if connection.info.transaction_status == pq.TransactionStatus.INERROR:
            connection.pgconn.exec_(b"ROLLBACK TO asked")
        return failed
    return Answer(_columns(result, connection), tuple(_rows(result)))


def _failed(result: pq.abc.PGresult) -> Answer:
    return Answer(sqlstate=(result.error_field(pq.DiagnosticField.SQLSTATE) or b"?").decode())


def _rows(result: pq.abc.PGresult) -> Iterator[tuple[bytes | None, ...]]:
    for row in range(result.ntuples):
        yield tuple(result.get_value(row, column) for column in range(result.nfields))


def _columns(result: pq.abc.PGresult, connection: psycopg.Connection) -> tuple[tuple[str, str], ...]:
    found = []
    for column in range(result.nfields):
        asked = f"SELECT format_type({result.ftype(column)}, {result.fmod(column)})"
        name = connection.pgconn.exec_(asked.encode()).get_value(0, 0)
        found.append(((result.fname(column) or b"").decode(), (name or b"").decode()))
    return tuple(found)


def _decoded(chunk: bytes) -> tuple[tuple[bytes | None, ...], ...]:
    from hanse.executor.rows import field_count, field_reader, split_messages

    rows = []
    for message in split_messages(chunk):
        count = field_count(message)
        rows.append(tuple(field_reader(range(count))(message)) if count else ())
    return tuple(rows)


def _copy_line(row: tuple[bytes | None, ...]) -> bytes:
    escaped = [
        b"\\N" if value is None else value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")
        for value in row
    ]
    return b"\t".join(escaped) + b"\n"


# --- making the world --------------------------------------------------------------------------------------------


@contextmanager
def world(server_dsn: str, prefix: str) -> Iterator[World]:
    """Four databases of their own on one server, dropped at the end."""
    names = [f"{prefix}_{suffix}" for suffix in ("plain", "g1", "g2", "workspace")]
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        for name in names:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")  # type: ignore[arg-type]
        try:
            with ExitStack() as stack:
                connections = [
                    stack.enter_context(psycopg.connect(server_dsn, dbname=name, autocommit=True)) for name in names
                ]
                for connection, kind in zip(connections, ("plain", "g1", "g2", "workspace"), strict=True):
                    _make(connection, kind)
                plain, g1, g2, workspace = connections
                yield World(plain, {"g1": g1, "g2": g2}, workspace, _snapshot(plain, names[0]))
        finally:
            for name in names:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]


def _shards(kind: str) -> list[tuple[str, str, str, str]]:
    """(table, shard, bound, group) of every shard that a database attaches."""
    found = []
    for table, (strategy, _, _) in SHARDED.items():
        for number in range(4 if strategy is Strategy.HASH else 2):
            group = GROUPS[number % 2]
            bound = f"WITH (modulus 4, remainder {number})"
            if strategy is Strategy.RANGE:
                bound = "FROM ({}) TO ({})".format(*RANGES[number])
            if kind in ("plain", group):
                found.append((table, f"{table}_{number}", bound, group))
    return found


def _make(connection: psycopg.Connection, kind: str) -> None:
    clauses = {}
    for strategy, key, clause in SHARDED.values():
        clauses[clause] = "" if kind == "workspace" else f"PARTITION BY {strategy} ({', '.join(key)})"
    partitions = "".join(
        f"CREATE TABLE {shard} PARTITION OF {table} FOR VALUES {bound};\n"
        for table, shard, bound, _ in _shards(kind)
        if kind != "workspace"
    )
    text = (Path(__file__).parent / "schema.sql").read_text()
    connection.execute(text.format(**clauses, partitions=partitions))  # type: ignore[arg-type]
    if kind == "workspace":
        return
    for table, lines in ROWS.items():
        if kind in ("plain", SINGLE.get(table, kind)):
            _load(connection, table, lines)


def _load(connection: psycopg.Connection, table: str, lines: list[str]) -> None:
    """Each group takes the rows that its partitions accept."""
    columns = connection.execute(f"SELECT * FROM {table} LIMIT 0").description or ()  # type: ignore[arg-type]
    names = ", ".join(column.name for column in columns)
    connection.execute(f"CREATE TEMPORARY TABLE incoming (LIKE {table})")  # type: ignore[arg-type]
    with connection.cursor() as cursor, cursor.copy("COPY incoming FROM STDIN") as copy:
        for line in lines:
            copy.write(line + "\n")
    condition = "true"
    if table in SHARDED:
        children = connection.execute(
            "SELECT pg_get_partition_constraintdef(inhrelid) FROM pg_inherits WHERE inhparent = %s::regclass", (table,)
        ).fetchall()
        oid = connection.execute("SELECT %s::regclass::oid", (table,)).fetchone()
        assert oid is not None
        condition = " OR ".join(f"({text})" for (text,) in children)
    connection.execute(f"INSERT INTO {table} SELECT {names} FROM incoming WHERE {condition}")  # type: ignore[arg-type]
    connection.execute("DROP TABLE incoming")


def _snapshot(connection: psycopg.Connection, database: str) -> Snapshot:
    relations = [_relation(connection, name) for name in (*SHARDED, "countries", *SINGLE)]
    for (name,) in connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public'").fetchall():
        definition = connection.execute("SELECT pg_get_viewdef(%s::regclass)", (name,)).fetchone()
        assert definition is not None
        relations.append(
            Relation(
                schema="public",
                name=name,
                kind=Kind.VIEW,
                owner="postgres",
                columns=_column_list(connection, name),
                view_definition=definition[0].rstrip().rstrip(";"),
            )
        )
    functions = connection.execute(
        "SELECT p.proname, l.lanname, p.provolatile::text, p.pronargs, p.proretset, p.prosrc FROM pg_proc p"
        " JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'public'::regnamespace"
    ).fetchall()
    return Snapshot(
        version=1,
        database=database,
        groups=tuple(Group(name=name, instances=()) for name in GROUPS),
        relations=tuple(relations),
        functions=tuple(
            Function(
                schema="public", name=f[0], kind="f", language=f[1], volatility=f[2], argument_count=f[3],
                returns_set=f[4], source=f[5],
            )
            for f in functions
        ),
    )  # fmt: skip


def _column_list(connection: psycopg.Connection, name: str) -> tuple[Column, ...]:
    rows = connection.execute(
        "SELECT attname, atttypid::int8, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        (name,),
    ).fetchall()
    return tuple(Column(name=row[0], type_oid=row[1], type_name=row[2]) for row in rows)


def _relation(connection: psycopg.Connection, name: str) -> Relation:
    columns = _column_list(connection, name)
    primary = {"users": ("id",), "orders": ("user_id", "order_id"), "countries": ("id",)}.get(name)
    unique = (UniqueKey(name=f"{name}_pkey", columns=primary, primary=True),) if primary else ()
    common = {"schema": "public", "name": name, "columns": columns, "unique_keys": unique, "owner": "postgres"}
    if name not in SHARDED:
        kind = Kind.SINGLE if name in SINGLE else Kind.REFERENCE
        return Relation(**common, kind=kind, group=SINGLE.get(name))  # type: ignore[arg-type]
    strategy, key, _ = SHARDED[name]
    types = tuple(next(column.type_oid for column in columns if column.name == part) for part in key)
    shards = []
    for table, shard, _, group in _shards("plain"):
        if table == name:
            number = int(shard[-1])
            bound = Bound(modulus=4, remainder=number)
            if strategy is Strategy.RANGE:
                lower, upper = ("2024-03-01" if number else None, None if number else "2024-03-01")
                bound = Bound(lower=(lower,), upper=(upper,))
            shards.append(Shard(schema="public", name=shard, group=group, bound=bound))
    return Relation(
        **common, kind=Kind.SHARDED, strategy=strategy, key=key, key_types=types, shards=tuple(shards)  # type: ignore[arg-type]
    )  # fmt: skip
