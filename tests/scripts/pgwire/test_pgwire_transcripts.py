"""The recorded conversations mean what they say, and our builders make the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hanse.core.errors import PgError
from hanse.pgwire import backend, frontend
from hanse.pgwire.dump import dump_backend, dump_frontend
from hanse.pgwire.framing import Framer, scan
from scripts.pgwire.recorder import DIRECTORY, SCENARIOS, Line, read


def _rebuilt_bind(raw: bytes) -> bytes:
    bind = frontend.parse_bind(raw)
    return frontend.bind(
        bind.portal,
        bind.statement,
        bind.values,
        parameter_formats=bind.parameter_formats,
        result_formats=bind.result_formats,
    )


def _rebuilt_target(raw: bytes) -> bytes:
    if raw[:1] == b"D":
        target = frontend.parse_describe(raw)
        build = frontend.describe_statement if target.kind == b"S" else frontend.describe_portal
    else:
        target = frontend.parse_close(raw)
        build = frontend.close_statement if target.kind == b"S" else frontend.close_portal
    return build(target.name)


Rebuild = dict[str, Callable[[bytes], bytes]]

FRONTEND: Rebuild = {
    "B": _rebuilt_bind,
    "C": _rebuilt_target,
    "D": _rebuilt_target,
    "E": lambda raw: frontend.execute(*frontend.parse_execute(raw)),
    "H": lambda raw: frontend.flush(),
    "P": lambda raw: frontend.parse(*frontend.parse_parse(raw)),
    "Q": lambda raw: frontend.query(frontend.parse_query(raw)),
    "S": lambda raw: frontend.sync(),
    "c": lambda raw: frontend.copy_done(),
    "d": lambda raw: frontend.copy_data(raw[5:]),
    "f": lambda raw: frontend.copy_fail(frontend.parse_copy_fail(raw)),
}

BACKEND: Rebuild = {
    "1": lambda raw: backend.parse_complete(),
    "2": lambda raw: backend.bind_complete(),
    "3": lambda raw: backend.close_complete(),
    "A": lambda raw: backend.notification(*backend.parse_notification(raw)),
    "C": lambda raw: backend.command_complete(backend.parse_command_complete(raw)),
    "D": lambda raw: backend.data_row(backend.parse_data_row(raw)),
    "E": lambda raw: backend.error_response(backend.parse_error(raw)),
    "G": lambda raw: backend.copy_in_response(*backend.parse_copy_response(raw)),
    "H": lambda raw: backend.copy_out_response(*backend.parse_copy_response(raw)),
    "I": lambda raw: backend.empty_query(),
    "N": lambda raw: backend.notice_response(backend.parse_error(raw)),
    "S": lambda raw: backend.parameter_status(*backend.parse_parameter_status(raw)),
    "T": lambda raw: backend.row_description(backend.parse_row_description(raw)),
    "Z": lambda raw: backend.ready_for_query(backend.parse_ready_for_query(raw)),
    "c": lambda raw: backend.copy_done(),
    "d": lambda raw: backend.copy_data(raw[5:]),
    "n": lambda raw: backend.no_data(),
    "s": lambda raw: backend.portal_suspended(),
    "t": lambda raw: backend.parameter_description(backend.parse_parameter_description(raw)),
}


def test_every_scenario_has_its_transcript_and_the_reverse() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.txt")} == set(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_meaning_and_bytes(name: str) -> None:
    for line in read(name):
        ours, dump = (FRONTEND, dump_frontend) if line.direction == ">" else (BACKEND, dump_backend)
        assert dump(line.message) == line.meaning
        kind = chr(line.raw[0])
        if "malformed" in line.meaning or kind == "?":
            with pytest.raises((PgError, KeyError)):
                ours[kind](line.raw)
        else:
            assert ours[kind](line.raw) == line.raw


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_streams_can_be_cut_anywhere(name: str) -> None:
    lines = read(name)
    for direction in "<>":
        expected = [line.raw for line in lines if line.direction == direction]
        whole = b"".join(expected)
        assert [whole[start:end] for _, start, end in scan(whole)] == expected
        for size in (1, 2, 3, 7, 100):
            framer, found = Framer(), []
            for start in range(0, len(whole), size):
                found += framer.feed_all(whole[start : start + size])
            assert [message.raw for message in found] == expected


def test_transcripts_cover_what_servers_send() -> None:
    """All kinds but those of logins and replication."""
    seen = {chr(line.raw[0]) for name in SCENARIOS for line in read(name) if line.direction == "<"}
    assert seen == set(BACKEND)


def lines_of(name: str, kind: str) -> list[Any]:
    return [line for line in read(name) if line.direction == "<" and line.raw[:1] == kind.encode()]


def test_our_words_for_malformed_messages_are_postgresqls() -> None:
    """In the transcript each malformed message is followed by the server's opinion of it."""
    lines = read("extended_errors")
    parsers: dict[str, Callable[[bytes], object]] = {
        "B": frontend.parse_bind,
        "C": frontend.parse_close,
        "D": frontend.parse_describe,
        "E": frontend.parse_execute,
        "P": frontend.parse_parse,
        "Q": frontend.parse_query,
    }
    compared = 0
    for index, line in enumerate(lines):
        if line.direction == ">" and "malformed" in line.meaning:
            theirs = backend.parse_error(_next_error(lines[index:]).raw)
            with pytest.raises(PgError) as caught:
                parsers[chr(line.raw[0])](line.raw)
            assert (caught.value.sqlstate, caught.value.message) == (theirs.sqlstate, theirs.message)
            compared += 1
    assert compared == 7
    unknown = backend.parse_error(lines_of("extended_errors", "E")[-1].raw)
    assert (unknown.message, unknown.severity) == (str(frontend.unknown_message(63).message), "FATAL")
    in_copy = backend.parse_error(lines_of("copy_interrupted", "E")[0].raw)
    assert in_copy.message == frontend.unexpected_in_copy(ord("Q")).message


def _next_error(lines: list[Line]) -> Line:
    return next(line for line in lines if line.direction == "<" and line.raw[:1] == b"E")
