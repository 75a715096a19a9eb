"""What PostgreSQL says about the schema-complete database, as the catalog's values.

`QUERY` (introspection.sql) gives one JSON document; `decode` turns it into relations, functions and schemas. The query
must run with `search_path` set to the empty string, because PostgreSQL qualifies names in defaults, types and view
definitions by what is *not* visible; table `hanse.placement` must exist.

**A worked example.** `orders` is hash-partitioned in two, `orders_p0` in g1 and `orders_p1` in g2. The document has
three relations. `orders` has relkind 'p' and no parent: it is sharded, its shards are the relations whose root it is
and that are their own shard. `orders_p0` becomes a relation of kind `partition` (a client may name it) with `orders`'
columns, since the query sends the columns of a partition only where they differ.

**Levels.** A shard is a *top-level* partition and its whole subtree goes with it: below it every relation is of kind
`partition`, in the shard's group, and the shard is not nameable, for rows must still be routed inside it.

**Placement.** Only the shard and tables outside of the home group have a row in `hanse.placement`, or those whose group
the client chose; what has none is single, in the home group. A partitioned table is sharded without any row.

Bounds arrive as PostgreSQL prints them for pg_dump, e.g. `FOR VALUES FROM ('a''b', MINVALUE) TO ('c', 7)`. Constants
are quoted with doubled quotes, or bare for numbers and booleans (ruleutils.c, get_const_expr with showtype -1).
"""

from __future__ import annotations

import re
from importlib import resources

import msgspec

from ..core.ids import quote_qualified
from .model import (
    Bound,
    Code,
    Column,
    ForeignKey,
    Function,
    Kind,
    Relation,
    Shard,
    Strategy,
    UniqueKey,
)

QUERY = resources.files(__package__).joinpath("introspection.sql").read_text("utf-8")

IDENTITY_INHERITED = 170000  # from this server version on a partition's columns have their parent's identity

_STRATEGIES = {"h": Strategy.HASH, "r": Strategy.RANGE, "l": Strategy.LIST}
_KINDS = {"v": Kind.VIEW, "m": Kind.MATERIALIZED_VIEW, "S": Kind.SEQUENCE, "p": Kind.SHARDED}


class Introspected(msgspec.Struct, frozen=True, kw_only=True):
    relations: tuple[Relation, ...]
    functions: tuple[Function, ...]
    schemas: tuple[str, ...]


class _Column(msgspec.Struct, array_like=True):
    name: str
    type_oid: int
    type_name: str
    not_null: bool
    default: str | None
    default_volatile: bool
    sequence: int | None
    identity: str
    generated: bool
    collation_deterministic: bool


class _Key(msgspec.Struct, array_like=True):
    name: str
    columns: tuple[str, ...]
    primary: bool


class _ForeignKey(msgspec.Struct, array_like=True):
    name: str
    columns: tuple[str, ...]
    referenced_schema: str
    referenced_name: str
    referenced_columns: tuple[str, ...]


class _Code(msgspec.Struct, array_like=True):
    kind: str
    name: str
    source: str


class _Row(msgspec.Struct, array_like=True):
    oid: int
    schema: str
    name: str
    relkind: str
    owner: str
    placement: str | None
    group: str | None
    root: int | None
    shard: int | None
    bound: str | None
    columns: tuple[_Column, ...] | None
    strategy: str | None
    key: tuple[tuple[str | None, int | None], ...] | None
    row_security: bool
    statement_triggers: bool
    triggers: bool
    rules: bool
    unique_keys: tuple[_Key, ...] | None
    foreign_keys: tuple[_ForeignKey, ...] | None
    view_definition: str | None
    security_invoker: bool
    deferrable: bool
    code: tuple[_Code, ...] | None = None

    @property
    def identity(self) -> tuple[str, str]:
        return (self.schema, self.name)

    @property
    def plain(self) -> bool:
        """Nothing that makes naming the relation differ from reaching it through its parent (findings-gateway 1)."""
        return not (self.row_security or self.statement_triggers or self.rules)


class _Function(msgspec.Struct, array_like=True):
    schema: str
    name: str
    kind: str
    language: str
    volatility: str
    argument_count: int
    returns_set: bool
    source: str
    arguments: str = ""
    result: str = ""
    search_path: str | None = None
    settings: tuple[str, ...] | None = None
    security_definer: bool = False
    owner: str = ""


class _Document(msgspec.Struct):
    server_version: int
    relations: tuple[_Row, ...] | None
    functions: tuple[_Function, ...] | None
    schemas: tuple[str, ...] | None


_DOCUMENT = msgspec.json.Decoder(_Document)


def decode(document: bytes | str, *, home_group: str) -> Introspected:
    """The values in a document that `QUERY` gave. What has no placement is in `home_group`.

    Raises msgspec.ValidationError where query and decoder disagree, ValueError for a bound that is none.
    """
    read = _DOCUMENT.decode(document)
    rows = read.relations or ()
    builder = _Builder(rows, home_group, identity_inherited=read.server_version >= IDENTITY_INHERITED)
    return Introspected(
        relations=tuple(builder.relation(row) for row in rows),
        functions=tuple(_function(function) for function in read.functions or ()),
        schemas=read.schemas or (),
    )


def _function(row: _Function) -> Function:
    return Function(
        schema=row.schema,
        name=row.name,
        kind=row.kind,
        language=row.language,
        volatility=row.volatility,
        argument_count=row.argument_count,
        returns_set=row.returns_set,
        source=row.source,
        arguments=row.arguments,
        result=row.result,
        search_path=row.search_path,
        settings=row.settings or (),
        security_definer=row.security_definer,
        owner=row.owner,
    )


class _Builder:
    """Rows to relations; knows the other rows, for sequences by oid and for shards by parent."""

    def __init__(self, rows: tuple[_Row, ...], home_group: str, *, identity_inherited: bool) -> None:
        self.by_oid = {row.oid: row for row in rows}
        self.home_group = home_group
        self.columns = {row.oid: self._columns(row.columns) for row in rows if row.columns is not None}
        self.inherited = {
            row.oid: self.columns[row.oid] if identity_inherited else _without_identity(self.columns[row.oid])
            for row in rows
            if row.relkind == "p" and row.root is None
        }
        self.shards: dict[int, list[_Row]] = {}
        for row in rows:
            if row.root is not None and row.shard == row.oid:
                self.shards.setdefault(row.root, []).append(row)

    def relation(self, row: _Row) -> Relation:
        kind = self._kind(row)
        root = self.by_oid.get(row.root) if row.root is not None else None
        key = () if row.key is None or kind is not Kind.SHARDED else row.key
        # Several groups have the rows of the other kinds, or none.
        has_group = kind in (Kind.SINGLE, Kind.PARTITION, Kind.SEQUENCE)
        return Relation(
            schema=row.schema,
            name=row.name,
            kind=kind,
            oid=row.oid,
            owner=row.owner,
            columns=self._columns_of(row),
            group=(row.group or self.home_group) if has_group else None,
            strategy=_STRATEGIES[row.strategy] if row.strategy and kind is Kind.SHARDED else None,
            key=tuple(name or "" for name, _ in key),
            key_types=tuple(type_oid or 0 for _, type_oid in key),
            shards=self._shards_of(row),
            parent=root.identity if root is not None else None,
            nameable=row.plain if root is None else row.plain and root.plain,
            row_security=row.row_security,
            has_triggers=row.triggers,
            has_deferrable=row.deferrable,
            unique_keys=tuple(
                UniqueKey(name=key.name, columns=key.columns, primary=key.primary) for key in row.unique_keys or ()
            ),
            foreign_keys=tuple(_foreign_key(key) for key in row.foreign_keys or ()),
            view_definition=_statement(row.view_definition),
            view_security_invoker=row.security_invoker,
            code=tuple(Code(kind=part.kind, name=part.name, source=part.source) for part in row.code or ()),
        )

    def _kind(self, row: _Row) -> Kind:
        if row.root is not None:
            return Kind.PARTITION
        if row.relkind in _KINDS:
            return _KINDS[row.relkind]
        return Kind.REFERENCE if row.placement == Kind.REFERENCE else Kind.SINGLE

    def _columns_of(self, row: _Row) -> tuple[Column, ...]:
        own = self.columns.get(row.oid)
        if own is not None or row.root is None:
            return own or ()
        return self.inherited.get(row.root, ())

    def _columns(self, columns: tuple[_Column, ...] | None) -> tuple[Column, ...]:
        return tuple(self._column(column) for column in columns or ())

    def _column(self, column: _Column) -> Column:
        sequence = self.by_oid.get(column.sequence) if column.sequence is not None else None
        return Column(
            name=column.name,
            type_oid=column.type_oid,
            type_name=column.type_name,
            not_null=column.not_null,
            default=column.default,
            default_volatile=column.default_volatile or bool(column.identity),
            default_sequence=quote_qualified(*sequence.identity) if sequence is not None else None,
            identity=column.identity,
            generated=column.generated,
            collation_deterministic=column.collation_deterministic,
        )

    def _shards_of(self, row: _Row) -> tuple[Shard, ...]:
        """In order of their bounds where that is cheap to know (hash), else by name."""
        shards = [self._shard(row, part) for part in self.shards.get(row.oid, ())]
        return tuple(sorted(shards, key=lambda shard: (shard.bound.remainder or 0, shard.name)))

    def _shard(self, parent: _Row, part: _Row) -> Shard:
        own = self.columns.get(part.oid)
        same_order = own is None or _names(own) == _names(self.columns.get(parent.oid, ()))
        return Shard(
            schema=part.schema,
            name=part.name,
            group=part.group or self.home_group,
            bound=parse_bound(part.bound or "DEFAULT"),
            nameable=part.relkind == "r" and part.plain and same_order,
        )


def _without_identity(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    return tuple(
        msgspec.structs.replace(column, identity="", default_sequence=None, default_volatile=False)
        if column.identity
        else column
        for column in columns
    )


def _names(columns: tuple[Column, ...]) -> list[str]:
    return [column.name for column in columns]


def _foreign_key(key: _ForeignKey) -> ForeignKey:
    return ForeignKey(
        name=key.name,
        columns=key.columns,
        referenced_schema=key.referenced_schema,
        referenced_name=key.referenced_name,
        referenced_columns=key.referenced_columns,
    )


def _statement(text: str | None) -> str | None:
    return None if text is None else text.strip().removesuffix(";")


# --- partition bounds --------------------------------------------------------------------------------------------

_MODULUS = re.compile(r"FOR VALUES WITH \(modulus (\d+), remainder (\d+)\)")
_LIST = re.compile(r"FOR VALUES IN \((.*)\)", re.DOTALL)
_VALUE = re.compile(r"\s*(?:[BX]?'((?:[^']|'')*)'|([^\s,']+))\s*(,|\Z)")
_BOOLEANS = {"true": "t", "false": "f"}


def parse_bound(text: str) -> Bound:
    """The bound that pg_get_expr(relpartbound) prints. Raises ValueError for anything else."""
    if text == "DEFAULT":
        return Bound(default=True)
    if match := _MODULUS.fullmatch(text):
        return Bound(modulus=int(match[1]), remainder=int(match[2]))
    if text.startswith("FOR VALUES FROM"):
        return _range(text)
    if match := _LIST.fullmatch(text):
        return Bound(values=_values(match[1]))
    raise ValueError(f"not a partition bound: {text!r}")


def _range(text: str) -> Bound:
    # A quoted value may hold ') TO (' itself: the right place to cut is the one where both halves are lists.
    for cut in re.finditer(r"\) TO \(", text):
        lower, upper = text[len("FOR VALUES FROM (") : cut.start()], text[cut.end() : -1]
        try:
            return Bound(lower=_values(lower), upper=_values(upper))
        except ValueError:
            continue
    raise ValueError(f"not a partition bound: {text!r}")


def _values(text: str) -> tuple[str | None, ...]:
    values: list[str | None] = []
    position = 0
    while True:
        match = _VALUE.match(text, position)
        if match is None:
            raise ValueError(f"not a list of constants: {text!r}")
        quoted, bare, end = match.groups()
        values.append(quoted.replace("''", "'") if quoted is not None else _bare(bare))
        if not end:
            return tuple(values)
        position = match.end()


def _bare(word: str) -> str | None:
    if word in ("NULL", "MINVALUE", "MAXVALUE"):
        return None
    return _BOOLEANS.get(word, word)
