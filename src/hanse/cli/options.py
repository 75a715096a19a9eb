"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

data_option: Decorator = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    default=Path("hanse-data"),
    show_default=True,
    help="The cluster's data directory.",
)
