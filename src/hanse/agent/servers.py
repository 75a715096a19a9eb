"""The PostgreSQL instances of a node, as parts that the agent keeps alive."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..config import DEFAULT_USER, WORKSPACE_PLACE, InstanceConfig, NodeConfig, Secrets
from ..core.errors import UserMistake
from ..engines.postgres.binaries import Binaries, find_binaries
from ..engines.postgres.bootstrap import Bootstrap
from ..engines.postgres.instance import Instance, InstanceSpec
from ..engines.postgres.osuser import OsUser, choose_user
from ..engines.postgres.postmaster import find_postmaster, read_pid_file
from ..engines.postgres.reach import make_socket_directory, reachable_binaries
from ..engines.postgres.settings import Profile, group_profile, replicated_profile, workspace_profile

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """What a node's instances share: whose they are, which programs run them, what a fresh one contains."""

    user: OsUser | None
    binaries: Binaries
    content: Bootstrap


def prepare_server(config: NodeConfig, secrets: Secrets) -> Server:
    """Asks the programs for their version, copies them where PostgreSQL's user cannot reach them. Blocks."""
    user = choose_user(config.postgres_user)
    binaries = reachable_binaries(find_binaries(config.postgres_bindir), user)
    if config.socket_directory is not None:  # /tmp and /run are emptied when the machine starts
        if make_socket_directory([Path(config.socket_directory)], user) is None:
            raise UserMistake(f"{config.socket_directory} cannot be used for PostgreSQL's sockets")
    content = Bootstrap(
        database=config.database,
        user=DEFAULT_USER,
        user_verifier=secrets.user_verifier,
        system_verifier=secrets.system_verifier,
    )
    return Server(user, binaries, content)


def _profile(instance: InstanceConfig) -> Profile:
    if instance.group == WORKSPACE_PLACE:
        return workspace_profile()
    return replicated_profile() if instance.members else group_profile()


def instance_of(config: NodeConfig, instance: InstanceConfig, server: Server) -> Instance:
    spec = InstanceSpec(
        name=instance.name,
        directory=instance_directory(config, instance),
        profile=_profile(instance),
        port=instance.port,
        host=config.host,
        socket_directory=Path(config.socket_directory) if config.socket_directory else None,
        log_file=Path(config.data_dir) / "log" / f"{instance.name}.log",
        elsewhere=Path(config.elsewhere_dir) if config.elsewhere_dir else None,
    )
    return Instance(spec, server.binaries, server.user)


def instance_directory(config: NodeConfig, instance: InstanceConfig) -> Path:
    return Path(config.data_dir) / instance.group


class InstancePart:
    """One instance of the node. Its methods run in threads; the lock makes a stop wait for a start."""

    def __init__(self, config: InstanceConfig, instance: Instance, content: Bootstrap) -> None:
        self.name = config.name
        self._disposable = config.group == WORKSPACE_PLACE
        self._instance = instance
        self._content = content
        self._turn = threading.Lock()
        self._closing = False

    def is_alive(self) -> bool:
        return self._turn.locked() or self._instance.is_alive()

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        self._closing = True
        await asyncio.to_thread(self._stop)

    async def remove(self) -> None:
        """After `stop`: nothing of it is left."""
        if self._instance.exists:
            await asyncio.to_thread(self._instance.remove)

    def _start(self) -> None:
        with self._turn:
            if self._closing:
                return
            if self._disposable and survived_a_crash(self._instance):
                log.warning("%s is made anew: it was running without fsync when the machine went down", self.name)
                self._instance.remove()
            if not self._instance.exists:
                log.info("making %s", self.name)
                self._instance.create(self._content)
            adopted = self._instance.bring_up()
            log.info("%s %s, process %s", "adopted" if adopted else "started", self.name, self._instance.pid)

    def _stop(self) -> None:
        with self._turn:
            self._instance.stop()
            log.info("stopped %s", self.name)


def survived_a_crash(instance: Instance) -> bool:
    """Whether the *machine* went down under a server that runs without fsync: its files may be anything then.

    A server that ends in order removes its postmaster.pid. One left from before the machine's start tells of such an
    end. A killed server alone is no danger, because the system kept what it had written.
    """
    if not instance.exists or find_postmaster(instance.directory) is not None:
        return False
    file = read_pid_file(instance.directory)
    return file is not None and file.start_time < psutil.boot_time()
