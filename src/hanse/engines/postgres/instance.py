"""One PostgreSQL server process and its data directory: made, started, adopted, watched, stopped.

    instance = Instance(spec, binaries, user)     # nothing happens yet
    instance.create(bootstrap)                    # initdb or a copied template; whole or not at all
    instance.bring_up()                           # adopts a running server, else starts one; returns when it is ready
    instance.stop()                               # fast shutdown, harsher after a time

The server is a process of its own session: it outlives its starter, and Ctrl-C at a terminal does not reach it. A later
starter finds it again by postmaster.pid (`adopt`). Methods block, at most for the time they are given; an asyncio
program calls them in threads. One object has one owner: methods are not to be called from two threads at once.

Mistakes that a person can make (a directory of another version or owner, a taken port, no space) are `UserMistake`s
with one sentence. What it does not do: decide *whether* to restart, or with which port; that is the agent's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import psutil

from ...core.errors import UserMistake
from .binaries import Binaries, find_binaries
from .bootstrap import Bootstrap, bootstrap_instance, set_password
from .initdb import check_disk, make_data_directory
from .osuser import OsUser, choose_user, give, start_arguments, user_name
from .postmaster import (
    StillBusy,
    check_wal_is_there,
    clear_stale_locks,
    end_postmaster,
    explain_failure,
    find_postmaster,
    is_running,
    kill_server,
    log_size,
    read_pid_file,
)
from .reach import reachable_home
from .settings import GROUP_FILE, INCLUDED_FILE, Profile, address_settings, plain_profile, render_hba, render_settings

LOG_LOOK_S = 0.5  # between two looks at what a server that is not ready has printed
READY_TIMEOUT_S = 60.0  # a server that was killed replays its log first; longer ones are waited for by calling again
STOP_TIMEOUT_S = 20.0  # for a fast shutdown, which writes a checkpoint
BUSY_RETRY_S = 10.0  # for backends of a killed server to notice that it is gone
POLL_S = 0.01
DISK_FREE_BYTES_TO_START = 32 << 20  # two log segments
LOG_BYTES_MAX = 10 << 20  # of a log file before it is put aside


class StopMode(Enum):
    SMART = signal.SIGTERM  # waits for clients to leave
    FAST = signal.SIGINT  # ends clients, checkpoints
    IMMEDIATE = signal.SIGQUIT  # as a crash: the next start replays the log


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSpec:
    name: str  # 'g1.1'; PostgreSQL's cluster_name
    directory: Path  # may be, or become, a symbolic link (see reach.py)
    profile: Profile
    port: int
    host: str = "127.0.0.1"
    socket_directory: Path | None = None
    log_file: Path
    elsewhere: Path | None = None  # parent for the real directory where PostgreSQL's user cannot reach `directory`


class Instance:
    """See the module's docstring. `process` is the server's, once it was started or adopted."""

    def __init__(self, spec: InstanceSpec, binaries: Binaries, user: OsUser | None) -> None:
        self.spec = spec
        self.binaries = binaries
        self.user = user
        self._process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None  # set when we are its parent and must reap it
        self._log_offset = 0

    # --- the data directory

    @property
    def exists(self) -> bool:
        return (self.spec.directory / "PG_VERSION").exists()

    @property
    def directory(self) -> Path:
        """The real data directory, with links followed."""
        return self.spec.directory.resolve()

    def create(self, content: Bootstrap | None = None) -> None:
        """Make the data directory with its first content. Raises UserMistake; then nothing is left behind."""
        home = reachable_home(self.spec.directory, self.user, self.spec.elsewhere)
        unfinished = home.with_name(f".{home.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            self._fill(unfinished, content)
            _remove_empty(home)
            unfinished.rename(home)
        except OSError as error:
            raise UserMistake(
                f"PostgreSQL instance {self.spec.name} cannot be made in {home}: {error.strerror}"
            ) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        if home != self.spec.directory:
            self.spec.directory.unlink(missing_ok=True)  # a link to what is no longer there
            self.spec.directory.symlink_to(home)

    def _fill(self, directory: Path, content: Bootstrap | None) -> None:
        profile = self.spec.profile
        make_data_directory(directory, self.binaries, self.user, superuser=profile.superuser, unique=profile.unique)
        main_file = directory / "postgresql.conf"
        with open(main_file, "a", encoding="utf-8") as file:
            file.write(f"\ninclude '{INCLUDED_FILE}'\n")
        self.configure(directory)
        if content is not None:
            bootstrap_instance(directory, self.binaries, self.user, content)

    def remove(self) -> None:
        """Delete the data directory, wherever it is. The server must not run."""
        assert find_postmaster(self.directory) is None, "a running server's directory must not be removed"
        home = self.directory
        shutil.rmtree(home, ignore_errors=True)
        if self.spec.directory.is_symlink():
            self.spec.directory.unlink()

    def set_password(self, role: str, verifier: str) -> None:
        """Set a role's password (or SCRAM verifier) while the server is stopped."""
        self.configure(self.directory)
        set_password(self.directory, self.binaries, self.user, role=role, verifier=verifier)

    def check(self) -> None:
        """Raise UserMistake where the data directory cannot be started by this server and this user."""
        name, directory = self.spec.name, self.directory
        try:
            found = (directory / "PG_VERSION").read_text().strip()
            owner = directory.stat().st_uid
        except FileNotFoundError:
            raise UserMistake(f"{directory} is not a PostgreSQL data directory") from None
        except PermissionError:
            raise UserMistake(f"{directory} may not be read by this user") from None
        if found != str(self.binaries.major):
            raise UserMistake(
                f"the data of instance {name} in {directory} belong to PostgreSQL {found}, "
                f"and the server in {self.binaries.bindir} is PostgreSQL {self.binaries.major}"
            )
        wanted = os.geteuid() if self.user is None else self.user.uid
        if owner != wanted:
            raise UserMistake(
                f"the data of instance {name} in {directory} belong to user {user_name(owner)}, "
                f"and PostgreSQL would run as user {user_name(wanted)}"
            )
        check_disk(directory, DISK_FREE_BYTES_TO_START)

    def configure(self, directory: Path) -> None:
        """Write the settings. Any copy of another server's directory has that server's."""
        spec = self.spec
        settings = dict(spec.profile.settings) | address_settings(
            host=spec.host, port=spec.port, socket_directory=spec.socket_directory, name=spec.name
        )
        text = render_settings(settings)
        if spec.profile.replicated:
            text += f"include_if_exists '{GROUP_FILE}'\n"
        self.write(directory / INCLUDED_FILE, text)
        self.write(directory / "pg_hba.conf", render_hba(spec.profile.authentication))

    def write(self, path: Path, text: str) -> None:
        """Write a file for the server, whole or not at all."""
        unfinished = path.with_name(path.name + ".new")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.chmod(0o600)
        give(self.user, unfinished)
        unfinished.rename(path)

    # --- the process

    @property
    def pid(self) -> int | None:
        return None if self._process is None else int(self._process.pid)

    def is_alive(self) -> bool:
        """Whether the server that was started or adopted still runs. Reaps it when it was a child."""
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and is_running(self._process)

    def adopt(self) -> bool:
        """Take over a server that runs on this directory already. Raises UserMistake where it runs on another port."""
        process = find_postmaster(self.directory)
        if process is None:
            return False
        file = read_pid_file(self.directory)
        if file is not None and file.port not in (None, self.spec.port):
            raise UserMistake(
                f"instance {self.spec.name} runs already, on port {file.port} and not {self.spec.port}: stop it first"
            )
        if self._process is None or self._process.pid != process.pid:
            self._process, self._child = process, None
        return True

    def start(self) -> None:
        """Start the server; `wait_ready` tells when it serves. Raises UserMistake where it cannot be started."""
        self.check()
        clear_stale_locks(self.directory, self._socket_lock())
        self.configure(self.directory)
        self._log_offset = _prepare_log(self.spec.log_file)
        with open(self.spec.log_file, "ab") as log:
            try:
                self._child = subprocess.Popen(
                    [str(self.binaries.path("postgres")), "-D", str(self.directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    **start_arguments(self.user),
                )
            except OSError as error:
                program = self.binaries.path("postgres")
                raise UserMistake(f"{program} cannot be executed: {error.strerror}") from None
        try:
            self._process = psutil.Process(self._child.pid)
        except psutil.NoSuchProcess:
            self._process = None  # it has ended, and is_alive() says so

    def _socket_lock(self) -> Path | None:
        folder = self.spec.socket_directory
        return None if folder is None else folder / f".s.PGSQL.{self.spec.port}.lock"

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the server accepts connections. Raises PortTaken, StillBusy or UserMistake when it ends, and UserMistake
        at once where a follower waits for WAL that its leader has no more.
        """
        began = time.monotonic()
        deadline, look_at = began + timeout_s, began + LOG_LOOK_S
        while True:
            file = read_pid_file(self.directory)
            if file is not None and file.pid == self.pid and file.status == "ready":
                return
            if not self.is_alive():
                raise explain_failure(self.spec.name, self.spec.port, self.spec.log_file, self._log_offset)
            now = time.monotonic()
            if now > look_at:
                look_at = now + LOG_LOOK_S
                check_wal_is_there(self.spec.name, self.spec.log_file, self._log_offset)
            if now > deadline:
                raise UserMistake(
                    f"PostgreSQL instance {self.spec.name} is not ready after {timeout_s:.0f} s "
                    f"(its log is {self.spec.log_file})"
                )
            time.sleep(POLL_S)

    def bring_up(self, timeout_s: float = READY_TIMEOUT_S) -> bool:
        """Adopt or start, and wait. True when the server was running before. The data directory must exist."""
        if self.adopt():
            self.wait_ready(timeout_s)
            return True
        deadline = time.monotonic() + BUSY_RETRY_S
        while True:
            self.start()
            try:
                self.wait_ready(timeout_s)
                return False
            except StillBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def stop(self, mode: StopMode = StopMode.FAST, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop the server, ours or adopted, within about timeout_s + 10 s. It is gone afterwards."""
        if not self.is_alive() and not (self.exists and self.adopt()):
            self._forget()
            return
        assert self._process is not None
        end_postmaster(self._process, mode.value, timeout_s=timeout_s)
        self._forget()

    def kill(self) -> None:
        """As `kill -9` of all its processes: for a server that does not answer."""
        if self._process is not None:
            kill_server(self._process)

    def _forget(self) -> None:
        if self._child is not None:
            self._child.poll()
        self._process = None
        self._child = None


def plain_instance(
    directory: Path,
    *,
    port: int,
    authentication: str = "trust",
    settings: dict[str, str] | None = None,
    bindir: str | None = None,
) -> Instance:
    """An ordinary PostgreSQL server for tests and benchmarks: superuser `postgres`, loopback only; made if missing."""
    user = choose_user()
    binaries = find_binaries(bindir)
    if user is not None:
        from .reach import reachable_binaries, state_directory

        binaries = reachable_binaries(binaries, user)
        elsewhere = state_directory() / "plain" / directory.name
    spec = InstanceSpec(
        name=directory.name,
        directory=directory,
        profile=plain_profile(authentication=authentication, settings=settings),
        port=port,
        log_file=directory.with_name(f"{directory.name}.log"),
        elsewhere=None if user is None else elsewhere,
    )
    instance = Instance(spec, binaries, user)
    if not instance.exists:
        instance.create()
    return instance


def _remove_empty(directory: Path) -> None:
    if directory.is_dir() and not directory.is_symlink():
        directory.rmdir()  # rename() replaces an empty directory on Linux only; a full one is an error


def _prepare_log(path: Path) -> int:
    """Where the next line will be written; a log that has grown too long is put aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if log_size(path) > LOG_BYTES_MAX:
        path.replace(path.with_name(path.name + ".1"))
    return log_size(path)
