#!/usr/bin/env python3
"""Times the workloads on one plain PostgreSQL and on Hanse, side by side: `make bench`, or `python -m benchmarks --help`.

    python -m benchmarks                          everything; writes docs/benchmarks.md (about half an hour)
    python -m benchmarks --quick                  small tables, short runs, nothing written (about two minutes)
    python -m benchmarks --workload point_read --seconds 5 --rounds 1
    python -m benchmarks --workload atomic_transfer --workload global_snapshots

Both servers are made here, with the same settings, and are gone at the end. The plain one is given the settings that a group's
instance of Hanse has.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from benchmarks import ROOT, profiling, report, transactions
from benchmarks.data import Sizes, blocks, tables
from benchmarks.measure import ALL, ANALYTIC, WORKLOADS, Settings, measure, modes_of, pgbench
from support import servers
from support.processes import free_ports, sweep
from support.servers import Cluster, Server

# What of a server's configuration costs time: taken from a group's instance and given to the plain server.
SAME_SETTINGS = (
    *("fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers", "work_mem", "max_wal_size"),
    *(
        "max_connections",
        "max_prepared_transactions",
        "jit",
        "effective_cache_size",
        "random_page_cost",
        "checkpoint_timeout",
    ),
    *("max_worker_processes", "max_parallel_workers_per_gather", "track_activities"),
)
PROFILED_SECONDS = 5


def main() -> None:
    args = _arguments()
    sizes = Sizes.quick() if args.quick else Sizes()
    settings = Settings(clients=args.clients, seconds=args.seconds, rounds=args.rounds, accounts=sizes.accounts)
    with tempfile.TemporaryDirectory(prefix="hanse-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)
        stack.callback(sweep, directory)
        cluster = stack.enter_context(running_cluster(directory / "hanse"))
        same = server_settings(cluster)
        over_groups = [workload for workload in args.workload or () if workload in transactions.ALL]
        if over_groups:
            pair = [stack.enter_context(running_plain(directory / name, same)) for name in ("first", "second")]
            print(
                f"{settings.clients} clients, {settings.seconds} s a run, medians of {settings.rounds} interleaved rounds"
            )
            for line in transactions.run(over_groups, cluster, pair, settings):
                print(line, flush=True)
            if len(over_groups) == len(args.workload):
                return
        plain = stack.enter_context(running_plain(directory / "plain", same))
        load(plain, sizes, spread=False)
        load(cluster.server, sizes, spread=True)
        check_answers(plain, cluster.server)
        print(
            f"{settings.clients} clients, {settings.seconds} s a run, medians of {settings.rounds} interleaved rounds"
        )
        print(report.HEAD, flush=True)
        results = []
        for workload in [each for each in args.workload or ALL if each not in over_groups]:
            for mode in modes_of(workload):
                if mode in args.modes:
                    results.append(measure(workload, mode, plain, cluster.server, settings))
                    print(report.line(results[-1]), flush=True)
        profile = "" if args.no_profile else profiled(directory / "profile", sizes, settings)
    if profile:
        print(f"\n{profile}")
    output = args.output or (None if args.quick or args.workload else ROOT / "docs" / "benchmarks.md")
    if output:
        command = "python -m benchmarks " + " ".join(shlex.quote(argument) for argument in sys.argv[1:])
        report.write(
            output, report.document(results, settings, command.strip(), same, profile or "Not taken in this run.")
        )
        print(f"written: {output}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small tables, 3 s runs, one round")
    parser.add_argument(
        "--workload", action="append", choices=ALL + transactions.ALL, help="only these (may be repeated)"
    )
    parser.add_argument("--modes", default="simple,prepared", help="pgbench's query modes for the short transactions")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=int, help="of one run (10; with --quick 3)")
    parser.add_argument("--rounds", type=int, help="3; with --quick 1")
    parser.add_argument("--no-profile", action="store_true", help="without the gateway's profile")
    parser.add_argument("--output", type=Path, help="where the document goes (docs/benchmarks.md after a full run)")
    args = parser.parse_args()
    args.seconds = args.seconds or (3 if args.quick else 10)
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.modes = args.modes.split(",")
    return args


# --- servers ---------------------------------------------------------------------------------------------------------


@contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    """One node, two groups, one gateway worker."""
    directory.mkdir()
    port = free_ports(1)
    try:
        servers.hanse(
            *("up", "--detach", "--data", str(directory / "data"), "--port", str(port), "--workers", "1"),
            *("--nodes", "1", "--groups", "2", "--replicas", "1", "--password", servers.PASSWORD),
            timeout_s=servers.UP_TIMEOUT_S,
        )
        yield Cluster(directory / "data", Server("127.0.0.1", port, "hanse", servers.PASSWORD, "hanse"))
    finally:
        try:
            servers.stop_cluster(directory)
        finally:
            sweep(directory)


@contextmanager
def running_plain(directory: Path, settings: dict[str, str]) -> Iterator[Server]:
    directory.mkdir()
    try:
        yield Server(**servers.start_plain(directory, {**settings, "timezone": "UTC"}))
    finally:
        servers.stop_plain(directory)
        sweep(directory)


def server_settings(cluster: Cluster, names: tuple[str, ...] = SAME_SETTINGS) -> dict[str, str]:
    """What a group's instance runs with, of the settings that cost time."""
    with psycopg.connect(next(iter(cluster.group_dsns().values()))) as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s)", (list(names),)
        )
        return dict(rows.fetchall())


def load(server: Server, sizes: Sizes, *, spread: bool) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        for statement in _statements("schema.sql") + (_statements("distribute.sql") if spread else []):
            connection.execute(statement)  # type: ignore[call-overload]
        for table, lines in tables(sizes):
            with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for block in blocks(lines):
                    copy.write(block)
        connection.execute("VACUUM ANALYZE")


def _statements(name: str) -> list[str]:
    text = "\n".join(line for line in (WORKLOADS / name).read_text().splitlines() if not line.startswith("--"))
    return [statement for statement in text.split(";") if statement.strip()]


def check_answers(plain: Server, hanse: Server) -> None:
    """A fast wrong answer is worth nothing."""
    for workload in ANALYTIC:
        sql = _statements(f"{workload}.sql")[0]
        answers = []
        for server in (plain, hanse):
            with psycopg.connect(server.dsn) as connection:
                answers.append(sorted(connection.execute(sql).fetchall()))  # type: ignore[call-overload]
        assert answers[0] == answers[1], f"{workload}: the two servers answer differently"


def profiled(directory: Path, sizes: Sizes, settings: Settings) -> str:
    """A run of its own, with the gateway's worker under cProfile."""
    dump = directory.parent / "gateway.profile"
    os.environ["HANSE_PROFILE"] = str(dump)
    try:
        with running_cluster(directory) as cluster:
            load(cluster.server, Sizes.quick(), spread=True)
            small = Settings(
                clients=settings.clients, seconds=PROFILED_SECONDS, rounds=1, accounts=Sizes.quick().accounts
            )
            tps = pgbench("point_read", "simple", cluster.server, small).tps
    finally:
        del os.environ["HANSE_PROFILE"]
    return profiling.table(dump, "point_read", tps) if dump.exists() else "The gateway wrote no profile."


if __name__ == "__main__":
    main()
