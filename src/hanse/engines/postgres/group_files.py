"""What a group writes into a member's directory, and beside it.

    g1/hanse_group.conf    whom it streams from, and whom its commits wait for; read again by a running server
    g1/standby.signal      it starts as a follower, always
    .g1.rewinding          pg_rewind has begun, and replay is not consistent yet: the leader's term. Beside the directory,
                           because pg_rewind makes the directory equal to its source's
    .g1.clone/             a base backup under way
    .g1.cloned/            a complete one, which takes the place of g1; `settle` goes on after a crash
    .g1.old/               what it has replaced
    .g1.led                the server ended in order, as the leader that served in the term that is written there

A member that restarts is a follower whatever it was before; only a promotion makes a leader. The one exception is who led when
it ended in order (`agent/resumption.py`).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .instance import Instance
from .osuser import give
from .settings import GROUP_FILE, render_settings

STANDBY_SIGNAL = "standby.signal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How a leader is reached for its WAL, and under which name it knows this follower."""

    host: str
    port: int
    user: str
    password: str
    name: str  # the follower's, as synchronous_standby_names has it
    slot: str | None = None

    def conninfo(self) -> str:
        parts = {
            "host": self.host,
            "port": str(self.port),
            "user": self.user,
            "password": self.password,
            "application_name": self.name,
            "dbname": "postgres",
            "connect_timeout": "5",
        }
        return " ".join(f"{name}='{_escape(value)}'" for name, value in parts.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def configure_member(instance: Instance, *, source: Source | None, synchronous_standby_names: str) -> None:
    """Write the group's settings. None: it streams from nobody. A running server is to be told (`streaming.reload`).

    A follower has synchronous_standby_names as well: PostgreSQL keeps in shared memory whether commits wait at all, and
    would learn of it too late if that were only said when the follower is promoted.
    """
    settings = {
        "primary_conninfo": "" if source is None else source.conninfo(),
        "primary_slot_name": "" if source is None or source.slot is None else source.slot,
        "synchronous_standby_names": synchronous_standby_names,
    }
    instance.write(instance.directory / GROUP_FILE, render_settings(settings))


def start_as_follower(instance: Instance) -> None:
    """The next start of the server, which is stopped, begins in recovery and stays there."""
    instance.write(instance.directory / STANDBY_SIGNAL, "")


# --- the mark of a rewind


def _beside(instance: Instance, suffix: str) -> Path:
    home = instance.directory
    return home.with_name(f".{home.name}.{suffix}")


def rewind_mark(instance: Instance) -> int | None:
    """The term of the leader to which a rewind was begun that has not ended; 0 where the mark cannot be read."""
    try:
        text = _beside(instance, "rewinding").read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.strip().isdigit() else 0


def mark_rewind(instance: Instance, term: int) -> None:
    """Durable when it returns."""
    path = _beside(instance, "rewinding")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{term}\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(path.parent)


def clear_rewind_mark(instance: Instance) -> None:
    path = _beside(instance, "rewinding")
    path.unlink(missing_ok=True)
    _sync_directory(path.parent)


# --- the mark of a leader that ended in order


def leave_led_mark(instance: Instance, term: int) -> None:
    """Not durable: without it the group chooses a leader."""
    _beside(instance, "led").write_text(f"{term}\n")


def take_led_mark(instance: Instance) -> int | None:
    """The term, once."""
    path = _beside(instance, "led")
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    path.unlink()
    return int(text) if text.strip().isdigit() else None


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# --- a clone takes the place of what there was


def clone_place(instance: Instance) -> Path:
    return _beside(instance, "clone")


def clone_directory(instance: Instance) -> Path:
    """An empty place for a base backup. The server's user fills it."""
    path = remove_clone(instance)
    path.mkdir(mode=0o700)
    give(instance.user, path)
    return path


def remove_clone(instance: Instance) -> Path:
    """One that was not completed."""
    path = clone_place(instance)
    shutil.rmtree(path, ignore_errors=True)
    return path


def replace_with_clone(instance: Instance, clone: Path) -> None:
    """The complete `clone` becomes the instance's directory. The server must not run."""
    _sync_directory(clone)
    clone.rename(_beside(instance, "cloned"))
    _sync_directory(clone.parent)
    settle(instance)


def remove_traces(instance: Instance) -> None:
    """What lies beside a directory that is gone."""
    for suffix in ("clone", "cloned", "old"):
        shutil.rmtree(_beside(instance, suffix), ignore_errors=True)
    _beside(instance, "led").unlink(missing_ok=True)
    clear_rewind_mark(instance)


def settle(instance: Instance) -> None:
    """Finish a replacement that was begun. To be called before an instance is looked at."""
    home, cloned, old = instance.directory, _beside(instance, "cloned"), _beside(instance, "old")
    if cloned.exists():
        if home.exists():
            shutil.rmtree(old, ignore_errors=True)
            home.rename(old)
        cloned.rename(home)
        _sync_directory(home.parent)
        clear_rewind_mark(instance)
    shutil.rmtree(old, ignore_errors=True)
