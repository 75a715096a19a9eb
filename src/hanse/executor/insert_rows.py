"""The rows of one INSERT … VALUES while it runs: their values, their groups, their text.

`Insert` has the rows where the plan says; `LongInsert` has them cut out already (`planner.longinsert`), so many that others must
be let run between them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pglast.parser import scan

from ..catalog.keys import Canonical, NotEvaluable, from_text
from ..catalog.model import Relation
from ..catalog.routing import NO_SHARD, ShardArray, ShardRouter, router_for
from ..core.errors import PgError, not_supported
from ..core.ids import quote_identifier, quote_literal
from ..core.limits import RESULT_COLUMNS_MAX
from ..pgwire import frontend
from ..planner.longinsert import Doubtful, LongRows
from ..planner.plan import (
    Arithmetic,
    Asked,
    Cast,
    Constant,
    FromSequence,
    InsertRows,
    Literal,
    Param,
    RowSpan,
    Value,
)
from ..planner.values import NO_PARAMETERS, Parameters, evaluate
from .environment import Environment
from .insert_copy import copy_data, copy_texts
from .insert_inline import constants, inline_texts
from .insert_keys import Keys, keys_of_rows
from .request import Copy, Request
from .row_texts import row_texts

ROWS_PER_TURN = 2_000  # of a long list, between two turns of other sessions
TYPE_NAMES = {20: "int8", 21: "int2", 23: "int4", 25: "text", 1043: "varchar", 1082: "date", 1114: "timestamp",
              1184: "timestamptz", 2950: "uuid", 16: "bool"}  # fmt: skip
_PARAMETER = re.compile(rb"\$([0-9]+)")
_STRING_OR_PARAMETER = re.compile(rb"'[^']*'|\$([0-9]+)")


@dataclass(slots=True)
class Insert:
    """One execution: the split text, and what was computed for it."""

    plan: InsertRows
    relation: Relation
    parts: list[bytes]
    request: Request
    added: list[list[tuple[str, Canonical]]] = field(default_factory=list)  # column → row → (SQL, key's value)
    replaced: list[tuple[str, Canonical]] = field(default_factory=list)
    literals: list[bytes] = field(init=False)
    constants: list[bytes] | None = None  # the parameters, where they can be written as such; empty: they cannot
    keys: Keys | None = None  # of a long list of integers

    def __post_init__(self) -> None:
        self.literals = self.parts[1::2]

    @property
    def count(self) -> int:
        return len(self.plan.rows)

    # --- values ------------------------------------------------------------------------------------------------

    async def compute(self, environment: Environment) -> None:
        plan = self.plan
        for name, value in plan.added:
            self.added.append(await self._values(environment, name, value, self.count))
        for each in plan.replaced:
            self.replaced += await self._values(environment, each.column, each.value, 1)

    async def _values(
        self, environment: Environment, name: str, value: Value, count: int
    ) -> list[tuple[str, Canonical]]:
        column = self.relation.column_by_name[name]
        if isinstance(value, FromSequence):
            drawn = await environment.sequence_values(value.sequence, count)
            return [(str(number), number) for number in drawn]
        found = await ask(environment, _sql_of(value), column.type_oid, count)
        return [(literal(text, column.type_name), self._canonical(name, column.type_oid, text)) for text in found]

    def _canonical(self, name: str, type_oid: int, text: str | None) -> Canonical:
        if text is None or name not in self.relation.key:
            return None
        return from_text(type_oid, text.encode())

    # --- routing -----------------------------------------------------------------------------------------------

    async def by_group(self, environment: Environment) -> dict[str, list[int]]:
        """Group → numbers of its rows, in the order of the text."""
        router = router_for(self.relation)
        parameters = self.request.parameters or NO_PARAMETERS
        self.keys = keys_of_rows(self.plan, self.relation, self.literals, parameters)
        if self.keys is not None:
            return _by_group(self.relation, router, router.shards_of_columns([self.keys]))
        found_one_by_one: dict[str, list[int]] = {}
        for number, key in enumerate(await self._keys(environment)):
            shard = router.shard_of(key)
            if shard is None:
                raise no_partition(self.relation)
            found_one_by_one.setdefault(router.group_of(shard), []).append(number)
        return found_one_by_one

    async def _keys(self, environment: Environment) -> list[tuple[Canonical, ...]]:
        literals, parameters = self.literals, self.request.parameters or NO_PARAMETERS
        computed = self._computed() if self.added or self.replaced else {}
        keys: list[list[Canonical]] = []
        doubtful: list[Doubtful] = []
        for number, equal in enumerate(self.plan.keys):
            key: list[Canonical] = []
            for position, value in enumerate(equal.values):
                try:
                    known = computed.get((number, id(value)), _UNKNOWN)
                    type_oid = self.relation.key_types[position]
                    key.append(evaluate(value, type_oid, literals, parameters) if known is _UNKNOWN else known)
                except NotEvaluable:
                    doubtful.append((number, position, value, self.literals))
                    key.append(None)
            keys.append(key)
        await self._ask_doubtful(environment, keys, doubtful)
        return [tuple(key) for key in keys]

    def _computed(self) -> dict[tuple[int, int], Any]:
        """(row, identity of the plan's value) → what it was computed to be."""
        found: dict[tuple[int, int], Any] = {}
        for column, (_, value) in zip(self.added, self.plan.added, strict=True):
            for number, (_, canonical) in enumerate(column):
                found[(number, id(value))] = canonical
        for (_, canonical), each in zip(self.replaced, self.plan.replaced, strict=True):
            found[(each.row, id(each.value))] = canonical
        return found

    async def _ask_doubtful(
        self, environment: Environment, keys: list[list[Canonical]], doubtful: list[Doubtful]
    ) -> None:
        if not doubtful:
            return
        calls = []
        for _, position, value, literals in doubtful:
            column = self.relation.column_by_name[self.relation.key[position]]
            sql = f"(({value_sql(value, literals, self.request.parameters)})::{column.type_name})"
            calls.append(in_iso(sql, column.type_oid))
        texts: list[str | None] = []
        for start in range(0, len(calls), RESULT_COLUMNS_MAX):
            texts += (await environment.evaluate(f"SELECT {', '.join(calls[start : start + RESULT_COLUMNS_MAX])}"))[0]
        for (number, position, _, _), text in zip(doubtful, texts, strict=True):
            type_oid = self.relation.key_types[position]
            keys[number][position] = None if text is None else from_text(type_oid, text.encode())

    # --- text --------------------------------------------------------------------------------------------------

    async def sql(self, rows: Sequence[int]) -> bytes:
        """The statement of a group that gets these rows."""
        return self._head() + await self._joined(rows) + self._tail()

    def inlined(self, rows: Sequence[int]) -> bytes | None:
        """The same with the parameters' values in it, without rows for an answer; None: they must be sent as they are."""
        texts = inline_texts(self.plan, self.relation, self.parts)
        if texts is None:
            return None
        if self.constants is None:
            self.constants = constants(self.request.parameters or NO_PARAMETERS) or []
        if len(self.constants) < texts.parameters:
            return None
        return self._head() + texts.joined(self.literals, self.constants, rows) + self._tail()

    def copies(self, shares: Sequence[Sequence[int]]) -> list[Copy] | None:
        """Each share of the rows as a COPY; None: they must be inserted."""
        if self.keys is None or self.request.plainly:
            return None
        texts = copy_texts(self.plan, self.relation, self.parts)
        if texts is None:
            return None
        lines = texts.lines(self.literals, self.request.parameters or NO_PARAMETERS, self.keys)
        return None if lines is None else [Copy(texts.sql, copy_data(lines, rows)) for rows in shares]

    def message(self, sql: bytes) -> list[bytes]:
        """What is sent to run it."""
        if self.request.parameters is None:
            return self.request.message(sql)
        return _with_parameters(sql, self.request)

    async def _joined(self, rows: Sequence[int]) -> bytes:
        texts = row_texts(self.plan, self.parts)
        return (
            b", ".join([self._row(number) for number in rows]) if texts is None else texts.joined(self.literals, rows)
        )

    def _head(self) -> bytes:
        first = self.plan.rows[0]
        parts = self.parts[: 2 * first.first_segment + 1]
        parts[-1] = parts[-1][: first.start]
        edits: list[tuple[tuple[int, int], bytes]] = []
        if self.plan.override:
            edits.append((self.plan.values_start, b" OVERRIDING SYSTEM VALUE "))
        if self.plan.added and self.plan.columns_end is not None:
            edits.append((self.plan.columns_end, self._added_columns()))
        for (segment, place), text in sorted(edits, reverse=True):
            part = parts[2 * segment]
            parts[2 * segment] = part[:place] + text + part[place:]
        return b"".join(parts)

    def _added_columns(self) -> bytes:
        names = [name for name, _ in self.plan.added]
        if self.plan.columns_missing:
            listed = ", ".join(quote_identifier(name) for name in (*self.plan.column_names, *names))
            return f" ({listed}) ".encode()
        return "".join(f", {quote_identifier(name)}" for name in names).encode()

    def _tail(self) -> bytes:
        last = self.plan.rows[-1]
        parts = self.parts[2 * last.last_segment :]
        return parts[0][last.end :] + b"".join(parts[1:])

    def _row(self, number: int) -> bytes:
        span = self.plan.rows[number]
        if self.replaced:
            text = self._row_with_replacements(number, span)
        else:
            text = cut_out(self.parts, span)
        return self._with_added(number, text)

    def _with_added(self, number: int, text: bytes) -> bytes:
        if not self.added:
            return text
        values = ", ".join(column[number][0] for column in self.added).encode()
        return text[:-1] + b", " + values + b")"

    def _row_with_replacements(self, number: int, span: RowSpan) -> bytes:
        pieces: list[bytes] = []
        segment, place = span.first_segment, span.start
        for i, each in enumerate(self.plan.replaced):
            if each.row == number:
                gone = each.span
                before = RowSpan(first_segment=segment, start=place, last_segment=gone.first_segment, end=gone.start)
                pieces += (cut_out(self.parts, before), self.replaced[i][0].encode())
                segment, place = gone.last_segment, gone.end
        rest = RowSpan(first_segment=segment, start=place, last_segment=span.last_segment, end=span.end)
        return b"".join((*pieces, cut_out(self.parts, rest)))


class LongInsert(Insert):
    """The plan and its text have two rows, for the head and the tail; the real ones are `long`."""

    __slots__ = ("long",)

    def __init__(self, plan: InsertRows, relation: Relation, parts: list[bytes], request: Request, long: LongRows):
        super().__init__(plan, relation, parts, request)
        self.long = long

    @property
    def count(self) -> int:
        return len(self.long.spans)

    def inlined(self, rows: Sequence[int]) -> None:
        return None  # its parameters are few, and the plan's rows are not its own

    async def by_group(self, environment: Environment) -> dict[str, list[int]]:
        keys = self.long.keys
        await self._fill_added(keys)
        await self._ask_doubtful(environment, keys, self.long.doubtful)
        router = router_for(self.relation)
        chosen: list[ShardArray] = []
        for first in range(0, len(keys), ROWS_PER_TURN):
            columns = list(zip(*keys[first : first + ROWS_PER_TURN], strict=True))
            chosen.append(router.shards_of_columns([_as_array(column) for column in columns]))
            await asyncio.sleep(0)
        return _by_group(self.relation, router, np.concatenate(chosen))

    async def _fill_added(self, keys: list[list[Canonical]]) -> None:
        for column, (name, _) in zip(self.added, self.plan.added, strict=True):
            if name not in self.relation.key:
                continue
            position = self.relation.key.index(name)
            for first in range(0, len(keys), ROWS_PER_TURN):
                for number in range(first, min(first + ROWS_PER_TURN, len(keys))):
                    keys[number][position] = column[number][1]
                await asyncio.sleep(0)

    async def _joined(self, rows: Sequence[int]) -> bytes:
        text, spans = self.long.text, self.long.spans
        joined: list[bytes] = []
        for first in range(0, len(rows), ROWS_PER_TURN):
            some = rows[first : first + ROWS_PER_TURN]
            joined.append(
                b", ".join([self._with_added(number, text[spans[number][0] : spans[number][1]]) for number in some])
            )
            await asyncio.sleep(0)
        return b", ".join(joined)


def _as_array(column: Sequence[Canonical]) -> Any:
    """Integers as an array, if they are nothing else: they are hashed all at once."""
    integers = all(type(value) is int for value in column)
    return np.array(column, dtype=np.int64) if integers else column


def _by_group(relation: Relation, router: ShardRouter, chosen: ShardArray) -> dict[str, list[int]]:
    if int(chosen.min()) == NO_SHARD:
        raise no_partition(relation)
    numbers = router.group_numbers[chosen]
    rows = ((name, np.flatnonzero(numbers == i).tolist()) for i, name in enumerate(router.group_names))
    return {name: found for name, found in rows if found}


_UNKNOWN = object()


def value_sql(value: Value, literals: Sequence[bytes], parameters: Parameters | None) -> str:
    """A plan's value as SQL, for PostgreSQL to evaluate. Raises 0A000 for what cannot be written."""
    if isinstance(value, Literal):
        return literals[value.index].decode()
    if isinstance(value, Param) and parameters is not None and not parameters.format_of(value.index):
        data = parameters.values[value.index]
        return "NULL" if data is None else quote_literal(data.decode())
    if isinstance(value, Param) and value.index >= len((parameters or NO_PARAMETERS).values):
        raise PgError("42P02", f"there is no parameter ${value.index + 1}")
    if isinstance(value, Cast):
        return f"({value_sql(value.operand, literals, parameters)})::{TYPE_NAMES[value.type_oid]}"
    if isinstance(value, Arithmetic):
        left, right = (value_sql(side, literals, parameters) for side in (value.left, value.right))
        return f"({left}) {value.operator} ({right})"
    if isinstance(value, Constant) and not isinstance(value.value, bytes):
        return "NULL" if value.value is None else str(value.value)
    raise not_supported("the partition key of a row is given in a form that cannot be routed by")


def cut_out(parts: Sequence[bytes], span: RowSpan) -> bytes:
    """The text between two places of a split text."""
    first, last = 2 * span.first_segment, 2 * span.last_segment
    if first == last:
        return parts[first][span.start : span.end]
    return b"".join((parts[first][span.start :], *parts[first + 1 : last], parts[last][: span.end]))


def no_partition(relation: Relation) -> PgError:
    return PgError(
        "23514",
        f'no partition of relation "{relation.name}" found for row',
        fields={"s": relation.schema, "t": relation.name},
    )


def literal(text: str | None, type_name: str) -> str:
    return f"NULL::{type_name}" if text is None else f"{quote_literal(text).strip()}::{type_name}"


def _sql_of(value: Value) -> str:
    if isinstance(value, Asked):
        return value.sql
    assert isinstance(value, Cast) and isinstance(value.operand, Asked)
    return value.operand.sql


# JSON's text of a date is ISO 8601 under any setting, has its offset, and knows infinity and BC (to_char does not).
_IN_JSON = "(pg_catalog.to_json({0}) OPERATOR(pg_catalog.#>>) '{{}}')"
_ISO = dict.fromkeys((1082, 1114, 1184), _IN_JSON)


def in_iso(sql: str, type_oid: int) -> str:
    """The expression as text that any DateStyle and TimeZone reads alike."""
    return _ISO.get(type_oid, "({0})::pg_catalog.text").format(sql)


async def ask(environment: Environment, sql: str, type_oid: int, count: int) -> list[str | None]:
    """An expression evaluated `count` times by PostgreSQL, in text that means the same under any setting."""
    rows = await environment.evaluate(f"SELECT {in_iso(sql, type_oid)} FROM pg_catalog.generate_series(1, {count})")
    return [row[0] for row in rows]


def _renumbered_slowly(sql: bytes, renumber: Callable[[re.Match[bytes]], bytes]) -> bytes:
    """For texts with comments, E'' strings and the like: PostgreSQL's own lexer finds the parameters."""
    text = sql.decode()
    pieces: list[bytes] = []
    done = 0
    for token in scan(text):
        if token.name == "PARAM":
            found = _PARAMETER.match(text[token.start : token.end + 1].encode())
            assert found is not None
            pieces += (text[done : token.start].encode(), renumber(found))
            done = token.end + 1
    return b"".join((*pieces, text[done:].encode()))


def _with_parameters(sql: bytes, request: Request) -> list[bytes]:
    """Only the parameters that the text still mentions, numbered anew; their bytes pass as they came."""
    parameters = request.parameters
    assert parameters is not None
    order: dict[int, int] = {}

    def renumber(match: re.Match[bytes]) -> bytes:
        return b"$%d" % (order.setdefault(int(match.group(1)) - 1, len(order)) + 1)

    if len(request.parts) > 1:  # a plain text: nothing but strings can hide a `$n`
        text = _STRING_OR_PARAMETER.sub(lambda found: renumber(found) if found.group(1) else found.group(), sql)
    else:
        text = _PARAMETER.sub(renumber, sql) if b"'" not in sql else _renumbered_slowly(sql, renumber)
    used = list(order)
    types = [request.parameter_types[index] if index < len(request.parameter_types) else 0 for index in used]
    return [
        frontend.parse(b"", text, types),
        *frontend.bind_pieces(
            b"",
            b"",
            [parameters.values[index] for index in used],
            parameter_formats=[parameters.format_of(index) for index in used],
            result_formats=request.result_formats,
        ),
        frontend.describe_portal(b"") + frontend.execute(),
        frontend.sync(),
    ]
