"""A real etcd, for tests that need one: its servers are started, killed, started again."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.processes import free_ports, wait_until

ETCD = shutil.which("etcd")
needs_etcd = pytest.mark.skipif(
    ETCD is None, reason="etcd is not installed (on Debian and Ubuntu: apt install etcd-server)"
)


class Etcd:
    """Of one server, or of three that elect a leader. With `certificate` (file, key file) it speaks TLS."""

    def __init__(self, directory: Path, *, servers: int = 1, certificate: tuple[Path, Path] | None = None) -> None:
        self.directory = directory
        first = free_ports(2 * servers)
        self.ports = tuple(range(first, first + servers))
        self.tls = None if certificate is None else ssl.create_default_context(cafile=str(certificate[0]))
        self._certificate = certificate
        self._processes: dict[int, subprocess.Popen[bytes]] = {}  # by server's number

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def url(self) -> str:
        scheme = "etcd" if self.tls is None else "etcds"
        return f"{scheme}://{','.join(f'127.0.0.1:{port}' for port in self.ports)}"

    def start(self, *servers: int) -> None:
        """All without arguments; returns when these answer."""
        started = servers or tuple(range(len(self.ports)))
        for number in started:
            with (self.directory / f"etcd-{number}.log").open("ab") as log:
                command = self._command(number)
                self._processes[number] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until("etcd answers", lambda: all(map(self._answers, started)), timeout_s=60)

    def kill(self, *servers: int) -> None:
        """All without arguments."""
        for number in servers or tuple(self._processes):
            process = self._processes.pop(number)
            process.kill()
            process.wait()

    def leader(self) -> int:
        """The number of the server that leads."""

        def leads(number: int) -> bool:
            asking = http.client.HTTPConnection("127.0.0.1", self.ports[number], timeout=5)
            with contextlib.suppress(OSError), contextlib.closing(asking):
                asking.request("POST", "/v3/maintenance/status", "{}")
                status = json.loads(asking.getresponse().read())
                return "leader" in status and status["leader"] == status["header"]["member_id"]
            return False

        wait_until("etcd has a leader", lambda: any(map(leads, self._processes)), timeout_s=60)
        return next(number for number in self._processes if leads(number))

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """All servers."""
        processes = [psutil.Process(process.pid) for process in self._processes.values()]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def _command(self, number: int) -> list[str]:
        scheme = "http" if self._certificate is None else "https"
        here = f"{scheme}://127.0.0.1:{self.ports[number]}"
        count = len(self.ports)
        peers = [f"http://127.0.0.1:{port + count}" for port in self.ports]
        files = ["--cert-file", "--key-file"] if self._certificate is not None else []
        return [
            *(ETCD or "etcd", "--name", f"e{number}", "--data-dir", str(self.directory / f"etcd-{number}")),
            *(word for pair in zip(files, map(str, self._certificate or ()), strict=True) for word in pair),
            *("--listen-client-urls", here, "--advertise-client-urls", here),
            *("--listen-peer-urls", peers[number], "--initial-advertise-peer-urls", peers[number]),
            *("--initial-cluster", ",".join(f"e{other}={each}" for other, each in enumerate(peers))),
            *("--heartbeat-interval", "50", "--election-timeout", "500"),
        ]

    def _answers(self, number: int) -> bool:
        """To a read that needs its leader."""
        address = ("127.0.0.1", self.ports[number])
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=5) as plain:
            connection = plain if self.tls is None else self.tls.wrap_socket(plain, server_hostname="127.0.0.1")
            with connection:
                connection.sendall(b"GET /health HTTP/1.0\r\nHost: etcd\r\n\r\n")
                answer = b""
                while more := connection.recv(4096):
                    answer += more
                return b'"health":"true"' in answer
        return False


@contextlib.contextmanager
def running_etcd(
    run_directory: Path, *, servers: int = 1, certificate: tuple[Path, Path] | None = None
) -> Iterator[Etcd]:
    """Under the run's directory, so that nothing of it is left."""
    directory = run_directory / f"etcd-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    etcd = Etcd(directory, servers=servers, certificate=certificate)
    try:
        etcd.start()
        yield etcd
    finally:
        etcd.kill()
        shutil.rmtree(directory, ignore_errors=True)
