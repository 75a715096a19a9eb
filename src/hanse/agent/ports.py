"""TCP ports: free ones for internal use, and who holds one that is not.

Internal ports are chosen below the range from which systems take the local ports of outgoing connections (32768 and
up on Linux, 49152 and up on macOS): a port there may be taken for a moment by any client between two starts of its
server.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable

import psutil

from ..core.errors import UserMistake
from ..core.limits import PORTS_TRIED_MAX

INTERNAL_PORTS = range(20_000, 32_000)


def internal_ports() -> range:
    """HANSE_PORTS=FIRST-LAST makes them fewer, so that clusters that start at once (of tests) do not choose the same."""
    given = os.environ.get("HANSE_PORTS")
    if not given:
        return INTERNAL_PORTS
    first, _, last = given.partition("-")
    return range(int(first), int(last) + 1)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Sockets of ended connections (TIME_WAIT) do not count.

    Raises UserMistake for a host that has no address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise UserMistake(f"{host} is no address of this machine: {error.strerror}") from None
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return not _answers(host, port)  # where binding beside a wildcard listener is allowed (macOS)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def choose_free_ports(host: str, count: int, *, avoid: Iterable[int] = ()) -> list[int]:
    """`count` different ports that are free now. Raises UserMistake where none can be found."""
    taken = set(avoid)
    chosen: list[int] = []
    tries = PORTS_TRIED_MAX + 2 * count
    ports = internal_ports()
    for port in random.sample(ports, min(tries, len(ports))):
        if len(chosen) == count:
            return chosen
        if port not in taken and is_free(host, port):
            chosen.append(port)
    if len(chosen) < count:
        raise UserMistake(f"{tries} ports on {host} were tried and too few of them are free")
    return chosen


def port_holder(port: int) -> str | None:
    """'postgres (process 4711)', for a message; None where the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return None


def check_port(host: str, port: int, purpose: str, *, option: str = "--port") -> None:
    """Raise UserMistake where `port` cannot be listened on. `option`: the one by which it was chosen."""
    if is_free(host, port):
        return
    if port < 1024:
        raise UserMistake(f"port {port} on {host}, for {purpose}, is taken or needs root")
    holder = port_holder(port)
    by = f" by {holder}" if holder else ""
    raise UserMistake(f"port {port} on {host}, for {purpose}, is already taken{by}; choose another with {option}")
