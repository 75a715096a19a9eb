"""Whether an event loop lets everybody have his turn, measured so that a slow machine does not matter."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from support.servers import Server

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Turns:
    """The longest wait of a client, in CPU seconds that the gateway's event loop has used meanwhile."""

    longest_s: float = 0.0
    questions: int = 0


def loop_cpu_s(pid: int) -> float:
    """CPU that the main thread has used, where the event loop runs."""
    with open(f"/proc/{pid}/task/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.contextmanager
def turns_of(server: Server, pid: int) -> Iterator[Turns]:
    """Asks SELECT 1 all the time through the gateway worker `pid`."""
    turns, ended = Turns(), threading.Event()

    def ask() -> None:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            while not ended.is_set():
                before = loop_cpu_s(pid)
                connection.execute("SELECT 1")
                turns.longest_s = max(turns.longest_s, loop_cpu_s(pid) - before)
                turns.questions += 1
                time.sleep(0.003)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield turns
    finally:
        ended.set()
        asker.join()
    assert turns.questions > 3
