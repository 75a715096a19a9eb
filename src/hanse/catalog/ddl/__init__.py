"""Schema changes as procedures: `plan_ddl(statement, text, context)` gives the generator that carries a statement out.

See `steps` for what a procedure asks of its driver, and each family's module for what it does and why. `FAMILIES` is
the whole list, by the statement's class in PostgreSQL's grammar.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.errors import not_supported
from .alter import alter_table, rename, set_schema
from .convert import create_distributed_table, create_reference_table, undistribute_table
from .drop import drop
from .functions import FUNCTIONS, call
from .generic import (
    REFUSED,
    comment,
    create_index,
    create_schema,
    create_statistics,
    everywhere_as_is,
    on_relation,
    refuse,
)
from .guards import guard_defaults
from .queries import create_table_as, create_view, refresh, select_into
from .rights import grant
from .roles import create_or_alter, drop_owned
from .sequences import alter as alter_sequence
from .sequences import create as create_sequence
from .shards import make_default_shards
from .steps import (
    Ask,
    DdlContext,
    DdlResult,
    Fill,
    Freeze,
    Introspect,
    MoveRows,
    Notice,
    Procedure,
    RunGroups,
    RunWorkspace,
    Step,
)
from .tables import create_table
from .tablespaces import names_tablespaces, refuse_groups

_AS_IS = (
    "CompositeTypeStmt CreateEnumStmt AlterEnumStmt CreateRangeStmt CreateDomainStmt AlterDomainStmt AlterTypeStmt "
    "DefineStmt CreateFunctionStmt AlterFunctionStmt CreateCastStmt CreateConversionStmt CreateTransformStmt "
    "CreateOpClassStmt CreateOpFamilyStmt AlterOpFamilyStmt AlterOperatorStmt AlterCollationStmt CreatePLangStmt "
    "CreateAmStmt AlterTSDictionaryStmt AlterTSConfigurationStmt AlterStatsStmt AlterObjectDependsStmt AlterOwnerStmt "
    "CreateExtensionStmt AlterExtensionStmt AlterExtensionContentsStmt AlterDefaultPrivilegesStmt GrantRoleStmt "
    "AlterRoleSetStmt DropRoleStmt ReassignOwnedStmt"
).split()

FAMILIES: dict[str, Callable[[Any, str, DdlContext], Procedure]] = {
    "CreateStmt": create_table,
    "CreateTableAsStmt": create_table_as,
    "SelectStmt": select_into,  # SELECT … INTO; functions of ours come by `call`
    "ViewStmt": create_view,
    "RefreshMatViewStmt": refresh,
    "AlterTableStmt": alter_table,
    "RenameStmt": rename,
    "AlterObjectSchemaStmt": set_schema,
    "DropStmt": drop,
    "DropOwnedStmt": drop_owned,
    "IndexStmt": create_index,
    "CreateTrigStmt": on_relation,
    "RuleStmt": on_relation,
    "CreatePolicyStmt": on_relation,
    "AlterPolicyStmt": on_relation,
    "CreateStatsStmt": create_statistics,
    "CommentStmt": comment,
    "SecLabelStmt": comment,
    "GrantStmt": grant,
    "CreateSeqStmt": create_sequence,
    "AlterSeqStmt": alter_sequence,
    "CreateRoleStmt": create_or_alter,
    "AlterRoleStmt": create_or_alter,
    "CreateSchemaStmt": create_schema,
    **dict.fromkeys(_AS_IS, everywhere_as_is),
    **dict.fromkeys(REFUSED, refuse),
}


def plan_ddl(statement: Any, text: str, ctx: DdlContext) -> Procedure:
    """The procedure for one statement: `statement` is pglast's node, `text` this statement alone.

    Raises PgError 0A000 for statements that Hanse has no procedure for.
    """
    name = type(statement).__name__
    if name == "SelectStmt" and statement.intoClause is None:
        return call(statement, ctx)
    procedure = FAMILIES.get(name)
    if procedure is None:
        raise not_supported(f"{name.removesuffix('Stmt')} is not supported as a schema change")
    if names_tablespaces(statement):
        return _of_tablespaces(procedure, statement, text, ctx)
    return procedure(statement, text, ctx)


def _of_tablespaces(
    procedure: Callable[[Any, str, DdlContext], Procedure], statement: Any, text: str, ctx: DdlContext
) -> Procedure:
    yield from refuse_groups(statement, ctx)
    return (yield from procedure(statement, text, ctx))


__all__ = [
    "FAMILIES",
    "FUNCTIONS",
    "Ask",
    "DdlContext",
    "DdlResult",
    "Fill",
    "Freeze",
    "Introspect",
    "MoveRows",
    "Notice",
    "Procedure",
    "RunGroups",
    "RunWorkspace",
    "Step",
    "create_distributed_table",
    "create_reference_table",
    "guard_defaults",
    "make_default_shards",
    "plan_ddl",
    "undistribute_table",
]
