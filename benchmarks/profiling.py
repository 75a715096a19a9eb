"""Where the gateway's time goes: a cProfile of its worker under load.

HANSE_PROFILE names a file into which the gateway worker dumps its profile when it ends. Profiling slows Python code two to
three times, so it has a cluster run of its own and none of the timed ones.
"""

from __future__ import annotations

import io
import pstats
import re
from pathlib import Path

ROWS = 22


def table(path: Path, workload: str, tps: float) -> str:
    """A Markdown section: the functions with the most time of their own."""
    text = io.StringIO()
    stats = pstats.Stats(str(path), stream=text)
    stats.sort_stats("tottime").print_stats(ROWS)
    body = text.getvalue()
    total = re.search(r"in ([\d.]+) seconds", body)
    seconds = total.group(1) if total else "?"
    lines = [
        f"`{workload}`, simple protocol, under cProfile: {tps:,.0f} transactions per second while profiled, {seconds} s in all.",
        "Times are of the function itself, without what it calls; waiting for sockets is in none of them.",
        "",
        "| share | calls | s | function |",
        "| ---: | ---: | ---: | --- |",
    ]
    whole = float(total.group(1)) if total else 1.0
    for row in body.splitlines():
        match = re.match(r"\s+([\d/]+)\s+([\d.]+)\s+[\d.]+\s+[\d.]+\s+[\d.]+\s+(.*)$", row)
        if match:
            calls, own, where = match.groups()
            lines.append(f"| {float(own) / whole:.1%} | {calls.split('/')[0]} | {own} | `{_place(where)}` |")
    return "\n".join(lines)


def _place(where: str) -> str:
    """Paths of this machine do not belong into a document: only what follows the package's folder stays."""
    where = re.sub(r"^.*/src/(hanse/)", r"\1", where)
    where = re.sub(r"^.*/(site-packages|python\d[\d.]*)/", "", where)
    return where.replace("|", "\\|")
