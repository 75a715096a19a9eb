"""What the benchmark prints, and `docs/benchmarks.md`."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import psutil

from benchmarks.measure import Result, Settings, median

# Ratios that a release is measured by; the others are shown only.
TARGETS = {"point_read": 0.5, "point_update": 0.6, "insert_batch": 0.4, "agg": 0.8, "topn": 0.8}

HEAD = f"{'workload':<17}{'mode':<10}{'plain tps':>11}{'hanse tps':>11}{'ratio':>7}{'target':>8}  notes"


def line(result: Result) -> str:
    target = TARGETS.get(result.workload)
    wanted = f"≥ {target}" if target else ""
    numbers = f"{median(result.plain, 'tps'):>11.1f}{median(result.hanse, 'tps'):>11.1f}{result.ratio:>7.2f}{wanted:>8}"
    return f"{result.workload:<17}{result.mode:<10}{numbers}  {result.notes}"


def document(
    results: list[Result], settings: Settings, command: str, server_settings: dict[str, str], profile: str
) -> str:
    rows = "\n".join(_row(result) for result in results)
    same = ", ".join(f"`{name} = {value}`" for name, value in sorted(server_settings.items()))
    machine = f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} {platform.machine()}"
    return f"""# Benchmarks

Written by `{command}` on {datetime.date.today().isoformat()}.
Machine: {machine}, Python {platform.python_version()}.

One plain PostgreSQL and one Hanse (one node, two groups, one gateway worker) run side by side on the same cores as
pgbench itself, so the ratio says what an operation *costs*; it says nothing about growth over machines.
{settings.clients} clients, one pgbench thread, {settings.seconds} s a run, medians of {settings.rounds} interleaved
rounds, {settings.accounts:,} accounts. Before anything was timed, the analytic queries gave the same rows on both.

The same on both: {same}.

| workload | mode | plain tps | mean / p95 / p99 ms | Hanse tps | mean / p95 / p99 ms | ratio | target |
| --- | --- | ---: | --- | ---: | --- | ---: | --- |
{rows}

The workloads are in `benchmarks/workloads/`. transfer changes two rows in one transaction, in half of the cases in two
groups; tpcb is pgbench's own script over tables spread by account, branch, teller and account.

## Where the gateway's time goes

{profile}
"""


def _row(result: Result) -> str:
    target = TARGETS.get(result.workload)
    wanted = "" if target is None else f"≥ {target}: {'met' if result.ratio >= target else '**missed**'}"
    cells = [result.workload, result.mode]
    for runs in (result.plain, result.hanse):
        cells.append(f"{median(runs, 'tps'):,.1f}")
        cells.append(" / ".join(f"{median(runs, field):.2f}" for field in ("mean", "p95", "p99")))
    return (
        "| "
        + " | ".join([*cells, f"{result.ratio:.2f}", wanted + (f" ({result.notes})" if result.notes else "")])
        + " |"
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
