# ruff: noqa: E501
"""Random SQL with one right answer: queries of every clause, and writes, over five tables of different placement.

Types are followed, so that nearly every statement is valid; keys are unique, so that every window, LIMIT and DISTINCT ON has
one answer; nothing is divided by what may be zero, so that the order of evaluation does not show. The seed is the statement.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# `/*…*/` is read by the cluster only.
SETUP = """
CREATE TABLE a (id int PRIMARY KEY, g int, t text, n numeric(8,2), d date, b bool) /*PARTITION BY HASH (id) WITH (shards = 4)*/;
CREATE TABLE p (id int, k int, v text, m bigint, PRIMARY KEY (id, k)) /*PARTITION BY HASH (id) WITH (shards = 4)*/;
CREATE TABLE w (word text PRIMARY KEY, x int, arr int[]) /*PARTITION BY HASH (word) WITH (shards = 4)*/;
CREATE TABLE r (k int PRIMARY KEY, label text) /*WITH (distribution = 'reference')*/;
CREATE TABLE s (id int PRIMARY KEY, ref int, at timestamp) /*TABLESPACE g2*/;
INSERT INTO a SELECT i, nullif(i % 7, 3), nullif('t' || i % 11, 't4'), i * 1.25, date '2026-01-01' + i % 20, i % 3 = 0
    FROM generate_series(1, 40) i;
INSERT INTO p SELECT i % 25 + 1, i, nullif('v' || i % 9, 'v2'), i * 10000000000 FROM generate_series(1, 60) i;
INSERT INTO w SELECT 't' || i, nullif(i % 8, 5), CASE WHEN i % 4 > 0 THEN ARRAY[i, i % 4, NULL] END FROM generate_series(1, 20) i;
INSERT INTO r SELECT i, nullif('v' || i, 'v5') FROM generate_series(0, 8) i;
INSERT INTO s SELECT i, nullif(i % 30, 7), timestamp '2026-01-01' + i * interval '1 hour' FROM generate_series(1, 25) i
"""
TABLES: dict[str, dict[str, str]] = {
    "a": {"id": "int", "g": "int", "t": "text", "n": "numeric", "d": "date", "b": "bool"},
    "p": {"id": "int", "k": "int", "v": "text", "m": "bigint"},
    "w": {"word": "text", "x": "int", "arr": "int[]"},
    "r": {"k": "int", "label": "text"},
    "s": {"id": "int", "ref": "int", "at": "timestamp"},
}
KEYS = {"a": ("id",), "p": ("id", "k"), "w": ("word",), "r": ("k",), "s": ("id",)}
TYPES = ("int", "text", "numeric", "date", "bool", "bigint")


@dataclass(frozen=True)
class Source:
    """What can be named in a FROM list: its columns with their types, and those that together are unique (() if none)."""

    name: str
    columns: dict[str, str]
    unique: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    sql: str
    types: tuple[str, ...]
    ordered: bool
    writes: tuple[str, ...] = ()  # to these tables


class Generator:
    """`values`: of its parameters, where `parameters` has it write some constants as such."""

    def __init__(self, seed: int, *, parameters: bool = False) -> None:
        self.random = random.Random(seed)
        self.values: list[str] = []
        self._parameters = parameters
        self._names = 0
        self._ctes: list[Source] = []

    def statement(self) -> Query:
        """A query, a write with RETURNING, or both in one: WITH."""
        kind = self.random.random()
        if kind < 0.25:
            return self._write()
        return self._with_writes() if kind < 0.35 else self.query(3)

    def writes(self, count: int) -> list[Query]:
        return [self._with_writes() if self._chance(0.3) else self._write() for _ in range(count)]

    def _name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def _column(self, source: Source, kinds: Sequence[str]) -> str:
        """One of these types, if there is one."""
        return self.random.choice(
            [name for name, kind in source.columns.items() if kind in kinds] or list(source.columns)
        )

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # --- expressions -------------------------------------------------------------------------------------------

    def constant(self, kind: str) -> str:
        draw = self.random
        texts: dict[str, Callable[[], str]] = {
            "int": lambda: str(draw.randint(0, 30)),
            "bigint": lambda: f"{draw.randint(0, 30)}0000000000",
            "numeric": lambda: draw.choice(("1.5", "7.25", "20.00", "0.5")),
            "text": lambda: draw.choice(("'t1'", "'t7'", "'v3'", "''", "'it''s'", "'V'")),
            "date": lambda: f"date '2026-01-{draw.randint(1, 20):02}'",
            "timestamp": lambda: f"timestamp '2026-01-01 {draw.randint(0, 23):02}:00'",
            "bool": lambda: draw.choice(("true", "false")),
            "int[]": lambda: f"ARRAY[{draw.randint(1, 9)}, 2]",
        }
        if self._chance(0.04):
            return f"NULL::{kind}"
        text = texts[kind]()
        if not self._parameters or kind not in ("int", "numeric", "bigint") or self._chance(0.5):
            return text
        self.values.append(text)
        return f"${len(self.values)}::{kind}"

    def expression(self, kind: str, sources: Sequence[Source], depth: int = 2) -> str:
        columns = [f"{each.name}.{name}" for each in sources for name, found in each.columns.items() if found == kind]
        if columns and (depth <= 0 or self._chance(0.55)):
            return self.random.choice(columns)
        if depth <= 0:
            return self.constant(kind)
        if sources and depth > 1 and kind in ("int", "bigint") and self._chance(0.08):
            return self._scalar(kind, sources)
        return self._made(kind, sources, depth - 1)

    def _made(self, kind: str, sources: Sequence[Source], depth: int) -> str:
        def e(of: str) -> str:
            return self.expression(of, sources, depth)

        forms: dict[str, list[Callable[[], str]]] = {
            "int": [
                lambda: f"({e('int')} + {e('int')})", lambda: f"({e('int')} % 5)", lambda: f"length({e('text')})",
                lambda: f"coalesce({e('int')}, {e('int')})", lambda: f"abs({e('int')} - {e('int')})",
                lambda: f"extract(day FROM {e('date')})::int", lambda: f"({e('date')} - {e('date')})",
                lambda: f"CASE WHEN {e('bool')} THEN {e('int')} ELSE {e('int')} END", lambda: f"greatest({e('int')}, {e('int')})",
                lambda: f"({e('int[]')})[2]", lambda: f"cardinality({e('int[]')})",
            ],
            "bigint": [lambda: f"({e('int')}::bigint * 3)", lambda: f"({e('bigint')} + {e('int')})", lambda: f"nullif({e('bigint')}, 4)"],
            "numeric": [lambda: f"({e('numeric')} + {e('int')})", lambda: f"round({e('numeric')} / 4, 2)", lambda: f"{e('int')}::numeric"],
            "text": [
                lambda: f"({e('text')} || {e('text')})", lambda: f"upper({e('text')})", lambda: f"{e('int')}::text",
                lambda: f"substr({e('text')}, 1, 1)", lambda: f"coalesce({e('text')}, 'none')", lambda: f"to_char({e('date')}, 'DD')",
                lambda: f"CASE {e('int')} WHEN 1 THEN {e('text')} WHEN 2 THEN 'two' END", lambda: f"concat({e('text')}, {e('int')})",
            ],
            "date": [lambda: f"({e('date')} + {self.random.randint(1, 9)})", lambda: f"least({e('date')}, {e('date')})"],
            "timestamp": [lambda: f"({e('timestamp')} + interval '1 day')", lambda: f"{e('date')}::timestamp"],
            "bool": [lambda: self.condition(sources, depth)],
            "int[]": [lambda: f"array_append({e('int[]')}, {e('int')})", lambda: f"ARRAY[{e('int')}, {e('int')}]"],
        }  # fmt: skip
        return self.random.choice(forms[kind])()

    def _scalar(self, kind: str, sources: Sequence[Source]) -> str:
        inner = self._table()
        column = self._column(inner[1], ("int", "text"))
        match = self.expression(inner[1].columns[column], sources, 0)
        call = "max" if kind == "int" and "int" in inner[1].columns.values() else "count"
        of = next((name for name, found in inner[1].columns.items() if found == "int"), None)
        value = f"max({inner[1].name}.{of})" if call == "max" else "count(*)" + ("" if kind == "bigint" else "::int")
        return f"(SELECT {value} FROM {inner[0]} WHERE {inner[1].name}.{column} = {match})"

    def condition(self, sources: Sequence[Source], depth: int = 2) -> str:
        def e(of: str) -> str:
            return self.expression(of, sources, depth - 1)

        kind = self.random.choice(TYPES)
        forms: list[Callable[[], str]] = [
            lambda: f"{e(kind)} {self.random.choice(('=', '<>', '<', '>=', 'IS DISTINCT FROM'))} {e(kind)}",
            lambda: f"{e(kind)} IS {self.random.choice(('', 'NOT '))}NULL",
            lambda: f"{e(kind)} IN ({', '.join(self.constant(kind) for _ in range(self.random.randint(1, 4)))})",
            lambda: f"{e('int')} BETWEEN {self.random.randint(0, 9)} AND {self.random.randint(5, 30)}",
            lambda: f"{e('text')} LIKE '{self.random.choice(('t%', '%1%', 'v_'))}'",
            lambda: f"{e('int')} = ANY ({e('int[]')})",
        ]
        if depth > 0:
            forms += [
                lambda: f"({self.condition(sources, depth - 1)} AND {self.condition(sources, depth - 1)})",
                lambda: f"({self.condition(sources, depth - 1)} OR {self.condition(sources, depth - 1)})",
                lambda: f"NOT ({self.condition(sources, depth - 1)})",
                lambda: self._subquery_condition(sources),
            ]
        return self.random.choice(forms)()

    def _subquery_condition(self, sources: Sequence[Source]) -> str:
        text, inner = self._table()
        column = self._column(inner, TYPES)
        kind = inner.columns[column]
        mine = self.expression(kind, sources, 0)
        where = f"WHERE {self.condition([inner], 0)}" if self._chance(0.5) else ""
        match self.random.randint(0, 3):
            case 0:
                return f"{mine} IN (SELECT {inner.name}.{column} FROM {text} {where})"
            case 1:
                return (
                    f"{mine} NOT IN (SELECT {inner.name}.{column} FROM {text} WHERE {inner.name}.{column} IS NOT NULL)"
                )
            case 2:
                return f"EXISTS (SELECT FROM {text} WHERE {inner.name}.{column} = {mine})"
            case _:
                return f"{mine} >= ALL (SELECT {inner.name}.{column} FROM {text} {where})"

    # --- FROM --------------------------------------------------------------------------------------------------

    def _table(self) -> tuple[str, Source]:
        if self._ctes and self._chance(0.3):
            cte = self.random.choice(self._ctes)
            alias = self._name("c")
            return f"{cte.name} {alias}", Source(alias, cte.columns)
        name = self.random.choice(tuple(TABLES))
        alias = self._name(name)
        return f"{name} {alias}", Source(alias, TABLES[name], KEYS[name])

    def _item(self, outer: Sequence[Source], depth: int) -> tuple[str, Source]:
        if depth > 0 and self._chance(0.2):
            inner = self.query(depth - 1)
            alias, names = self._name("q"), [f"o{n}" for n in range(1, len(inner.types) + 1)]
            return f"({inner.sql}) {alias} ({', '.join(names)})", Source(
                alias, dict(zip(names, inner.types, strict=True))
            )
        if self._chance(0.06):
            alias = self._name("f")
            return f"generate_series(1, {self.random.randint(1, 6)}) {alias} (i)", Source(alias, {"i": "int"}, ("i",))
        if self._chance(0.05):
            alias = self._name("x")
            rows = ", ".join(f"({n}, {self.constant('text')})" for n in range(self.random.randint(1, 4)))
            return f"(VALUES {rows}) {alias} (i, t)", Source(alias, {"i": "int", "t": "text"}, ("i",))
        return self._table()

    def _from(self, depth: int) -> tuple[str, list[Source]]:
        text, first = self._item((), depth)
        sources = [first]
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
            if self._chance(0.12):
                inner, source = self._table()
                of = self._column(source, ("int", "text"))
                match = self.expression(source.columns[of], sources, 0)
                alias = self._name("l")
                body = f"SELECT count(*) AS c, max({source.name}.{of}) AS m FROM {inner} WHERE {source.name}.{of} = {match}"
                text = f"{text} CROSS JOIN LATERAL ({body}) {alias}"
                sources.append(Source(alias, {"c": "bigint", "m": source.columns[of]}))
                continue
            inner, source = self._item(sources, depth - 1)
            kind = self.random.choice(("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
            text = f"{text} {kind} {inner} ON {self._on(sources, source, full=kind == 'FULL JOIN')}"
            sources.append(source)
        return text, sources

    def _on(self, left: Sequence[Source], right: Source, *, full: bool) -> str:
        kinds = set(right.columns.values()) & {kind for each in left for kind in each.columns.values()}
        kind = self.random.choice(sorted(kinds) or ["int"])
        mine = [f"{each.name}.{name}" for each in left for name, found in each.columns.items() if found == kind]
        others = [f"{right.name}.{name}" for name, found in right.columns.items() if found == kind]
        if not mine or not others:
            return "true" if not full else "1 = 1"
        condition = f"{self.random.choice(mine)} = {self.random.choice(others)}"
        if not full and self._chance(0.3):
            condition += f" AND {self.condition([*left, right], 0)}"
        return condition

    # --- queries -----------------------------------------------------------------------------------------------

    def query(self, depth: int) -> Query:
        if depth >= 2 and self._chance(0.15):
            return self._with(depth)
        if depth > 0 and self._chance(0.12):
            return self._set_operation(depth)
        return self._select(depth)

    def _with(self, depth: int) -> Query:
        before, texts = list(self._ctes), []
        for _ in range(self.random.randint(1, 2)):
            inner, name = self.query(depth - 2), self._name("cte")
            columns = {f"o{n}": kind for n, kind in enumerate(inner.types, 1)}
            how = self.random.choice(("", "", "MATERIALIZED ", "NOT MATERIALIZED "))
            texts.append(f"{name} ({', '.join(columns)}) AS {how}({inner.sql})")
            self._ctes.append(Source(name, columns))
        query = self._select(depth - 1) if self._chance(0.7) else self._set_operation(depth - 1)
        self._ctes = before
        return Query(f"WITH {', '.join(texts)} {query.sql}", query.types, query.ordered)

    def _set_operation(self, depth: int) -> Query:
        types = tuple(self.random.choices(TYPES, k=self.random.randint(1, 3)))
        operator = self.random.choice(("UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"))
        sides = [self._select(depth - 1, types).sql for _ in range(2)]
        return self._ended(f"({sides[0]}) {operator} ({sides[1]})", types)

    def _ended(self, sql: str, types: tuple[str, ...]) -> Query:
        """With an ORDER BY of everything and perhaps a LIMIT."""
        if self._chance(0.45):
            return Query(sql, types, ordered=False)
        places = list(range(1, len(types) + 1))
        self.random.shuffle(places)
        order = ", ".join(f"{n}{self.random.choice(('', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST'))}" for n in places)
        limit = f" LIMIT {self.random.randint(0, 9)}" if self._chance(0.4) else ""
        offset = f" OFFSET {self.random.randint(0, 5)}" if self._chance(0.2) else ""
        return Query(f"{sql} ORDER BY {order}{limit}{offset}", types, ordered=True)

    def _select(self, depth: int, types: tuple[str, ...] | None = None) -> Query:
        text, sources = self._from(depth - 1)
        where = f" WHERE {self.condition(sources)}" if self._chance(0.6) else ""
        wanted = types or tuple(self.random.choices(TYPES, k=self.random.randint(1, 4)))
        if self._chance(0.35):
            return self._grouped(text + where, sources, wanted)
        items = [self.expression(kind, sources) for kind in wanted]
        if types is None and self._chance(0.2):
            items.append(self._window(sources))
            wanted = (*wanted, "bigint")
        if types is None and self._chance(0.1) and not any("OVER" in item for item in items):
            order = ", ".join(str(n) for n in range(1, len(items) + 1))
            sql = f"SELECT DISTINCT ON ({items[0]}) {', '.join(items)} FROM {text}{where} ORDER BY {order}"
            return Query(sql, wanted, ordered=True)
        distinct = "DISTINCT " if self._chance(0.12) else ""
        return self._ended(f"SELECT {distinct}{', '.join(items)} FROM {text}{where}", wanted)

    def _window(self, sources: Sequence[Source]) -> str:
        part = f"PARTITION BY {self.expression(self.random.choice(TYPES), sources, 0)}" if self._chance(0.6) else ""
        order = self.expression(self.random.choice(TYPES), sources, 1)
        rows = f"ROWS BETWEEN {self.random.randint(0, 2)} PRECEDING AND CURRENT ROW"
        unique = [", ".join(f"{each.name}.{name}" for name in each.unique) for each in sources if each.unique]
        match self.random.randint(0, 5 if len(sources) == 1 and unique else 3):
            case 5:
                return f"sum({self.expression('int', sources, 0)}) OVER ({part} ORDER BY {order}, {unique[0]} {rows})"
            case 4:
                return f"lag({self.expression('bigint', sources, 0)}) OVER ({part} ORDER BY {order} DESC, {unique[0]})"
            case 0:
                return f"rank() OVER ({part} ORDER BY {order})"
            case 1:
                return f"count(*) OVER ({part})"
            case 2:
                return f"sum({self.expression('int', sources, 0)}) OVER ({part} ORDER BY {order})"
            case _:
                return f"count(*) FILTER (WHERE {self.condition(sources, 0)}) OVER ({part})"

    def _grouped(self, text: str, sources: Sequence[Source], wanted: tuple[str, ...]) -> Query:
        keys = [self.expression(self.random.choice(TYPES), sources, 1) for _ in range(self.random.randint(0, 2))]
        keys = [key for key in dict.fromkeys(keys) if "." in key and "SELECT" not in key]
        items = [self._aggregate(kind, sources) for kind in wanted]
        having = (
            f" HAVING {self.random.choice(('count(*) > 1', 'count(*) < 9', 'bool_or(true)'))}"
            if self._chance(0.25)
            else ""
        )
        if not keys:
            return self._ended(f"SELECT {', '.join(items)} FROM {text}{having}", wanted)
        listed = ", ".join(keys)
        how = (
            f"ROLLUP ({listed})"
            if self._chance(0.15)
            else f"GROUPING SETS (({keys[0]}), ())"
            if self._chance(0.1)
            else listed
        )
        if how == listed and wanted[0] == "text":
            items[0] = f"max({keys[0]}::text)"
        return self._ended(f"SELECT {', '.join(items)} FROM {text} GROUP BY {how}{having}", wanted)

    def _aggregate(self, kind: str, sources: Sequence[Source]) -> str:
        def e(of: str) -> str:
            return self.expression(of, sources, 1)

        only = f" FILTER (WHERE {self.condition(sources, 0)})" if self._chance(0.15) else ""
        distinct = "DISTINCT " if self._chance(0.2) else ""
        forms = {
            "int": [f"max({e('int')}){only}", f"min({e('int')}){only}", f"coalesce(max({e('int')}), 0) + min({e('int')})"],
            "bigint": [f"count(*){only}", f"count({distinct}{e('text')}){only}", f"sum({distinct}{e('int')}){only}"],
            "numeric": [f"sum({e('numeric')}){only}", f"round(avg({distinct}{e('int')}){only}, 4)", f"sum({e('bigint')}){only}"],
            "text": [f"string_agg({(text := e('text'))}, ',' ORDER BY {text}){only}", f"min({e('text')}){only}",
                     f"array_agg({(number := e('int'))} ORDER BY {number})::text"],
            "date": [f"max({e('date')}){only}", f"min({e('date')})"],
            "bool": [f"bool_and({e('bool')}){only}", f"every({e('bool')})", f"count(*) > {self.random.randint(0, 9)}"],
        }  # fmt: skip
        return self.random.choice(forms[kind])

    # --- writes ------------------------------------------------------------------------------------------------

    def _write(self) -> Query:
        name = self.random.choice(tuple(TABLES))
        if self._chance(0.25):
            return Query(self._merge(Source(name, TABLES[name], KEYS[name])), (), ordered=False, writes=(name,))
        return self._returning(name)

    def _returning(self, name: str) -> Query:
        made = self.random.choice((self._insert, self._update, self._delete))
        sql = made(Source(name, TABLES[name], KEYS[name]))
        returned = " RETURNING " + ", ".join(f"{name}.{column}" for column in TABLES[name])
        return Query(sql + returned, tuple(TABLES[name].values()), ordered=False, writes=(name,))

    def _with_writes(self) -> Query:
        """To different tables: which of two writes to one row comes first is not said. What they read is as it was before."""
        names = self.random.sample(tuple(TABLES), k=self.random.randint(1, 2))
        before, texts = list(self._ctes), []
        for name in names:
            cte = self._name("made")
            texts.append(f"{cte} AS ({self._returning(name).sql})")
            self._ctes.append(Source(cte, TABLES[name]))
        others = [name for name in TABLES if name not in names]
        last = self._returning(self.random.choice(others)) if self._chance(0.3) else self._select(1)
        self._ctes = before
        return Query(f"WITH {', '.join(texts)} {last.sql}", last.types, last.ordered, (*names, *last.writes))

    def _plain_columns(self, target: Source) -> list[str]:
        return [name for name in target.columns if name not in target.unique]

    def _insert(self, target: Source) -> str:
        """New keys, or those of rows that are there; one row for each."""
        key = {"a": "g.i", "p": "g.i, g.i", "w": "'t' || g.i", "r": "g.i", "s": "g.i"}[target.name]
        source = Source("g", {"i": "int"}, ("i",))
        values = [self.expression(target.columns[name], [source], 1) for name in self._plain_columns(target)]
        columns = ", ".join((*target.unique, *self._plain_columns(target)))
        first = self.random.randint(15, 60)
        query = f"SELECT {key}, {', '.join(values)} FROM generate_series({first}, {first + self.random.randint(0, 8)}) g (i)"
        column = self.random.choice(self._plain_columns(target))
        action = self.random.choice(("NOTHING", f"UPDATE SET {column} = excluded.{column}"))
        conflict = f" ON CONFLICT ({', '.join(target.unique)}) DO {action}" if self._chance(0.7) else ""
        return f"INSERT INTO {target.name} ({columns}) {query}{conflict}"

    def _update(self, target: Source) -> str:
        column = self.random.choice(self._plain_columns(target))
        if self._chance(0.4):
            value = self.expression(target.columns[column], [target], 2)
            return f"UPDATE {target.name} SET {column} = {value} WHERE {self.condition([target])}"
        kinds = target.columns.values()
        fits = [name for name in TABLES if name not in ("p", target.name) and TABLES[name][KEYS[name][0]] in kinds]
        other = self.random.choice(fits)
        alias = Source("o", TABLES[other], KEYS[other])
        mine = next(name for name, kind in target.columns.items() if kind == TABLES[other][KEYS[other][0]])
        value = self.expression(target.columns[column], [target, alias], 1)
        return f"UPDATE {target.name} SET {column} = {value} FROM {other} o WHERE o.{KEYS[other][0]} = {target.name}.{mine}"

    def _delete(self, target: Source) -> str:
        if self._chance(0.5):
            return f"DELETE FROM {target.name} WHERE {self.condition([target])}"
        text, other = self._table()
        kinds = [kind for kind in target.columns.values() if kind in other.columns.values()] or ["int"]
        mine = next((name for name, kind in target.columns.items() if kind == kinds[0]), None)
        theirs = next((name for name, kind in other.columns.items() if kind == kinds[0]), None)
        join = f"{target.name}.{mine} = {other.name}.{theirs}" if mine and theirs else "true"
        return f"DELETE FROM {target.name} USING {text} WHERE {join} AND {self.condition([target], 1)}"

    def _merge(self, target: Source) -> str:
        column = self.random.choice(self._plain_columns(target))
        key = {"a": "i", "p": "i, i", "w": "'t' || i", "r": "i", "s": "i"}[target.name]
        keys = dict(zip(target.unique, key.split(", "), strict=True))
        on = " AND ".join(
            f"{target.name}.{name} = g.{value}" if value == "i" else f"{target.name}.{name} = {value}"
            for name, value in keys.items()
        )
        value = self.expression(target.columns[column], [target, Source("g", {"i": "int"})], 1)
        matched = self.random.choice((f"UPDATE SET {column} = {value}", "DELETE", "DO NOTHING"))
        given = self.expression(target.columns[column], [Source("g", {"i": "int"})], 1)
        columns, values = ", ".join((*target.unique, column)), f"{key}, {given}"
        first = self.random.randint(1, 50)
        return (
            f"MERGE INTO {target.name} USING generate_series({first}, {first + 9}) g (i) ON {on}"
            f" WHEN MATCHED THEN {matched} WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})"
        )
