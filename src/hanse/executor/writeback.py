"""`WriteBack`: a write over several groups whose new rows a query computes first.

    INSERT INTO t SELECT …            the query's rows are inserted, each into its group
    UPDATE t SET … FROM u WHERE …     the query gives keys and new values; each group updates its rows by key
    DELETE FROM t USING u WHERE …     the query gives keys; each group deletes them
    MERGE INTO t USING u …            the query says what to do with each row; then as above

The query runs like any other (scatter, workspace …), in the same transaction; its result is kept in a buffer (memory, then
disk) and written in batches as VALUES lists of constants in the types that the query gave them, so that the writing
statement converts or refuses them as the client's own would have. A row whose partition key changes to one of another
group is deleted where it was and inserted where it belongs; one that stays is updated, and PostgreSQL may move it between
partitions of the group.

The values travel as text in the session's settings: a session that has lowered `extra_float_digits` loses the digits that
it asked to lose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..catalog.keys import BPCHAR, INTEGER_TYPES, TEXT, VARCHAR, Canonical, NotEvaluable, from_text
from ..catalog.model import Column, Kind, Relation
from ..catalog.routing import router_for
from ..core.errors import PgError
from ..core.ids import quote_identifier, quote_qualified
from ..core.limits import INSERT_ROWS_PER_STATEMENT_MAX
from ..engines.postgres.backend import split_messages
from ..pgwire import backend as server_messages
from ..planner.plan import Asked, Cast, FromSequence, MergeAction, Planned, Value, WriteBack
from .buffer import ResultBuffer
from .constants import Texts, Typed, assignments, constant, row_texts, values_list
from .environment import Environment
from .insert_rows import ask, in_iso, no_partition
from .inserting import with_shards
from .request import Discard, Places, Request, Rows, Sink, pump
from .scatter import add_tags


async def run(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, WriteBack)
    relation = await with_shards(environment, plan.relation, request)
    await places.begin(request.snapshot.group_names)
    buffer = ResultBuffer()
    try:
        await environment.run_inner(plan.query_sql.encode(), buffer)
        fields = server_messages.parse_row_description(buffer.description) if buffer.description else ()
        oids = tuple(found.type_oid for found in fields)
        types = tuple(zip(oids, await environment.type_names(oids), strict=True))
        write = _Write(environment, plan, relation, request, places, sink)
        if plan.verb == "merge":
            return await _merge(write, buffer, types)
        for rows in _batches(buffer):
            await write.batch(write.first_of_each(rows), types)
        await write.describe_nothing(types)
        return write.shown_tag()
    finally:
        buffer.close()


def _batches(buffer: ResultBuffer) -> Iterator[list[Texts]]:
    for first in range(0, len(buffer), INSERT_ROWS_PER_STATEMENT_MAX):
        yield [row_texts(message) for message in split_messages(buffer.read(first, INSERT_ROWS_PER_STATEMENT_MAX))]


# --- MERGE -------------------------------------------------------------------------------------------------------

_ORDER = ("delete", "update", "insert")


async def _merge(write: _Write, buffer: ResultBuffer, types: Typed) -> bytes:
    plan = write.plan
    _refuse_twice(plan, buffer)
    actions = sorted(enumerate(plan.actions, start=1), key=lambda each: _ORDER.index(each[1].verb))
    for number, action in actions:
        part = replace(write, plan=_plan_of(plan, action), described=True, sink=Discard())
        chosen = _columns_of(plan, action)
        for batch in _batches(buffer):
            rows = [[row[at] for at in chosen] for row in batch if row[0] == str(number)]
            if rows:
                await part.batch(rows, tuple(types[at] for at in chosen))
    return b"MERGE %d" % len(buffer)


def _refuse_twice(plan: WriteBack, buffer: ResultBuffer) -> None:
    """PostgreSQL's rule for rows that are updated or deleted."""
    inserting = {str(number) for number, action in enumerate(plan.actions, start=1) if action.verb == "insert"}
    seen: set[tuple[str | None, ...]] = set()
    for batch in _batches(buffer):
        for row in batch:
            if row[0] in inserting:
                continue
            identity = tuple(row[1 : 1 + len(plan.identity)])
            if identity in seen:
                raise PgError(
                    "21000",
                    "MERGE command cannot affect row a second time",
                    hint="Ensure that not more than one source row matches any one target row.",
                )
            seen.add(identity)


def _plan_of(plan: WriteBack, action: MergeAction) -> WriteBack:
    return replace(
        plan,
        verb=action.verb,
        columns=action.columns,
        identity=() if action.verb == "insert" else plan.identity,
        added=action.added,
        override=action.override,
        actions=(),
    )


def _columns_of(plan: WriteBack, action: MergeAction) -> list[int]:
    """The query's columns that the action needs."""
    keys = [] if action.verb == "insert" else list(range(1, 1 + len(plan.identity)))
    return [*keys, *range(action.first, action.first + len(action.columns))]


# --- one target --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Write:
    environment: Environment
    plan: WriteBack
    relation: Relation
    request: Request
    places: Places
    sink: Sink
    tag: bytes = b""
    described: bool = False
    seen: set[tuple[str | None, ...]] = field(default_factory=set)

    def first_of_each(self, rows: list[Texts]) -> list[Texts]:
        """UPDATE and DELETE: a row that matches several others comes several times, and is changed once."""
        if self.plan.verb == "insert":
            return rows
        found: list[Texts] = []
        for row in rows:
            identity = tuple(row[: len(self.plan.identity)])
            if identity not in self.seen:
                self.seen.add(identity)
                found.append(row)
        return found

    async def batch(self, rows: list[Texts], types: Typed) -> None:
        if not rows:
            return
        if self.plan.verb == "insert":
            await self._insert(rows, types)
        else:
            await self._change(rows, await self._add(rows, types))

    async def describe_nothing(self, types: Typed) -> None:
        """Without a row there must be a tag all the same, and with RETURNING the columns, which a server must tell."""
        plan = self.plan
        if not self.described and "returning" in plan.tail_sql.lower():
            if plan.verb == "insert":
                names = ", ".join(quote_identifier(name) for name in plan.columns)
                nulls = ", ".join(constant(None, name) for _, name in types)
                sql = f"INSERT INTO {self._target()} ({names}) SELECT {nulls} WHERE false {plan.tail_sql}"
            else:  # no row has a key that is NULL
                types = (*types, *(_own_type(self.relation.column_by_name[name]) for name, _ in plan.added))
                sql = self.statement([[None] * len(types)], types)
            await self._run(self._first_group(), sql, self.sink)
        if not self.tag:
            self.tag = b"INSERT 0 0" if plan.verb == "insert" else f"{plan.verb.upper()} 0".encode()

    def shown_tag(self) -> bytes:
        if not self.plan.tag:
            return self.tag
        return self.plan.tag.encode() + b" " + self.tag.rpartition(b" ")[2]

    def _target(self) -> str:
        alias = f" AS {quote_identifier(self.plan.alias)}" if self.plan.alias else ""
        return quote_qualified(*(self.plan.through or self.plan.relation)) + alias

    def _shown(self) -> str:
        """By which name the writing statement calls its target."""
        return quote_identifier(self.plan.alias or (self.plan.through or self.plan.relation)[1])

    def _first_group(self) -> str:
        return self._groups_of_copies()[0] if self.relation.kind is not Kind.SHARDED else self.relation.groups[0]

    def _groups_of_copies(self) -> tuple[str, ...]:
        if self.relation.kind is Kind.REFERENCE:
            return self.request.snapshot.group_names
        return (self.relation.group or self.request.snapshot.home_group,)

    # --- INSERT ------------------------------------------------------------------------------------------------

    async def _insert(self, rows: list[Texts], types: Typed) -> None:
        names = [*self.plan.columns, *(name for name, _ in self.plan.added)]
        await self.insert_rows(rows, names, await self._add(rows, types))

    async def _add(self, rows: list[Texts], types: Typed) -> Typed:
        """Puts the added columns at the end of each row."""
        for name, value in self.plan.added:
            drawn = await self._drawn(name, value, len(rows))
            types = (*types, _own_type(self.relation.column_by_name[name]))
            for row, text in zip(rows, drawn, strict=True):
                row.append(text)
        return types

    async def _drawn(self, name: str, value: Value, count: int) -> Sequence[str | None]:
        if isinstance(value, FromSequence):
            return [str(number) for number in await self.environment.sequence_values(value.sequence, count)]
        sql = value.sql if isinstance(value, Asked) else ""
        if isinstance(value, Cast) and isinstance(value.operand, Asked):
            sql = value.operand.sql
        return await ask(self.environment, sql, self.relation.column_by_name[name].type_oid, count)

    async def insert_rows(self, rows: list[Texts], names: Sequence[str], types: Typed) -> None:
        listed = ", ".join(quote_identifier(name) for name in names)
        override = " OVERRIDING SYSTEM VALUE" if self.plan.override else ""
        head = f"INSERT INTO {self._target()} ({listed}){override} VALUES "
        for group, numbers in (await self._by_group(rows, names, types)).items():
            if names:
                values = ", ".join(assignments(rows[number], types) for number in numbers)
                await self._send(group, f"{head}{values} {self.plan.tail_sql}", self.sink)
            else:
                for _ in numbers:
                    await self._send(
                        group, f"INSERT INTO {self._target()} DEFAULT VALUES {self.plan.tail_sql}", self.sink
                    )

    async def _by_group(self, rows: list[Texts], names: Sequence[str], types: Typed) -> dict[str, list[int]]:
        if self.relation.kind is not Kind.SHARDED:
            return {group: list(range(len(rows))) for group in self._groups_of_copies()}
        places = {name: at for at, name in enumerate(names)}
        keys = [places.get(name) for name in self.relation.key]
        return self._sorted(await self._homes(rows, keys, types))

    def _sorted(self, homes: Sequence[str]) -> dict[str, list[int]]:
        """Group → numbers of its rows; groups in canonical order."""
        found: dict[str, list[int]] = {}
        for number, group in enumerate(homes):
            found.setdefault(group, []).append(number)
        return {group: found[group] for group in self.request.snapshot.group_names if group in found}

    # --- routing -----------------------------------------------------------------------------------------------

    async def _homes(self, rows: list[Texts], places: Sequence[int | None], types: Typed) -> list[str]:
        """The group of each row. `places`: where in the row each column of the partition key is; None: it is NULL."""
        router = router_for(self.relation)
        homes: list[str] = []
        for key in await self._keys(rows, places, types):
            shard = router.shard_of(key)
            if shard is None:
                raise no_partition(self.relation)
            homes.append(self.relation.shards[shard].group)
        return homes

    async def _keys(self, rows: list[Texts], places: Sequence[int | None], types: Typed) -> list[tuple[Canonical, ...]]:
        columns = [self.relation.column_by_name[name] for name in self.relation.key]
        keys: list[list[Canonical]] = [[None] * len(columns) for _ in rows]
        for position, (place, column) in enumerate(zip(places, columns, strict=True)):
            if place is None:
                continue
            doubtful: list[int] = []
            for number, row in enumerate(rows):
                try:
                    keys[number][position] = _key_value(row[place], types[place][0], column)
                except NotEvaluable:
                    doubtful.append(number)
            asked = await self._ask([rows[number][place] for number in doubtful], types[place], column)
            for number, value in zip(doubtful, asked, strict=True):
                keys[number][position] = value
        return [tuple(key) for key in keys]

    async def _ask(self, texts: list[str | None], kind: tuple[int, str], column: Column) -> list[Canonical]:
        """What PostgreSQL makes of these values when it assigns them to the key."""
        if not texts:
            return []
        listed = ", ".join(f"({constant(text, kind[1])})" for text in texts)
        call = in_iso(f"(v)::{column.type_name}", column.type_oid)
        found = await self.environment.evaluate(f"SELECT {call} FROM (VALUES {listed}) AS hanse_values(v)")
        return [None if text is None else from_text(column.type_oid, text.encode()) for (text,) in found]

    # --- UPDATE, DELETE ----------------------------------------------------------------------------------------

    async def _change(self, rows: list[Texts], types: Typed) -> None:
        """Rows are found by their unique key. One that holds the partition key tells the row's group."""
        if self.relation.kind is not Kind.SHARDED:
            await self._change_copies(rows, types)
            return
        identity = list(self.plan.identity)
        olds = await self._homes(rows, [identity.index(name) for name in self.relation.key], types)
        moving: list[int] = []
        if set(self.plan.columns) & set(self.relation.key):
            news = await self._homes(rows, self._new_key_places(), types)
            moving = [number for number in range(len(rows)) if olds[number] != news[number]]
        going = set(moving)
        tags: list[bytes] = []
        for group, numbers in self._sorted(olds).items():
            staying = [rows[number] for number in numbers if number not in going]
            if staying:
                tags.append(await self._run(group, self.statement(staying, types), self.sink))
        self._count(tags)
        if moving:
            await self._move([rows[number] for number in moving], [olds[number] for number in moving], types)

    async def _change_copies(self, rows: list[Texts], types: Typed) -> None:
        statement = self.statement(rows, types)
        for number, group in enumerate(self._groups_of_copies()):
            tag = await self._run(group, statement, Discard() if number else self.sink)
            if not number:
                self._count([tag])

    def _new_key_places(self) -> list[int]:
        """Where in the query's rows the new partition key is."""
        columns, identity = list(self.plan.columns), list(self.plan.identity)
        return [
            len(identity) + columns.index(name) if name in columns else identity.index(name)
            for name in self.relation.key
        ]

    def statement(self, rows: Sequence[Texts], types: Typed) -> str:
        plan = self.plan
        source, names = values_list(rows, types)
        same = " AND ".join(
            f"{self._shown()}.{quote_identifier(name)} = {number}"
            for name, number in zip(plan.identity, names, strict=False)
        )
        if plan.verb == "delete":
            return f"DELETE FROM {self._target()} USING {source} WHERE {same} {plan.tail_sql}"
        pairs = [*zip(plan.columns, names[len(plan.identity) :], strict=False)]
        pairs += zip((name for name, _ in plan.added), names[len(names) - len(plan.added) :], strict=True)
        sets = ", ".join(f"{quote_identifier(name)} = {number}" for name, number in pairs)
        return f"UPDATE {self._target()} SET {sets} FROM {source} WHERE {same} {plan.tail_sql}"

    async def _move(self, rows: list[Texts], olds: Sequence[str], types: Typed) -> None:
        """The partition key changes to one of another group: take the rows out, change them here, put them there."""
        columns = [column for column in self.relation.columns if not column.generated]
        new: list[Texts] = []
        for group, numbers in self._sorted(olds).items():
            for number, values in await self._take(group, numbers, rows, types, columns):
                changed = rows[number][len(self.plan.identity) :]
                values.update(zip(self._changed_columns(), changed, strict=True))
                new.append([values[column.name] for column in columns])
        offset = len(self.plan.identity)
        kinds = {name: types[offset + at] for at, name in enumerate(self._changed_columns())}
        plan = WriteBack(
            verb="insert",
            relation=self.plan.relation,
            query_sql="",
            columns=(),
            tail_sql=self.plan.tail_sql,
            override=True,
            alias=self.plan.alias,
        )
        names = [column.name for column in columns]
        inserting = replace(self, plan=plan, tag=b"")
        if new:
            await inserting.insert_rows(new, names, tuple(kinds.get(c.name) or _own_type(c) for c in columns))
            self.described |= inserting.described
        self._count([b"UPDATE %d" % len(new)])

    def _changed_columns(self) -> tuple[str, ...]:
        """Where nothing is carried, as in a move: in the order of the rows."""
        return (*self.plan.columns, *(name for name, _ in self.plan.added))

    async def _take(
        self, group: str, numbers: Sequence[int], rows: list[Texts], types: Typed, columns: Sequence[Column]
    ) -> list[tuple[int, dict[str, str | None]]]:
        """Deletes rows in a group; gives each with its number."""
        width = len(self.plan.identity)
        keyed = [[str(number), *rows[number][:width]] for number in numbers]
        source, names = values_list(keyed, ((23, "integer"), *types[:width]))
        same = " AND ".join(
            f"{self._shown()}.{quote_identifier(name)} = {place}"
            for name, place in zip(self.plan.identity, names[1:], strict=True)
        )
        listed = ", ".join(f"{self._shown()}.{quote_identifier(column.name)}" for column in columns)
        taken = Rows()
        text = f"DELETE FROM {self._target()} USING {source} WHERE {same} RETURNING {names[0]}, {listed}"
        backend = await self.places.backend(group)
        backend.write_pieces(Request(text=text.encode(), snapshot=self.request.snapshot).message())
        await pump(backend, taken)
        found: list[tuple[int, dict[str, str | None]]] = []
        for chunk in taken.chunks:
            for message in split_messages(chunk):
                number, *values = row_texts(message)
                found.append((int(number or 0), dict(zip((c.name for c in columns), values, strict=True))))
        return found

    # --- sending -----------------------------------------------------------------------------------------------

    async def _send(self, group: str, sql: str, sink: Sink) -> None:
        copies = self.relation.kind is Kind.REFERENCE and group != self._first_group()
        tag = await self._run(group, sql, Discard() if copies else sink)
        if not copies:
            self._count([tag])

    async def _run(self, group: str, sql: str, sink: Sink) -> bytes:
        backend = await self.places.backend(group)
        request = Request(
            text=sql.encode(),
            snapshot=self.request.snapshot,
            result_formats=self.request.result_formats,
            extended=self.request.extended,
        )
        backend.write_pieces(request.message())
        return await pump(backend, _DescribedOnce(self, sink))

    def _count(self, tags: Sequence[bytes]) -> None:
        if tags:
            self.tag = add_tags([*([self.tag] if self.tag else []), *tags])


def _own_type(column: Column) -> tuple[int, str]:
    return column.type_oid, column.type_name


def _key_value(text: str | None, type_oid: int, column: Column) -> Canonical:
    """The value as it will be in the key column. Raises NotEvaluable where only PostgreSQL can convert it."""
    if text is None:
        return None
    alike = any(type_oid in family and column.type_oid in family for family in (INTEGER_TYPES, (TEXT, VARCHAR)))
    rounded = "(" in column.type_name and column.type_oid not in (BPCHAR, VARCHAR)  # a length makes these fit, or fail
    if rounded or not (alike or type_oid == column.type_oid):
        raise NotEvaluable(text)
    return from_text(column.type_oid, text.encode())


class _DescribedOnce:
    """Several statements, one result: its description is given once."""

    def __init__(self, write: _Write, sink: Sink) -> None:
        self.write = write
        self.sink = sink

    def describe(self, message: bytes) -> None:
        if not self.write.described:
            self.write.described = True
            self.sink.describe(message)

    async def rows(self, messages: bytes) -> None:
        await self.sink.rows(messages)

    def notice(self, message: bytes) -> None:
        self.sink.notice(message)
