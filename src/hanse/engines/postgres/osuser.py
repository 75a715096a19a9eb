"""The operating system's user that runs PostgreSQL, and how a program is started as that user.

PostgreSQL refuses to run as root. Where Hanse itself runs as root (servers, containers) it therefore starts the
server's programs under an unprivileged user, by `setuid` in the child before `exec` (subprocess's `user=`). An
ordinary user runs them as itself: then the user is None everywhere, and nothing here changes anything.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import UserMistake

CUSTOMARY_USERS = ("postgres", "_postgres", "hanse")  # Debian and Red Hat, macOS, made by us
MADE_USER = "hanse"


@dataclass(frozen=True, slots=True)
class OsUser:
    name: str
    uid: int
    gid: int


def choose_user(configured: str | None = None) -> OsUser | None:
    """The user for PostgreSQL; None stands for whoever we are, which is the answer unless we are root.

    Raises UserMistake where `configured` is unknown, is root, or is another user while we are not root; and where no
    user exists and none can be made.
    """
    if os.geteuid() != 0:
        _refuse_another(configured)
        return None
    if configured is not None:
        return _named(configured)
    for name in CUSTOMARY_USERS:
        found = _lookup(name)
        if found is not None:
            return found
    return _make_user()


def _refuse_another(configured: str | None) -> None:
    own_name = current_user_name()
    if configured not in (None, own_name):
        raise UserMistake(f"only root can run PostgreSQL as user {configured}; this is user {own_name}")


def current_user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run under a number without a name
        return str(os.geteuid())


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _named(name: str) -> OsUser:
    found = _lookup(name)
    if found is None:
        raise UserMistake(f"there is no user {name} on this machine to run PostgreSQL as")
    if found.uid == 0:
        raise UserMistake(f"PostgreSQL refuses to run as root, and user {name} is root")
    return found


def _lookup(name: str) -> OsUser | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _make_user() -> OsUser:
    """Make an account without a password, a shell or a home (useradd: Debian, Red Hat; adduser: Alpine)."""
    for command in (
        ("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false", MADE_USER),
        ("adduser", "-S", "-D", "-H", "-s", "/bin/false", MADE_USER),
    ):
        program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            continue
        result = subprocess.run((program, *command[1:]), capture_output=True, text=True, check=False)
        made = _lookup(MADE_USER)
        if made is not None and result.returncode == 0:
            return made
    raise UserMistake(
        "PostgreSQL refuses to run as root, and no user postgres exists and none could be made here: "
        "make an ordinary user and name it with --postgres-user, or run hanse as an ordinary user"
    )


def environment() -> dict[str, str]:
    """For the server's programs: nothing of the caller's PG*, LC_* or TZ, which would change what they do or print."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def start_arguments(user: OsUser | None) -> dict[str, Any]:
    """Keyword arguments of subprocess for a program that runs as `user`, in a directory that every user may enter."""
    arguments: dict[str, Any] = {"env": environment(), "cwd": "/"}
    if user is not None:
        arguments |= {"user": user.uid, "group": user.gid, "extra_groups": []}
    return arguments


def run_as(
    user: OsUser | None, command: Sequence[str | Path], *, text_in: str = "", timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and capture what it prints. Does not check the return code."""
    return subprocess.run(
        [str(word) for word in command],
        input=text_in,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        **start_arguments(user),
    )


def can_reach(user: OsUser | None, path: Path) -> bool:
    """Whether `user` may enter the directory, or read and execute the file: asked of the kernel, by a child."""
    if user is None:
        return os.access(path, os.R_OK | os.X_OK) or os.access(path, os.X_OK)
    return run_as(user, ("/bin/sh", "-c", 'test -x "$1"', "sh", path)).returncode == 0


def give(user: OsUser | None, path: Path) -> None:
    """Make `user` the owner of one file or directory (not of what it holds)."""
    if user is not None:
        os.chown(path, user.uid, user.gid)
