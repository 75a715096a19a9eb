"""`hanse transactions`: what is prepared in the groups, and its end by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import data_option

if TYPE_CHECKING:
    from ..agent.indoubt import Listing, Operator
    from ..transactions.indoubt import Prepared


@click.group("transactions", invoke_without_command=True)
@data_option
@click.option("--json", "as_json", is_flag=True, help="In the stable form that scripts may rely on.")
@click.pass_context
def command(context: click.Context, data_dir: Path, as_json: bool) -> None:
    """Show transactions that are prepared in a group and have not ended.

    In a healthy cluster each is there for milliseconds. Agents end those that were left, after ten seconds.
    """
    import asyncio

    context.find_root().obj = data_dir
    if context.invoked_subcommand is None:
        _show(asyncio.run(_operator(data_dir.absolute()).look()), as_json)


@command.command("resolve")
@click.argument("gid")
@click.option("--commit", "commit", is_flag=True, help="End it by COMMIT PREPARED, if its decider has committed.")
@click.option(
    "--rollback", "rollback", is_flag=True, help="End it by ROLLBACK PREPARED, unless its decider has committed."
)
@click.option("--decider-lost", is_flag=True, help="The decider is gone for ever, with its data: your word decides.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    default=lambda: click.get_current_context().find_root().obj,
    help="The cluster's data directory.",
)
def resolve(data_dir: Path, gid: str, commit: bool, rollback: bool, decider_lost: bool, yes: bool) -> None:
    """End one prepared transaction by hand, as its decider says.

    The cluster does this by itself while its agents run and the decider can be reached.
    """
    import asyncio

    from ..agent.indoubt import check
    from ..core.errors import PgError, UserMistake

    if commit == rollback:
        raise UserMistake("say one of --commit and --rollback")
    operator = _operator(data_dir.absolute())
    row = asyncio.run(operator.find(gid))
    check(row, commit=commit, decider_lost=decider_lost)
    click.echo(_warning(row, commit=commit, decider_lost=decider_lost), err=True)
    if not yes:
        click.confirm("Go on?", abort=True, err=True)
    try:
        ended = asyncio.run(_resolve(operator, row, commit=commit, decider_lost=decider_lost))
    except PgError as error:
        raise UserMistake(f"{row.decider} did not answer, nothing was changed: {error.message}") from error
    for group, what in ended.items():
        click.echo(f"{group}: {what}")
    if any(what.startswith("failed") for what in ended.values()):
        raise click.exceptions.Exit(1)


async def _resolve(operator: Operator, row: Prepared, *, commit: bool, decider_lost: bool) -> dict[str, str]:
    from ..agent.indoubt import check_outcome

    if not decider_lost:
        check_outcome(row, await operator.settle(row), commit=commit)
    return await operator.end(row, commit=commit)


def _operator(data_dir: Path) -> Operator:
    from ..agent.certificates import tls_of_a_node
    from ..agent.cluster_dir import load_existing
    from ..agent.indoubt import Operator

    cluster, secrets = load_existing(data_dir)
    return Operator(cluster, secrets, tls_of_a_node(cluster, data_dir))


def _warning(row: Prepared, *, commit: bool, decider_lost: bool) -> str:
    verb = "COMMIT" if commit else "ROLLBACK"
    where = ", ".join(row.groups)
    lines = [f"{verb} PREPARED {row.gid} in {where} (prepared {row.prepared}, by {row.owner})."]
    if decider_lost:
        lines += [
            f"WARNING: its decider {row.decider} is not asked. If that has done the contrary, or has told a client so, the",
            "transaction is then committed in some groups and rolled back in others: sums, unique values and references",
            "over groups may be wrong, nothing will notice it, and nothing can undo it.",
        ]
    elif not commit:
        lines += [
            f"It is forbidden in {row.decider} first. If a gateway is committing it at this moment, its client is told that",
            "it was rolled back (40001); nothing becomes inconsistent.",
        ]
    return "\n".join(lines)


def _show(listing: Listing, as_json: bool) -> None:
    import msgspec
    from rich.console import Console

    from .status import make_table

    rows = [_shown(row) for row in listing.transactions]
    if as_json:
        told = {"transactions": rows, "unreachable": listing.away}
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    if rows:
        shown = make_table("transaction", "state", "decider", "prepared in", "owner", "age")
        for row in rows:
            where = ", ".join(row["groups"])
            shown.add_row(row["gid"], row["state"], row["decider"] or "", where, row["owner"], f"{row['age_s']:.1f} s")
        console.print(shown)
    elif not listing.away:
        console.print("No transaction is prepared.")
    for name in listing.away:
        console.print(f"{name} does not answer.")


def _shown(row: Prepared) -> dict[str, Any]:
    from dataclasses import asdict
    from datetime import UTC, datetime

    age_s = (datetime.now(UTC) - datetime.fromisoformat(row.prepared)).total_seconds()
    return {**asdict(row), "age_s": round(max(age_s, 0.0), 3)}
