"""What is not a query: transactions, settings, cursors, prepared statements, locks, maintenance, schema changes.

One function for each class of PostgreSQL's grammar; `UTILITIES` is the table. What is in no table is a schema change
(`Ddl`), which `catalog.ddl` carries out, or refuses with its reasons.

Temporary objects live in the session's backend in the home group: what makes or changes one goes there as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from pglast import ast, enums
from pglast.parser import scan

from ..catalog.model import Function, Kind, Relation, Snapshot
from ..core.errors import not_supported
from ..core.ids import quote_identifier
from ..sql.parse import Parsed, parse_one
from ..sql.render import NotRenderable, clone, render
from ..sql.scope import CATALOG_SCHEMAS, is_temporary, named_tables, table_refs
from ..sql.walk import names, walk
from .attached import default_sequences, may_draw, sequences_of
from .calls import fits
from .effects import of_functions
from .inner import arguments, inner_start, type_list, without_data_clause
from .leaving import NOTHING, Leaves, of_statement
from .leaving import of_functions as left_by
from .plan import Broadcast, Context, Ddl, Explain, FillTemporary, Forward, Plan, Planned, Session, SessionVerb

_FETCH_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Utility:
    """One statement to be planned, with what that needs."""

    parsed: Parsed
    context: Context
    snapshot: Snapshot
    plan_inner: Callable[[Parsed, Context, Snapshot], Planned]

    @property
    def node(self) -> Any:
        return self.parsed.node

    def planned(
        self,
        plan: Plan,
        *,
        returns_rows: bool = False,
        writes: bool = False,
        neutral: bool = True,
        leaves: Leaves = NOTHING,
        pins: str | None = None,
        template_safe: bool = False,
    ) -> Planned:
        relations = frozenset(
            ref.relation.identity
            for ref in table_refs(self.node, self.snapshot, self.context)
            if ref.relation is not None
        )
        return Planned(
            plan=plan,
            verb=self.parsed.verb,
            returns_rows=returns_rows,
            writes=writes,
            relations=relations,
            neutral=neutral and not leaves,
            leaves=leaves,
            pins=pins,
            template_safe=template_safe,
        )

    def session(self, verb: SessionVerb, name: str = "", argument: str = "", **more: Any) -> Planned:
        returns_rows = bool(more.pop("returns_rows", False))
        return self.planned(Session(verb=verb, name=name, argument=argument, **more), returns_rows=returns_rows)

    def at_home(self, *, pins: str | None = None, neutral: bool = True, returns_rows: bool = False) -> Planned:
        plan = Forward(place=self.snapshot.home_group)
        return self.planned(plan, writes=True, neutral=neutral, pins=pins, returns_rows=returns_rows)


# --- transactions ------------------------------------------------------------------------------------------------

_KINDS = enums.TransactionStmtKind
_SAVEPOINTS = {
    _KINDS.TRANS_STMT_SAVEPOINT: SessionVerb.SAVEPOINT,
    _KINDS.TRANS_STMT_RELEASE: SessionVerb.RELEASE,
    _KINDS.TRANS_STMT_ROLLBACK_TO: SessionVerb.ROLLBACK_TO,
}
_TWO_PHASE = {
    _KINDS.TRANS_STMT_PREPARE: "prepare",
    _KINDS.TRANS_STMT_COMMIT_PREPARED: "commit",
    _KINDS.TRANS_STMT_ROLLBACK_PREPARED: "rollback",
}


def _transaction(utility: Utility) -> Planned:
    node = utility.node
    kind = _KINDS(node.kind)
    if kind in _SAVEPOINTS:
        return utility.session(_SAVEPOINTS[kind], node.savepoint_name)
    if kind in _TWO_PHASE:
        return utility.session(SessionVerb.PREPARE_TRANSACTION, node.gid, _TWO_PHASE[kind])
    if kind in (_KINDS.TRANS_STMT_BEGIN, _KINDS.TRANS_STMT_START):
        return utility.session(SessionVerb.BEGIN, "begin", transaction_modes(node.options))
    verb = SessionVerb.COMMIT if kind == _KINDS.TRANS_STMT_COMMIT else SessionVerb.ROLLBACK
    return utility.session(verb, "", "chain" if node.chain else "")


def transaction_modes(options: Iterable[Any] | None) -> str:
    """The modes of BEGIN or SET TRANSACTION as SQL: 'ISOLATION LEVEL SERIALIZABLE READ ONLY'."""
    words: list[str] = []
    for option in options or ():
        value = option.arg.val
        if option.defname == "transaction_isolation":
            words.append(f"ISOLATION LEVEL {value.sval.upper()}")
        elif option.defname == "transaction_read_only":
            words.append("READ ONLY" if value.ival else "READ WRITE")
        else:
            words.append("DEFERRABLE" if value.ival else "NOT DEFERRABLE")
    return " ".join(words)


def _constraints(utility: Utility) -> Planned:
    return utility.session(SessionVerb.SET_CONSTRAINTS, "", utility.parsed.sql)


# --- settings ----------------------------------------------------------------------------------------------------

_SETS = enums.VariableSetKind
_LEVELS = ("read uncommitted", "read committed", "repeatable read", "serializable")
_ON, _OFF = ("on", "true", "yes"), ("off", "false", "no")
_MODES = {
    "transaction_isolation": {level: f"ISOLATION LEVEL {level.upper()}" for level in _LEVELS},
    "transaction_read_only": dict.fromkeys(_ON, "READ ONLY") | dict.fromkeys(_OFF, "READ WRITE"),
    "transaction_deferrable": dict.fromkeys(_ON, "DEFERRABLE") | dict.fromkeys(_OFF, "NOT DEFERRABLE"),
}


def _set(utility: Utility) -> Planned:
    node, text = utility.node, utility.parsed.sql
    kind = _SETS(node.kind)
    if kind is _SETS.VAR_RESET_ALL:
        return utility.session(SessionVerb.RESET, "all")
    if kind is _SETS.VAR_RESET:
        return utility.session(SessionVerb.RESET, node.name.lower())
    if kind is _SETS.VAR_SET_MULTI:
        return _set_modes(utility, text)
    verb = SessionVerb.SET_LOCAL if node.is_local else SessionVerb.SET
    name = node.name.lower()
    if name in _MODES and (mode := _mode(name, node.args)):
        return utility.session(SessionVerb.SET_TRANSACTION, name, mode)
    return utility.session(verb, name, text)


def _mode(name: str, values: Iterable[Any] | None) -> str | None:
    """A transaction's mode that is set by its parameter's name, as SET TRANSACTION has it. None: no value that is known to fit."""
    (value, *_) = values or (None,)
    given = getattr(getattr(value, "val", None), "sval", None) or ""
    return _MODES[name].get(given.lower())


def _set_modes(utility: Utility, text: str) -> Planned:
    node = utility.node
    if node.name == "TRANSACTION":
        return utility.session(SessionVerb.SET_TRANSACTION, "", transaction_modes(node.args))
    if node.name == "TRANSACTION SNAPSHOT":
        raise not_supported("SET TRANSACTION SNAPSHOT is not supported", hint="A snapshot is one group's only.")
    return utility.session(
        SessionVerb.SET, ",".join(dict.fromkeys(f"default_{mode.defname}" for mode in node.args)), text
    )


def _show(utility: Utility) -> Planned:
    return utility.session(SessionVerb.SHOW, utility.node.name.lower(), returns_rows=True)


def _discard(utility: Utility) -> Planned:
    name = enums.DiscardMode(utility.node.target).name.removeprefix("DISCARD_").lower()
    return utility.session(SessionVerb.DISCARD, name)


# --- prepared statements and cursors -----------------------------------------------------------------------------


def _prepare(utility: Utility) -> Planned:
    inner = utility.parsed.sql[inner_start(utility.parsed, "AS") :]
    types = type_list(utility.parsed) if utility.node.argtypes else ""
    return utility.session(SessionVerb.PREPARE, utility.node.name, inner, types=types)


def _execute(utility: Utility) -> Planned:
    given = arguments(utility.parsed) if utility.node.params else ""
    return utility.session(SessionVerb.EXECUTE, utility.node.name, given, returns_rows=True)


def _deallocate(utility: Utility) -> Planned:
    return utility.session(SessionVerb.DEALLOCATE, utility.node.name or "all")


_CURSOR_BINARY, _CURSOR_SCROLL, _CURSOR_NO_SCROLL, _CURSOR_HOLD = 0x0001, 0x0002, 0x0004, 0x0020  # parsenodes.h


def _declare(utility: Utility) -> Planned:
    node = utility.node
    bits = {
        "binary": _CURSOR_BINARY,
        "scroll": _CURSOR_SCROLL,
        "no scroll": _CURSOR_NO_SCROLL,
        "hold": _CURSOR_HOLD,
    }
    options = frozenset(word for word, bit in bits.items() if node.options & bit)
    inner = utility.parsed.sql[inner_start(utility.parsed, "FOR") :]
    return utility.session(SessionVerb.DECLARE, node.portalname, inner, options=options)


def _fetch(utility: Utility) -> Planned:
    node = utility.node
    direction = enums.FetchDirection(node.direction).name.removeprefix("FETCH_").lower()
    return utility.session(
        SessionVerb.FETCH,
        node.portalname,
        utility.parsed.sql,
        direction=direction,
        count=None if node.howMany == _FETCH_ALL else node.howMany,
        move=bool(node.ismove),
        returns_rows=not node.ismove,
    )


def _close(utility: Utility) -> Planned:
    return utility.session(SessionVerb.CLOSE, utility.node.portalname or "all")


# --- notifications -----------------------------------------------------------------------------------------------


def _listen(utility: Utility) -> Planned:
    return utility.session(SessionVerb.LISTEN, utility.node.conditionname)


def _unlisten(utility: Utility) -> Planned:
    return utility.session(SessionVerb.UNLISTEN, utility.node.conditionname or "*")


def _notify(utility: Utility) -> Planned:
    """A notification is one group's: the home group is where everybody listens."""
    return utility.session(SessionVerb.NOTIFY, utility.node.conditionname, utility.node.payload or "")


# --- what every group does ---------------------------------------------------------------------------------------


def _everywhere(utility: Utility, *, transactional: bool = True, writes: bool = True) -> Planned:
    plan = Broadcast(groups=utility.snapshot.group_names, transactional=transactional)
    return utility.planned(plan, writes=writes)


def _where_they_are(utility: Utility, relations: str, *, transactional: bool = True, writes: bool = True) -> Planned:
    """As `_everywhere`, but a partition among the tables named (field `relations` of the node) is its group's only."""
    homes = _homes_of_partitions(utility)
    if not homes:
        return _everywhere(utility, transactional=transactional, writes=writes)
    groups, texts = [], []
    for group in utility.snapshot.group_names:
        # Clones keep the order of what is named.
        changed = clone(utility.node)
        listed = getattr(changed, relations)
        kept = tuple(each for at, each in enumerate(listed) if homes.get(at, group) == group)
        if kept:
            setattr(changed, relations, kept)
            groups.append(group)
            texts.append((group, _rendered(changed)))
    plan = Broadcast(groups=tuple(groups), transactional=transactional, texts=tuple(texts))
    return utility.planned(plan, writes=writes)


def _homes_of_partitions(utility: Utility) -> dict[int, str]:
    """The groups of those tables named that are partitions, by their place in the statement."""
    found = {}
    for at, ref in enumerate(table_refs(utility.node, utility.snapshot, utility.context)):
        if ref.relation is not None and ref.relation.kind is Kind.PARTITION:
            found[at] = ref.relation.group or utility.snapshot.home_group
    return found


def _rendered(node: Any) -> str:
    try:
        return render(node)
    except NotRenderable:
        raise not_supported("this statement cannot name partitions", hint="Name them one by one.") from None


def _one_place(utility: Utility) -> str | None:
    """The one group that has all tables named, None where several may be touched."""
    places: set[str] = set()
    for ref in table_refs(utility.node, utility.snapshot, utility.context):
        if ref.temporary or ref.unknown:
            places.add(utility.snapshot.home_group)
        elif ref.relation is not None and ref.relation.kind in (Kind.SINGLE, Kind.PARTITION, Kind.SEQUENCE):
            places.add(ref.relation.group or utility.snapshot.home_group)
        else:
            return None
    return places.pop() if len(places) == 1 else None


def _lock(utility: Utility) -> Planned:
    place = _one_place(utility)
    return utility.planned(Forward(place=place), writes=True) if place else _where_they_are(utility, "relations")


def _truncate(utility: Utility) -> Planned:
    place = None if utility.node.behavior == enums.DropBehavior.DROP_CASCADE else _one_place(utility)
    leaves = _left_by_triggers(utility)
    if place:
        return utility.planned(Forward(place=place), writes=True, leaves=leaves)
    planned = _where_they_are(utility, "relations")
    if utility.node.restart_seqs:
        planned = replace(planned, plan=_restarting(utility))
    return replace(planned, leaves=leaves, neutral=planned.neutral and not leaves)


def _left_by_triggers(utility: Utility) -> Leaves:
    refs = table_refs(utility.node, utility.snapshot, utility.context)
    relations = [ref.relation for ref in refs if ref.relation is not None]
    return of_statement((), relations, utility.snapshot, writes=True)


def _restarting(utility: Utility) -> Broadcast:
    """RESTART IDENTITY: a sequence is restarted where it is real. Its copies in other groups stay where they are parked."""
    tables = [ref.relation for ref in table_refs(utility.node, utility.snapshot, utility.context) if ref.relation]
    if utility.node.behavior == enums.DropBehavior.DROP_CASCADE:
        tables = _with_referencing(tables, utility.snapshot)
    sequences = [each for table in tables for each in default_sequences(table, utility.snapshot)]
    real = {each.group or utility.snapshot.home_group for each in sequences}
    if len(real) > 1:
        raise not_supported(
            "TRUNCATE … RESTART IDENTITY of tables whose sequences are in several groups is not supported",
            hint="Truncate the tables in one transaction, and restart the sequences by ALTER SEQUENCE … RESTART.",
        )
    others = tuple(group for group in utility.snapshot.group_names if group not in real)
    return Broadcast(
        groups=utility.snapshot.group_names, others=others, others_sql=_without_restart(utility.parsed.sql)
    )


def _with_referencing(tables: list[Relation], snapshot: Snapshot) -> list[Relation]:
    """The tables, and those whose foreign keys refer to them, directly or not."""
    found = {table.identity: table for table in tables}
    grown = True
    while grown:
        more = {
            other.identity: other
            for other in snapshot.relations
            for key in other.foreign_keys
            if (key.referenced_schema, key.referenced_name) in found and other.identity not in found
        }
        found |= more
        grown = bool(more)
    return list(found.values())


def _without_restart(sql: str) -> str:
    tokens = [token for token in scan(sql) if token.name not in ("SQL_COMMENT", "C_COMMENT")]
    at = max(index for index, token in enumerate(tokens[:-1]) if tokens[index + 1].name == "IDENTITY_P")
    return sql[: tokens[at].start] + sql[tokens[at + 1].end + 1 :]


def _vacuum(utility: Utility) -> Planned:
    place = _one_place(utility) if utility.node.rels else None
    if place is not None and _touches_temporary(utility):
        return utility.planned(Forward(place=place), pins="temporary table")
    planned = _where_they_are(utility, "rels", transactional=not utility.node.is_vacuumcmd, writes=False)
    return _journalled(planned)


def _maintain(utility: Utility) -> Planned:
    """CLUSTER, REINDEX: of a partitioned table they commit as they go, so never inside a transaction block."""
    if _touches_temporary(utility):
        return utility.at_home(pins="temporary table")
    for ref in table_refs(utility.node, utility.snapshot, utility.context):
        if ref.relation is not None and ref.relation.kind in (Kind.SINGLE, Kind.PARTITION) and ref.relation.group:
            if _is_concurrent(utility.node):  # what it leaves behind must be removed
                plan = Broadcast(groups=(ref.relation.group,), transactional=False, journalled=True)
                return utility.planned(plan)
            return utility.planned(Forward(place=ref.relation.group))
    return _journalled(_everywhere(utility, transactional=False, writes=False))


def _is_concurrent(node: Any) -> bool:
    return any(option.defname == "concurrently" and _is_on(option) for option in node.params or ())


def _journalled(planned: Planned) -> Planned:
    assert isinstance(planned.plan, Broadcast)
    return replace(planned, plan=replace(planned.plan, journalled=True))


def _checkpoint(utility: Utility) -> Planned:
    return _everywhere(utility, transactional=False, writes=False)


def _body(utility: Utility) -> Planned:
    """CALL and DO: a body may do anything, also end transactions; it runs where single tables are."""
    if not fits(_bodies(utility), utility.snapshot, utility.snapshot.home_group, utility.context.search_path):
        raise not_supported(
            "the body would read tables of several groups inside one of them",
            hint="Read them in statements of the session's own.",
        )
    planned = utility.at_home(neutral=False, returns_rows=isinstance(utility.node, ast.CallStmt))
    planned = replace(planned, leaves=left_by(_bodies(utility), utility.snapshot))
    effects = of_functions(_bodies(utility), utility.snapshot, utility.context.search_path)
    found = sequences_of(effects, utility.snapshot, utility.context.search_path)
    return replace(planned, draws=tuple(each.identity for each in found)) if may_draw(effects) else planned


def _bodies(utility: Utility) -> list[Function]:
    node = utility.node
    if isinstance(node, ast.CallStmt):
        call: Any = node.funccall
        *schema, name = names(call.funcname)
        known = utility.snapshot.function_names.get(name, ())
        return [each for each in known if not schema or each.schema == schema[-1]]
    options = {option.defname: option.arg for option in node.args or ()}
    language = getattr(options.get("language"), "sval", None) or "plpgsql"
    source = getattr(options.get("as"), "sval", None) or ""
    body = Function(schema="", name="DO", kind="p", language=language, volatility="v", argument_count=0, source=source)
    return [body]


def _load(utility: Utility) -> Planned:
    return utility.at_home(pins="loaded library", neutral=False)


# --- EXPLAIN -----------------------------------------------------------------------------------------------------


def _explain(utility: Utility) -> Planned:
    node, parsed = utility.node, utility.parsed
    options = {option.defname: option for option in node.options or ()}
    start = inner_start(parsed, "EXPLAIN")
    inner_sql = parsed.sql[start:]
    inner = utility.plan_inner(parse_one(inner_sql), utility.context, utility.snapshot)
    analyze = _is_on(options.get("analyze"))
    words = parsed.sql[:start].strip()[len("EXPLAIN") :].strip()
    form = options["format"].arg.sval.lower() if "format" in options else "text"
    plan = Explain(options_sql=words, analyze=analyze, inner_sql=inner_sql, inner=inner, format=form)
    return utility.planned(plan, returns_rows=True, writes=analyze and inner.writes)


def _is_on(option: Any) -> bool:
    if option is None:
        return False
    value = option.arg
    if value is None:
        return True
    text = str(value.sval if isinstance(value, ast.String) else getattr(value, "ival", getattr(value, "boolval", "")))
    return text.lower() in ("true", "on", "1")


# --- schema changes ----------------------------------------------------------------------------------------------

_PINNING = "temporary table"


def plan_ddl(utility: Utility) -> Planned:
    """Any schema change. One of a temporary object stays in the session's own backend."""
    node = utility.node
    if _makes_temporary(node):
        return _make_temporary(utility)
    if _touches_temporary(utility):
        return utility.at_home(pins=_PINNING)
    plan = Ddl(verb=utility.parsed.verb, transactional=not _commits_by_itself(node))
    rows = isinstance(node, ast.SelectStmt) and node.intoClause is None
    return utility.planned(plan, writes=True, returns_rows=rows)


def _makes_temporary(node: Any) -> bool:
    named = getattr(node, "funcname", None) or getattr(node, "typeName", None) or getattr(node, "domainname", None)
    if isinstance(named, tuple) and names(named)[0] == "pg_temp":
        return True
    made = getattr(node, "into", None) or getattr(node, "intoClause", None)
    made = made.rel if made is not None else None
    for name in ("relation", "sequence", "view"):
        if made is None and type(node) in (ast.CreateStmt, ast.CreateSeqStmt, ast.ViewStmt):
            made = getattr(node, name, None)
    if made is None:
        return False
    return bool(made.relpersistence == "t" or (made.schemaname or "").startswith("pg_temp"))


def _make_temporary(utility: Utility) -> Planned:
    """CREATE TEMPORARY …; with AS, only of rows that the home group has."""
    home = utility.snapshot.home_group
    for ref in table_refs(utility.node, utility.snapshot, utility.context):
        relation = ref.relation
        if relation is None or _is_made(utility.node, ref.node):
            continue
        here = relation.kind in (Kind.REFERENCE, Kind.MATERIALIZED_VIEW) or (relation.group or "") == home
        if not here and isinstance(utility.node, ast.CreateTableAsStmt | ast.SelectStmt):
            return utility.planned(_fill_temporary(utility), writes=True, pins=_PINNING)
        if not here and not _only_shape(utility.node):
            raise not_supported(
                f'a temporary table cannot be made from rows of "{relation.name}", which are in other groups',
                hint="Create the temporary table first, then fill it with INSERT … VALUES or COPY.",
            )
    return utility.at_home(pins=_PINNING)


def _fill_temporary(utility: Utility) -> FillTemporary:
    """CREATE TEMP TABLE … AS, and SELECT … INTO TEMP, over rows that the home group does not have."""
    node, parsed = utility.node, utility.parsed
    if isinstance(node, ast.SelectStmt):
        query: Any = clone(node)
        name = query.intoClause.rel.relname
        query.intoClause = None
        head = f"CREATE TEMPORARY TABLE {quote_identifier(name)} AS"
        try:
            return FillTemporary(query_sql=render(query), create_head=head, name=name)
        except NotRenderable:
            raise not_supported("this SELECT INTO cannot read tables of other groups") from None
    start = inner_start(parsed, "AS")
    return FillTemporary(
        query_sql=without_data_clause(parsed.sql[start:]),
        create_head=parsed.sql[:start],
        name=node.into.rel.relname,
        if_not_exists=bool(node.if_not_exists),
        with_data=not node.into.skipData,
    )


def _is_made(node: Any, range_var: Any) -> bool:
    return range_var is getattr(node, "relation", None) or range_var is getattr(node, "view", None)


def _only_shape(node: Any) -> bool:
    """CREATE TEMP TABLE (LIKE …), INHERITS: columns are taken, no rows."""
    return isinstance(node, ast.CreateStmt)


def _touches_temporary(utility: Utility) -> bool:
    if any(
        is_temporary(each.node.schemaname, each.node.relname, utility.context) for each in named_tables(utility.node)
    ):
        return True
    if isinstance(utility.node, ast.DropStmt):
        paths = [names(path) for path in utility.node.objects or () if isinstance(path, tuple)]
        return any(
            is_temporary(path[-2] if len(path) > 1 else None, path[-1], utility.context) for path in paths if path
        )
    return False


def _commits_by_itself(node: Any) -> bool:
    """CONCURRENTLY: PostgreSQL refuses it inside a transaction block. A change of a group cannot be undone, either."""
    if isinstance(node, ast.AlterTableSpaceOptionsStmt | ast.CreateTableSpaceStmt | ast.DropTableSpaceStmt):
        return True
    if getattr(node, "concurrent", False) and not isinstance(node, ast.RefreshMatViewStmt):
        return True
    commands = getattr(node, "cmds", None) or ()
    return any(isinstance(found, ast.PartitionCmd) and found.concurrent for found in walk(tuple(commands)))


CONVERSIONS = frozenset(("create_distributed_table", "create_reference_table", "undistribute_table"))


def converts(node: Any) -> bool:
    """`SELECT create_distributed_table(…)` and relatives."""
    if not isinstance(node, ast.SelectStmt) or node.fromClause or node.whereClause or len(node.targetList or ()) != 1:
        return False
    (target,) = node.targetList or ()
    path = names(target.val.funcname) if isinstance(target.val, ast.FuncCall) else ()
    schemas = ((), ("public",), *((schema,) for schema in CATALOG_SCHEMAS))
    return bool(path) and path[-1] in CONVERSIONS and path[:-1] in schemas


UTILITIES: dict[type, Callable[[Utility], Planned]] = {
    ast.CallStmt: _body,
    ast.CheckPointStmt: _checkpoint,
    ast.ClosePortalStmt: _close,
    ast.ClusterStmt: _maintain,
    ast.ConstraintsSetStmt: _constraints,
    ast.DeallocateStmt: _deallocate,
    ast.DeclareCursorStmt: _declare,
    ast.DiscardStmt: _discard,
    ast.DoStmt: _body,
    ast.ExecuteStmt: _execute,
    ast.ExplainStmt: _explain,
    ast.FetchStmt: _fetch,
    ast.ListenStmt: _listen,
    ast.LoadStmt: _load,
    ast.LockStmt: _lock,
    ast.NotifyStmt: _notify,
    ast.PrepareStmt: _prepare,
    ast.ReindexStmt: _maintain,
    ast.TransactionStmt: _transaction,
    ast.TruncateStmt: _truncate,
    ast.UnlistenStmt: _unlisten,
    ast.VacuumStmt: _vacuum,
    ast.VariableSetStmt: _set,
    ast.VariableShowStmt: _show,
}
