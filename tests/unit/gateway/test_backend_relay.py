"""The relay: whole answers pass unchanged however the network cuts them, and what we added is taken out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from hanse.core.errors import PgError
from hanse.core.limits import PREPARED_BYTES_PER_BACKEND_MAX
from hanse.engines.postgres.backend import FIRST, LAST, Backend, split_messages
from hanse.engines.postgres.cover import Cover
from hanse.pgwire import backend as server
from hanse.pgwire import frontend
from hanse.pgwire.diagnostics import error_response

ROW = server.data_row([b"1", None, b"x" * 300])
ANSWER = (
    server.row_description([server.Field("a", 0, 0, 23, 4, -1, 0)])
    + ROW * 3
    + server.command_complete("SELECT 3")
    + server.ready_for_query(b"I")
)
FAILURE = error_response(PgError("22012", "division by zero")) + server.ready_for_query(b"E")
BEGUN = server.command_complete("BEGIN") + server.ready_for_query(b"T")
BIND_COMPLETE = server.bind_complete()


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        return

    def abort(self) -> None:
        return


class Relay:
    def __init__(self) -> None:
        self.data = b""
        self.errors: list[bytes] = []
        self.ends: list[int] = []
        self.lost_count = 0

    def chunk(self, data: bytes) -> None:
        self.data += data

    def error(self, message: bytes) -> None:
        self.errors.append(message)
        self.data += message

    def ready(self, backend: Backend, status: int) -> None:
        self.ends.append(status)

    def lost(self, backend: Backend) -> None:
        self.lost_count += 1


def made() -> tuple[Backend, Transport]:
    backend, transport = Backend("g1", "u", "d"), Transport()
    backend.attach(transport, b"")
    return backend, transport


def feed(backend: Backend, data: bytes, cut: int) -> None:
    backend.data_received(data[:cut])
    if cut < len(data):
        backend.data_received(data[cut:])


def cut_before(end: int) -> Callable[[Callable[[int], None]], Callable[[], None]]:
    """One test of all cuts: a thousand tests cost pytest seconds."""

    def at_every_byte(test: Callable[[int], None]) -> Callable[[], None]:
        def every_cut() -> None:
            for cut in range(1, end):
                try:
                    test(cut)
                except BaseException as error:
                    error.add_note(f"cut at {cut}")
                    raise

        return every_cut

    return at_every_byte


@cut_before(len(ANSWER))
def test_an_answer_cut_anywhere_passes_whole(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay)
    feed(backend, ANSWER, cut)
    assert relay.data == ANSWER
    assert relay.ends == [ord("I")]


@cut_before(len(FAILURE))
def test_an_error_is_told_apart_wherever_it_is_cut(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay)
    feed(backend, FAILURE, cut)
    assert relay.data == FAILURE
    assert len(relay.errors) == 1
    assert relay.ends == [ord("E")]


@cut_before(len(BEGUN + ANSWER))
def test_the_answer_to_our_begin_is_taken_out(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, skip_ready=1)
    feed(backend, BEGUN + ANSWER, cut)
    assert relay.data == ANSWER
    assert relay.ends == [ord("I")]


@cut_before(40)
def test_acknowledgements_of_what_we_prepared_are_taken_out(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, swallow=3)
    feed(backend, server.close_complete() + server.parse_complete() + BIND_COMPLETE + ANSWER, cut)
    assert relay.data == ANSWER


@cut_before(40)
def test_a_bind_complete_in_front_is_taken_off(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, swallow=1, expected=BIND_COMPLETE)
    feed(backend, BIND_COMPLETE + ANSWER, cut)
    assert relay.data == ANSWER


OPENED = BIND_COMPLETE + server.command_complete("BEGIN") + BIND_COMPLETE


@cut_before(len(OPENED + ANSWER))
def test_the_answer_to_a_begin_before_the_same_sync_is_taken_off(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, swallow=3, expected=OPENED)
    feed(backend, OPENED + ANSWER, cut)
    assert relay.data == ANSWER


@cut_before(40)
def test_an_error_behind_a_begin_before_the_same_sync_passes(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, swallow=3, expected=OPENED)
    feed(backend, OPENED[:-5] + FAILURE, cut)
    assert relay.data == FAILURE
    assert relay.ends == [ord("E")]


GATED = server.command_complete("INSERT 0 0") + server.ready_for_query(b"I")
GATED_ANSWER = BIND_COMPLETE + ANSWER[:-6] + BIND_COMPLETE + GATED
COMMITTED = server.command_complete("COMMIT") + server.ready_for_query(b"I")


@cut_before(len(GATED_ANSWER))
def test_what_a_statement_behind_the_clients_answers_is_taken_out(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, hidden=LAST)
    feed(backend, GATED_ANSWER, cut)
    assert relay.data == BIND_COMPLETE + ANSWER
    assert relay.ends == [ord("I")]
    backend.relay_to(relay)
    backend.data_received(GATED_ANSWER)
    assert relay.data == BIND_COMPLETE + ANSWER + GATED_ANSWER


@cut_before(40)
def test_what_a_statement_before_commit_answers_is_taken_out(cut: int) -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, hidden=FIRST)
    feed(backend, server.command_complete("LOCK TABLE") + COMMITTED, cut)
    assert relay.data == COMMITTED


def test_an_error_of_the_statement_behind_is_the_clients() -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, hidden=LAST)
    backend.data_received(BIND_COMPLETE + ANSWER[:-6] + FAILURE)
    assert relay.data == BIND_COMPLETE + ANSWER[:-6] + FAILURE


def test_an_error_in_the_place_of_bind_complete_passes() -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay, swallow=1, expected=BIND_COMPLETE)
    backend.data_received(FAILURE)
    assert relay.data == FAILURE


async def test_pulled_rows_come_in_one_piece_and_split_again() -> None:
    backend, _ = made()
    backend.data_received(ANSWER)
    kinds = []
    while not kinds or kinds[-1] != ord("Z"):
        kind, raw = await backend.next()
        kinds.append(kind)
        if kind == ord("D"):
            assert split_messages(raw) == [ROW, ROW, ROW]
    assert kinds == [ord(c) for c in "TDCZ"]


async def test_what_was_sent_ahead_is_not_seen() -> None:
    backend, transport = made()
    backend.write_ahead(b"begin")
    assert transport.written == []
    backend.write(b"query")
    assert transport.written == [b"beginquery"]
    backend.data_received(BEGUN + server.command_complete("SELECT 1") + server.ready_for_query(b"T"))
    assert (await backend.next())[0] == ord("C")
    assert backend.answering
    assert (await backend.next())[0] == ord("Z")
    assert not backend.answering


BEGUN_INSERT = server.command_complete("BEGIN") + server.command_complete("INSERT 0 1") + server.ready_for_query(b"T")


@pytest.mark.parametrize("cut", range(1, len(BEGUN_INSERT)))
async def test_begin_goes_with_its_statement(cut: int) -> None:
    backend, transport = made()
    backend.write_ahead(frontend.query(b"BEGIN"))
    assert backend.write_statement(b"INSERT") == len("BEGIN; ")
    assert transport.written == [frontend.query(b"BEGIN; INSERT")]
    feed(backend, BEGUN_INSERT, cut)
    assert await backend.next() == (ord("C"), server.command_complete("INSERT 0 1"))
    assert (await backend.next())[0] == ord("Z")
    backend.data_received(ANSWER)
    assert (await backend.next())[0] == ord("T")


async def test_a_text_that_fails_before_its_begin() -> None:
    backend, _ = made()
    backend.write_ahead(frontend.query(b"BEGIN"))
    backend.write_statement(b"INSERT")
    backend.data_received(FAILURE + server.command_complete("ROLLBACK"))
    assert [(await backend.next())[0] for _ in range(3)] == [ord("E"), ord("Z"), ord("C")]


@pytest.mark.parametrize("ahead", [(), (b"DISCARD SEQUENCES",), (b"BEGIN", b"DISCARD SEQUENCES")])
async def test_what_else_goes_ahead_is_answered_by_itself(ahead: tuple[bytes, ...]) -> None:
    backend, transport = made()
    for sql in ahead:
        backend.write_ahead(frontend.query(sql))
    assert backend.write_statement(b"INSERT") == 0
    assert b"".join(transport.written) == b"".join(frontend.query(sql) for sql in (*ahead, b"INSERT"))


async def test_a_slow_consumer_stops_the_socket() -> None:
    backend, transport = made()
    big = server.data_row([b"x" * 700_000])
    backend.data_received(big)
    assert not transport.paused
    backend.data_received(big)
    assert transport.paused
    await backend.next()
    await backend.next()
    assert not transport.paused


async def test_a_long_message_in_many_pieces_is_joined_once() -> None:
    backend, _ = made()
    big = server.data_row([b"y" * 1_000_000]) + server.ready_for_query(b"I")
    for start in range(0, len(big), 10_000):
        backend.data_received(big[start : start + 10_000])
    assert (await backend.next())[1] == big[:-6]
    assert (await backend.next())[0] == ord("Z")


async def test_a_lost_connection_is_an_error_for_who_waits() -> None:
    backend, _ = made()
    waiting = asyncio.ensure_future(backend.next())
    await asyncio.sleep(0)
    backend.connection_lost(None)
    with pytest.raises(PgError) as caught:
        await waiting
    assert caught.value.sqlstate == "08006"


def test_a_lost_connection_is_told_to_the_relay_once() -> None:
    backend, _ = made()
    relay = Relay()
    backend.relay_to(relay)
    backend.connection_lost(None)
    assert relay.lost_count == 1


def test_the_oldest_prepared_statement_makes_room() -> None:
    backend, _ = made()
    evicted = [backend.remember(b"s%d" % number, 10) for number in range(501)]
    assert evicted[:500] == [(b"", 0)] * 500
    assert b"s0" in evicted[500][0] and evicted[500][1] == 1
    assert not backend.knows(b"s0")
    assert backend.knows(b"s500")


def test_long_prepared_statements_make_room_for_each_other() -> None:
    backend, _ = made()
    third = PREPARED_BYTES_PER_BACKEND_MAX // 3
    assert [backend.remember(b"s%d" % number, third)[1] for number in range(5)] == [0, 0, 0, 1, 1]
    assert backend.remember(b"whole", PREPARED_BYTES_PER_BACKEND_MAX + 1)[1] == 3
    assert backend.knows(b"whole") and not backend.knows(b"s4")
    backend.forget(b"whole")
    assert [backend.remember(b"t%d" % number, third)[1] for number in range(4)] == [0, 0, 0, 1]


def covered(until: float) -> tuple[Backend, Relay, Transport, Cover]:
    backend, relay, transport = Backend("g1", "u", "d"), Relay(), Transport()
    backend.attach(transport, b"")
    backend.cover = Cover()
    backend.cover.renew(until)
    backend.relay_to(relay)
    backend.write(b"Q")
    return backend, relay, transport, backend.cover


def test_what_comes_behind_the_lease_is_held_until_it_is_known_to_go_on() -> None:
    backend, relay, transport, cover = covered(time.monotonic() - 1)
    for at in range(0, len(ANSWER), 100):
        backend.data_received(ANSWER[at : at + 100])
    assert (relay.data, relay.ends, transport.paused, backend.unread) == (b"", [], True, True)
    cover.renew(time.monotonic() - 0.5)
    assert relay.data == b""
    cover.renew(time.monotonic() + 60)
    assert (relay.data, relay.ends, transport.paused, backend.unread) == (ANSWER, [ord("I")], False, False)
    backend.relay_to(relay)
    backend.data_received(ANSWER)
    assert relay.data == ANSWER * 2


def test_a_lease_is_never_shortened_and_a_client_that_is_slow_is_still_waited_for() -> None:
    backend, relay, transport, cover = covered(time.monotonic() - 1)
    backend.data_received(ANSWER[:50])
    backend.pause_reading()
    cover.renew(time.monotonic() + 60)
    assert transport.paused and relay.data != b""
    cover.renew(0.0)
    backend.data_received(ANSWER[50:])
    assert relay.data == ANSWER
    backend.resume_reading()
    assert not transport.paused


def test_what_is_held_too_long_is_given_up() -> None:
    backend, relay, _, cover = covered(time.monotonic() - 1)
    cover.give_up(0.0)
    assert not backend.closed
    backend.data_received(ANSWER)
    cover.give_up(60.0)
    assert not backend.closed
    cover.give_up(0.0)
    assert backend.closed and relay.data == b""
