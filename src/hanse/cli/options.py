"""Options that several commands have."""

from __future__ import annotations

import functools
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


# --- fields of a `Request`, by whose names commands take them


def _absolute(_context: click.Context, _option: click.Parameter, path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _together(*options: Decorator) -> Decorator:
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(options), command)


def _labels(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    from ..catalog.labels import check, parse

    try:
        labels = parse(texts)
        check(labels)
    except ValueError as error:
        raise UserMistake(str(error)) from None
    return labels


label_option: Decorator = click.option(
    "--label",
    "labels",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_labels,
    help="Where the node is, as region=eu or zone=a; may be repeated.",
)

node_options: Decorator = _together(
    click.option("--workers", type=int, help="Gateway processes on each node.  [default: 1]"),
    click.option(
        "--postgres",
        "postgres_bindir",
        metavar="BINDIR",
        callback=_absolute,
        help="A PostgreSQL server's bin directory.  [default: the wheel's]",
    ),
    click.option(
        "--postgres-user", metavar="NAME", help="Who runs PostgreSQL when root runs Hanse.  [default: postgres]"
    ),
)

cluster_options: Decorator = _together(
    click.option("--groups", type=int, help="Replica groups, over which tables are sharded.  [default: 2]"),
    click.option("--password", envvar="HANSE_PASSWORD", help="Of user hanse.  [default: random]"),
    click.option(
        "--control-plane",
        metavar="URL",
        envvar="HANSE_CONTROL_PLANE",
        help="etcd://HOST:PORT[,…]: an etcd keeps the catalog.  [default: the nodes themselves]",
    ),
    click.option("--tls", metavar="off|on|require", help="TLS for clients; require: no others.  [default: on]"),
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
