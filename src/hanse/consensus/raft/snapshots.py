"""Snapshots for followers whose entries are gone (dissertation, chapter 5): piece by piece, one under way at a time.

The receiver keeps the pieces in memory, at most `snapshot_bytes_max`, and starts anew after a restart or with another
leader. The leader keeps to the snapshot that it began with, also when it has made a newer one meanwhile.
"""

from __future__ import annotations

import zlib

from .messages import AppendResponse, InstallSnapshot, Snapshot, SnapshotResponse
from .state import Flow, Leading, Peer, Receiving, State

# --- a leader --------------------------------------------------------------------------------------------------------


def begin(state: State, peer: Peer) -> None:
    peer.flow, peer.snapshot, peer.offset, peer.waiting = Flow.SNAPSHOT, state.log.snapshot, 0, False
    peer.in_flight.clear()


def send_piece(state: State, node: str, peer: Peer) -> None:
    snapshot = peer.snapshot
    assert snapshot is not None
    if peer.waiting:
        return
    peer.waiting, peer.due = True, False
    state.send(
        InstallSnapshot(
            sender=state.node,
            receiver=node,
            term=state.term,
            index=snapshot.index,
            index_term=snapshot.term,
            configuration=snapshot.configuration,
            checksum=snapshot.checksum,
            total=len(snapshot.data),
            offset=peer.offset,
            data=snapshot.data[peer.offset : peer.offset + state.settings.chunk_bytes],
        )
    )


def on_snapshot_response(state: State, leading: Leading, message: SnapshotResponse) -> None:
    peer = leading.peers.get(message.sender)
    if peer is None:
        return
    peer.heard_at = state.now
    if peer.snapshot is not None and peer.snapshot.index == message.index:
        peer.offset = min(message.received, len(peer.snapshot.data))
        peer.waiting = False


# --- a follower ------------------------------------------------------------------------------------------------------


def on_install_snapshot(state: State, message: InstallSnapshot) -> None:
    state.hear_leader(message.sender)
    if message.index <= state.commit:
        _answer_match(state, message.sender, state.commit)
        return
    receiving = _receiving(state, message)
    if message.offset == len(receiving.data):
        receiving.data += message.data
    if len(receiving.data) < receiving.total:
        response = SnapshotResponse(
            sender=state.node,
            receiver=message.sender,
            term=state.term,
            index=message.index,
            received=len(receiving.data),
        )
        state.send(response)
        return
    state.receiving = None
    if len(receiving.data) == receiving.total and zlib.crc32(receiving.data) == receiving.checksum:
        _install(state, message, bytes(receiving.data))


def _receiving(state: State, message: InstallSnapshot) -> Receiving:
    current = state.receiving
    wanted = (message.index, message.index_term, message.checksum, message.total)
    if message.total > state.settings.snapshot_bytes_max:
        raise ValueError(f"a snapshot of {message.total} bytes is larger than {state.settings.snapshot_bytes_max}")
    if current is None or (current.index, current.term, current.checksum, current.total) != wanted:
        state.receiving = current = Receiving(*wanted)
    return current


def _install(state: State, message: InstallSnapshot, data: bytes) -> None:
    snapshot = Snapshot(index=message.index, term=message.index_term, configuration=message.configuration, data=data)
    state.log.restore(snapshot)
    state.restored = snapshot
    state.commit = state.applied = snapshot.index
    _answer_match(state, message.sender, snapshot.index)


def _answer_match(state: State, leader: str, match: int) -> None:
    state.send(AppendResponse(sender=state.node, receiver=leader, term=state.term, match=match))
