"""The control service of one node: what clients connect to. `protocol.py` has the rules.

Each node of the control plane has one; only that of the consensus' leader answers, in a *tenure* (`tenure.py`, which has the
argument). The others tell who leads, as far as they know. Nodes that were removed are told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol

from ..core.errors import PgError, UserMistake
from ..core.limits import (
    AUTH_MESSAGE_BYTES_MAX,
    CATALOG_ACK_WAIT_S_MAX,
    CONTROL_CLIENTS_MAX,
    CONTROL_HANDSHAKE_S_MAX,
    CONTROL_LEASE_S,
    CONTROL_VACATE_S_MAX,
    RAFT_RETRY_PAUSE_S,
)
from ..core.node_tls import NodeTls, certified_names
from ..core.serving import NodeServer
from . import protocol as p
from .machine import CatalogMachine
from .service_session import ServiceSession
from .tenure import Consensus, Tenure

REMOVED = "this node was removed from the cluster"

log = logging.getLogger(__name__)


class Door(Protocol):
    """Where machines without a certificate may ask to become nodes."""

    async def answer(self, question: p.AskAuthority | p.Join) -> p.ServiceMessage: ...


class ControlService:
    """`machine` is what `consensus` applies to. Times are arguments for tests; everybody must use the same `lease_s`."""

    def __init__(
        self,
        consensus: Consensus,
        machine: CatalogMachine,
        tls: NodeTls,
        *,
        door: Door | None = None,
        ack_wait_s: float = CATALOG_ACK_WAIT_S_MAX,
        lease_s: float = CONTROL_LEASE_S,
        vacated: int | None = None,
    ) -> None:
        self._consensus = consensus
        self._machine = machine
        self._door = door
        self._ack_wait_s = ack_wait_s
        self._lease_s = lease_s
        self.vacated = vacated  # the term of the last tenure here that ended with nobody to be waited for
        self._server = NodeServer(
            self._serve,
            tls.server if door is None else tls.door,
            handshake_s_max=CONTROL_HANDSHAKE_S_MAX,
            connections_max=CONTROL_CLIENTS_MAX,
        )
        self.tenure: Tenure | None = None  # while clients are answered here

    async def start(self, host: str, port: int) -> None:
        """Listens. Raises UserMistake where that is impossible."""
        try:
            await self._server.start(host, port)
        except OSError as error:
            raise UserMistake(f"the control service cannot listen on {host}:{port}: {error.strerror}") from error
        self._following = asyncio.create_task(self._follow_leadership())

    @property
    def port(self) -> int:
        """The port in use, where `start` was given 0."""
        return self._server.port

    async def stop(self) -> None:
        """Ends every connection. The consensus must still run."""
        self._server.close()
        tenure, self.tenure = self.tenure, None
        if tenure is not None and tenure.leave():
            self.vacated = tenure.term
            with contextlib.suppress(PgError, TimeoutError):  # not told: another leader waits for leases in vain
                async with asyncio.timeout(CONTROL_VACATE_S_MAX):
                    await tenure.say_vacant()
        self._following.cancel()
        await asyncio.gather(self._following, self._server.stop(), return_exceptions=True)

    # --- leadership --------------------------------------------------------------------------------------------------

    async def _follow_leadership(self) -> None:
        while True:
            known = self._consensus.leadership
            leading = asyncio.create_task(self._lead(known.term)) if known.leads else None
            try:
                await self._consensus.leadership_changed(known)
            except PgError as error:
                log.error("the control service answers nobody any more: %s", error.message)
                return
            finally:
                if leading is not None:
                    leading.cancel()
                    await asyncio.wait([leading])

    async def _lead(self, term: int) -> None:
        tenure = Tenure(
            self._consensus,
            self._machine,
            term,
            ack_wait_s=self._ack_wait_s,
            lease_s=self._lease_s,
            vacated=self.vacated,
        )
        try:
            while self.tenure is None:
                try:
                    await tenure.begin()
                    self.tenure = tenure
                except PgError as error:
                    log.info("the tenure of term %d cannot begin yet: %s", term, error.message)
                    await asyncio.sleep(RAFT_RETRY_PAUSE_S)
            log.info("the control service answers, in term %d", term)
            await tenure.tell_versions()
        finally:
            self.tenure = None
            tenure.end()

    # --- connections -------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONTROL_HANDSHAKE_S_MAX):
                names = certified_names(writer)
                if not names:
                    await self._at_the_door(reader, writer)
                    return
                hello = await self._greeted(reader)
                tenure = await self._answering()
                if tenure is None:
                    await _say_and_end(writer, self._elsewhere())
                    return
                if not self._belong(names):
                    log.warning("%s is of a node that was removed", hello.name)
                    await _say_and_end(writer, p.Refused(sqlstate="28000", message=REMOVED))
                    return
        except EOFError:
            return  # it has found another that leads, or given up
        except (OSError, TimeoutError, p.ProtocolViolation) as error:
            log.warning("a connection to the control service was refused: %s", error or type(error).__name__)
            return
        await tenure.serve(ServiceSession(tenure, reader, writer, hello.name), hello.known)

    async def _answering(self) -> Tenure | None:
        """Who may welcome a client at this moment; None: nobody here."""
        tenure = self.tenure
        if tenure is None:
            return None
        try:
            await tenure.confirm()
        except PgError:
            return None
        return tenure if tenure is self.tenure else None

    def _elsewhere(self) -> p.Elsewhere:
        leadership = self._consensus.leadership
        return p.Elsewhere(term=leadership.term, leader=None if leadership.leads else leadership.leader)

    async def _greeted(self, reader: asyncio.StreamReader) -> p.Hello:
        hello = await _first_message(reader)
        if not isinstance(hello, p.Hello) or hello.format != p.FORMAT:
            raise p.ProtocolViolation("a client of another version")
        return hello

    async def _at_the_door(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await _first_message(reader)
        if self._door is None or not isinstance(question, p.AskAuthority | p.Join):
            raise p.ProtocolViolation("a client without a certificate")
        await _say_and_end(writer, await self._door.answer(question))

    def _belong(self, names: frozenset[str]) -> bool:
        """Certificates outlive a node's membership. Before the first topology there is nobody who was removed."""
        nodes = self._machine.catalog.nodes
        return not nodes or any(node.name in names for node in nodes)


async def _first_message(reader: asyncio.StreamReader) -> p.ClientMessage:
    length = await p.read_length(reader, AUTH_MESSAGE_BYTES_MAX)
    return p.decode_from_client(await reader.readexactly(length))


async def _say_and_end(writer: asyncio.StreamWriter, message: p.ServiceMessage) -> None:
    writer.write(p.encode(message, AUTH_MESSAGE_BYTES_MAX))
    with contextlib.suppress(OSError):
        await writer.drain()
        writer.close()
        await writer.wait_closed()  # it is read before the connection's end
