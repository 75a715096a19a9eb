"""What an instance is configured to: three profiles, written to a file of its own that postgresql.conf includes.

Nothing is ever a server argument: arguments beat files and ALTER SYSTEM, so they cannot be changed while the server
runs, and pg_rewind's single-user recovery does not see them. The file is rewritten at every start, because pg_rewind
and pg_basebackup copy the configuration of the server they read from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...config import SYSTEM_ROLE
from ...core.limits import SLOT_WAL_BYTES_MAX

INCLUDED_FILE = "hanse.conf"
GROUP_FILE = "hanse_group.conf"  # included by it where the instance is one of several
PARALLEL_WORKERS_MAX = 8  # PostgreSQL's default
BIG_MEMORY_BYTES = 8 << 30  # from here on a group instance takes twice the buffers

_EVERYWHERE = {
    "password_encryption": "scram-sha-256",
    # One meaning on all instances, whatever machine they were made on.
    "timezone": "UTC",
    "log_timezone": "UTC",
    "datestyle": "iso, mdy",
    "intervalstyle": "postgres",
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "default_text_search_config": "pg_catalog.english",
    # Statements hold users' data and the secrets of transactions: they do not belong into a log.
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}

_GROUP = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_connections": "300",
    "max_prepared_transactions": "200",
    # A group's part of a table is several partitions; rows go through an aggregate faster than through an Append before it.
    "enable_partitionwise_aggregate": "on",
}

# Of an instance that has others beside it (probes E; findings-transactions B11, C17).
_REPLICATED = {
    "restart_after_crash": "off",  # a server that comes back by itself would lead with what nobody else has
    "wal_log_hints": "on",  # pg_rewind needs it
    "wal_keep_size": "256MB",  # pg_rewind reads the WAL back to the last common checkpoint
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_slot_wal_keep_size": f"{SLOT_WAL_BYTES_MAX >> 20}MB",
    "hot_standby": "on",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
}

_WORKSPACE = {
    # Nothing durable is kept here; an instance that outlived its machine's crash is made anew (see instance.py).
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "autovacuum": "on",
    "jit": "off",
    "max_connections": "200",
    "max_locks_per_transaction": "256",  # the whole schema, every shard of it, is here
    "shared_buffers": "64MB",
}

_PLAIN = {
    "fsync": "off",
    "max_prepared_transactions": "100",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A kind of instance. `unique`: it needs a system identifier of its own, because it is, or may be, replicated.
    `replicated`: it has settings of its group (group_files.py), which win over these."""

    name: str
    superuser: str
    settings: Mapping[str, str] = field(default_factory=dict)
    authentication: str = "scram-sha-256"
    unique: bool = False
    replicated: bool = False


def group_profile() -> Profile:
    settings = _EVERYWHERE | _GROUP | {"shared_buffers": "256MB" if memory_bytes() >= BIG_MEMORY_BYTES else "128MB"}
    # Groups work on a query at the same time: more workers than cores only cost their start.
    settings["max_parallel_workers"] = str(min(PARALLEL_WORKERS_MAX, max(2, os.cpu_count() or 1)))
    if sys.platform == "linux":
        # A backend that waits for a lock does not notice that its client has died, and its queued lock stops others.
        settings["client_connection_check_interval"] = "100ms"
    return Profile(name="group", superuser=SYSTEM_ROLE, settings=settings, unique=True)


def replicated_profile() -> Profile:
    """A group instance among several."""
    return replace(group_profile(), settings=dict(group_profile().settings) | _REPLICATED, replicated=True)


def workspace_profile() -> Profile:
    return Profile(name="workspace", superuser=SYSTEM_ROLE, settings=_EVERYWHERE | _WORKSPACE)


def plain_profile(*, authentication: str = "trust", settings: Mapping[str, str] | None = None) -> Profile:
    """A PostgreSQL as tests and benchmarks want it: superuser `postgres`, PostgreSQL's defaults but for `settings`."""
    chosen = _EVERYWHERE | _PLAIN | dict(settings or {})
    return Profile(name="plain", superuser="postgres", settings=chosen, authentication=authentication)


def memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # not every system knows these names
        return 0


def render_settings(settings: Mapping[str, str]) -> str:
    """The text of a configuration file (manual 20.1.2): every value quoted, quotes doubled, backslashes doubled."""
    lines = ["# Written by Hanse at every start of this server; changes made here are lost.\n"]
    for name, value in sorted(settings.items()):
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{escaped}'\n")
    return "".join(lines)


def address_settings(*, host: str, port: int, socket_directory: Path | None, name: str) -> dict[str, str]:
    return {
        "listen_addresses": host,
        "port": str(port),
        "unix_socket_directories": "" if socket_directory is None else f'"{socket_directory}"',
        "unix_socket_permissions": "0700",
        "cluster_name": name,
    }


def render_hba(authentication: str) -> str:
    """pg_hba.conf: one method for everybody, over sockets and over the network, replication as well."""
    lines = ("local all all", "host all all all", "local replication all", "host replication all all")
    return "".join(f"{line} {authentication}\n" for line in lines)
