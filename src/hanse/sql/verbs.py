"""The verb of a statement: the command tag that PostgreSQL answers with, without row counts (`CreateCommandTag()`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pglast import ast, enums

_PLAIN: dict[type, str] = {
    ast.AlterCollationStmt: "ALTER COLLATION",
    ast.AlterDatabaseRefreshCollStmt: "ALTER DATABASE",
    ast.AlterDatabaseSetStmt: "ALTER DATABASE",
    ast.AlterDatabaseStmt: "ALTER DATABASE",
    ast.AlterDefaultPrivilegesStmt: "ALTER DEFAULT PRIVILEGES",
    ast.AlterDomainStmt: "ALTER DOMAIN",
    ast.AlterEnumStmt: "ALTER TYPE",
    ast.AlterEventTrigStmt: "ALTER EVENT TRIGGER",
    ast.AlterExtensionContentsStmt: "ALTER EXTENSION",
    ast.AlterExtensionStmt: "ALTER EXTENSION",
    ast.AlterFdwStmt: "ALTER FOREIGN DATA WRAPPER",
    ast.AlterForeignServerStmt: "ALTER SERVER",
    ast.AlterOpFamilyStmt: "ALTER OPERATOR FAMILY",
    ast.AlterOperatorStmt: "ALTER OPERATOR",
    ast.AlterPolicyStmt: "ALTER POLICY",
    ast.AlterPublicationStmt: "ALTER PUBLICATION",
    ast.AlterRoleSetStmt: "ALTER ROLE",
    ast.AlterRoleStmt: "ALTER ROLE",
    ast.AlterSeqStmt: "ALTER SEQUENCE",
    ast.AlterStatsStmt: "ALTER STATISTICS",
    ast.AlterSubscriptionStmt: "ALTER SUBSCRIPTION",
    ast.AlterSystemStmt: "ALTER SYSTEM",
    ast.AlterTSConfigurationStmt: "ALTER TEXT SEARCH CONFIGURATION",
    ast.AlterTSDictionaryStmt: "ALTER TEXT SEARCH DICTIONARY",
    ast.AlterTableSpaceOptionsStmt: "ALTER TABLESPACE",
    ast.AlterTypeStmt: "ALTER TYPE",
    ast.AlterUserMappingStmt: "ALTER USER MAPPING",
    ast.CallStmt: "CALL",
    ast.CheckPointStmt: "CHECKPOINT",
    ast.ClusterStmt: "CLUSTER",
    ast.CommentStmt: "COMMENT",
    ast.CompositeTypeStmt: "CREATE TYPE",
    ast.ConstraintsSetStmt: "SET CONSTRAINTS",
    ast.CopyStmt: "COPY",
    ast.CreateAmStmt: "CREATE ACCESS METHOD",
    ast.CreateCastStmt: "CREATE CAST",
    ast.CreateConversionStmt: "CREATE CONVERSION",
    ast.CreateDomainStmt: "CREATE DOMAIN",
    ast.CreateEnumStmt: "CREATE TYPE",
    ast.CreateEventTrigStmt: "CREATE EVENT TRIGGER",
    ast.CreateExtensionStmt: "CREATE EXTENSION",
    ast.CreateFdwStmt: "CREATE FOREIGN DATA WRAPPER",
    ast.CreateForeignServerStmt: "CREATE SERVER",
    ast.CreateForeignTableStmt: "CREATE FOREIGN TABLE",
    ast.CreateOpClassStmt: "CREATE OPERATOR CLASS",
    ast.CreateOpFamilyStmt: "CREATE OPERATOR FAMILY",
    ast.CreatePLangStmt: "CREATE LANGUAGE",
    ast.CreatePolicyStmt: "CREATE POLICY",
    ast.CreatePublicationStmt: "CREATE PUBLICATION",
    ast.CreateRangeStmt: "CREATE TYPE",
    ast.CreateRoleStmt: "CREATE ROLE",
    ast.CreateSchemaStmt: "CREATE SCHEMA",
    ast.CreateSeqStmt: "CREATE SEQUENCE",
    ast.CreateStatsStmt: "CREATE STATISTICS",
    ast.CreateStmt: "CREATE TABLE",
    ast.CreateSubscriptionStmt: "CREATE SUBSCRIPTION",
    ast.CreateTableSpaceStmt: "CREATE TABLESPACE",
    ast.CreateTransformStmt: "CREATE TRANSFORM",
    ast.CreateTrigStmt: "CREATE TRIGGER",
    ast.CreateUserMappingStmt: "CREATE USER MAPPING",
    ast.CreatedbStmt: "CREATE DATABASE",
    ast.DeclareCursorStmt: "DECLARE CURSOR",
    ast.DeleteStmt: "DELETE",
    ast.DoStmt: "DO",
    ast.DropOwnedStmt: "DROP OWNED",
    ast.DropRoleStmt: "DROP ROLE",
    ast.DropSubscriptionStmt: "DROP SUBSCRIPTION",
    ast.DropTableSpaceStmt: "DROP TABLESPACE",
    ast.DropUserMappingStmt: "DROP USER MAPPING",
    ast.DropdbStmt: "DROP DATABASE",
    ast.ExecuteStmt: "EXECUTE",
    ast.ExplainStmt: "EXPLAIN",
    ast.ImportForeignSchemaStmt: "IMPORT FOREIGN SCHEMA",
    ast.IndexStmt: "CREATE INDEX",
    ast.InsertStmt: "INSERT",
    ast.ListenStmt: "LISTEN",
    ast.LoadStmt: "LOAD",
    ast.LockStmt: "LOCK TABLE",
    ast.MergeStmt: "MERGE",
    ast.NotifyStmt: "NOTIFY",
    ast.PrepareStmt: "PREPARE",
    ast.ReassignOwnedStmt: "REASSIGN OWNED",
    ast.RefreshMatViewStmt: "REFRESH MATERIALIZED VIEW",
    ast.ReindexStmt: "REINDEX",
    ast.ReplicaIdentityStmt: "ALTER TABLE",
    ast.RuleStmt: "CREATE RULE",
    ast.SecLabelStmt: "SECURITY LABEL",
    ast.TruncateStmt: "TRUNCATE TABLE",
    ast.UnlistenStmt: "UNLISTEN",
    ast.UpdateStmt: "UPDATE",
    ast.VariableShowStmt: "SHOW",
    ast.ViewStmt: "CREATE VIEW",
}

_OBJECTS = {
    "TABCONSTRAINT": "TABLE",
    "DOMCONSTRAINT": "DOMAIN",
    "ATTRIBUTE": "TYPE",
    "COLUMN": "TABLE",
    "FDW": "FOREIGN DATA WRAPPER",
    "FOREIGN_SERVER": "SERVER",
    "MATVIEW": "MATERIALIZED VIEW",
    "OPCLASS": "OPERATOR CLASS",
    "OPFAMILY": "OPERATOR FAMILY",
    "STATISTIC_EXT": "STATISTICS",
    "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE",
    "LARGEOBJECT": "LARGE OBJECT",
}

_RESET = (enums.VariableSetKind.VAR_RESET, enums.VariableSetKind.VAR_RESET_ALL)

_TRANSACTION = {
    "BEGIN": "BEGIN",
    "START": "START TRANSACTION",
    "COMMIT": "COMMIT",
    "ROLLBACK": "ROLLBACK",
    "SAVEPOINT": "SAVEPOINT",
    "RELEASE": "RELEASE",
    "ROLLBACK_TO": "ROLLBACK",
    "PREPARE": "PREPARE TRANSACTION",
    "COMMIT_PREPARED": "COMMIT PREPARED",
    "ROLLBACK_PREPARED": "ROLLBACK PREPARED",
}


def object_words(kind: Any) -> str:
    """ObjectType as a command tag names it: OBJECT_MATVIEW → 'MATERIALIZED VIEW'."""
    name = enums.ObjectType(kind).name.removeprefix("OBJECT_")
    return _OBJECTS.get(name, name.replace("_", " "))


def _rename_tag(node: Any) -> str:
    column = enums.ObjectType.OBJECT_COLUMN, enums.ObjectType.OBJECT_ATTRIBUTE
    return "ALTER " + object_words(node.relationType if node.renameType in column else node.renameType)


def _create_as_tag(node: Any) -> str:
    if node.is_select_into:
        return "SELECT INTO"
    matview = node.objtype == enums.ObjectType.OBJECT_MATVIEW
    return "CREATE MATERIALIZED VIEW" if matview else "CREATE TABLE AS"


_COMPUTED: dict[type, Callable[[Any], str]] = {
    ast.AlterFunctionStmt: lambda node: "ALTER " + object_words(node.objtype),
    ast.AlterObjectDependsStmt: lambda node: "ALTER " + object_words(node.objectType),
    ast.AlterObjectSchemaStmt: lambda node: "ALTER " + object_words(node.objectType),
    ast.AlterOwnerStmt: lambda node: "ALTER " + object_words(node.objectType),
    ast.AlterTableMoveAllStmt: lambda node: "ALTER " + object_words(node.objtype),
    ast.AlterTableStmt: lambda node: "ALTER " + object_words(node.objtype),
    ast.ClosePortalStmt: lambda node: "CLOSE CURSOR" if node.portalname else "CLOSE CURSOR ALL",
    ast.CreateFunctionStmt: lambda node: "CREATE PROCEDURE" if node.is_procedure else "CREATE FUNCTION",
    ast.CreateTableAsStmt: _create_as_tag,
    ast.DeallocateStmt: lambda node: "DEALLOCATE" if node.name else "DEALLOCATE ALL",
    ast.DefineStmt: lambda node: "CREATE " + object_words(node.kind),
    ast.DiscardStmt: lambda node: "DISCARD " + enums.DiscardMode(node.target).name.removeprefix("DISCARD_"),
    ast.DropStmt: lambda node: "DROP " + object_words(node.removeType),
    ast.FetchStmt: lambda node: "MOVE" if node.ismove else "FETCH",
    ast.GrantRoleStmt: lambda node: "GRANT ROLE" if node.is_grant else "REVOKE ROLE",
    ast.GrantStmt: lambda node: "GRANT" if node.is_grant else "REVOKE",
    ast.RenameStmt: _rename_tag,
    ast.SelectStmt: lambda node: "SELECT INTO" if node.intoClause else "SELECT",
    ast.TransactionStmt: lambda node: _TRANSACTION[
        enums.TransactionStmtKind(node.kind).name.removeprefix("TRANS_STMT_")
    ],
    ast.VacuumStmt: lambda node: "VACUUM" if node.is_vacuumcmd else "ANALYZE",
    ast.VariableSetStmt: lambda node: "RESET" if node.kind in _RESET else "SET",
}


def verb_of(node: Any) -> str:
    """The command tag of a statement, '' for a kind of statement that is not known."""
    known = _PLAIN.get(type(node))
    if known is not None:
        return known
    compute = _COMPUTED.get(type(node))
    return compute(node) if compute else ""
