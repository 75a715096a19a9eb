"""Which functions a statement calls, and what calling them means for where it runs and what it leaves behind.

=========== ========================================================================================================
class       meaning
=========== ========================================================================================================
NEUTRAL     built in, no trace: the backend may serve another client afterwards (findings-gateway 6)
VOLATILE    built in, another value on each call; no trace in the session
SESSION     built in, reads or leaves state of the session: set_config, advisory locks, currval, large objects …
CATALOG     built in, looks things up in the system catalogs: the schema-complete database knows all of them
SERVER      built in, speaks of the server or the backend it runs in
USER        made by a user: may do anything a statement can
=========== ========================================================================================================

The names are those of PostgreSQL 16's pg_proc (`provolatile = 'v'`, and the families of catalog lookups). A name that
is in no list and that no user made is an immutable or stable built-in function: NEUTRAL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from pglast import ast

from .walk import names, walk


class FunctionClass(StrEnum):
    NEUTRAL = "neutral"
    VOLATILE = "volatile"
    SESSION = "session"
    CATALOG = "catalog"
    SERVER = "server"
    USER = "user"


class HasFunctions(Protocol):
    """What of a catalog snapshot is needed here."""

    @property
    def function_names(self) -> Mapping[str, tuple[Any, ...]]: ...


_VOLATILE = frozenset(
    "array_sample array_shuffle clock_timestamp gen_random_uuid random random_normal timeofday setseed "
    "pg_sleep pg_sleep_for pg_sleep_until pg_nextoid uuidv4 uuidv7".split()
)

_SESSION = frozenset(
    "set_config nextval currval lastval setval pg_notify setseed "
    "pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared "
    "pg_try_advisory_lock pg_try_advisory_lock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared "
    "pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared pg_export_snapshot "
    "pg_listening_channels pg_my_temp_schema pg_prepared_statement pg_cursor "
    "pg_replication_origin_session_setup pg_replication_origin_session_reset pg_replication_origin_xact_setup "
    "loread lowrite ts_rewrite ts_stat query_to_xml query_to_xml_and_xmlschema query_to_xmlschema "
    "cursor_to_xml cursor_to_xmlschema table_to_xml table_to_xmlschema table_to_xml_and_xmlschema "
    "schema_to_xml schema_to_xml_and_xmlschema database_to_xml database_to_xml_and_xmlschema".split()
)
_SESSION_FAMILY = re.compile(r"(lo|dblink)_").match

_CATALOG = frozenset(
    "format_type col_description obj_description shobj_description to_regclass to_regcollation to_regnamespace "
    "to_regoper to_regoperator to_regproc to_regprocedure to_regrole to_regtype current_schema current_schemas "
    "pg_describe_object pg_identify_object pg_identify_object_as_address pg_column_is_updatable "
    "pg_relation_is_updatable pg_index_column_has_property pg_index_has_property pg_indexam_has_property "
    "pg_sequence_parameters pg_partition_tree pg_partition_ancestors pg_partition_root "
    "pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size pg_database_size pg_tablespace_size "
    "pg_tablespace_location pg_tablespace_databases pg_encoding_to_char pg_options_to_table "
    "pg_available_extensions pg_available_extension_versions pg_relation_filenode pg_relation_filepath "
    "aclexplode acldefault pg_event_trigger_ddl_commands".split()
)
_CATALOG_FAMILY = re.compile(r"pg_get_|has_\w+_privilege\Z|pg_has_role\Z|pg_\w+_is_visible\Z").match

_SERVER = frozenset(
    "pg_backend_pid pg_postmaster_start_time pg_conf_load_time pg_is_in_recovery inet_server_addr inet_server_port "
    "pg_cancel_backend pg_terminate_backend pg_reload_conf pg_rotate_logfile pg_promote pg_switch_wal "
    "txid_current txid_current_if_assigned txid_current_snapshot txid_status pg_current_xact_id "
    "pg_current_xact_id_if_assigned pg_current_snapshot pg_xact_status pg_lock_status pg_blocking_pids "
    "pg_safe_snapshot_blocking_pids pg_create_restore_point pg_stat_file pg_show_all_settings".split()
)
_SERVER_FAMILY = re.compile(
    r"pg_(ls_|read_|stat_|current_wal|wal_|last_|backup_|control_|logical_|replication_|create_\w+_slot|drop_\w+_slot|log_)"
).match

# What makes a session keep its backend, and the reason that `Planned.pins` gives for it.
_PINS = {
    "pg_advisory_lock": "advisory lock",
    "pg_advisory_lock_shared": "advisory lock",
    "pg_try_advisory_lock": "advisory lock",
    "pg_try_advisory_lock_shared": "advisory lock",
    "pg_replication_origin_session_setup": "replication origin",
    "setseed": "random seed",
}

AGGREGATES = frozenset(
    "any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every "
    "json_agg json_agg_strict json_object_agg json_object_agg_strict json_object_agg_unique "
    "json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg jsonb_object_agg_strict "
    "jsonb_object_agg_unique jsonb_object_agg_unique_strict max min mode percentile_cont percentile_disc range_agg "
    "range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy "
    "stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance xmlagg".split()
)

_CATALOG_TYPES = frozenset(
    "regclass regtype regproc regprocedure regoper regoperator regnamespace regrole regcollation regconfig "
    "regdictionary".split()
)


@dataclass(frozen=True, slots=True)
class Call:
    node: Any
    schema: str | None
    name: str
    kind: FunctionClass


def classify(schema: str | None, name: str, snapshot: HasFunctions) -> FunctionClass:
    """The class of `schema.name(…)`; any overload made by a user makes it USER unless pg_catalog is named."""
    if schema not in (None, "pg_catalog") or (schema is None and name in snapshot.function_names):
        return FunctionClass.USER
    if name in _SESSION or _SESSION_FAMILY(name):
        return FunctionClass.SESSION
    if name in _VOLATILE:
        return FunctionClass.VOLATILE
    if name in _CATALOG or _CATALOG_FAMILY(name):
        return FunctionClass.CATALOG
    if name in _SERVER or _SERVER_FAMILY(name):
        return FunctionClass.SERVER
    return FunctionClass.NEUTRAL


def calls(node: Any, snapshot: HasFunctions) -> Iterator[Call]:
    """Every function call at any depth."""
    for found in walk(node):
        if isinstance(found, ast.FuncCall):
            path = names(found.funcname)
            schema, name = (path[-2], path[-1]) if len(path) > 1 else (None, path[-1])
            yield Call(found, schema, name, classify(schema, name, snapshot))


def classes(node: Any, snapshot: HasFunctions) -> frozenset[FunctionClass]:
    return frozenset(call.kind for call in calls(node, snapshot))


def pinning(found: Call) -> str | None:
    """Why the session must keep its backend after this call, None where it need not."""
    return _PINS.get(found.name) if found.kind is FunctionClass.SESSION else None


def is_volatile(node: Any, snapshot: HasFunctions) -> bool:
    """Whether evaluating it twice may give two answers. A user's function counts by its declared volatility."""
    for call in calls(node, snapshot):
        if call.kind in (FunctionClass.VOLATILE, FunctionClass.SESSION, FunctionClass.SERVER):
            return True
        if call.kind is FunctionClass.USER:
            overloads = snapshot.function_names.get(call.name, ())
            if not overloads or any(overload.volatility == "v" for overload in overloads):
                return True
    return False


def casts_to_catalog_type(node: Any) -> bool:
    """Whether a value is cast to regclass and the like: its meaning needs the whole schema."""
    casts = (found.typeName for found in walk(node) if isinstance(found, ast.TypeCast))
    return any(names(target.names)[-1] in _CATALOG_TYPES for target in casts if target is not None)


# Stable functions whose value may differ from one server, or one transaction, to the next.
_PER_PLACE = frozenset(
    "now transaction_timestamp statement_timestamp age version current_database pg_typeof current_setting "
    "current_query pg_my_temp_schema inet_client_addr inet_client_port".split()
)
_SPECIAL_STRINGS = frozenset(("now", "today", "tomorrow", "yesterday"))


def differs_by_place(node: Any, snapshot: HasFunctions) -> bool:
    """Whether two groups that evaluate this at the same time may get two values."""
    for found in walk(node):
        if isinstance(found, ast.SQLValueFunction):
            return True
        if isinstance(found, ast.String) and (found.sval or "").strip().lower() in _SPECIAL_STRINGS:
            return True
    for call in calls(node, snapshot):
        if call.kind is FunctionClass.USER:
            overloads = snapshot.function_names.get(call.name, ())
            if not overloads or any(overload.volatility != "i" for overload in overloads):
                return True
        elif call.kind is not FunctionClass.NEUTRAL or call.name in _PER_PLACE:
            return True
    return False
