"""What a statement touches and calls, collected once and used by every planner of this package.

`analyse` resolves tables (through views), finds what the conditions say of partition keys (`restrict`), and
classifies functions. `Analysis.planned` wraps a plan with what the session must know whatever the plan is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from pglast import ast
from pglast.parser import ParseError, parse_sql

from ..catalog.model import Function, Kind, Relation, Snapshot, Strategy
from ..sql.functions import Call, FunctionClass, calls, casts_to_catalog_type, is_volatile, pinning
from ..sql.parse import Parsed
from ..sql.scope import TableRef
from ..sql.walk import walk
from .attached import default_sequences, draws_beside, may_draw, refuse_at_use, sequences_of
from .effects import of_functions, sequence, sequence_named
from .facts import Closure
from .leaving import Leaves, of_statement
from .operands import TEXTS, Operands, parameters
from .plan import AnyOf, Between, Context, Equal, Forward, Identity, Plan, Planned, Prune, Value
from .restrict import Restriction, Table

_ALTERNATIVES_MAX = 100
_WRITES = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_DRAWING = ("nextval", "setval")
_COPIED = (Kind.REFERENCE, Kind.MATERIALIZED_VIEW)
_PLACED = (Kind.SINGLE, Kind.PARTITION, Kind.SEQUENCE)


@dataclass(eq=False)
class Analysis:
    """`tables` are all tables at any depth, those of views included."""

    parsed: Parsed
    context: Context
    snapshot: Snapshot
    operands: Operands
    tables: tuple[Table, ...]
    calls: tuple[Call, ...]
    unseen: bool = False
    frozen: tuple[int, ...] = ()
    _conditions: dict[int, Equal | AnyOf | Between | None] = field(default_factory=dict)

    # --- tables by kind ----------------------------------------------------------------------------------------

    @cached_property
    def base(self) -> tuple[Table, ...]:
        """All but views."""
        return tuple(table for table in self.tables if _kind(table.ref) is not Kind.VIEW)

    @cached_property
    def sharded(self) -> tuple[Table, ...]:
        return tuple(table for table in self.base if _kind(table.ref) is Kind.SHARDED and not self._is_bare(table))

    def _is_bare(self, table: Table) -> bool:
        """A sharded table that has no shards yet is empty in every group. Only an INSERT needs to know that it is sharded."""
        relation = table.ref.relation
        inserted = table.ref.target and isinstance(self.parsed.node, ast.InsertStmt | ast.SelectStmt)
        return relation is not None and not relation.shards and not inserted

    @cached_property
    def placed(self) -> tuple[Table, ...]:
        """Tables whose rows are in one group: single tables, partitions by name, sequences."""
        return tuple(table for table in self.base if _kind(table.ref) in _PLACED)

    @cached_property
    def places(self) -> frozenset[str]:
        relations = (table.ref.relation for table in self.placed)
        return frozenset(relation.group or self.snapshot.home_group for relation in relations if relation)

    @cached_property
    def copied(self) -> tuple[Table, ...]:
        """Tables with the same rows in every group."""
        bare = (table for table in self.base if _kind(table.ref) is Kind.SHARDED and self._is_bare(table))
        return (*(table for table in self.base if _kind(table.ref) in _COPIED), *bare)

    @cached_property
    def catalogs(self) -> tuple[Table, ...]:
        return tuple(table for table in self.base if table.ref.is_catalog)

    @cached_property
    def temporary(self) -> tuple[Table, ...]:
        return tuple(table for table in self.base if table.ref.temporary)

    @cached_property
    def unknown(self) -> tuple[Table, ...]:
        return tuple(table for table in self.base if table.ref.unknown)

    @cached_property
    def targets(self) -> tuple[Table, ...]:
        return tuple(table for table in self.tables if table.ref.target)

    def target(self) -> Table:
        """The table that a top-level INSERT, UPDATE, DELETE or MERGE writes."""
        node = self.parsed.node.relation
        return next(table for table in self.tables if table.ref.node is node)

    # --- functions ---------------------------------------------------------------------------------------------

    @cached_property
    def classes(self) -> frozenset[FunctionClass]:
        return frozenset(call.kind for call in self.calls)

    @cached_property
    def looks_up_catalog(self) -> bool:
        return FunctionClass.CATALOG in self.classes or casts_to_catalog_type(self.parsed.node)

    def volatile(self, node: Any) -> bool:
        return is_volatile(node, self.snapshot)

    @cached_property
    def user_functions(self) -> list[Function]:
        """Those that the statement calls, also in the views that it reads."""
        found = [call for call in self.calls if call.kind is FunctionClass.USER]
        for table in self.tables:
            if _kind(table.ref) is Kind.VIEW and table.ref.relation is not None:
                found += [call for call in _calls_of_view(table.ref.relation, self.snapshot)]
        named = (f for call in found for f in self.snapshot.function_names.get(call.name, ()) if _is_called(f, call))
        return list(dict.fromkeys(named))

    # --- keys --------------------------------------------------------------------------------------------------

    def condition(self, table: Table) -> Equal | AnyOf | Between | None:
        """What the statement says of a sharded table's key, None: nothing."""
        known = self._conditions.get(id(table), False)
        if known is False:
            known = self._conditions[id(table)] = self._find_condition(table)
        return known  # type: ignore[return-value]

    def prune(self, table: Table) -> Prune:
        assert table.ref.relation is not None
        return Prune(table.ref.relation.identity, self.condition(table))

    def _find_condition(self, table: Table) -> Equal | AnyOf | Between | None:
        relation, terms = table.ref.relation, table.key_terms()
        if relation is None or terms is None:
            return None
        closure = table.closure()
        columns: list[list[Value]] = []
        for term, type_oid in zip(terms, relation.key_types, strict=True):
            values = self._first_values(closure.values(term), type_oid)
            if values is None:
                return self._between(relation, closure, terms[0])
            columns.append(values)
        alternatives = tuple(Equal(values) for values in product(*columns))
        if len(alternatives) > _ALTERNATIVES_MAX:
            return None
        return alternatives[0] if len(alternatives) == 1 else AnyOf(alternatives)

    def _first_values(self, candidates: list[tuple[Any, ...]], type_oid: int) -> list[Value] | None:
        for expressions in candidates:
            values = [self.operands.value(expression, type_oid) for expression in expressions]
            if all(value is not None for value in values):
                return [value for value in values if value is not None]
        return None

    def _between(self, relation: Relation, closure: Closure, term: Any) -> Between | None:
        """Only where the order is the type's own: texts are left out, a column may have another collation."""
        if len(relation.key) != 1 or relation.strategy is Strategy.HASH or relation.key_types[0] in (*TEXTS, 1042):
            return None
        lower, lower_inclusive = self._bound(closure, term, relation.key_types[0], ">")
        upper, upper_inclusive = self._bound(closure, term, relation.key_types[0], "<")
        if lower is None and upper is None:
            return None
        return Between(lower, upper, lower_inclusive, upper_inclusive)

    def _bound(self, closure: Closure, term: Any, type_oid: int, side: str) -> tuple[Value | None, bool]:
        for operator, expression in closure.bounds(term):
            if operator.startswith(side):
                value = self.operands.value(expression, type_oid)
                if value is not None:
                    return value, operator.endswith("=")
        return None, True

    def meets_target(self, table: Table, target: Table) -> bool:
        """Whether a sharded table is co-located with the target and joined to it on the whole key."""
        mine, others = table.key_terms(), target.key_terms()
        if mine is None or others is None or not self.colocated(table, target):
            return False
        closure = table.closure()
        return all(closure.same(one, other) for one, other in zip(mine, others, strict=True))

    def colocated(self, one: Table, other: Table) -> bool:
        left, right = one.ref.relation, other.ref.relation
        if left is None or right is None or left.colocation is None:
            return False
        return left.colocation == right.colocation

    # --- the result --------------------------------------------------------------------------------------------

    @cached_property
    def relations(self) -> frozenset[Identity]:
        return frozenset(table.ref.identity for table in self.tables if table.ref.relation is not None)

    @cached_property
    def pins(self) -> str | None:
        reasons = (pinning(call) for call in self.calls)
        return next((reason for reason in reasons if reason), "temporary table" if self.temporary else None)

    @cached_property
    def locks(self) -> bool:
        return any(isinstance(node, ast.LockingClause) for node in walk(self.parsed.node))

    @cached_property
    def writes(self) -> bool:
        """Changes or locks rows, or calls what may."""
        for node in walk(self.parsed.node):
            if isinstance(node, (*_WRITES, ast.LockingClause)):
                return True
        if any(call.name.startswith("lo_") or call.name == "lowrite" for call in self.calls):
            return True
        users = [call for call in self.calls if call.kind is FunctionClass.USER]
        return any(self.volatile(call.node) for call in users)

    @cached_property
    def draws(self) -> tuple[Identity, ...] | None:
        """What the statement may draw from where it runs: by calls, in functions, by defaults and triggers. None: nothing."""
        snapshot, path = self.snapshot, self.context.search_path
        direct = [call for call in self.calls if call.kind is FunctionClass.SESSION and call.name in _DRAWING]
        found = [sequence(sequence_named(call.node), snapshot, path) for call in direct]
        draws = bool(direct)
        if self.user_functions:
            effects = of_functions(self.user_functions, snapshot, path)
            draws = draws or may_draw(effects)
            found += sequences_of(effects, snapshot, path)
        for table in self.targets:
            if table.ref.relation is not None:
                by_default = default_sequences(table.ref.relation, snapshot)
                beside = draws_beside(table.ref.relation, snapshot, path)
                draws = draws or bool(by_default) or beside is not None
                found += [*by_default, *(beside or ())]
        return tuple(dict.fromkeys(each.identity for each in found if each is not None)) if draws else None

    @property
    def of_server(self) -> bool:
        """A follower would answer otherwise: it is read only."""
        return FunctionClass.SERVER in self.classes or any(call.name == "current_setting" for call in self.calls)

    @cached_property
    def leaves(self) -> Leaves:
        """What the functions that run with the statement may leave in the session."""
        relations = [table.ref.relation for table in self.tables if table.ref.relation is not None]
        return of_statement(self.calls, relations, self.snapshot, writes=self.writes)

    def planned(self, plan: Plan, *, template_safe: bool = False) -> Planned:
        node = self.parsed.node
        rows = isinstance(node, ast.SelectStmt) or getattr(node, "returningClause", None) is not None
        return Planned(
            plan=plan,
            verb=self.parsed.verb,
            returns_rows=rows,
            writes=self.writes,
            relations=self.relations,
            neutral=not self.leaves and not self.classes & {FunctionClass.SESSION, FunctionClass.USER},
            leaves=self.leaves,
            of_server=self.of_server,
            pins=self.pins,
            draws=self.draws if isinstance(plan, Forward) else None,
            template_safe=template_safe and self.parsed.templatable and not self.operands.uses.unplaced,
            frozen=self.frozen,
        )


def analyse(parsed: Parsed, context: Context, snapshot: Snapshot) -> Analysis:
    """Everything about a SELECT, INSERT, UPDATE, DELETE or MERGE that planning needs."""
    uses = parameters(parsed.node)
    restriction = Restriction(snapshot, context, uses)
    restriction.statement(parsed.node)
    for table in restriction.tables:
        if table.ref.relation is not None:
            refuse_at_use(table.ref.relation, snapshot, context.search_path, writes=table.ref.target)
    frozen = [parsed.literal_of(node) for node in uses.frozen]
    return Analysis(
        parsed,
        context,
        snapshot,
        Operands(parsed, context.parameter_types, uses),
        tuple(restriction.tables),
        tuple(calls(parsed.node, snapshot)),
        restriction.unseen,
        tuple(written[0] for written in frozen if written is not None),
    )


def _calls_of_view(view: Relation, snapshot: Snapshot) -> list[Call]:
    if not snapshot.functions:
        return []
    try:
        definition = parse_sql(view.view_definition or "")[0].stmt
    except (ParseError, IndexError):
        return []
    return [call for call in calls(definition, snapshot) if call.kind is FunctionClass.USER]


def _is_called(function: Function, call: Call) -> bool:
    return call.schema is None or function.schema == call.schema


def _kind(ref: TableRef[Relation]) -> Kind | None:
    return ref.relation.kind if ref.relation is not None and not ref.is_catalog else None
