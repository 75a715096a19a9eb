"""pgbench runs and their numbers."""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support.servers import Server, binary

WORKLOADS = Path(__file__).parent / "workloads"
SHORT_READS = ("point_read",)
ANALYTIC = ("agg", "topn", "colocated_join", "reference_join", "repartition_join")
SHORT_WRITES = ("point_update", "transfer", "tpcb", "insert_batch")
ALL = SHORT_READS + ANALYTIC + SHORT_WRITES  # reads first: they see tables that no run has changed
TRIES_MAX = 20  # pgbench retries 40001 and 40P01


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    clients: int = 16
    seconds: int = 10
    rounds: int = 3
    accounts: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One pgbench run. Latencies in milliseconds."""

    tps: float
    mean: float
    p95: float
    p99: float
    failed: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The rounds of one workload and mode on both servers."""

    workload: str
    mode: str
    plain: tuple[Run, ...]
    hanse: tuple[Run, ...]

    @property
    def ratio(self) -> float:
        base = median(self.plain, "tps")
        return median(self.hanse, "tps") / base if base else float("nan")

    @property
    def notes(self) -> str:
        parts = []
        for name, runs in (("plain", self.plain), ("hanse", self.hanse)):
            failed = sum(run.failed for run in runs)
            if failed:
                parts.append(f"{name}: {failed} failed")
            errors = [run.error for run in runs if run.error]
            if errors:
                parts.append(f"{name}: {errors[0]}")
        return "; ".join(parts)


def median(runs: tuple[Run, ...], field: str) -> float:
    return statistics.median(getattr(run, field) for run in runs)


def modes_of(workload: str) -> tuple[str, ...]:
    return ("simple",) if workload in ANALYTIC else ("simple", "prepared")


def measure(workload: str, mode: str, plain: Server, hanse: Server, settings: Settings) -> Result:
    """Rounds are interleaved, so that what else the machine does meets both servers alike."""
    rounds = [
        (pgbench(workload, mode, plain, settings), pgbench(workload, mode, hanse, settings))
        for _ in range(settings.rounds)
    ]
    return Result(workload=workload, mode=mode, plain=tuple(r[0] for r in rounds), hanse=tuple(r[1] for r in rounds))


def pgbench(workload: str, mode: str, server: Server, settings: Settings, options: str = "") -> Run:
    """`options`: of each session, as libpq's PGOPTIONS."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(binary("pgbench"), "-n", "-M", mode, "-c", str(settings.clients), "-j", "1"),
            *("-T", str(settings.seconds), "--max-tries", str(TRIES_MAX), "-l", "--log-prefix", f"{directory}/log"),
            *(("-b", "tpcb-like") if workload == "tpcb" else ("-f", str(WORKLOADS / f"{workload}.sql"))),
            *("-D", f"accounts={settings.accounts}"),
        ]
        done = subprocess.run(
            command,
            env={**server.environment, "PGOPTIONS": options},
            capture_output=True,
            text=True,
            timeout=settings.seconds * 20 + 120,
        )
        latencies = sorted(_latencies(Path(directory)))
    tps = re.search(r"^tps = ([0-9.]+)", done.stdout, re.M)
    failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
    error = "" if done.returncode == 0 and tps else _first_error(done.stderr)
    return Run(
        tps=float(tps.group(1)) if tps else 0.0,
        mean=statistics.fmean(latencies) if latencies else float("nan"),
        p95=_percentile(latencies, 0.95),
        p99=_percentile(latencies, 0.99),
        failed=int(failed.group(1)) if failed else 0,
        error=error,
    )


def _first_error(stderr: str) -> str:
    """What the server said; pgbench's own last line only says that the run was aborted."""
    lines = (
        [line for line in stderr.splitlines() if "error" in line.lower()] or stderr.splitlines() or ["pgbench failed"]
    )
    return lines[0].strip()[:200]


def _latencies(directory: Path) -> list[float]:
    """pgbench's log: client, transaction number, microseconds or 'failed', …"""
    found = []
    for path in directory.glob("log*"):
        for line in path.read_text().splitlines():
            value = line.split()[2]
            if value.isdigit():
                found.append(int(value) / 1000)
    return found


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
