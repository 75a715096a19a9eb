"""Owners and grants of partitions follow the table above them, so that a statement may name one (findings-gateway 13).

PostgreSQL gives a partition its creator as owner and no grants. Hanse names partitions in statements that a client
wrote for the parent, so the client's rights on the parent must hold there. Grants made on a partition itself are left
alone.

**Not where row security is enabled on the parent**: policies of the parent do not apply to a partition that is named,
and a grant would let a client read past them. Such a table is never named by Hanse, and its partitions' copied grants
are withdrawn when row security is enabled.

The statements here are DO blocks that walk the partitions that the place has: one text for every place.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from ...core.ids import quote_literal
from ..model import Kind
from . import text as surgery
from .places import qualified, run_groups, run_system
from .steps import DdlContext, DdlResult, Identity, Procedure, RunWorkspace, Step, everywhere

_WALK = """
DECLARE
    top pg_catalog.regclass := {relation}::pg_catalog.regclass;
    part pg_catalog.regclass;
    entry record;
BEGIN
    FOR part IN SELECT t.relid FROM pg_catalog.pg_partition_tree(top) t WHERE t.level > 0 LOOP
        {body}
    END LOOP;
END
"""

_ENTRIES = """
        FOR entry IN
            SELECT a.privilege_type AS privilege, '' AS columns, a.is_grantable, a.grantee
            FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
            WHERE c.oid = top AND a.grantee <> c.relowner
            UNION ALL
            SELECT a.privilege_type, pg_catalog.format('(%I)', t.attname), a.is_grantable, a.grantee
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped
            CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a
            WHERE c.oid = top AND a.grantee <> c.relowner
        LOOP
            EXECUTE pg_catalog.format({format}, entry.privilege, entry.columns, part,
                CASE entry.grantee WHEN 0 THEN 'PUBLIC'
                     ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(entry.grantee)) END,
                CASE WHEN entry.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        END LOOP;
"""

_OWNER = """
        IF (SELECT p.relowner <> t.relowner FROM pg_catalog.pg_class p, pg_catalog.pg_class t
            WHERE p.oid = part AND t.oid = top) THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', part,
                (SELECT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class WHERE oid = top));
        END IF;
"""

_GRANT = _ENTRIES.format(format="'GRANT %s %s ON TABLE %s TO %s%s'")
# %5$s: one argument more than the text has is an error to nobody, but REVOKE knows no WITH GRANT OPTION.
_REVOKE = _ENTRIES.format(format="'REVOKE %1$s %2$s ON TABLE %3$s FROM %4$s'")
_GRANT_UNLESS_SECURED = (
    "IF NOT (SELECT c.relrowsecurity FROM pg_catalog.pg_class c WHERE c.oid = top) THEN" + _GRANT + "END IF;"
)


def _walk(relation: Identity, body: str) -> str:
    return "DO " + quote_literal(_WALK.format(relation=quote_literal(qualified(relation)), body=body)).strip()


def mirror(relation: Identity) -> str:
    """Partitions get the owner and the grants of the table above (no grants where it has row security)."""
    return _walk(relation, _OWNER + _GRANT_UNLESS_SECURED)


def withdraw(relation: Identity) -> str:
    """Partitions lose what the table above grants: it has row security now."""
    return _walk(relation, _REVOKE)


def mirror_everywhere(relations: Iterable[Identity], ctx: DdlContext) -> Generator[Step, Any, None]:
    yield from run_system((mirror(relation) for relation in relations), ctx.groups)


def grant(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """GRANT and REVOKE: named partitions only where they are, and the partitions of named tables too."""
    if stmt.targtype.name == "ACL_TARGET_ALL_IN_SCHEMA":
        return (yield from _grant_in_schemas(stmt, text, ctx))
    if stmt.objtype.name != "OBJECT_TABLE":
        yield RunWorkspace(text)
        yield from run_groups(everywhere(ctx.groups, text))
        return DdlResult()
    yield RunWorkspace(text)
    yield from run_groups({group: _for_group(stmt, text, ctx, group) for group in ctx.groups})
    named = [relation for relation in map(ctx.find, stmt.objects) if relation is not None]
    sharded = [relation for relation in named if relation.kind is Kind.SHARDED]
    if stmt.is_grant:
        yield from mirror_everywhere([relation.identity for relation in sharded], ctx)
    for relation in sharded if not stmt.is_grant else ():
        yield from run_system([_revoke_from_partitions(text, relation.identity)], ctx.groups)
    return DdlResult()


def _for_group(stmt: Any, text: str, ctx: DdlContext, group: str) -> tuple[str, ...]:
    relations = [ctx.find(name) for name in stmt.objects]
    if not any(relation is not None and relation.kind is Kind.PARTITION for relation in relations):
        return (text,)
    kept = [
        qualified(relation.identity)
        for relation in relations
        if relation is not None and (relation.kind is not Kind.PARTITION or relation.group == group)
    ]
    return (_with_objects(text, ", ".join(kept)),) if kept else ()


def _with_objects(text: str, objects: str) -> str:
    """The statement on other tables: what stands between ON and TO or FROM is replaced."""
    found = surgery.words(text)
    on = surgery.index_of(found, "ON")
    assert on is not None
    end = next(i for i in range(on, len(found)) if found[i].name in ("TO", "FROM") and found[i].depth == 0)
    return surgery.apply(text, [surgery.Cut(found[on].end, found[end].start, f" TABLE {objects} ")])


def _revoke_from_partitions(text: str, relation: Identity) -> str:
    marker = "hanse_part_of_this"
    head, tail = _with_objects(surgery.trimmed(text), marker).split(f" TABLE {marker} ", 1)
    format_string = quote_literal(head.replace("%", "%%") + " TABLE %s " + tail.replace("%", "%%"))
    return _walk(relation, f"EXECUTE pg_catalog.format({format_string}, part);")


def _grant_in_schemas(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    yield RunWorkspace(text)
    yield from run_groups(everywhere(ctx.groups, text))
    schemas = {name.sval for name in stmt.objects}
    if stmt.is_grant and stmt.objtype.name == "OBJECT_TABLE":
        found = (r for r in ctx.snapshot.relations if r.kind is Kind.SHARDED and r.schema in schemas)
        yield from mirror_everywhere([relation.identity for relation in found], ctx)
    return DdlResult()
