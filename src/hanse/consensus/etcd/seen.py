"""How long a node has seen the log to be, in a file of its own: a log that is shorter is not followed (`node.py`)."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ...core.errors import UserMistake

SEEN_FILE = "etcd.seen"  # in the control plane's directory of a node


def read_seen(directory: Path) -> int:
    """Raises UserMistake."""
    file = directory / SEEN_FILE
    try:
        text = file.read_text()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise UserMistake(f"{file} cannot be read: {error.strerror}") from error
    return int(text) if text.strip().isdigit() else 0


def write_seen(directory: Path, length: int) -> None:
    """Not durable after a crash of the machine: it is there for losses that people see."""
    with contextlib.suppress(OSError):  # a full disk is no reason to know no catalog
        unfinished = (directory / SEEN_FILE).with_suffix(".new")
        directory.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(f"{length}\n")
        unfinished.rename(directory / SEEN_FILE)
