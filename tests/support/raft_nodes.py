"""Real Raft nodes for tests: in the test's own loop, or each as a process that a client can talk to.

    python -m support.raft_nodes NAME DIRECTORY PORT ADDRESSES

The process answers lines on PORT: `write N` with `ok VERSION`, `read lease` and `read index` with `ok VERSION`, `state` with
`ok LEADS VERSION N N N…`, all writes in order; and with `error SQLSTATE` what was not done, or is not known.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.node import Node
from hanse.consensus.raft.saved import Saved, founding
from hanse.consensus.raft.state import Settings
from hanse.core.errors import PgError
from hanse.core.node_tls import node_tls
from support.processes import free_ports

THREE = ("n1", "n2", "n3")
SETTINGS = Settings(election_timeout_s=1.0, heartbeat_s=0.15, clock_drift=0.05)


class Journal:
    """Remembers all writes in order; a write's result is how many there are."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.restored = 0

    def apply(self, version: int, command: bytes) -> bytes:
        self.writes.append(command)
        return b"%d" % len(self.writes)

    def snapshot(self) -> bytes:
        return b" ".join(self.writes)

    def restore(self, version: int, data: bytes) -> None:
        self.writes = data.split()
        self.restored += 1


def make_node(
    name: str, directory: Path, certificates: Path, initial: Saved, address: str, *, snapshot_entries: int = 10_000
) -> tuple[Node, Journal]:
    journal = Journal()
    tls = node_tls(certificates / "ca.crt", certificates / f"{name}.crt", certificates / f"{name}.key")
    node = Node(
        name,
        directory / name,
        initial,
        journal,
        tls,
        cluster="test",
        address=address,
        settings=SETTINGS,
        snapshot_entries=snapshot_entries,
    )
    return node, journal


def founders(addresses: dict[str, str]) -> Saved:
    return founding(Configuration(voters=tuple(sorted(addresses)), addresses=addresses))


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():
            await asyncio.sleep(0.02)


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)}"


async def answer(node: Node, journal: Journal, line: str) -> str:
    match line.split():
        case ["write", number]:
            return (await node.propose(number.encode())).decode()
        case ["read", how]:
            await node.read(lease=how == "lease")
            return str(len(journal.writes))
        case _:
            return f"{int(node.leads)} {len(journal.writes)} " + " ".join(each.decode() for each in journal.writes)


async def serve(name: str, directory: Path, port: int, addresses: dict[str, str]) -> None:
    node, journal = make_node(name, directory, directory, founders(addresses), addresses[name], snapshot_entries=300)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readline()).decode():
            try:
                told = "ok " + await answer(node, journal, line)
            except PgError as error:
                told = f"error {error.sqlstate}"
            writer.write(told.encode() + b"\n")
            await writer.drain()
        writer.close()

    await node.start()
    async with await asyncio.start_server(talk, "127.0.0.1", port, limit=1 << 20) as server:
        await server.serve_forever()


def end_with_parent() -> None:
    """Standard input is a pipe from whoever started this process: it ends with him, however he does."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(
        serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), dict(a.split("=") for a in sys.argv[4].split(",")))
    )
