"""A small synchronous driver for DDL procedures: databases on one server stand for the workspace and the groups.

It does in the plainest way what the gateway's driver does: one connection for each place, all in transactions,
committed together after the procedure's end. Routing of moved rows is left to PostgreSQL's own partition constraints.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from pglast import parse_sql
from psycopg import sql as composed

from hanse.catalog import introspection
from hanse.catalog.ddl import DdlContext, DdlResult, guard_defaults, make_default_shards, plan_ddl
from hanse.catalog.ddl import steps as s
from hanse.catalog.model import Group, Relation, Snapshot

PLACEMENT = (
    "CREATE SCHEMA hanse; CREATE TABLE hanse.placement (relid oid PRIMARY KEY, kind text, home text, shard_group text)"
)


class Places:
    """The workspace and the groups, and statements that run over all of them."""

    def __init__(self, dsn: str, groups: tuple[str, ...] = ("g1", "g2")) -> None:
        self.dsn = dsn
        self.tag = f"ddl_{uuid.uuid4().hex[:8]}"
        self.groups = groups
        self.connections: dict[str, psycopg.Connection] = {}
        self.settings: dict[str, str] = {}
        self.log: list[str] = []
        self.steps: list[s.Step] = []
        with psycopg.connect(dsn, autocommit=True) as admin:
            self.user = admin.execute("SELECT current_user").fetchone()[0]
            for place in ("workspace", *groups):
                admin.execute(f"CREATE DATABASE {self.tag}_{place} TEMPLATE template0")
        for place in ("workspace", *groups):
            # Not the default: "$user" would be schema hanse where the user is called so.
            self.connections[place] = psycopg.connect(
                dsn, dbname=f"{self.tag}_{place}", options="-c search_path=public"
            )
        self.connections["workspace"].execute(PLACEMENT)
        self.commit()

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            for place in ("workspace", *self.groups):
                admin.execute(f"DROP DATABASE {self.tag}_{place} WITH (FORCE)")

    def commit(self) -> None:
        for connection in self.connections.values():
            connection.commit()

    # --- what a test uses

    def run(self, text: str) -> DdlResult:
        """Runs one statement, or several, each in its own transaction; gives the last result."""
        result = DdlResult()
        for raw in parse_sql(text):
            start = raw.stmt_location or 0
            end = start + raw.stmt_len if raw.stmt_len else len(text)
            result = self._one(raw.stmt, text[start:end].strip())
        return result

    def default_shards(self, schema: str, name: str) -> None:
        self._drive(make_default_shards((schema, name), self._context()))

    def ask(self, place: str, query: str) -> list[tuple[Any, ...]]:
        connection = self.connections[place]
        rows = connection.execute(query).fetchall()
        connection.commit()
        return rows

    def write(self, place: str, statement: str) -> None:
        self.connections[place].execute(statement)
        self.connections[place].commit()

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Each row into the group that takes it."""
        for row in rows:
            taken = 0
            for group in self.groups:
                connection = self.connections[group]
                values = ", ".join(["%s"] * len(row))
                try:
                    connection.execute(f"INSERT INTO {table} VALUES ({values})", row)
                    connection.commit()
                    taken += 1
                except psycopg.errors.CheckViolation:
                    connection.rollback()
            assert taken == 1, (row, taken)

    def snapshot(self) -> Snapshot:
        found = self._introspect()
        self.connections["workspace"].commit()
        return found

    def relation(self, name: str, schema: str = "public") -> Relation:
        return self.snapshot().relation_by_identity[(schema, name)]

    def everywhere(self, query: str) -> dict[str, list[tuple[Any, ...]]]:
        return {place: self.ask(place, query) for place in ("workspace", *self.groups)}

    # --- the driver

    def _context(self) -> DdlContext:
        return DdlContext(
            snapshot=self.snapshot(),
            search_path=("public",),
            user=self.user,
            default_shard_count=4,
            make_verifier=lambda password: f"SCRAM-SHA-256$4096:c2FsdA==$AAAA:{len(password)}===",
            settings=self.settings,
        )

    def _one(self, statement: Any, text: str) -> DdlResult:
        context = self._context()

        def procedure() -> s.Procedure:
            result = yield from plan_ddl(statement, text, context)
            after = yield s.Introspect()
            yield from guard_defaults(context.snapshot, after, context)
            return result

        return self._drive(procedure())

    def _drive(self, procedure: s.Procedure) -> DdlResult:
        self.steps = []
        try:
            step = next(procedure)
            while True:
                self.steps.append(step)
                step = procedure.send(self._perform(step))
        except StopIteration as end:
            self.commit()
            return end.value
        except BaseException:
            for connection in self.connections.values():
                connection.rollback()
            raise

    def _perform(self, step: s.Step) -> Any:
        match step:
            case s.Ask(sql=sql):
                return self._text_rows("workspace", sql)
            case s.RunWorkspace(sql=sql, system=system):
                self.log.append(sql)
                return self._text_rows("workspace", sql, system=system)
            case s.RunGroups(sql=sql, system=system):
                return {
                    group: [self._text_rows(group, text, system=system) for text in texts][-1]
                    for group, texts in sql.items()
                    if texts
                }
            case s.Introspect():
                return self._introspect()
            case s.MoveRows():
                return self._move(step)
            case s.Fill():
                return self._fill(step)
        return None

    def _text_rows(self, place: str, sql: str, *, system: bool = False) -> list[tuple[str | None, ...]]:
        """Rows as PostgreSQL's own text, as the gateway has them."""
        if system:
            self._text_rows(place, "SET LOCAL search_path = ''")
            rows = self._text_rows(place, sql)
            self._text_rows(place, "SET LOCAL search_path = public")
            return rows
        connection = self.connections[place]
        answer = connection.pgconn.exec_(sql.encode()) if connection.info.transaction_status else None
        if answer is None:
            connection.execute("SELECT")
            answer = connection.pgconn.exec_(sql.encode())
        if answer.status not in (1, 2):
            raise psycopg.errors.lookup(answer.error_field(ord("C")).decode())(
                answer.error_message.decode() + f"\n-- at {place}: {sql}"
            )
        return [
            tuple(None if v is None else v.decode() for v in (answer.get_value(r, c) for c in range(answer.nfields)))
            for r in range(answer.ntuples)
        ]

    def _introspect(self) -> Snapshot:
        workspace = self.connections["workspace"]
        workspace.execute("SET LOCAL search_path = ''")
        document = workspace.execute(introspection.QUERY).fetchone()[0]
        workspace.execute("SET LOCAL search_path = public")
        found = introspection.decode(document, home_group=self.groups[0])
        return Snapshot(
            home_group=self.groups[0],
            groups=tuple(Group(name=group, instances=()) for group in self.groups),
            relations=found.relations,
            functions=found.functions,
            schemas=found.schemas,
        )

    def _move(self, step: s.MoveRows) -> int:
        columns = composed.SQL(", ").join(map(composed.Identifier, step.columns))
        source, target = composed.Identifier(*step.source), composed.Identifier(*step.target)
        rows: list[bytes] = []
        for group in step.source_groups:
            query = composed.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, source)
            with self.connections[group].cursor().copy(query) as out:
                rows += [bytes(block) for block in out]
        for group in step.target_groups or self.groups:
            self._load(group, target, columns, rows, route=step.target_groups is None)
        return len(b"".join(rows).splitlines())

    def _load(self, group: str, target: Any, columns: Any, rows: list[bytes], *, route: bool) -> None:
        connection = self.connections[group]
        connection.execute(
            composed.SQL("CREATE TEMP TABLE moved AS SELECT {} FROM {} WHERE false").format(columns, target)
        )
        with connection.cursor().copy(composed.SQL("COPY moved FROM STDIN")) as into:
            for block in rows:
                into.write(block)
        where = "true"
        if route:
            name = target.as_string(connection)
            found = connection.execute(
                "SELECT string_agg('(' || pg_get_partition_constraintdef(inhrelid) || ')', ' OR ') FROM pg_inherits"
                " WHERE inhparent = %s::regclass",
                (name,),
            ).fetchone()[0]
            # A hash bound's constraint names its parent's oid, so it may be asked of any row.
            where = found or "false"
        connection.execute(
            composed.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM moved WHERE {}").format(
                target, columns, columns, composed.SQL(where)
            )
        )
        connection.execute("DROP TABLE moved")

    def _fill(self, step: s.Fill) -> int:
        """Runs the query in the first group: tests fill from tables that are whole there."""
        rows: list[bytes] = []
        with (
            self.connections[self.groups[0]]
            .cursor()
            .copy(composed.SQL("COPY ({}) TO STDOUT").format(composed.SQL(step.query))) as out
        ):
            rows = [bytes(block) for block in out]
        columns = composed.SQL(", ").join(map(composed.Identifier, step.columns))
        for group in step.groups:
            query = composed.SQL("COPY {} ({}) FROM STDIN").format(composed.Identifier(*step.target), columns)
            with self.connections[group].cursor().copy(query) as into:
                for block in rows:
                    into.write(block)
        return len(b"".join(rows).splitlines())


@contextmanager
def places(dsn: str, groups: tuple[str, ...] = ("g1", "g2")) -> Iterator[Places]:
    made = Places(dsn, groups)
    try:
        yield made
    finally:
        made.close()
