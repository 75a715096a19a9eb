"""The composition root: every process of Hanse begins here, with its parts put together.

============================ ==============================================================================
`run_local`                  `hanse up`, in the foreground or as the background process of `--detach`
`run_node`                   `hanse node`: the agent of one node
`run_gateway`                `hanse gateway-worker`: one gateway process
============================ ==============================================================================

Imports are made where they are needed: the command line must answer at once, and a gateway needs no agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import NodeConfig, Secrets, load_node_config, load_secrets
from .core.errors import UserMistake
from .core.limits import START_TIMEOUT_S
from .core.links import LINKS, LINKS_FILE

if TYPE_CHECKING:
    from .agent.cluster_dir import Prepared
    from .agent.presence import Presence
    from .agent.supervisor import Supervisor

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LISTEN_POLL_S = 0.02
SUPERVISE_POLL_S = 0.05
PROBE_PAUSE_S = 0.5

Progress = Callable[[dict[str, str]], None]  # node → what it is doing

log = logging.getLogger(__name__)


def log_to_stderr() -> None:
    """Background processes: standard error is their log file."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Of a program's modules nothing is garbage: looking for it takes a tenth of the time, and would again later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


# --- one gateway worker


def run_gateway(config: NodeConfig, secrets: Secrets, worker: int) -> None:
    """Serve clients until SIGTERM. Raises UserMistake where the port is taken or the gateway is not there."""
    try:
        with _loading():
            import uvloop

            from .agent.presence import claim
            from .agent.workers import worker_name
            from .gateway import process
            from .gateway.server import serve
    except ModuleNotFoundError as error:
        raise UserMistake(f"this installation has no gateway: {error}") from error
    process.prepare()
    run_directory = Path(config.data_dir) / "run"
    facts: dict[str, Any] = {"worker": worker, "host": config.host, "port": config.gateway_port}
    with claim(run_directory, worker_name(worker), **facts) as presence:
        uvloop.run(_until_signal(serve(config, secrets, worker), _beside(presence, config, run_directory)))


async def _beside(presence: Presence, config: NodeConfig, run_directory: Path) -> None:
    await asyncio.gather(_report_listening(presence, config.gateway_port), LINKS.watch(run_directory / LINKS_FILE))


async def _report_listening(presence: Presence, port: int) -> None:
    """Workers share a port, so only the process itself can tell when it listens as well."""
    import psutil

    own = psutil.Process()
    while True:
        for connection in own.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                presence.update(state="ready")
                return
        await asyncio.sleep(LISTEN_POLL_S)


async def _until_signal(main: Coroutine[Any, Any, None], beside: Coroutine[Any, Any, None]) -> None:
    """Run `main`, and `beside` while it lasts; SIGTERM and SIGINT cancel both."""
    loop = asyncio.get_running_loop()
    task, companion = loop.create_task(main), loop.create_task(beside)
    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass
    finally:
        companion.cancel()


# --- one node


def run_node(config_file: Path) -> None:
    """Be the agent of the node until SIGTERM. Raises UserMistake; then nothing of the node is left running."""
    with _loading():
        from .agent.cluster_dir import AGENT
        from .agent.node import NodeAgent
        from .agent.presence import AlreadyRunning, claim

    config_file = config_file.absolute()
    config = load_node_config(config_file)
    secrets = load_secrets(Path(config.secrets_file))
    try:
        with claim(Path(config.data_dir) / "run", AGENT) as presence:
            asyncio.run(_run_agent(NodeAgent(config, secrets, config_file, presence)))
    except AlreadyRunning:
        raise UserMistake(f"node {config.name} in {config.data_dir} is running already") from None


async def _run_agent(agent: Any) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, ending.set)
    links = loop.create_task(LINKS.watch(Path(agent.config.data_dir) / "run" / LINKS_FILE))
    try:
        await agent.run(ending)
    finally:
        links.cancel()


# --- a local cluster


def run_local(prepared: Prepared, *, progress: Progress, ready: Callable[[], None]) -> None:
    """Supervise a prepared cluster until SIGTERM, SIGINT or SIGHUP; end it in order. Raises UserMistake.

    `progress` is called while it starts, `ready` once when every gateway has answered a query.
    """
    from .agent.cluster_dir import UP
    from .agent.presence import claim
    from .agent.supervisor import Supervisor

    ending = threading.Event()
    for number in (*ENDING_SIGNALS, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: ending.set())
    with claim(prepared.data_dir / "run", UP, lock=prepared.lock) as presence:
        for node in prepared.cluster.nodes:
            (prepared.data_dir / node.name / "run" / LINKS_FILE).unlink(missing_ok=True)
        supervisor = Supervisor(prepared)
        try:
            supervisor.start()
            if _wait_ready(supervisor, prepared, progress, ending):
                presence.update(state="ready", note="")
                supervisor.note_ready()
                ready()
            while not ending.wait(SUPERVISE_POLL_S) and prepared.data_dir.exists():
                supervisor.keep_up()
            presence.update(state="stopping")
        finally:
            supervisor.stop()


def _wait_ready(supervisor: Supervisor, prepared: Prepared, progress: Progress, ending: threading.Event) -> bool:
    """False when the end was asked for first."""
    from .agent.probe import gateways_answer

    deadline = time.monotonic() + START_TIMEOUT_S
    missing: str | None = "no node is ready"
    while not ending.is_set():
        states = supervisor.poll()
        progress(states)
        if set(states.values()) == {"ready"}:
            missing = asyncio.run(gateways_answer(prepared.cluster, prepared.secrets))
            if missing is None:
                return True
            ending.wait(PROBE_PAUSE_S)
        if time.monotonic() > deadline:
            raise UserMistake(
                f"the cluster is not ready after {START_TIMEOUT_S:.0f} s: {missing} (logs are in {prepared.data_dir})"
            )
        ending.wait(SUPERVISE_POLL_S)
    return False


def start_detached(prepared: Prepared, *, progress: Progress) -> int:
    """Start the supervisor in the background, wait until the cluster serves; its process id. Raises UserMistake."""
    from .agent.children import last_line, spawn
    from .agent.cluster_dir import UP
    from .agent.observe import observe_processes
    from .agent.presence import forget_record, read_record

    run_directory, log_file = prepared.data_dir / "run", prepared.data_dir / "log" / "up.log"
    forget_record(run_directory, UP)
    arguments = ("supervise", "--data", str(prepared.data_dir), "--lock", str(prepared.lock))
    child = spawn(arguments, log_file, keep=(prepared.lock,))
    os.close(prepared.lock)  # the child holds it now
    try:
        while child.poll() is None:
            record = read_record(run_directory, UP)
            if record is not None and record.pid == child.pid and record.state == "ready":
                child.returncode = 0  # it outlives this object on purpose; without this, Popen would warn of it
                return child.pid
            status = observe_processes(prepared.data_dir, prepared.cluster, prepared.secrets)
            progress({node.name: _shown(node.state, node.note) for node in status.nodes})
            time.sleep(SUPERVISE_POLL_S)
        record = read_record(run_directory, UP)
        if record is not None and record.state == "failed":
            raise UserMistake(record.note)
        raise UserMistake(f"hanse ended: {last_line(log_file)} (its log is {log_file})")
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


def _shown(state: str, note: str) -> str:
    state = {"running": "ready", "stopped": "starting"}.get(state, state)
    return f"{state} {note}".strip()
