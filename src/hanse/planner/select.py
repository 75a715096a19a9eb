"""Plans for SELECTs that no single place can answer, best first:

1. `Scatter`: every group runs (nearly) the client's text on its own rows, the gateway puts the rows together.
   Possible when the result is the union of the groups' results (`locality`), sorted and limited by what the gateway
   can compare (`merge_rules`).
2. `TwoPhase`: aggregates and DISTINCT over rows that are local to the groups (`aggregates`).
3. `Gather`: the rows are pulled, the client's own text runs in the workspace (`pulls`). Always right, never fast.

A plan is only taken when it is proven to give PostgreSQL's answer; the reason why a better one was not possible is
kept for EXPLAIN. Refused (0A000) is what no plan can do: see `calls`, and writing in a WITH query.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..catalog.model import Kind, Relation, Snapshot
from ..core.errors import not_supported
from ..sql.parse import Parsed
from . import calls
from .aggregates import split
from .analysis import Analysis, analyse
from .clock import names_database, names_moment, reads_clock, with_database, without_clock
from .grouping import distinct_is_local, group_is_local, is_grouped, windows_are_local
from .locality import Analyzer
from .merge_rules import merged, merged_set_operation
from .plan import AnyOf, Context, Equal, Forward, Gather, Identity, Merge, Plan, Planned, Prune, Scatter, TwoPhase
from .pulls import Collector, without_locks
from .spread import Base, Elsewhere, Spread
from .tree import Node, Unprintable, ast, changed, render, walk


def plan_select(parsed: Parsed, context: Context, snapshot: Snapshot, analysis: Analysis | None = None) -> Planned:
    """The plan of a SELECT (or VALUES, TABLE) that `Forward` does not cover.

    Raises PgError 0A000 for what no plan over several groups can do as PostgreSQL would.
    """
    statement = parsed.node
    found = analysis if analysis is not None else analyse(parsed, context, snapshot)
    _require_reading(statement)
    calls.check(statement, snapshot)
    return found.planned(_Planner(parsed, context, snapshot, found).plan())


def _require_reading(statement: Node) -> None:
    if getattr(statement, "intoClause", None) is not None:
        raise not_supported("SELECT INTO is not planned as a query")
    for found in walk(statement):
        if isinstance(found, ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt):
            raise not_supported(
                "a WITH query that writes cannot be part of a statement over several groups",
                hint="Run the writing statement by itself, or restrict the whole statement to one value of the shard key.",
            )


class _Planner:
    def __init__(self, parsed: Parsed, context: Context, snapshot: Snapshot, analysis: Analysis) -> None:
        self.parsed = parsed
        self.context = context
        self.snapshot = snapshot
        self.analysis = analysis
        self.clock = reads_clock(parsed.node)

    def plan(self) -> Plan:
        if self.context.gather_only:
            return self._gather("")
        try:
            return self._pushed()
        except (Elsewhere, Unprintable) as reason:
            return self._gather(str(reason) if isinstance(reason, Elsewhere) else "the statement cannot be printed")

    def _pushed(self) -> Plan:
        statement = self.parsed.node
        if names_moment(statement):
            raise Elsewhere("a time such as 'now' in the text, or age()")
        if self.clock:
            statement = without_clock(statement)
        analyzer = Analyzer(self.snapshot, self.context)
        analyzer.require_callable(statement)
        ctes = analyzer.with_ctes(statement, {})
        if statement.op.name != "SETOP_NONE" or statement.valuesLists:
            return self._set_operation(analyzer, statement)
        base = analyzer.base(statement, None, ctes)
        if base.spread is None:
            return self._forwarded()
        if _is_local(statement, base, self.snapshot):
            return self._scatter(statement, base)
        return self._two_phase(statement, base)

    def _forwarded(self) -> Plan:
        """Reference tables only: any group knows the answer."""
        kinds = {table.ref.relation.kind for table in self.analysis.base if table.ref.relation is not None}
        if kinds <= {Kind.REFERENCE, Kind.MATERIALIZED_VIEW} and not self.analysis.temporary:
            return Forward(any_group=True)
        raise Elsewhere("tables of several groups without a sharded one")

    def _set_operation(self, analyzer: Analyzer, statement: Node) -> Plan:
        bare = changed(statement, sortClause=None, limitCount=None, limitOffset=None)
        shape = analyzer.query(bare)
        if shape.spread is None:
            return self._forwarded()
        if statement.lockingClause:
            raise Elsewhere("row locks of a set operation")
        group_statement, merge = merged_set_operation(statement, shape.outputs, self.context.merge_allowed)
        return self._scattered(group_statement, merge, shape.spread.groups, ())

    def _scatter(self, statement: Node, base: Base) -> Plan:
        assert base.spread is not None
        group_statement, merge = merged(statement, base.scope, self.snapshot, self.context.merge_allowed)
        return self._scattered(group_statement, merge, base.spread.groups, self._prunes(base))

    def _scattered(self, statement: Node, merge: Merge, groups: tuple[str, ...], prunes: tuple[Prune, ...]) -> Scatter:
        unchanged = statement is self.parsed.node
        sql = None if unchanged else render(statement)
        return Scatter(groups=groups, prunes=prunes, sql=sql, merge=merge, clock=self.clock)

    def _two_phase(self, statement: Node, base: Base) -> Plan:
        assert base.spread is not None
        phases = split(statement, base, self.snapshot)
        final = with_database(phases.final, self.snapshot.database)
        partial_sql, final_sql = render(phases.partial), render(final)
        return TwoPhase(
            groups=base.spread.groups,
            prunes=self._prunes(base),
            partial_sql=partial_sql,
            partial_columns=phases.columns,
            final_sql=final_sql,
            clock=self.clock,
        )

    def _prunes(self, base: Base) -> tuple[Prune, ...]:
        """What the statement says of the key of one table without whose rows a group has none to give."""
        for relation in anchors(base):
            for table in self.analysis.sharded:
                if table.ref.relation is not None and table.ref.relation.identity == relation.identity:
                    if self._occurs_once(relation.identity):
                        prune = self.analysis.prune(table)
                        if prune.condition is not None:
                            return (prune,)
        return ()

    def _occurs_once(self, identity: Identity) -> bool:
        return sum(1 for table in self.analysis.base if table.ref.identity == identity) == 1

    # --- everything else -----------------------------------------------------------------------------------------

    def _gather(self, reason: str) -> Gather:
        collector = Collector(self.snapshot, self.context)
        collector.statement(self.parsed.node)
        sql = None
        statement = without_locks(self.parsed.node, self.snapshot)
        if statement is not self.parsed.node or names_database(statement):
            try:
                sql = render(with_database(statement, self.snapshot.database))
            except Unprintable:
                raise not_supported(
                    "current_database() and row locks cannot be used in this statement over several groups"
                ) from None
        temporary = tuple(sorted(collector.temporary))
        return Gather(pulls=collector.pulls(self._prune_of), sql=sql, reason=reason, temporary=temporary)

    def _prune_of(self, identity: Identity) -> Prune | None:
        """The keys of all occurrences of a table together; None where one of them may need any row."""
        if self.analysis.unseen:
            return None
        tables = [table for table in self.analysis.base if table.ref.identity == identity]
        conditions = [self.analysis.prune(table).condition for table in tables]
        if len(conditions) == 1:
            return Prune(identity, conditions[0]) if conditions[0] is not None else None
        alternatives: list[Equal] = []
        for condition in conditions:
            if isinstance(condition, Equal):
                alternatives.append(condition)
            elif isinstance(condition, AnyOf):
                alternatives += condition.alternatives
            else:
                return None
        return Prune(identity, AnyOf(tuple(dict.fromkeys(alternatives)))) if alternatives else None


def _is_local(statement: Node, base: Base, snapshot: Snapshot) -> bool:
    """Whether grouping, windows and DISTINCT happen inside the groups."""
    if is_grouped(statement, snapshot) and not group_is_local(statement, base):
        return False
    if not windows_are_local(statement, base):
        return False
    return not statement.distinctClause or distinct_is_local(statement, base)


def anchors(base: Base) -> Iterator[Relation]:
    """The sharded tables in FROM whose key every row of the result holds."""
    spread: Spread | None = base.spread
    if spread is None:
        return
    for item in base.scope.items:
        relation = item.relation
        if relation is not None and relation.kind is Kind.SHARDED:
            positions = {column.name: index for index, column in enumerate(relation.columns)}
            names = [item.outputs[positions[name]].name for name in relation.key] if item.outputs else []
            if names and all((item.number, n) in keys for n, keys in zip(names, spread.keys, strict=True)):
                yield relation
