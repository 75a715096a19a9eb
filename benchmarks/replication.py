"""What replication costs writes: one group of three behind the gateway, and one plain PostgreSQL with two native standbys.

    python -m benchmarks.replication                     four ways to commit, about three minutes
    python -m benchmarks.replication --mode prepared --seconds 10 --way quorum

Both have the same settings and wait for the same: nobody (`async`), one standby's disk (`quorum`), both standbys' disks (`all`), or
one standby on which the commit can be read (`remote_apply`). pgbench updates one row by its key in each transaction. Rounds are
interleaved; what is printed are medians and their ratio, which is to be 0.7 or more.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.measure import Run, Settings, median, pgbench
from benchmarks.run import SAME_SETTINGS, server_settings
from support import servers
from support.processes import free_ports, sweep, wait_until
from support.servers import Cluster, Server

ACCOUNTS = 100_000
STANDBYS = ("s1", "s2")
# What a member of a group has and a server alone has not.
REPLICATED = (
    "wal_log_hints",
    "wal_keep_size",
    "max_wal_senders",
    "max_replication_slots",
    "wal_receiver_status_interval",
)
REMOTE_APPLY = "-c synchronous_commit=remote_apply"
TARGET = 0.7


@dataclass(frozen=True, slots=True)
class Way:
    """`names`: synchronous_standby_names of the plain server; `durability`: of the group; `options`: of each session."""

    names: str
    durability: str
    options: str = ""


WAYS = {
    "async": Way("", "async"),
    "quorum": Way(f"ANY 1 ({', '.join(STANDBYS)})", "quorum"),
    "all": Way(f"ANY 2 ({', '.join(STANDBYS)})", "all"),
    "remote_apply": Way(f"ANY 1 ({', '.join(STANDBYS)})", "quorum", REMOTE_APPLY),
}


@contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    """Three nodes, one group of three."""
    directory.mkdir()
    port = free_ports(3)
    try:
        servers.hanse(
            *("up", "--detach", "--data", str(directory / "data"), "--port", str(port), "--nodes", "3"),
            *("--groups", "1", "--replicas", "3", "--password", servers.PASSWORD),
            timeout_s=180,
        )
        yield Cluster(directory / "data", Server("127.0.0.1", port, "hanse", servers.PASSWORD, "hanse"))
    finally:
        servers.hanse("down", "--data", str(directory / "data"), timeout_s=90)
        sweep(directory)


@contextmanager
def running_plain(directory: Path, settings: dict[str, str]) -> Iterator[Server]:
    """A primary and its standbys, which stream."""
    with ExitStack() as stack:
        stack.callback(sweep, directory)
        directory.mkdir()
        directory.chmod(0o755)
        primary = Server(**_made(stack, directory / "primary", settings))
        for name in STANDBYS:
            servers.start_standby(_directory(stack, directory / name), primary, name)
        wait_until("the standbys stream", lambda: _streaming(primary) == len(STANDBYS), timeout_s=60)
        yield primary


def _directory(stack: ExitStack, directory: Path) -> Path:
    directory.mkdir()
    stack.callback(servers.stop_plain, directory)
    return directory


def _made(stack: ExitStack, directory: Path, settings: dict[str, str]) -> dict[str, object]:
    return servers.start_plain(_directory(stack, directory), {**settings, "timezone": "UTC"})


def _streaming(primary: Server) -> int:
    with psycopg.connect(primary.dsn) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").fetchone()
    assert row is not None
    return int(row[0])


def load(server: Server, partitioned: str) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE accounts (aid int PRIMARY KEY, branch int, balance bigint NOT NULL, filler text)"
            + partitioned  # type: ignore[arg-type]
        )
        connection.execute(
            "INSERT INTO accounts SELECT i, mod(i, 100), 1000, repeat('x', 60) FROM generate_series(1, %s) i",
            (ACCOUNTS,),
        )
        connection.execute("VACUUM ANALYZE accounts")


def set_way(way: Way, plain: Server, cluster: Cluster) -> None:
    """Returns when both wait for what they are to wait for."""
    with psycopg.connect(plain.dsn, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{way.names}'")  # type: ignore[call-overload]
        connection.execute("SELECT pg_reload_conf()")
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(f"ALTER TABLESPACE g1 SET (durability = '{way.durability}')")  # type: ignore[call-overload]
    waited_for = {"async": 0, "quorum": 1, "all": 2}[way.durability]
    wait_until("the rule", lambda: cluster.status()["groups"][0]["k"] == waited_for, timeout_s=60, every_s=0.5)


def line(name: str, plain: tuple[Run, ...], hanse: tuple[Run, ...]) -> str:
    base, reached = median(plain, "tps"), median(hanse, "tps")
    errors = sorted({run.error for run in (*plain, *hanse) if run.error})
    ratio = reached / base if base else float("nan")
    return f"| {name} | {base:.0f} | {reached:.0f} | {ratio:.2f} | {'; '.join(errors) or 'none'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", action="append", choices=list(WAYS))
    parser.add_argument("--mode", choices=("simple", "prepared"), default="simple", help="of pgbench")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=5, help="of one run")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    settings = Settings(clients=args.clients, seconds=args.seconds, rounds=args.rounds, accounts=ACCOUNTS)
    with tempfile.TemporaryDirectory(prefix="hanse-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)
        cluster = stack.enter_context(running_cluster(directory / "hanse"))
        same = server_settings(cluster, (*SAME_SETTINGS, *REPLICATED))
        plain = stack.enter_context(running_plain(directory / "plain", same))
        load(plain, "")
        load(cluster.server, " PARTITION BY HASH (aid)")
        print(f"{args.mode}, {args.clients} clients, {args.seconds} s a run, medians of {args.rounds} rounds")
        print(
            "| commits wait as | plain tps | hanse tps | ratio | errors |\n| --- | ---: | ---: | ---: | --- |",
            flush=True,
        )
        for each in args.way or WAYS:
            way = WAYS[each]
            set_way(way, plain, cluster)
            rounds = [
                tuple(
                    pgbench("point_update", args.mode, server, settings, way.options)
                    for server in (plain, cluster.server)
                )
                for _ in range(settings.rounds)
            ]
            print(line(each, tuple(r[0] for r in rounds), tuple(r[1] for r in rounds)), flush=True)


if __name__ == "__main__":
    main()
