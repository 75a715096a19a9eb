"""Making a data directory: by initdb, or as a copy of a template that initdb made once on this machine.

A copy takes 0.1 s where initdb takes 0.5 s. But copies share the *system identifier*, by which PostgreSQL tells
whether a standby belongs to a primary: a standby of one group would be accepted by the leader of another. So an
instance that is or may be replicated (`Profile.unique`) gets an initdb of its own; workspaces and the servers of
tests are copies.

A directory is made under another name and renamed when it is complete, so it exists whole or not at all.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...core.errors import UserMistake
from .binaries import Binaries
from .osuser import OsUser, give, run_as
from .reach import cache_directory, locked

DISK_FREE_BYTES_MIN = 128 << 20  # a new data directory takes 40 MB, its first log segments some more
# Who is promoted copies the segment where he stands, and each of his followers fills a new one, while writes wait: of PostgreSQL's
# usual 16 MB that takes 85 ms, of 4 MB 49 ms. Writing is not slower with these (with 1 MB it is).
WAL_SEGMENT_MB = 4
CTYPES = ("C.UTF-8", "en_US.UTF-8", "UTF-8") if sys.platform == "darwin" else ("C.UTF-8",)


def make_data_directory(target: Path, binaries: Binaries, user: OsUser | None, *, superuser: str, unique: bool) -> None:
    """Fill `target`, an empty or missing directory. Every role has an unknown password afterwards."""
    check_disk(target.parent)
    _make_empty(target, user)
    if unique:
        run_initdb(target, binaries, user, superuser=superuser, checksums=True)
    else:
        _copy(template(binaries, user, superuser=superuser), target, user)


def check_disk(directory: Path, needed_bytes: int = DISK_FREE_BYTES_MIN) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        raise UserMistake(
            f"no disk space: {free >> 20} MB are free in {directory}, and PostgreSQL needs {needed_bytes >> 20} MB"
        )


def _make_empty(target: Path, user: OsUser | None) -> None:
    try:
        target.mkdir(mode=0o700, exist_ok=True)
        give(user, target)
    except OSError as error:
        raise UserMistake(f"directory {target} cannot be made: {error.strerror}") from None


def run_initdb(
    target: Path, binaries: Binaries, user: OsUser | None, *, superuser: str, checksums: bool = False
) -> None:
    """UTF8, collation C, character classes C.UTF-8, always: the environment must not decide how rows are sorted.

    `checksums`: a page that the disk has changed is an error (XX001), in an answer and in a base backup, and never rows.
    """
    for ctype in CTYPES:
        with _password_file(user) as password_file:
            command = _initdb_command(target, binaries, superuser=superuser, ctype=ctype, password_file=password_file)
            result = run_as(user, (*command, *(("--data-checksums",) if checksums else ())))
        if result.returncode == 0:
            return
        if "invalid locale name" not in result.stderr:
            break
    raise UserMistake(f"PostgreSQL's initdb failed for {target}: {_reason(result.stderr)}")


@contextmanager
def _password_file(user: OsUser | None) -> Iterator[str]:
    """A file with a throw-away password, which initdb asks for; the real verifier is set by bootstrap.py.

    Not standard input: a pipe made by root cannot be opened again, as /dev/stdin, by another user.
    """
    with tempfile.NamedTemporaryFile("w", prefix="hanse-") as file:
        file.write(secrets.token_urlsafe(24) + "\n")
        file.flush()
        give(user, Path(file.name))
        yield file.name


def _initdb_command(target: Path, binaries: Binaries, *, superuser: str, ctype: str, password_file: str) -> list[str]:
    return [
        str(binaries.path("initdb")),
        f"--pgdata={target}",
        f"--username={superuser}",
        "--encoding=UTF8",
        "--lc-collate=C",
        f"--lc-ctype={ctype}",
        "--auth=scram-sha-256",
        f"--wal-segsize={WAL_SEGMENT_MB}",
        f"--pwfile={password_file}",
        "--no-instructions",
    ]


def _reason(printed: str) -> str:
    """The line of initdb's output that says why."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    if any("No space left on device" in line for line in lines):
        return "no disk space"
    for line in lines:
        if "error:" in line or "FATAL:" in line or "fatal:" in line:
            return line.partition("initdb: ")[2] or line
    return lines[-1] if lines else "it printed nothing"


def template(binaries: Binaries, user: OsUser | None, *, superuser: str) -> Path:
    """The template for this server, user and superuser; made on first use. Never started, never written to."""
    cache = cache_directory(user)
    path = cache / _template_key(binaries, user, superuser)
    try:
        with locked(cache / ".lock"):
            if not (path / "PG_VERSION").exists():
                _make_template(path, binaries, user, superuser)
    except OSError as error:
        raise UserMistake(f"directory {cache} cannot be used: {error.strerror}") from None
    return path


def _make_template(path: Path, binaries: Binaries, user: OsUser | None, superuser: str) -> None:
    check_disk(path.parent)
    unfinished = path.with_name(f".new-{secrets.token_hex(4)}")
    try:
        _make_empty(unfinished, user)
        run_initdb(unfinished, binaries, user, superuser=superuser)
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _template_key(binaries: Binaries, user: OsUser | None, superuser: str) -> str:
    """Changes with everything that a template's content depends on: the server's build, the arguments, the owner."""
    digest = hashlib.sha256()
    status = binaries.path("postgres").stat()
    owner = "self" if user is None else str(user.uid)
    command = _initdb_command(Path("-"), binaries, superuser=superuser, ctype=CTYPES[0], password_file="-")
    for part in (binaries.version, str(status.st_size), str(status.st_mtime_ns), owner, *command):
        digest.update(part.encode() + b"\0")
    return f"{binaries.version}-{superuser}-{digest.hexdigest()[:16]}"


def _copy(source: Path, target: Path, user: OsUser | None) -> None:
    """cp keeps modes, and makes the user who runs it the owner; it exists on every system that PostgreSQL runs on."""
    result = run_as(user, ("cp", "-Rp", f"{source}/.", target))
    if result.returncode != 0:
        full = "No space left" in result.stderr
        reason = "no disk space" if full else (result.stderr.strip().splitlines() or ["cp failed"])[-1]
        raise UserMistake(f"PostgreSQL's data directory cannot be made at {target}: {reason}")
