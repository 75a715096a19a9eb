"""The plans: a small closed set of ways to run one statement.

A plan is a value. It holds no connection and no row; it says which groups are asked, what text they are sent, and how
their answers become one answer. The gateway and the executor run it; `EXPLAIN` prints it.

=============== ===========================================================================================
`Forward`       one place answers: the client's text goes there, its bytes come back (most of OLTP)
`Scatter`       several groups answer; rows are concatenated or merged, row counts are added
`InsertRows`    the VALUES rows are split by shard, one INSERT per group
`Replicate`     a write to a reference table: the same in every group
`TwoPhase`      each group computes partial rows; one statement over them in the workspace finishes
`Gather`        the needed rows are pulled into the workspace, where the original text runs
`WriteBack`     a multi-group write whose new rows the workspace computes; they are shipped to their groups
`WithWrites`    a WITH clause that writes, over several groups: one statement after another
`CopyIn/CopyOut` COPY, split or gathered by shard
`Ddl`           a change of the schema, on every group and in the schema-complete database, as one transaction
`Broadcast`     a utility that every group runs (TRUNCATE, LOCK, VACUUM, ANALYZE …)
`Session`       what concerns the session itself: BEGIN, SET, PREPARE, DECLARE, FETCH, LISTEN …
`Explain`       EXPLAIN of any of the above
=============== ===========================================================================================

**Literals and parameters.** A statement text is cut by `sql.literals.split` into segments and literals; segments alone
are the *template*. A plan that is `template_safe` refers to values by position (`Literal(3)`, `Param(0)`), so that it
serves every text of the template; any other plan serves its exact text only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from .leaving import NOTHING, Leaves

Identity = tuple[str, str]  # (schema, name) of a relation

# --- values that routing needs -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Literal:
    """The n-th literal of the statement text, as `sql.literals.split` numbers them (0-based)."""

    index: int


@dataclass(frozen=True, slots=True)
class Param:
    """$n of the extended protocol, 0-based."""

    index: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A value known when planning, canonical for its key type (see `catalog.partition_hash`)."""

    value: int | bytes | None


@dataclass(frozen=True, slots=True)
class Cast:
    """`operand::type`: only casts among integer types, and of a quoted literal to the key's own type."""

    type_oid: int
    operand: Value


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Integer `+`, `-`, `*`. Overflow of the result type is not evaluable: PostgreSQL shall say 22003."""

    operator: str
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Asked:
    """An expression only PostgreSQL can evaluate: `sql` (without column references) is asked before routing."""

    sql: str


@dataclass(frozen=True, slots=True)
class FromSequence:
    """The next value of a sequence, drawn by the gateway before routing."""

    sequence: Identity


Value = Literal | Param | Constant | Cast | Arithmetic | Asked | FromSequence


# --- which shards ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Equal:
    """One value for each column of the partition key, in key order."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`key IN (…)` and OR-ed equalities: the union of the alternatives' shards."""

    alternatives: tuple[Equal, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A range on the single key column of a RANGE (or the value list of a LIST) table. None: unbounded."""

    lower: Value | None
    upper: Value | None
    lower_inclusive: bool = True
    upper_inclusive: bool = True


@dataclass(frozen=True, slots=True)
class Prune:
    """What a statement says of one sharded table's key. `condition` None: nothing, all shards."""

    relation: Identity
    condition: Equal | AnyOf | Between | None


# --- plans -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rename:
    """In segment `segment` of the text, bytes start:end are a table's name; the partition's name replaces them.

    `alias` is what follows the name: `b' AS accounts'`, or empty where the statement already has an alias.
    """

    relation: Identity
    segment: int
    start: int
    end: int
    alias: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One place runs the text as it is, or with partitions named in it.

    The place is `place` if set (a group, or the workspace for catalog queries); else the one group in which all `prunes`
    meet; else (`place` None and no prunes) any one group: the statement reads reference tables or no table at all.
    When the prunes do not meet in one group, or a value is not evaluable, the statement is planned again with
    `Context.forward_allowed` False.
    """

    place: str | None = None
    prunes: tuple[Prune, ...] = ()
    renames: tuple[Rename, ...] = ()
    any_group: bool = False
    sql: str | None = None  # when the text must differ (then not template_safe)


@dataclass(frozen=True, slots=True, kw_only=True)
class SortKey:
    """One ORDER BY item.

    The executor compares by the type in the groups' RowDescription, and plans again with `Context.merge_allowed` False if
    `executor.merge` cannot compare it; `type_oid` is what the planner was sure of beforehand (0: nothing).
    """

    column: int  # index in the rows that groups send; negative: counted from the end
    descending: bool = False
    nulls_first: bool = False
    type_oid: int = 0  # one of planner.merge_rules.SORTABLE_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """How the groups' rows become one result. No keys: concatenated in canonical order of groups.

    A `Param` limit or offset is read from the bound parameters (`executor.merge.bounds`).
    """

    keys: tuple[SortKey, ...] = ()
    limit: int | Param | None = None
    offset: int | Param = 0
    drop_columns: int = 0  # so many trailing columns were added for sorting and are not the client's


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """The same statement to each group that a prune leaves (`prunes` empty: to all that hold rows of `groups`).

    `clock`: `sql` holds `planner.clock.PLACEHOLDER` once or more; every group must see the same time, so the executor
    puts the transaction's start time in its place (`planner.clock.with_time`).
    """

    groups: tuple[str, ...]
    prunes: tuple[Prune, ...] = ()
    sql: str | None = None  # None: the client's text, unchanged (may hold $n)
    merge: Merge = field(default_factory=Merge)
    clock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSpan:
    """A VALUES row's place in the split text: from (segment, byte) to (segment, byte), parentheses included."""

    first_segment: int
    start: int
    last_segment: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """In row `row` of a VALUES list, the expression for `column` at `span` gives way to a value computed before.

    It was DEFAULT, or an expression that must not be evaluated twice. Where the column is part of the key, the row's
    `Equal` holds the same value: it is evaluated once for both. A span may begin where a literal begins, written as the
    end of the segment before it.
    """

    row: int
    column: str
    span: RowSpan
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertRows:
    """`INSERT INTO relation (columns) VALUES rows [ON CONFLICT …] [RETURNING …]`, one statement per group.

    The text up to the first row is the head, from the last row's end the tail. `added` are columns that the client left
    to their default and that must be evaluated before routing or once for all groups: they are appended to the column
    list (`columns_end`: segment and byte where `, name` goes) and to every row. `override` says that an identity column
    GENERATED ALWAYS is among them (OVERRIDING SYSTEM VALUE goes before VALUES, at `values_start`).
    """

    relation: Identity
    keys: tuple[Equal, ...]  # one per row
    rows: tuple[RowSpan, ...]
    added: tuple[tuple[str, Value], ...] = ()
    columns_end: tuple[int, int] | None = None
    columns_missing: bool = False  # no column list in the text: `column_names` must be written out at columns_end
    column_names: tuple[str, ...] = ()
    values_start: tuple[int, int] = (0, 0)
    override: bool = False
    replicated: bool = False  # a reference table: every row goes to every group
    replaced: tuple[Replaced, ...] = ()  # in the order of the text
    copied: tuple[str, ...] = ()  # the columns, if COPY would do the same with these rows; empty: it would not
    compiled: dict[str, object] = field(default_factory=dict, compare=False, repr=False)  # the executor's own notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """A write to a reference table: first group in canonical order, then the others in parallel; rows of the first.

    `volatile`: the statement may compute other rows in each group; it runs in the first group only and the rows it
    made are shipped to the others.
    """

    relation: Identity
    volatile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoPhase:
    """`partial_sql` on the groups gives rows of `partial_columns`; `final_sql` over table `hanse_partial` finishes.

    `partial_columns` are (name, type) as the temporary table hanse_partial in the workspace is made; type '' means: as
    the groups' RowDescription says (format_type(oid, typmod)). `final_sql` names the table unqualified, once. Both texts
    may use fewer parameters than the client's text, so Parse must declare the types of all. `clock` as in `Scatter`.
    """

    groups: tuple[str, ...]
    prunes: tuple[Prune, ...] = ()
    partial_sql: str
    partial_columns: tuple[tuple[str, str], ...]
    final_sql: str
    clock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """Rows of one table for the workspace: `SELECT columns FROM relation WHERE where`, from the groups left by `prune`.

    Columns that the statement does not touch are not pulled (they are NULL in the workspace). `as_owner` is the role
    whose rights apply when the table is read through a view (findings-gateway 9); None: the user's own.
    `lock` ('FOR UPDATE SKIP LOCKED' …) follows the WHERE clause when the statement locks the rows of this table.
    """

    relation: Identity
    columns: tuple[str, ...]
    where: str | None = None
    prune: Prune | None = None
    as_owner: str | None = None
    lock: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Everything else: pull, then run `sql` (None: the client's own text) in the workspace as the user."""

    pulls: tuple[Pull, ...]
    sql: str | None = None
    reason: str = ""  # why no better plan was possible: for EXPLAIN
    temporary: tuple[str, ...] = ()  # temporary tables of the session's that are copied there, too


@dataclass(frozen=True, slots=True, kw_only=True)
class FillTemporary:
    """A temporary table gets the rows of a query over other groups.

    CREATE TEMPORARY TABLE … AS: `create_head` ('CREATE TEMP TABLE t ON COMMIT DROP AS') makes table `name`, empty; the
    rows of `query_sql` are copied into it. INSERT INTO a temporary table … SELECT: the rows are copied into another
    temporary table, `hanse_rows`, and `insert_sql` takes them from there.
    """

    query_sql: str
    create_head: str = ""
    name: str = ""
    if_not_exists: bool = False
    with_data: bool = True
    insert_sql: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeAction:
    """What MERGE does with some of its rows: `first` is the query column in which the new values begin."""

    verb: str  # 'insert', 'update', 'delete'
    first: int
    columns: tuple[str, ...] = ()
    added: tuple[tuple[str, Value], ...] = ()
    override: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBack:
    """INSERT … SELECT, UPDATE … FROM, DELETE … USING, MERGE over several groups.

    `query` (a plan of its own: text `query_sql`) computes rows in `columns` order. For an INSERT they are the new rows.
    For UPDATE and DELETE the first `len(identity)` columns identify the row by a unique key, then come new values of
    `columns`, then `carried` columns of the statement's other tables, which the RETURNING clause in `tail_sql` calls
    `hanse_rows.hanse_n` (n counts from 0 over all columns of the query). A target row that comes again is left out: it is
    changed once, by any one of the rows that it matches. When `columns` holds a column of the partition key, a row may
    have to move: where the new key lies in another group it is deleted there and inserted here (the table is not
    referenced by foreign keys then). A query without columns (`INSERT … DEFAULT VALUES`) gives one row.

    For MERGE the query's first column is the number of the action (1 …), then come the identity and the values of all
    actions, one after another; a target row that comes again is an error.

    Values keep the types that the query gives them: the writing statement assigns them as the client's own would have.
    """

    verb: str  # 'insert', 'update', 'delete', 'merge'
    relation: Identity
    query_sql: str
    columns: tuple[str, ...]
    identity: tuple[str, ...] = ()
    tail_sql: str = ""  # ON CONFLICT … RETURNING …
    # INSERT, UPDATE: further columns, each evaluated once per row (see InsertRows); never of the key in an UPDATE
    added: tuple[tuple[str, Value], ...] = ()
    override: bool = False  # INSERT: an identity column GENERATED ALWAYS is given a value
    alias: str | None = None  # the target's alias, as tail_sql may use it
    carried: int = 0
    actions: tuple[MergeAction, ...] = ()
    tag: str = ""  # the command tag's verb, where it is not `verb`
    through: Identity | None = None  # the simple view that is written instead of the table; columns have the same names


@dataclass(frozen=True, slots=True, kw_only=True)
class WithItem:
    """One query of a WITH clause. `needs`: the items before it that it speaks of, also through one another."""

    name: str  # quoted as needed
    columns: str  # ' (a, b)', or '': named as the query names them
    sql: str  # without a WITH clause of its own
    writes: bool = False
    option: str = ""  # 'MATERIALIZED ' or 'NOT MATERIALIZED ' of one that only reads
    needs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WithWrites:
    """A statement whose WITH clause writes, when no single group can run it: step by step.

    The items that write run in their order and their RETURNING rows are kept; the statements after them see those rows as
    a WITH query of VALUES. No statement reads what an earlier one has written, so that all of them might as well have had
    one snapshot, as PostgreSQL gives them.
    """

    items: tuple[WithItem, ...]
    final: WithItem  # the statement itself; has no name


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyIn:
    relation: Identity
    columns: tuple[str, ...]  # () : all columns that are not generated
    options: tuple[tuple[str, str], ...]  # normalised names: format, delimiter, null, header, quote, escape, encoding…
    options_sql: str  # `WITH (…)` as sent to the groups


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOut:
    """`query_sql` set: COPY (query) TO STDOUT; else COPY relation (columns) TO STDOUT."""

    relation: Identity | None
    columns: tuple[str, ...]
    query_sql: str | None
    options: tuple[tuple[str, str], ...]
    options_sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ddl:
    """A schema change. What each place runs is worked out by `planner.ddl` when it runs, under the DDL lock."""

    verb: str  # the command tag: 'CREATE TABLE'
    transactional: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """The text on every one of `groups`, and in the schema-complete database where `workspace` says so.

    `texts`: what single groups run instead, because they do not have all that the text names. `journalled`: where it is no part
    of a transaction, a journal says which groups have run it.
    """

    groups: tuple[str, ...]
    workspace: bool = False
    transactional: bool = True
    sql: str | None = None
    others: tuple[str, ...] = ()  # groups that run `others_sql` in its place
    others_sql: str = ""
    texts: tuple[tuple[str, str], ...] = ()
    journalled: bool = False


class SessionVerb(StrEnum):
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback to"
    PREPARE_TRANSACTION = "prepare transaction"  # and COMMIT/ROLLBACK PREPARED: the user's own two-phase commit
    SET = "set"
    SET_LOCAL = "set local"
    SET_TRANSACTION = "set transaction"
    SET_CONSTRAINTS = "set constraints"
    RESET = "reset"
    SHOW = "show"
    DISCARD = "discard"
    PREPARE = "prepare"
    EXECUTE = "execute"
    DEALLOCATE = "deallocate"
    DECLARE = "declare"
    FETCH = "fetch"
    CLOSE = "close"
    LISTEN = "listen"
    UNLISTEN = "unlisten"
    NOTIFY = "notify"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`name` and `argument` depend on the verb: setting and value, savepoint, statement or cursor name, inner SQL.

    =========== ======================= ==================================================================
    verb        name                    argument
    =========== ======================= ==================================================================
    BEGIN       'begin'                 the options' text, e.g. 'ISOLATION LEVEL REPEATABLE READ READ ONLY'
    COMMIT      ''                      'chain' or ''  (ROLLBACK alike)
    SAVEPOINT   the savepoint           ''  (RELEASE, ROLLBACK_TO alike)
    SET         the setting, lower case the text as sent, e.g. "SET datestyle = 'ISO, DMY'" ; SET_LOCAL alike
    RESET       the setting or 'all'    ''
    SHOW        the setting             ''
    DISCARD     'all', 'plans', …       ''
    PREPARE     statement name          the inner SQL; `types` as written, e.g. '(int, text)'
    EXECUTE     statement name          the argument list as SQL: "1, 'a'"
    DEALLOCATE  statement name or 'all' ''
    DECLARE     cursor name             the inner query's SQL; `options`: frozenset of 'hold','scroll','binary'
    FETCH       cursor name             `FETCH`/`MOVE` as sent; `direction`, `count` (None: ALL), `move`
    CLOSE       cursor name or 'all'    ''
    LISTEN      channel                 ''
    =========== ======================= ==================================================================
    """

    verb: SessionVerb
    name: str = ""
    argument: str = ""
    types: str = ""
    options: frozenset[str] = frozenset()
    direction: str = "forward"
    count: int | None = 1
    move: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    options_sql: str  # '(ANALYZE, FORMAT TEXT)' or ''
    analyze: bool
    inner_sql: str
    inner: Planned
    format: str = "text"


Plan = (
    Forward
    | Scatter
    | InsertRows
    | Replicate
    | TwoPhase
    | Gather
    | FillTemporary
    | WriteBack
    | WithWrites
    | CopyIn
    | CopyOut
    | Ddl
    | Broadcast
    | Session
    | Explain
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan with what the session must know of the statement whatever its plan is."""

    plan: Plan
    verb: str = "SELECT"  # the statement's kind, as its command tag begins: SELECT, INSERT, UPDATE, COPY, BEGIN …
    returns_rows: bool = True
    writes: bool = False  # takes part in the commit decision; SELECT … FOR UPDATE counts as writing
    relations: frozenset[Identity] = frozenset()  # every relation of the catalog that is touched
    neutral: bool = True  # leaves no session state behind (findings-gateway 6)
    leaves: Leaves = NOTHING  # what functions that it runs may have set for the session
    of_server: bool = False  # speaks of the server that runs it, which is to be a leader
    pins: str | None = None  # why the session must keep its backend: 'temporary table', 'advisory lock', …
    draws: tuple[Identity, ...] | None = None  # may draw in the one place that runs it; the sequences that are known
    template_safe: bool = False
    frozen: tuple[int, ...] = ()  # literals whose value the plan depends on; the cache compares them


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a plan depends on besides text and catalog: all of it is part of the plan cache's key."""

    search_path: tuple[str, ...] = ("public",)  # `$user` already replaced, pg_catalog implied
    user: str = ""
    temporary: frozenset[str] = frozenset()  # names of the session's temporary relations
    forward_allowed: bool = True
    gather_only: bool = False  # no better plan than `Gather` is wanted (COPY of a query's result)
    merge_allowed: bool = True  # False: a sort key turned out to be of a type that the gateway cannot compare
    parameter_types: tuple[int, ...] = ()  # declared type oids of $1 …; 0: unspecified
