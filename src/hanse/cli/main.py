"""`hanse`: the command line. One file per command; a command's file is imported when it is called.

A mistake of the person (`UserMistake`) is one sentence on standard error and exit code 2, never a traceback.
"""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from .. import __version__
from ..core.errors import UserMistake

COMMANDS = {
    "up": "Start a whole local cluster and print its DSN.",
    "down": "Stop a local cluster; its data stay.",
    "status": "Show nodes, groups, gateways and tables.",
    "switchover": "Make another instance a group's leader.",
    "transactions": "Show transactions that are prepared, and end one by hand.",
    "drain": "Move all groups' instances away from a node.",
    "label": "Say where a node is: its zone, its region.",
    "remove": "Take a drained node out of the cluster.",
    "sql": "Open a shell (psql) on the cluster.",
    "balancer-config": "Print the configuration of a load balancer.",
    "demo": "Load a real data set and show what the cluster does with it.",
    "chaos": "Kill and pause parts of a local cluster, and see what it does.",
    "init": "Make the first node of a cluster of several machines.",
    "token": "Let one machine join.",
    "join": "Make this machine a node of a cluster.",
    "node": "Run one node of a cluster.",
}
HIDDEN = ("supervise", "gateway-worker")
EXIT_MISTAKE = 2
SURROUNDINGS = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # not our bugs


class LazyGroup(click.Group):
    """Knows its commands by name; imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS and name not in HIDDEN:
            return None
        module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except UserMistake as mistake:
            click.echo(f"hanse: {mistake}", err=True)
            sys.exit(EXIT_MISTAKE)
        except OSError as error:
            if error.errno not in SURROUNDINGS:
                raise
            click.echo(f"hanse: {error.filename or 'this'}: {error.strerror}", err=True)
            sys.exit(EXIT_MISTAKE)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hanse")
def main() -> None:
    """Many PostgreSQL servers that look like one PostgreSQL database."""


if __name__ == "__main__":
    main()
