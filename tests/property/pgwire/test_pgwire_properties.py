"""For any input: the right answer or a PgError, never another exception; and the same however the bytes are cut."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from hanse.core.errors import PgError
from hanse.pgwire import backend, frontend
from hanse.pgwire.backend import Field
from hanse.pgwire.diagnostics import fields_of
from hanse.pgwire.dump import dump_backend, dump_frontend
from hanse.pgwire.framing import Framer, Message, scan, take_message
from hanse.pgwire.primitives import frame
from hanse.pgwire.saslprep import saslprep
from hanse.pgwire.scram import (
    MECHANISM,
    ClientScram,
    Password,
    ScramKeys,
    ServerScram,
    make_verifier,
    parse_verifier,
)
from hanse.pgwire.startup import ClientHandshake, NeedVerifier, ServerHandshake, parse_options, startup_settings

# print_blob: a failure prints how to run it again.
ordinary = settings(
    max_examples=200, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow], derandomize=False
)

names = st.text(max_size=12).map(lambda name: name.encode("utf-8", "replace").replace(b"\0", b"_"))
texts = st.text(max_size=12).map(lambda text: text.replace("\0", "_")).filter(lambda t: t.isprintable())
values = st.lists(st.none() | st.binary(max_size=20), max_size=6)
anything = st.characters(exclude_categories=())  # lone surrogates, too
formats = st.lists(st.integers(-1, 2), max_size=4)
oids = st.lists(st.integers(0, 2**32 - 1), max_size=4)
int16, int32, uint32 = st.integers(-(2**15), 2**15 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)
fields = st.lists(st.builds(Field, texts, uint32, int16, uint32, int16, int32, int16), max_size=4)
binds = st.builds(
    lambda portal, statement, given, results: frontend.bind(
        portal, statement, given, parameter_formats=[1] * len(given), result_formats=results
    ),
    names,
    names,
    values,
    formats,
)
errors = st.builds(
    lambda state, message, detail, position, rest: PgError(
        state, message, detail=detail, position=position, fields=rest
    ),
    st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5),
    texts,
    st.none() | texts,
    st.none() | st.integers(0, 10**9),
    st.dictionaries(st.sampled_from("pqWstcdnFLRSz"), texts),
)

client_messages = st.one_of(
    st.builds(frontend.query, names),
    st.builds(frontend.parse, names, names, oids),
    binds,
    st.builds(frontend.describe_statement, names),
    st.builds(frontend.close_portal, names),
    st.builds(frontend.execute, names, st.integers(0, 2**31 - 1)),
    st.sampled_from([frontend.sync(), frontend.flush(), frontend.terminate(), frontend.copy_done()]),
    st.builds(frontend.copy_data, st.binary(max_size=50)),
    st.builds(frontend.copy_fail, names),
    st.builds(frontend.sasl_initial_response, st.just(MECHANISM), st.none() | st.binary(max_size=30)),
)
server_messages = st.one_of(
    st.builds(backend.row_description, fields),
    st.builds(backend.data_row, values),
    st.builds(backend.error_response, errors),
    st.builds(backend.notice_response, errors),
    st.builds(backend.command_complete, texts),
    st.builds(backend.parameter_status, texts, texts),
    st.builds(backend.parameter_description, oids),
    st.builds(backend.notification, uint32, texts, texts),
    st.builds(backend.backend_key_data, uint32, uint32),
    st.builds(backend.copy_in_response, st.integers(0, 1), formats),
    st.builds(backend.negotiate_protocol_version, uint32, st.lists(texts, max_size=3)),
    st.builds(backend.authentication_sasl, st.lists(texts.filter(bool), max_size=3)),
    st.sampled_from([backend.ready_for_query(b"I"), backend.no_data(), backend.authentication_ok()]),
)
messages = client_messages | server_messages

PARSERS: tuple[Callable[[bytes], Any], ...] = (
    frontend.parse_query,
    frontend.parse_parse,
    frontend.parse_bind,
    lambda raw: frontend.rebind(raw, b"x"),
    frontend.parse_describe,
    frontend.parse_close,
    frontend.parse_execute,
    frontend.parse_copy_fail,
    frontend.parse_empty,
    frontend.parse_sasl_initial_response,
    backend.parse_authentication,
    lambda raw: backend.parse_sasl_mechanisms(raw[5:]),
    backend.parse_backend_key_data,
    backend.parse_parameter_status,
    backend.parse_ready_for_query,
    backend.parse_row_description,
    backend.parse_data_row,
    backend.parse_command_complete,
    backend.parse_parameter_description,
    backend.parse_notification,
    backend.parse_copy_response,
    backend.parse_negotiate_protocol_version,
    backend.parse_error,
    backend.sqlstate_of,
    lambda raw: backend.rewrite(raw, position=lambda place: place + 1, prose=str.upper, changes={"P": None}),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid message that was cut, lengthened, or had bytes changed."""
    raw = bytearray(draw(messages))
    for _ in range(draw(st.integers(0, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF, 65, 112]))
    if draw(st.booleans()):
        del raw[draw(st.integers(0, len(raw))) :]
    return bytes(raw) + draw(st.sampled_from([b"", b"\0", b"\xff", b"abc\0"]))


@ordinary
@given(raw=damaged() | st.binary(max_size=60))
@example(raw=b"")
@example(raw=b"B\0\0\0\4")
def test_parsers_raise_nothing_but_pgerror(raw: bytes) -> None:
    for parser in PARSERS:
        with suppress(PgError):
            parser(raw)
    message = Message(raw[0] if raw else 0, raw)
    assert isinstance(dump_frontend(message) + dump_backend(message), str)


@ordinary
@given(st.data(), st.lists(messages, max_size=5))
def test_framing_does_not_depend_on_the_cuts(data: st.DataObject, sent: list[bytes]) -> None:
    whole = b"".join(sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    framer, at_once, found, found_at_once = Framer(), Framer(), [], []
    for piece in pieces:
        framer.feed(piece)
        for _ in range(data.draw(st.integers(0, 3))):  # not always taken at once
            message = framer.next()
            found += [message.raw] if message else []
        found_at_once += [message.raw for message in at_once.feed_all(piece)]
    found += [message.raw for message in iter(framer.next, None)]
    buffer = bytearray(whole)
    taken = [message.raw for message in iter(lambda: take_message(buffer, 1 << 20), None)]
    assert found == found_at_once == taken == sent == [whole[start:end] for _, start, end in scan(whole)]


@ordinary
@given(st.binary(max_size=40))
def test_framing_of_noise(noise: bytes) -> None:
    """All walkers agree on noise as well, also on refusing it."""

    def outcome(walk: Callable[[], list[bytes]]) -> list[bytes] | str:
        try:
            return walk()
        except PgError as error:
            return error.sqlstate

    def byte_by_byte() -> list[bytes]:
        framer, found = Framer(100), []
        for byte in noise:
            framer.feed(bytes([byte]))
            found += [message.raw for message in iter(framer.next, None)]
        return found

    scanned = outcome(lambda: [noise[start:end] for _, start, end in scan(noise, bytes_max=100)])
    assert outcome(byte_by_byte) == scanned == outcome(lambda: [m.raw for m in Framer(100).feed_all(noise)])


@ordinary
@given(names, names, values, formats, names)
def test_bind_round_trip_and_rebind(
    portal: bytes, statement: bytes, given_values: list[bytes | None], results: list[int], other: bytes
) -> None:
    raw = frontend.bind(portal, statement, given_values, result_formats=results)
    assert frontend.parse_bind(raw) == (portal, statement, (), given_values, tuple(results))
    assert frontend.rebind(raw, other) == frontend.bind(portal, other, given_values, result_formats=results)


@ordinary
@given(fields, values, errors)
def test_server_messages_round_trip(columns: list[Field], row: list[bytes | None], error: PgError) -> None:
    assert backend.parse_row_description(backend.row_description(columns)) == tuple(columns)
    assert backend.parse_data_row(backend.data_row(row)) == row
    raw = backend.error_response(error)
    parsed = backend.parse_error(raw)
    assert fields_of(parsed) == fields_of(error)
    assert backend.error_response(parsed) == raw == backend.rewrite(raw)


@ordinary
@given(st.lists(st.tuples(st.sampled_from("SVCMDHPpqWstcdnFLRzy"), st.binary(max_size=9)), unique_by=lambda f: f[0]))
def test_any_error_survives_rewriting_byte_by_byte(found: list[tuple[str, bytes]]) -> None:
    body = b"".join(code.encode() + text.replace(b"\0", b"_") + b"\0" for code, text in found)
    raw = frame(b"E", body + b"\0")
    assert backend.rewrite(raw) == raw
    assert fields_of(backend.parse_error(backend.error_response(backend.parse_error(raw)))) == fields_of(
        backend.parse_error(raw)
    )


# --- logging in --------------------------------------------------------------------------------------------------


def fixed(count: int) -> bytes:
    return b"r" * count


VERIFIER = make_verifier("pencil", b"salt", 2)


def serve(chunks: list[bytes]) -> tuple[list[str], bytes]:
    """What a server's handshake makes of these chunks: the kinds of its events, and its output."""
    server = ServerHandshake(random_bytes=fixed, mock_secret=b"m")
    events = []
    for chunk in chunks:
        waiting = server.receive(chunk)
        while waiting:
            event = waiting.pop(0)
            events.append(repr(event))
            if isinstance(event, NeedVerifier):
                waiting += server.provide_verifier(VERIFIER)
    return events, server.data_to_send()


def conversation() -> bytes:
    """All that a client sends in a whole login; it can be replayed, as nothing here is random."""
    client = ClientHandshake(user="u", database="d", credentials=Password("pencil"), random_bytes=fixed)
    server = ServerHandshake(random_bytes=fixed, mock_secret=b"m")
    sent = client.data_to_send()
    server.receive(sent)
    server.provide_verifier(VERIFIER)
    for _ in range(2):
        client.receive(server.data_to_send())
        answer = client.data_to_send()
        sent += answer
        server.receive(answer)
    return frontend.gss_request() + frontend.ssl_request() + sent


LOGIN = conversation()


def test_login_is_the_same_at_every_split() -> None:
    expected = serve([LOGIN])
    assert expected[0][-1].startswith("Authenticated(")
    for cut in range(len(LOGIN) + 1):
        assert serve([LOGIN[:cut], LOGIN[cut:]]) == expected
    assert serve([bytes([byte]) for byte in LOGIN]) == expected


@ordinary
@given(st.data())
def test_server_handshake_of_damaged_logins(data: st.DataObject) -> None:
    raw = bytearray(LOGIN)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    events, _ = serve([bytes(raw)])
    if bytes(raw) != LOGIN:
        events = [event for event in events if not event.startswith("NeedVerifier")]
        assert all(event.startswith(("Refused", "Authenticated", "CancelRequested")) for event in events)
        assert len(events) <= 1


@ordinary
@given(st.binary(max_size=100))
def test_server_handshake_of_noise(noise: bytes) -> None:
    for start in (b"", b"\0\0\0" + bytes([len(noise) + 8]) + b"\0\3\0\0"):
        events, _ = serve([start + noise])
        assert not any(event.startswith("Authenticated") for event in events)


ANSWERS = (
    backend.authentication_sasl([MECHANISM])
    + backend.authentication_sasl_continue(b"r=" + b"cnJy" * 6 + b"x,s=c2FsdA==,i=2")
    + backend.authentication_sasl_final(b"v=AAAA")
    + backend.authentication_ok()
    + backend.parameter_status("a", "b")
    + backend.ready_for_query(b"I")
)


@ordinary
@given(st.data(), st.sampled_from([None, Password("pencil"), ScramKeys(bytes(32)), ScramKeys(bytes(32), bytes(32))]))
def test_client_handshake_of_damaged_answers(data: st.DataObject, credentials: Password | ScramKeys | None) -> None:
    raw = bytearray(ANSWERS)
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    client = ClientHandshake(user="u", database="d", credentials=credentials, random_bytes=fixed)
    with suppress(PgError):
        client.receive(bytes(raw[:cut]))
        client.receive(bytes(raw[cut:]))


@ordinary
@given(st.text(anything, max_size=20), st.binary(min_size=1, max_size=20), st.text(anything, max_size=20))
def test_any_password_logs_in_and_no_other(password: str, salt: bytes, other: str) -> None:
    """Surrogates and control characters included; passwords that SASLprep makes equal are equal."""

    def log_in(credentials: Password | ScramKeys) -> ServerScram:
        server = ServerScram(user="u", verifier=verifier, mock_secret=b"", nonce=b"s" * 18)
        client = ClientScram(credentials, nonce=b"c" * 18)
        client.verify(server.final(client.final(server.first(*client.first(server.mechanisms)))))
        return server

    verifier = parse_verifier(make_verifier(password, salt, 2))
    assert verifier is not None
    key = log_in(Password(password)).client_key
    assert key is not None and log_in(ScramKeys(key, verifier.server_key)).client_key == key
    assume(saslprep(password).rstrip(b"\0") != saslprep(other).rstrip(b"\0"))  # HMAC pads its key with zeros
    try:
        log_in(Password(other))
    except PgError as error:
        assert error.sqlstate == "28P01"
    else:
        raise AssertionError("a wrong password was accepted")


@ordinary
@given(st.binary(max_size=60), st.booleans())
def test_scram_messages_raise_nothing_but_pgerror(message: bytes, plus: bool) -> None:
    for prefix in (b"", b"n,,n=,r=", b"p=tls-server-end-point,,n=,r=", b"c=biws,r=", b"v=", b"r=Y2NjY2Nj"):
        server = ServerScram(
            user="u", verifier=None, mock_secret=b"", nonce=b"s", certificate_hash=b"h" if plus else None
        )
        with suppress(PgError):
            server.first(server.mechanisms[0], prefix + message)
            server.final(prefix + message)
        client = ClientScram(Password("x"), nonce=b"cccccc")
        client.first([MECHANISM])
        with suppress(PgError):
            client.final(prefix + message)
        with suppress(PgError):
            client.verify(prefix + message)


@ordinary
@given(st.text(anything, max_size=40) | st.text("-cfStes= \\abpl", max_size=30), st.text(max_size=80))
def test_options_and_verifiers_raise_nothing_but_pgerror(options: str, verifier: str) -> None:
    with suppress(PgError):
        startup_settings({"options": options})
    parse_verifier(verifier)
    parse_verifier(VERIFIER[: len(verifier)] + verifier)


@ordinary
@given(st.lists(st.tuples(st.text("abc_", min_size=1, max_size=5), texts), max_size=4))
def test_options_round_trip(pairs: list[tuple[str, str]]) -> None:
    escaped = [value.replace("\\", "\\\\").replace(" ", "\\ ") for _, value in pairs]
    text = " ".join(f"-c {name}={value}" for (name, _), value in zip(pairs, escaped, strict=True))
    assert parse_options(text) == tuple(pairs)
