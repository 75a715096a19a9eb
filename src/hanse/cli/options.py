"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..core.errors import UserMistake

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

data_option: Decorator = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    default=Path("hanse-data"),
    show_default=True,
    help="The cluster's data directory.",
)

listen_option: Decorator = click.option(
    "--listen",
    metavar="HOST:PORT",
    required=True,
    help="Of the node's gateway. All its parts listen on HOST, by which the other nodes reach them.",
)


def where(address: str) -> tuple[str, int]:
    """Raises UserMistake."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise UserMistake(f"an address is HOST:PORT, not {address!r}")
    host = host.strip("[]")
    if host in ("0.0.0.0", "::", "*"):
        raise UserMistake(f"{host} is no address by which other nodes reach this one")
    return host, int(port)
