"""What a writing statement may touch besides its target."""

from __future__ import annotations

from ..catalog.model import Kind, Relation
from ..core.errors import PgError, not_supported
from ..sql.functions import FunctionClass
from .analysis import Analysis
from .calls import same_in_groups
from .clock import reads_clock, without_clock
from .effects import of_functions
from .plan import Planned, Prune, Scatter
from .restrict import Table
from .tree import Unprintable, render


def rest_of(analysis: Analysis, target: Table) -> tuple[Table, ...]:
    """All tables but the target (and views, whose tables are there)."""
    return tuple(table for table in analysis.base if table is not target)


def only_copies(analysis: Analysis, target: Table) -> bool:
    """Besides the target nothing but reference tables is read, and nothing else is written."""
    rest = rest_of(analysis, target)
    return not analysis.unseen and all(table in analysis.copied and not table.ref.target for table in rest)


def callable_apart(analysis: Analysis) -> bool:
    """Whether several groups may each call the statement's functions: none reads rows of others, or draws from a sequence."""
    if any(call.kind is FunctionClass.SESSION for call in analysis.calls):
        return False
    return functions_alike(analysis)


def functions_alike(analysis: Analysis) -> bool:
    return same_in_groups(analysis.user_functions, analysis.snapshot, analysis.context.search_path)


def refuse_watching(analysis: Analysis, relation: Relation) -> None:
    """A volatile function sees what the statement that calls it has changed so far; here all its calls come before."""
    for function in analysis.user_functions:
        effects = of_functions([function], analysis.snapshot, analysis.context.search_path)
        if function.volatility == "v" and any(
            touch.relation.identity == relation.identity for touch in effects.touches
        ):
            raise not_supported(
                f'function {function.name} reads table "{relation.name}", which this statement changes',
                hint="Declare it STABLE: then it sees the rows as they were when the statement began.",
            )


def refuse_target(analysis: Analysis, target: Table) -> None:
    """Raise for targets that no plan can write."""
    relation, name = target.ref.relation, target.ref.identity[1]
    if target.ref.is_catalog:
        raise PgError("42501", f'permission denied: "{name}" is a system catalog')
    if relation is not None and relation.kind is Kind.VIEW:
        raise not_supported(
            f'cannot write to view "{name}" whose rows are in several groups',
            detail="It is not a view of some rows and columns of one table.",
            hint="Write to the view's table.",
        )
    if len([table for table in analysis.base if table.ref.target]) > 1:
        raise not_supported(
            "a WITH query that writes cannot be part of a statement over several groups",
            hint="Run the statements one after another in a transaction.",
        )


def scattered(
    analysis: Analysis, groups: tuple[str, ...], prunes: tuple[Prune, ...], *, template_safe: bool = False
) -> Planned:
    """Each of the groups runs the statement; now() is the same for all of them (see `clock`)."""
    node = analysis.parsed.node
    if not reads_clock(node):
        return analysis.planned(Scatter(groups=groups, prunes=prunes), template_safe=template_safe)
    try:
        sql = render(without_clock(node))
    except Unprintable as error:
        raise not_supported("this statement cannot use the clock over several groups", detail=str(error)) from error
    return analysis.planned(Scatter(groups=groups, prunes=prunes, sql=sql, clock=True))
