"""Places that PostgreSQL's user can reach: caches, copies of the installation, and homes for data directories.

When Hanse runs as root, PostgreSQL runs as somebody else, who may not enter `/root`. A virtual environment or a data
directory below such a directory is then out of that user's reach, and no permission on the directory itself helps.
So there is one directory that everybody may enter, the state directory (`/var/lib/hanse`)::

    /var/lib/hanse/
      cache/<key>/                 data directory templates (see initdb.py)
      postgresql/<version>-<hash>/ a copy of the server's installation, keyed by what its files hold
      data/<cluster>/<node>/<group>  data directories; `<data>/<node>/<group>` is then a symbolic link to here

The link is the pointer that start, status and down follow. Removing a data directory with `rm -r` removes the link
only; `hanse status` therefore names the other place. An ordinary user's PostgreSQL runs as that user and reaches what
the user reaches: no copies, no links, and the cache is the user's own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ...core.errors import UserMistake
from .binaries import WHEEL, Binaries
from .osuser import OsUser, can_reach, give, run_as

STATE_VARIABLE = "HANSE_STATE_DIR"
CACHE_VARIABLE = "HANSE_CACHE_DIR"
SOCKET_PATH_BYTES_MAX = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
_SOCKET_FILE_BYTES = len("/.s.PGSQL.65535.lock")


def state_directory() -> Path:
    """Root's place for what PostgreSQL's user must reach. Every directory above it must be open to all."""
    chosen = os.environ.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    return Path("/var/db/hanse" if sys.platform == "darwin" else "/var/lib/hanse")


def cache_directory(user: OsUser | None) -> Path:
    """Where templates are kept between clusters; made on demand. Raises UserMistake where it cannot be."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        directory = Path(chosen).absolute()
    elif user is not None:
        directory = state_directory() / "cache"
    elif sys.platform == "darwin":
        directory = Path.home() / "Library" / "Caches" / "hanse"
    else:
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hanse"
    return _make_open(directory) if user is not None else _make(directory)


def _make(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserMistake(f"directory {directory} cannot be made: {error.strerror}") from None
    return directory


def _make_open(directory: Path) -> Path:
    """Make a directory, and those above it that are missing, so that every user may enter it whatever the umask is."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        try:
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        except OSError as error:
            raise UserMistake(f"directory {path} cannot be made: {error.strerror}") from None
    return directory


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock for as long as the block runs; the kernel frees it when the process dies."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def reachable_binaries(binaries: Binaries, user: OsUser | None) -> Binaries:
    """`binaries`, or a copy of the installation that `user` can execute. Raises UserMistake where there is none."""
    if user is None or _runs(binaries, user):
        return binaries
    root, members = _installation(binaries)
    target = _make_open(state_directory() / "postgresql") / f"{binaries.version}-{_digest(root, members)}"
    with locked(target.parent / ".lock"):
        if not target.exists():
            _copy_installation(root, members, target)
    copied = replace(binaries, bindir=target / binaries.bindir.relative_to(root))
    if not _runs(copied, user):
        raise UserMistake(f"user {user.name} can execute neither {binaries.bindir}/postgres nor its copy in {target}")
    return copied


def _runs(binaries: Binaries, user: OsUser) -> bool:
    """initdb links against libpq, postgres against little: when both answer, libraries are found too."""
    try:
        return all(run_as(user, (binaries.path(name), "--version")).returncode == 0 for name in ("postgres", "initdb"))
    except OSError:
        return False


def _installation(binaries: Binaries) -> tuple[Path, list[Path]]:
    """The directory that holds the whole installation, and its parts. The layout must survive: libraries and share
    files are found relative to the program's own place."""
    prefix = binaries.bindir.parent
    parts = [prefix / name for name in ("bin", "lib", "lib64", "share") if (prefix / name).is_dir()]
    if prefix.parent.name != WHEEL:
        return prefix, parts
    site = prefix.parent.parent
    libraries = [
        site / f"{WHEEL}.libs",
        prefix.parent / ".dylibs",
    ]  # where auditwheel and delocate put shared libraries
    return site, parts + [path for path in libraries if path.is_dir()]


def _files(members: list[Path]) -> Iterator[Path]:
    for member in members:
        for folder, subfolders, names in os.walk(member):
            subfolders.sort()
            yield from (Path(folder, name) for name in sorted(names) if not name.endswith(".a"))


def _digest(root: Path, members: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in _files(members):
        digest.update(str(path.relative_to(root)).encode() + b"\0")
        digest.update(os.readlink(path).encode() if path.is_symlink() else path.read_bytes())
    return digest.hexdigest()[:16]


def _copy_installation(root: Path, members: list[Path], target: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        for path in _files(members):
            copy = unfinished / path.relative_to(root)
            _make_open(copy.parent)
            shutil.copy2(path, copy, follow_symlinks=False)
            if not copy.is_symlink():
                copy.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise UserMistake(f"PostgreSQL's programs cannot be copied to {target}: {error.strerror}") from None


def reachable_home(wanted: Path, user: OsUser | None, elsewhere: Path | None) -> Path:
    """Where the data directory that is to be found at `wanted` really goes: there, or below `elsewhere`.

    The parent of the answer exists afterwards, and `user` may enter it.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if user is None or can_reach(user, wanted.parent):
        return wanted
    if elsewhere is None:
        raise UserMistake(f"user {user.name}, who runs PostgreSQL, may not enter {wanted.parent}")
    home = _make_open(elsewhere) / wanted.name
    if not can_reach(user, home.parent):
        raise UserMistake(f"user {user.name}, who runs PostgreSQL, may enter neither {wanted.parent} nor {home.parent}")
    return home


def make_socket_directory(candidates: list[Path], user: OsUser | None) -> Path | None:
    """The first candidate that is short enough for a socket's address and that `user` can own; None where none is.

    The directory is 0700 and belongs to `user`, or it is not used: others could put a false server into it.
    """
    for candidate in candidates:
        if len(os.fsencode(candidate)) + _SOCKET_FILE_BYTES > SOCKET_PATH_BYTES_MAX:
            continue
        if user is not None and not can_reach(user, candidate.parent):
            continue
        if _own_directory(candidate, user):
            return candidate
    return None


def _own_directory(path: Path, user: OsUser | None) -> bool:
    owner = os.geteuid() if user is None else user.uid
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
        if status.st_uid == os.geteuid() != owner:
            give(user, path)
            status = path.lstat()
    except OSError:
        return False
    return path.is_dir() and not path.is_symlink() and status.st_uid == owner and status.st_mode & 0o077 == 0
