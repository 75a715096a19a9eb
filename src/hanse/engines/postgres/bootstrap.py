"""The first content of a fresh instance: roles, the database, and schema `hanse` in it.

It is written by the server in *single-user mode*, before the instance has ever listened: no password is needed,
nobody else can be connected, and an instance that serves is an instance that is complete. `exit_on_error` makes the
first error end the run, which single-user mode would otherwise only print.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ...core.errors import UserMistake
from ...core.ids import quote_identifier, quote_literal
from .binaries import Binaries
from .osuser import OsUser, run_as

_PLACEHOLDER = re.compile(r":(?:'(?P<literal>\w+)'|\"(?P<name>\w+)\")")
_SETTINGS = ("exit_on_error=on", "log_min_messages=error", "log_min_error_statement=panic", "log_checkpoints=off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """What a fresh instance of a cluster contains. The verifiers are equal on all instances of the cluster: a client's
    SCRAM proof is passed on to every one of them (findings-gateway 16)."""

    database: str
    user: str
    user_verifier: str
    system_verifier: str


def render_sql(text: str, values: Mapping[str, str]) -> str:
    """psql's notation: :'x' is the value as a string constant, :"x" as an identifier."""

    def substitute(match: re.Match[str]) -> str:
        if match["literal"] is not None:
            return quote_literal(values[match["literal"]])
        return quote_identifier(values[match["name"]])

    return _PLACEHOLDER.sub(substitute, text)


def bootstrap_instance(directory: Path, binaries: Binaries, user: OsUser | None, content: Bootstrap) -> None:
    """Raises UserMistake with the server's own words where a statement fails."""
    values = {
        "database": content.database,
        "user": content.user,
        "user_verifier": content.user_verifier,
        "system_verifier": content.system_verifier,
    }
    for file, database in (("bootstrap_roles.sql", "postgres"), ("bootstrap_database.sql", content.database)):
        text = files(__package__).joinpath(file).read_text(encoding="utf-8")
        run_single_user(directory, binaries, user, database=database, sql=render_sql(text, values))


def set_password(directory: Path, binaries: Binaries, user: OsUser | None, *, role: str, verifier: str) -> None:
    """Give a role of a stopped instance a password. `verifier` may be the password itself."""
    sql = f"ALTER ROLE {quote_identifier(role)} PASSWORD {quote_literal(verifier)};"
    run_single_user(directory, binaries, user, database="postgres", sql=sql)


def run_single_user(directory: Path, binaries: Binaries, user: OsUser | None, *, database: str, sql: str) -> None:
    """Run statements, each ended by a semicolon and an empty line, on a stopped instance."""
    options = [word for setting in _SETTINGS for word in ("-c", setting)]
    command: list[str | Path] = [binaries.path("postgres"), "--single", "-D", directory, "-j", *options, database]
    result = run_as(user, command, text_in=sql.rstrip() + "\n\n")
    if result.returncode != 0:
        lines = [
            line for line in result.stderr.splitlines() if "FATAL:" in line or "ERROR:" in line or "PANIC:" in line
        ]
        reason = lines[-1].partition(":  ")[2] if lines else (result.stderr.strip() or "no reason given")
        raise UserMistake(f"PostgreSQL could not be prepared in {directory}: {reason}")
