"""A real server still answers as in the transcripts. HANSE_REWRITE=1 records them anew."""

from __future__ import annotations

import os
import re

import pytest

from scripts.pgwire.recorder import SCENARIOS, Connection, Line, read, record, write
from support.servers import Server

# What differs from run to run, or between minor versions of PostgreSQL
CHANCE = re.compile(r" [FLR]='[^']*'| pid=\d+| table_oid=[1-9]\d*|pg_temp_\d+")


def comparable(lines: list[Line]) -> list[tuple[str, str]]:
    return [(line.direction, CHANCE.sub("", line.meaning)) for line in lines]


@pytest.mark.parametrize("name", SCENARIOS)
def test_live(name: str, plain_postgres: Server) -> None:
    server = plain_postgres
    lines = record(
        lambda: Connection(server.host, server.port, server.user, server.database, server.password), SCENARIOS[name]
    )
    if os.environ.get("HANSE_REWRITE"):
        write(name, SCENARIOS[name], lines)
    assert comparable(lines) == comparable(read(name))
