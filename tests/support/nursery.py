"""Gateway workers to be killed: each is forked from one process that has imported everything, which takes milliseconds.

A worker is what an agent would have started, with a port and a fault file (`hanse.gateway.faults`) of its own; only its presence
record is missing, so that no agent looks after it. The nursery reads a line for each (worker, port, fault file), says its
process id, and ends with its standard input, all workers with it.

    python -m support.nursery NODE_JSON
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil

from hanse.config import load_node_config, load_secrets


class Nursery:
    """The other end: in the test."""

    def __init__(self, node_file: Path) -> None:
        root = Path(__file__).parents[1]
        with (node_file.parent / "log" / "nursery.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.nursery", str(node_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=root,
            )

    def worker(self, number: int, port: int, fault: Path) -> psutil.Process:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([number, port, str(fault)]), file=self._process.stdin, flush=True)
        return psutil.Process(int(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def main() -> None:
    import uvloop

    from hanse.app import log_to_stderr
    from hanse.gateway import process
    from hanse.gateway.server import serve

    config = load_node_config(Path(sys.argv[1]))
    secrets = load_secrets(Path(config.secrets_file))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries the dead
    log_to_stderr()
    children = []
    for line in sys.stdin:
        worker, port, fault = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.environ["HANSE_FAULT"] = fault
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a socket in its place would be libuv's end
            process.prepare()
            uvloop.run(serve(msgspec.structs.replace(config, gateway_port=port), secrets, worker))
            os._exit(0)
        children.append(psutil.Process(child))
        print(child, flush=True)
    for each in children:
        if each.is_running():
            each.kill()


if __name__ == "__main__":
    main()
