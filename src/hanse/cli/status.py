"""`hanse status`: what of a cluster runs, and where its tables lie."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import data_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..agent.observe import ClusterStatus, GroupStatus, TableStatus

WIDTH = 160  # where nobody knows how wide it will be shown
COLOURS = {"running": "green", "stopped": "red", "failed": "red"}


@click.command("status")
@data_option
@click.option("--json", "as_json", is_flag=True, help="In the stable form that scripts may rely on.")
def command(data_dir: Path, as_json: bool) -> None:
    """Show nodes, groups, gateways and tables.

    A cluster that is stopped is shown as such, with exit code 0.
    """
    import asyncio

    import msgspec

    from ..agent.cluster_dir import load_existing
    from ..agent.observe import observe_processes, with_catalog, with_replication

    data_dir = data_dir.absolute()
    cluster, secrets = load_existing(data_dir)
    status = observe_processes(data_dir, cluster, secrets)
    if status.state != "stopped":
        status = asyncio.run(with_catalog(status, cluster))
        status = asyncio.run(with_replication(status, cluster, secrets))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(status), indent=2))
    else:
        _show(status)


def _show(status: ClusterStatus) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    console.print(f"{status.dsn}  {_coloured(status.state)}", markup=True)
    console.print(f"data: {status.data}")
    if status.elsewhere is not None:
        console.print(f"instances' data: {status.elsewhere}, because PostgreSQL's user cannot reach them there")
    _show_processes(console, status)
    if status.tables is None:
        if status.state != "stopped":
            console.print("The catalog does not answer.")
    elif status.tables:
        _show_tables(console, status.tables)


def _show_processes(console: Console, status: ClusterStatus) -> None:
    from ..catalog.labels import written

    nodes = make_table("node", "gateway", "HTTP", "state", "process", "workspace", "labels")
    for node in status.nodes:
        workspace = _coloured(node.workspace.state) if node.workspace else ""
        state = f"{_coloured(node.state)} {node.note}".strip()
        http = str(node.http_port or "")
        nodes.add_row(
            node.name, f"{node.host}:{node.gateway_port}", http, state, _pid(node.pid), workspace, written(node.labels)
        )
    console.print(nodes)
    if status.state != "stopped":
        leader = (
            f"led by {status.control.leader}, in term {status.control.term}" if status.control.leader else "no leader"
        )
        others = [f"{each.name} {each.state}" for each in status.control.nodes if each.state != "leader"]
        console.print("control plane: " + ", ".join((leader, *others)))
    gateways = make_table("gateway", "worker", "address", "state", "process")
    for gateway in status.gateways:
        address = f"{gateway.host}:{gateway.port}"
        gateways.add_row(gateway.node, str(gateway.worker), address, _coloured(gateway.state), _pid(gateway.pid))
    console.print(gateways)
    groups = make_table("group", "instance", "role", "node", "address", "state", "process")
    for group in status.groups:
        for i in group.instances:
            address = f"{i.host}:{i.port}"
            groups.add_row(group.name, i.name, i.role, i.node, address, _coloured(i.state), _pid(i.pid))
    console.print(groups)
    for group in status.groups:
        if group.members is not None:
            console.print(_replication(group))


def _replication(group: GroupStatus) -> str:
    assert group.members is not None
    waits = f"a commit waits for {group.k} of {len(group.members) - 1} followers"
    followers = [
        f"{each.name} {each.replication}{_lag(each.lag_bytes, each.lag_s)}{'' if each.member else ', no member yet'}"
        for each in group.instances
        if each.name != group.leader
    ]
    return "; ".join(
        (f"{group.name}: term {group.term}, {group.durability or 'durability unknown'}", waits, *followers)
    )


def _lag(lag_bytes: int | None, lag_s: float | None) -> str:
    if lag_bytes is None:
        return ""
    return f", {lag_bytes} B" if lag_s is None else f", {lag_bytes} B, {lag_s:.3f} s"


def _show_tables(console: Console, tables: list[TableStatus]) -> None:
    shown = make_table("table", "kind", "key", "where")
    for table in tables:
        counts: dict[str, int] = {}
        for shard in table.shards:
            counts[shard.group] = counts.get(shard.group, 0) + 1
        where = ", ".join(f"{group}: {count} shards" for group, count in sorted(counts.items()))
        shown.add_row(table.name, table.kind, ", ".join(table.key), where or table.group or "every group")
    console.print(shown)


def make_table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _coloured(state: str) -> str:
    colour = COLOURS.get(state, "yellow")
    return f"[{colour}]{state}[/{colour}]"


def _pid(pid: int | None) -> str:
    return "" if pid is None else str(pid)
