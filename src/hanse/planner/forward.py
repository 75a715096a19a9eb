"""Statements that one place answers alone, with the client's own text: most of what applications send.

The place must see every row that can matter, hence one of

- all sharded tables have their whole key fixed, and all those keys meet in one group (known with the values);
- all single tables are in one group, where sharded tables must then meet, too;
- only reference tables, or none: any group; with functions that may do anything: the home group;
- only system catalogs, or catalog lookups without tables: the schema-complete database beside the gateway. Large objects are
  rows of the home group, where functions make them.

Reference tables are welcome everywhere. What `restrict` knows of keys is what makes the first point right; see its
proof.

Names that nobody knows go to the home group: PostgreSQL itself shall say 42P01.
"""

from __future__ import annotations

from pglast import ast

from ..catalog.model import Kind
from ..config import WORKSPACE_PLACE
from ..core.errors import PgError, not_supported
from ..core.ids import parse_identifier_list
from ..sql.functions import FunctionClass
from ..sql.walk import walk
from .analysis import Analysis
from .calls import fits
from .effects import sequence, sequence_named
from .plan import AnyOf, Equal, Forward, Planned, Prune
from .rename import renames_for

_ANYWHERE = {FunctionClass.NEUTRAL}
_LARGE_OBJECTS = ("pg_largeobject", "pg_largeobject_metadata")


def plan_forward(analysis: Analysis) -> Planned | None:
    """The Forward plan of a SELECT, UPDATE, DELETE or MERGE; None when one place is not known to see all rows."""
    plan = _catalog(analysis) or _without_rows(analysis) or _placed(analysis)
    if plan is None or not _fits(analysis, plan):
        return None
    safe = plan.sql is None and (bool(plan.prunes) or plan.place is not None or plan.any_group)
    return analysis.planned(plan, template_safe=safe and not _names_sequence(analysis))


def _fits(analysis: Analysis, plan: Forward) -> bool:
    place = "" if plan.prunes else plan.place
    for call in analysis.calls:
        if call.kind is FunctionClass.SESSION and call.name in ("nextval", "currval", "setval"):
            known = sequence(sequence_named(call.node), analysis.snapshot, analysis.context.search_path)
            if known is not None and place is not None and (known.group or analysis.snapshot.home_group) != place:
                return False  # its values are drawn elsewhere
    return fits(analysis.user_functions, analysis.snapshot, place, analysis.context.search_path)


def _catalog(analysis: Analysis) -> Forward | None:
    if not analysis.catalogs:
        return None
    for table in analysis.targets:
        if table.ref.is_catalog:
            name = table.ref.identity[1]
            raise PgError("42501", f'permission denied: "{name}" is a system catalog')
    only = len(analysis.catalogs) == len(analysis.base)
    if any(table.ref.identity[1] in _LARGE_OBJECTS for table in analysis.catalogs):
        if not only:
            raise not_supported(
                "large objects cannot be read together with tables", hint="Read them in two statements."
            )
        return Forward(place=analysis.snapshot.home_group)
    return Forward(place=WORKSPACE_PLACE) if only else None


def _without_rows(analysis: Analysis) -> Forward | None:
    """No table at all, or names that nobody knows."""
    home = analysis.snapshot.home_group
    if analysis.unknown:
        return Forward(place=home)
    if analysis.tables:
        return None
    sequence = _sequence_group(analysis)
    if sequence is not None:
        return Forward(place=sequence)
    if FunctionClass.USER in analysis.classes or FunctionClass.SESSION in analysis.classes:
        return Forward(place=home)
    if analysis.looks_up_catalog:
        return Forward(place=WORKSPACE_PLACE)
    return Forward(any_group=True) if analysis.classes <= _ANYWHERE else Forward(place=home)


def _placed(analysis: Analysis) -> Forward | None:
    if analysis.unseen or analysis.catalogs or _writes_copies(analysis):
        return None
    places = set(analysis.places)
    if analysis.temporary:
        places.add(analysis.snapshot.home_group)
    if len(places) > 1:
        return None
    place = next(iter(places), None)
    if not analysis.sharded:
        return _by_place(analysis, place)
    if not analysis.context.forward_allowed:
        return None
    prunes = _prunes(analysis)
    if prunes is None:
        return None
    single = place is None and len(prunes) == 1 and isinstance(prunes[0].condition, Equal)
    return Forward(place=place, prunes=prunes, renames=renames_for(analysis) if single else ())


def _by_place(analysis: Analysis, place: str | None) -> Forward:
    """Locks on a reference table's rows are taken where its writers begin: in the first group."""
    if place is None and analysis.copied and analysis.locks:
        place = analysis.snapshot.group_names[0]
    if place is None and analysis.classes & {FunctionClass.USER, FunctionClass.SESSION, FunctionClass.SERVER}:
        place = analysis.snapshot.home_group
    return Forward(place=place, any_group=place is None)


def _prunes(analysis: Analysis) -> tuple[Prune, ...] | None:
    """One prune for each sharded table, all with equalities; equal ones once."""
    prunes: dict[Prune, None] = {}
    for table in analysis.sharded:
        prune = analysis.prune(table)
        if not isinstance(prune.condition, Equal | AnyOf):
            return None
        prunes[prune] = None
    return tuple(prunes)


def _writes_copies(analysis: Analysis) -> bool:
    """A write to a reference table must reach every group."""
    kinds = {table.ref.relation.kind for table in analysis.targets if table.ref.relation is not None}
    return Kind.REFERENCE in kinds


# --- sequences ---------------------------------------------------------------------------------------------------


def _names_sequence(analysis: Analysis) -> bool:
    return any(call.name in ("nextval", "currval", "setval") for call in analysis.calls)


def _sequence_group(analysis: Analysis) -> str | None:
    """The group that draws the values of the sequence that `nextval('name')` and the like speak of."""
    for call in analysis.calls:
        if call.name not in ("nextval", "currval", "setval") or not call.node.args:
            continue
        for node in walk(call.node.args[0]):
            if isinstance(node, ast.A_Const) and isinstance(node.val, ast.String):
                return _group_of_sequence(analysis, node.val.sval or "")
    return None


def _group_of_sequence(analysis: Analysis, text: str) -> str | None:
    try:
        path = parse_identifier_list(text.replace(".", ",")) if '"' not in text else ()
    except ValueError:
        return None
    schema, name = (None, *path) if len(path) == 1 else path if len(path) == 2 else (None, text.strip('"'))
    relation = analysis.snapshot.find(schema, name, analysis.context.search_path)
    return relation.group if relation is not None and relation.kind is Kind.SEQUENCE else None
