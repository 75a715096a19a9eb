"""The packets that open a connection: they have no kind, only a length, and then a code or a protocol version.

Checks and words are those of PostgreSQL's ProcessStartupPacket() (postmaster.c), pg_split_opts() and
process_postgres_switches(). A setting given in `options` and as a parameter of its own has the parameter's value, as
PostgreSQL applies `options` first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hanse.core.errors import FatalError, PgError

from .frontend import PROTOCOL_3_0
from .primitives import decode, encode, unpack_uint32

NAME_BYTES_MAX: Final = 63  # NAMEDATALEN - 1
_PROTOCOL_OPTION = "_pq_."
_NOT_SETTINGS = frozenset({"user", "database", "options", "replication"})
_SPACE = " \t\n\v\f\r"
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")

# One-letter switches that only set a session's parameter (postgres(1)); those of the whole server are refused.
_FLAGS = {
    "e": ("datestyle", "euro"),
    "O": ("allow_system_table_mods", "true"),
    "P": ("ignore_system_indexes", "true"),
    "s": ("log_statement_stats", "true"),
}
_SCANS = {
    "s": "enable_seqscan",
    "i": "enable_indexscan",
    "o": "enable_indexonlyscan",
    "b": "enable_bitmapscan",
    "t": "enable_tidscan",
    "n": "enable_nestloop",
    "m": "enable_mergejoin",
    "h": "enable_hashjoin",
}
_STATISTICS = {"pa": "log_parser_stats", "pl": "log_planner_stats", "ex": "log_executor_stats"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupPacket:
    user: str
    database: str
    parameters: Mapping[str, str]  # the others as sent: settings, `options`, `replication`; the last of equal names
    minor_version: int  # of protocol 3 that the client asked for
    unknown_options: tuple[str, ...]  # names that begin with _pq_.

    @property
    def needs_negotiation(self) -> bool:
        return self.minor_version > 0 or bool(self.unknown_options)


def parse_startup(body: bytes) -> StartupPacket:
    """From the protocol version on. Raises what PostgreSQL would send: 0A000, 08P01, 22023, 28000, all FATAL."""
    version = unpack_uint32(body)[0]
    if version >> 16 != PROTOCOL_3_0 >> 16:
        raise FatalError(
            "0A000", f"unsupported frontend protocol {version >> 16}.{version & 0xFFFF}: server supports 3.0 to 3.0"
        )
    parameters = _pairs(body)
    _refuse_replication(parameters.get("replication"))
    user = parameters.pop("user", "")
    if not user:
        raise FatalError("28000", "no PostgreSQL user name specified in startup packet")
    database = parameters.pop("database", "") or user
    unknown = tuple(name for name in parameters if name.startswith(_PROTOCOL_OPTION))
    return StartupPacket(
        user=_truncated(user),
        database=_truncated(database),
        parameters={name: value for name, value in parameters.items() if name not in unknown},
        minor_version=version & 0xFFFF,
        unknown_options=unknown,
    )


def startup_settings(parameters: Mapping[str, str]) -> dict[str, str]:
    """The settings a session starts with, from `StartupPacket.parameters`. Raises as `parse_options`.

    Values are not checked: PostgreSQL does that when they are set, and its error then belongs to the client (FATAL).
    """
    settings: dict[str, str] = {}
    for name, value in parse_options(parameters.get("options", "")):
        settings[name] = value
    for name, value in parameters.items():
        if name not in _NOT_SETTINGS:
            settings[name] = value
    return settings


def parse_options(options: str) -> tuple[tuple[str, str], ...]:
    """The switches in startup parameter `options`: `-c work_mem=64MB --search_path=a\\ b` → pairs, in order.

    Raises 42601 for what is no switch of a session.
    """
    arguments = split_options(options)
    found: list[tuple[str, str]] = []
    for argument in arguments:
        if argument == "--":
            break
        if argument.startswith("--"):
            found.append(_setting(argument[2:], f"--{argument[2:]} requires a value"))
        elif argument.startswith("-") and len(argument) > 1:
            found.extend(_short(argument, arguments))
        else:
            raise _invalid_argument(argument)
    rest = next(arguments, None)
    if rest is not None:
        raise _invalid_argument(rest)
    return tuple(found)


def split_options(options: str) -> Iterator[str]:
    """Words; a backslash takes the next character, space or backslash, as it is."""
    word: list[str] | None = None
    escaped = False
    for character in options:
        if escaped or (character not in _SPACE and character != "\\"):
            word = [] if word is None else word
            word.append(character)
            escaped = False
        elif character == "\\":
            word = [] if word is None else word
            escaped = True
        elif word is not None:
            yield "".join(word)
            word = None
    if word is not None:
        yield "".join(word)


def _short(argument: str, more: Iterator[str]) -> Iterator[tuple[str, str]]:
    """`-es`, `-c name=value`, `-cname=value`: flags may be joined, a value is the rest of the word or the next word."""
    letters = argument[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in _FLAGS:
            yield _FLAGS[letter]
            continue
        if letter not in "cSft":
            raise _invalid_argument(argument)
        value = letters or next(more, None)
        if value is None:
            raise _invalid_argument(argument)
        yield _valued(letter, value, argument)
        return


def _valued(letter: str, value: str, argument: str) -> tuple[str, str]:
    if letter == "c":
        return _setting(value, f"-c {value} requires a value")
    if letter == "S":
        return "work_mem", value
    if letter == "f" and value in _SCANS:
        return _SCANS[value], "false"
    if letter == "t" and value[:2] in _STATISTICS:
        return _STATISTICS[value[:2]], "true"
    raise _invalid_argument(argument)


def _setting(text: str, complaint: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise FatalError("42601", complaint)
    return name.replace("-", "_"), value


def _invalid_argument(argument: str) -> PgError:
    return FatalError(
        "42601",
        f"invalid command-line argument for server process: {argument}",
        hint='Try "postgres --help" for more information.',
    )


def _pairs(body: bytes) -> dict[str, str]:
    parameters: dict[str, str] = {}
    position = 4
    while position < len(body):
        name_end = body.find(0, position)
        if name_end == position:
            break
        value_end = body.find(0, name_end + 1)
        if name_end < 0 or value_end < 0:
            raise _no_terminator()
        name = decode(body[position:name_end])
        parameters.pop(name, None)  # the last one counts, also for the order
        parameters[name] = decode(body[name_end + 1 : value_end])
        position = value_end + 1
    if position != len(body) - 1:
        raise _no_terminator()
    return parameters


def _no_terminator() -> FatalError:
    return FatalError("08P01", "invalid startup packet layout: expected terminator as last byte")


def _refuse_replication(value: str | None) -> None:
    """Parsed as PostgreSQL does; a gateway has no WAL of its own to stream, and says so at once."""
    if value is None or _boolean(value) is False:
        return
    if value != "database" and _boolean(value) is None:
        raise FatalError(
            "22023",
            f'invalid value for parameter "replication": "{value}"',
            hint='Valid values are: "false", 0, "true", 1, "database".',
        )
    hint = "Connect to an instance of a replica group itself."
    raise FatalError("0A000", "replication connections are not supported", hint=hint)


def _boolean(value: str) -> bool | None:
    """PostgreSQL's parse_bool(): any unique beginning of the words, in any case. None: no boolean."""
    lower = value.lower()
    if not lower or lower == "o":
        return None
    if any(word.startswith(lower) for word in _TRUE):
        return True
    return False if any(word.startswith(lower) for word in _FALSE) else None


def _truncated(name: str) -> str:
    encoded = encode(name)
    return name if len(encoded) <= NAME_BYTES_MAX else decode(encoded[:NAME_BYTES_MAX])
