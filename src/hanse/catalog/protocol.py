"""Messages between the control service and its clients: values and their framing.

A frame is a length (4 bytes, big-endian, the length of what follows) and one MessagePack value, a struct tagged with
its kind. The two sides talk at once; a request carries a number, and its one `Done`, `LogPage` or `Failed` repeats it.

**Who speaks.** The connection is TLS, and both sides show certificates of the cluster (`core/node_tls.py`)::

    client                                        service
      Hello(format, name, known)        ───►
                                        ◄───      Welcome(term, snapshot, log, freezes)     of the leader
                                        ◄───      Elsewhere(term, leader)                   of any other node; then it ends
                                        ◄───      Refused(sqlstate, message)                to a node that was removed; then it ends

Until `Hello` has come a frame may hold AUTH_MESSAGE_BYTES_MAX bytes, and everything takes at most CONTROL_HANDSHAKE_S_MAX. Who has
no certificate yet may only ask to become a node; the token is one that a person was given by the cluster, and is good for once::

    a machine                                     service, where the authority's key is
      AskAuthority                      ───►
                                        ◄───      Authority(certificate); then it ends. The token has this certificate's fingerprint

      Join(secret, …, requests)         ───►      over a connection that was made with this authority
                                        ◄───      Joined(name, certificates, secrets, …), or Refused; then it ends

**Taking over a version.** The service sends `Changed`, the client makes every new statement use it, and then sends
`Ack`. One snapshot is under way per client; those that come meanwhile are skipped but for the newest. `propose` is
answered only when every live client has acknowledged, so that after it *nobody plans on an older version*.

A version comes with the schema changes that led to it from the last one that the client had (`LogPart`; `Hello` says which that
was), so that a gateway can bring its workspace up to date when nobody can be asked any more.

**A client that lost its watch must stop planning.** "Live" needs care, because either side may believe in a connection
that the other has given up. A client sends `Ping` every CONTROL_PING_S; it may plan by itself only while less than
CONTROL_LEASE_S have gone by since it *sent* a ping that was answered (`ControlClient.live`). The service counts the
same time from when a ping *arrived*, which is later. So when it gives a client up, because it was silent for
CATALOG_ACK_WAIT_S_MAX or the network broke, it waits for what is left of that client's lease; then the client has
stopped, whether or not it knows why. Two clocks are never compared, they only must run about equally fast. A client
that ends its connection itself (`Goodbye`, or end-of-file, which its kernel sends when the process dies) is not
waited for. A new leader's service does not know whose leases run: schema changes wait for one full lease.
Worked example, lease 4 s::

    t=0.0  client pings; network breaks after the answer          client may plan until 4.0
    t=0.1  service proposes version 8 and gets no Ack
    t=10.1 the client is dropped; its lease ended at 4.0 + transit; propose is answered at once

**Freezing.** `FrozenNow` asks clients to let no new transaction touch some relations and to answer `Drained` when
none is left. It ends with `Thawed`, also when the connection of whoever asked for it ends. `Welcome` names the
freezes in force.

**Leaders.** Only Raft's leader welcomes clients, and drops them when it leads no more. What was said of "the service" is
true of all leaders together, as if there were one: `tenure.py` has the argument.
"""

from __future__ import annotations

import asyncio
import struct

import msgspec

from ..config import ControlNode, Secrets
from ..core.errors import PgError
from .commands import Command, DdlEntry
from .model import Snapshot

FORMAT = 3
LENGTH = struct.Struct("!I")

Identity = tuple[str, str]


class ProtocolViolation(Exception):
    """The other side sent what it must not. The connection ends; connecting again is safe."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    identities: tuple[Identity, ...]


# --- from the service ------------------------------------------------------------------------------------------------


class LogPart(msgspec.Struct, frozen=True, kw_only=True):
    """All schema changes after version `since`, up to the snapshot beside it."""

    since: int
    entries: tuple[DdlEntry, ...] = ()


class Welcome(Message, frozen=True, kw_only=True):
    term: int
    snapshot: Snapshot
    log: LogPart
    freezes: tuple[Freeze, ...] = ()


class Elsewhere(Message, frozen=True, kw_only=True):
    """This node does not lead. `leader`: the name of who does, where that is known."""

    term: int
    leader: str | None


class Refused(Message, frozen=True, kw_only=True):
    sqlstate: str
    message: str


class Authority(Message, frozen=True, kw_only=True):
    certificate: bytes  # in PEM form, as are all here


class Joined(Message, frozen=True, kw_only=True):
    """What the first start of a node needs."""

    name: str
    cluster_id: str
    database: str
    secrets: Secrets
    tls: str  # of clients, as in NodeConfig
    certificate: bytes
    gateway_authority: bytes | None  # None: the gateways' authority is not ours, or its key is kept elsewhere
    gateway_certificate: bytes | None
    control: tuple[ControlNode, ...]
    may_vote: bool  # it is to have a control service and a Raft, on the ports that it has offered


class Pong(Message, frozen=True, kw_only=True):
    number: int


class Changed(Message, frozen=True, kw_only=True):
    snapshot: Snapshot
    log: LogPart


class FrozenNow(Message, frozen=True, kw_only=True):
    freeze: Freeze


class Thawed(Message, frozen=True, kw_only=True):
    id: str


class Done(Message, frozen=True, kw_only=True):
    request: int
    value: int = 0
    text: str = ""


class LogPage(Message, frozen=True, kw_only=True):
    request: int
    entries: tuple[DdlEntry, ...]


class Failed(Message, frozen=True, kw_only=True):
    request: int
    sqlstate: str
    message: str
    detail: str | None = None
    hint: str | None = None


# --- from a client ---------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    format: int
    name: str
    known: int = -1  # the version up to which it has the log, if it has any of it


class AskAuthority(Message, frozen=True, kw_only=True):
    pass


class Join(Message, frozen=True, kw_only=True):
    format: int
    secret: str  # of the token
    name: str | None  # None: the next that is free
    host: str
    gateway_port: int
    control_port: int
    raft_port: int
    request: bytes  # for its certificate among nodes
    gateway_request: bytes  # for its gateways' certificate, which is to be good for what follows
    gateway_names: tuple[str, ...]
    gateway_addresses: tuple[str, ...]
    labels: dict[str, str] = {}


class Ping(Message, frozen=True, kw_only=True):
    number: int


class Goodbye(Message, frozen=True, kw_only=True):
    pass


class Ack(Message, frozen=True, kw_only=True):
    version: int


class Drained(Message, frozen=True, kw_only=True):
    id: str


class LockDdl(Message, frozen=True, kw_only=True):
    request: int
    timeout_s: float


class UnlockDdl(Message, frozen=True, kw_only=True):
    request: int


class BeginFreeze(Message, frozen=True, kw_only=True):
    request: int
    identities: tuple[Identity, ...]
    timeout_s: float


class EndFreeze(Message, frozen=True, kw_only=True):
    request: int
    id: str


class Propose(Message, frozen=True, kw_only=True):
    request: int
    command: Command


class ReadDdlLog(Message, frozen=True, kw_only=True):
    request: int
    since: int


class Settle(Message, frozen=True, kw_only=True):
    request: int
    transaction_id: str


class LookUp(Message, frozen=True, kw_only=True):
    """As `Settle`, but nothing is settled by it. Answered with Done, whose text is 'c', 'a', or '' while it is open."""

    request: int
    transaction_id: str


ServiceMessage = (
    Welcome | Elsewhere | Refused | Authority | Joined | Pong | Changed | FrozenNow | Thawed | Done | LogPage | Failed
)
Answer = Done | LogPage | Failed
Request = LockDdl | UnlockDdl | BeginFreeze | EndFreeze | Propose | ReadDdlLog | Settle | LookUp
ClientMessage = Hello | AskAuthority | Join | Ping | Goodbye | Ack | Drained | Request

_encoder = msgspec.msgpack.Encoder()
_service_decoder: msgspec.msgpack.Decoder[ServiceMessage] = msgspec.msgpack.Decoder(ServiceMessage)
_client_decoder: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)


def encode(message: ServiceMessage | ClientMessage, bytes_max: int) -> bytes:
    """A whole frame. Raises PgError 54000 when the message is larger than the other side would take."""
    body = _encoder.encode(message)
    if len(body) > bytes_max:
        raise PgError("54000", f"a message to the control plane is too large ({len(body)} bytes)")
    return LENGTH.pack(len(body)) + body


async def read_length(reader: asyncio.StreamReader, bytes_max: int) -> int:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > bytes_max:
        raise ProtocolViolation(f"a frame of {length} bytes is larger than {bytes_max}")
    return int(length)


def decode_from_service(body: bytes) -> ServiceMessage:
    try:
        return _service_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise ProtocolViolation(f"not a message of the control service: {error}") from error


def decode_from_client(body: bytes) -> ClientMessage:
    try:
        return _client_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise ProtocolViolation(f"not a message of a client: {error}") from error
