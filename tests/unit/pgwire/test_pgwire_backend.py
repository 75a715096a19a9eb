"""Messages of a server, and errors as PgError."""

from __future__ import annotations

import pytest

from hanse.core.errors import FatalError, PgError
from hanse.pgwire import backend
from hanse.pgwire.backend import CopyResponse, Field, Notification
from hanse.pgwire.diagnostics import fields_of
from hanse.pgwire.primitives import frame

BUILT = {
    "ok": (backend.authentication_ok(), "52 00000008 00000000"),
    "sasl": (backend.authentication_sasl(["A", "B"]), "52 0000000d 0000000a 4100 4200 00"),
    "sasl continue": (backend.authentication_sasl_continue(b"x"), "52 00000009 0000000b 78"),
    "sasl final": (backend.authentication_sasl_final(b"x"), "52 00000009 0000000c 78"),
    "key": (backend.backend_key_data(1, 0xFFFFFFFF), "4b 0000000c 00000001 ffffffff"),
    "parameter": (backend.parameter_status("a", "b"), "53 00000008 6100 6200"),
    "ready": (backend.ready_for_query(b"T"), "5a 00000005 54"),
    "rows": (
        backend.row_description([Field("é", 1, 2, 23, 4, -1, 1)]),
        "54 0000001b 0001 c3a900 00000001 0002 00000017 0004 ffffffff 0001",
    ),
    "no columns": (backend.row_description([]), "54 00000006 0000"),
    "row": (backend.data_row([b"1", None, b""]), "44 00000013 0003 00000001 31 ffffffff 00000000"),
    "complete": (backend.command_complete("SELECT 1"), "43 0000000d 53454c454354203100"),
    "parse complete": (backend.parse_complete(), "31 00000004"),
    "bind complete": (backend.bind_complete(), "32 00000004"),
    "close complete": (backend.close_complete(), "33 00000004"),
    "no data": (backend.no_data(), "6e 00000004"),
    "empty query": (backend.empty_query(), "49 00000004"),
    "suspended": (backend.portal_suspended(), "73 00000004"),
    "parameters": (backend.parameter_description([23, 25]), "74 0000000e 0002 00000017 00000019"),
    "copy in": (backend.copy_in_response(0, [0, 0]), "47 0000000b 00 0002 0000 0000"),
    "copy out": (backend.copy_out_response(1, [1]), "48 00000009 01 0001 0001"),
    "copy both": (backend.copy_both_response(0, []), "57 00000007 00 0000"),
    "copy data": (backend.copy_data(b"x"), "64 00000005 78"),
    "copy done": (backend.copy_done(), "63 00000004"),
    "negotiate": (
        backend.negotiate_protocol_version(3 << 16, ["_pq_.a"]),
        "76 00000013 00030000 00000001 5f70715f2e6100",
    ),
    "notification": (backend.notification(1, "c", "p"), "41 0000000c 00000001 6300 7000"),
    "error": (
        backend.error_response(PgError("42P01", "m", detail="d", hint="h", position=3, fields={"R": "r", "Z": "z"})),
        "45 0000002c 53 4552524f5200 56 4552524f5200 43 343250303100 4d6d00 446400 486800 503300 527200 5a7a00 00",
    ),
    "notice": (
        backend.notice_response(PgError("00000", "m", severity="NOTICE")),
        "4e 0000001f 53 4e4f5449434500 56 4e4f5449434500 43 303030303000 4d 6d00 00",
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_exact_bytes(name: str) -> None:
    built, expected = BUILT[name]
    assert built.hex() == bytes.fromhex(expected).hex()


def test_parsers_read_what_builders_write() -> None:
    fields = (Field("a", 70_000, 3, 3_000_000_000, -2, 8, 1), Field("\udcff"))
    assert backend.parse_row_description(backend.row_description(fields)) == fields
    assert backend.parse_data_row(backend.data_row([b"1", None, b""])) == [b"1", None, b""]
    assert backend.parse_command_complete(backend.command_complete("COPY 5")) == "COPY 5"
    assert backend.parse_parameter_status(backend.parameter_status("a", "b")) == ("a", "b")
    assert backend.parse_ready_for_query(backend.ready_for_query(b"E")) == b"E"
    assert backend.parse_parameter_description(backend.parameter_description([1, 2])) == (1, 2)
    assert backend.parse_notification(backend.notification(9, "c", "")) == Notification(9, "c", "")
    assert backend.parse_backend_key_data(backend.backend_key_data(9, 2**32 - 1)) == (9, 2**32 - 1)
    assert backend.parse_copy_response(backend.copy_out_response(1, [1, 0])) == CopyResponse(1, (1, 0))
    negotiation = backend.negotiate_protocol_version(3 << 16, ["_pq_.x"])
    assert backend.parse_negotiate_protocol_version(negotiation) == (3 << 16, ("_pq_.x",))
    code, payload = backend.parse_authentication(backend.authentication_sasl(["A", "B"]))
    assert (code, backend.parse_sasl_mechanisms(payload)) == (10, ("A", "B"))


MALFORMED = [
    (backend.parse_data_row, frame(b"D", b"\0\1\0\0\0\5ab")),
    (backend.parse_data_row, frame(b"D", b"\0\0x")),
    (backend.parse_data_row, frame(b"D", b"\0")),
    (backend.parse_row_description, frame(b"T", b"\0\1a\0\0")),
    (backend.parse_row_description, frame(b"T", b"\0\1a")),
    (backend.parse_ready_for_query, frame(b"Z", b"X")),
    (backend.parse_ready_for_query, frame(b"Z", b"")),
    (backend.parse_backend_key_data, frame(b"K", bytes(12))),
    (backend.parse_copy_response, frame(b"G", b"")),
    (backend.parse_negotiate_protocol_version, frame(b"v", b"\0\3\0\0\x7f\xff\xff\xffa\0")),
    (backend.parse_authentication, frame(b"R", b"\0")),
    (backend.parse_sasl_mechanisms, b"A\0"),
    (backend.parse_sasl_mechanisms, b"A\0\0x"),
    (backend.parse_error, frame(b"E", b"SERROR\0")),
    (backend.parse_error, frame(b"E", b"SERROR")),
    (backend.parse_error, frame(b"E", b"\0x")),
]


@pytest.mark.parametrize(("parser", "raw"), MALFORMED)
def test_malformed(parser, raw: bytes) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PgError) as caught:
        parser(raw)
    assert caught.value.sqlstate == "08P01"


def test_what_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(PgError, match="a row description cannot be sent"):
        backend.row_description([Field("a", column=40_000)])
    with pytest.raises(PgError, match="a row description cannot be sent"):
        backend.row_description([Field("a")] * 70_000)


# --- errors ------------------------------------------------------------------------------------------------------

WHOLE = dict(zip("SVCMDHWstcdnPpqFLR", ["FEHLER", "ERROR", "23505", *"mdhwstcdn", "7", *"89flr"], strict=True))


def wire(fields: dict[str, str]) -> bytes:
    return frame(b"E", b"".join(f"{code}{text}\0".encode() for code, text in fields.items()) + b"\0")


def test_every_field_survives() -> None:
    error = backend.parse_error(wire(WHOLE))
    assert (error.sqlstate, error.severity, error.message, error.position) == ("23505", "ERROR", "m", 7)
    assert (error.detail, error.hint, error.fields["S"], error.fields["n"]) == ("d", "h", "FEHLER", "n")
    assert backend.error_response(error) == wire(WHOLE)


def test_severity_is_kept_once_where_both_agree() -> None:
    error = backend.parse_error(backend.error_response(FatalError("57P01", "bye")))
    assert (error.severity, error.fields) == ("FATAL", {})


@pytest.mark.parametrize("place", ["", "x", "-1", "007", "99999999999", "²"])
def test_a_position_that_is_none_stays_text(place: str) -> None:
    error = backend.parse_error(wire({"V": "ERROR", "C": "42601", "M": "m", "P": place}))
    assert error.position is None
    assert fields_of(error)["P"] == place


def test_an_error_without_the_usual_fields_is_still_one() -> None:
    error = backend.parse_error(wire({}))
    assert (error.sqlstate, error.message, error.severity) == ("XX000", "", "ERROR")
    assert backend.sqlstate_of(wire({})) == "XX000"
    assert backend.sqlstate_of(wire(WHOLE)) == "23505"


def test_bytes_of_another_encoding_survive() -> None:
    raw = frame(b"E", b"SERROR\0VERROR\0C22P02\0Mstra\xdfe\0\0")
    assert backend.error_response(backend.parse_error(raw)) == raw


def test_an_error_can_always_be_sent() -> None:
    raw = backend.error_response(PgError("XX000", "a\0b\ud800", fields={"": "x", "ab": "x", "\0": "x", "€": "x"}))
    assert backend.parse_error(raw).message == "a?b?"


def test_rewrite() -> None:
    raw = wire({"S": "ERROR", "C": "23505", "M": "in accounts_3", "H": "accounts_3?", "t": "accounts_3", "P": "30"})
    rewritten = backend.rewrite(
        raw,
        changes={"t": "accounts", "s": None, "q": "SELECT"},
        position=lambda place: place - 10,
        prose=lambda text: text.replace("accounts_3", "accounts"),
    )
    expected = {"S": "ERROR", "C": "23505", "M": "in accounts", "H": "accounts?", "t": "accounts", "P": "20"}
    assert rewritten == wire(expected | {"q": "SELECT"})
    assert backend.rewrite(raw) == raw


def test_rewrite_may_remove_the_position_and_keeps_the_kind() -> None:
    raw = backend.notice_response(PgError("01000", "m", severity="WARNING", position=3))
    rewritten = backend.rewrite(raw, position=lambda place: None)
    assert rewritten == backend.notice_response(PgError("01000", "m", severity="WARNING"))
