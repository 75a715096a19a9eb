"""The corpus's file format: blocks of SQL with directives in comments.

::

    -- all: rollback              before the first block: directives of every block of the file
    -- name: update_by_key        begins a block; its test is called file/name
    -- rollback                   (block) in a transaction that is rolled back at the end
    -- as: corpus_reader          (block) connected as this role
    -- modes: simple              (block) instead of all protocol modes
    -- message                    (block) the whole block is one Query message
    -- ordered                    (statement) the statement defines the order of its rows
    -- error: 23505               (statement) plain PostgreSQL must answer with this SQLSTATE; without it, no error is allowed
    -- unchecked                  (statement) rows are not compared: they may differ (EXPLAIN)
    -- params: ["1", null]        (statement) values of $1 …, as JSON
    -- types: [20, 25]            (statement) their type OIDs, 0 where PostgreSQL is to infer them
    --| 1  a                      (statement) a line of data for COPY FROM STDIN, `\\t` for a tab
    UPDATE …;                     a statement ends with ; at the end of a line, outside $$

`{schema}` in a statement is the schema that holds the corpus's tables.

**Flavours.** `setup.sql` is one text for both servers: what stands in `/*hanse … */` only Hanse is sent. So the two have the
same tables by construction. Blocks may use it, too; a statement that is nothing else only Hanse runs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.wire import Mode

HANSE_ONLY = re.compile(r"/\*hanse (.*?)\*/", re.S)
ALL_MODES = (Mode.SIMPLE, Mode.EXTENDED, Mode.BINARY)
WITH_PARAMETERS = (Mode.EXTENDED, Mode.BINARY, Mode.PREPARED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    sql: str
    ordered: bool = False
    unchecked: bool = False
    error: str | None = None
    parameters: tuple[str | None, ...] = ()
    types: tuple[int, ...] = ()
    data: bytes = b""

    @property
    def hanse_only(self) -> bool:
        return bool(HANSE_ONLY.fullmatch(self.sql))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    name: str
    rollback: bool = False
    message: bool = False
    role: str | None = None
    modes: tuple[Mode, ...] = ()
    statements: tuple[Statement, ...] = ()

    @property
    def run_modes(self) -> tuple[Mode, ...]:
        if self.modes:
            return self.modes
        if self.message:
            return (Mode.SIMPLE,)
        return WITH_PARAMETERS if any(s.parameters for s in self.statements) else ALL_MODES

    @property
    def is_single_read(self) -> bool:
        """It leaves nothing behind in its session: the connection may serve the next block."""
        return len(self.statements) == 1 and bool(
            re.match(r"(?i)\s*(select|with|values|table)\b", self.statements[0].sql)
        )


class CorpusError(Exception):
    """A mistake in a corpus file."""


@dataclass(slots=True)
class _Parser:
    path: Path
    blocks: list[Block] = field(default_factory=list)
    defaults: Block = field(default_factory=lambda: Block(name=""))
    block: Block | None = None
    pending: Statement = field(default_factory=lambda: Statement(sql=""))
    text: list[str] = field(default_factory=list)

    def parse(self) -> list[Block]:
        for number, line in enumerate(self.path.read_text().splitlines(), start=1):
            try:
                self._line(line)
            except (CorpusError, ValueError) as error:
                raise CorpusError(f"{self.path}:{number}: {error}") from error
        self._end_block()
        return self.blocks

    def _line(self, line: str) -> None:
        directive = re.match(r"-- ?(\w+|\|)(?:: ?(.*))?$|--(\|) ?(.*)$", line)
        if line.startswith("--|"):
            self._data(line[3:].removeprefix(" "))
        elif (
            directive
            and (not self.text or line.startswith("-- name:"))
            and self._directive(directive.group(1) or "", directive.group(2) or "")
        ):
            return
        elif line.strip() or self.text:
            if line.startswith("--") and not self.text:
                return  # a comment between statements
            self._sql(line)

    def _data(self, line: str) -> None:
        self.pending = replace(self.pending, data=self.pending.data + line.replace("\\t", "\t").encode() + b"\n")

    def _directive(self, word: str, value: str) -> bool:
        if word == "name":
            self._end_block()
            self.block = replace(self.defaults, name=value.strip())
        elif word == "all":
            for part in value.split(","):
                self.defaults = _with_block_directive(self.defaults, *_split(part))
        elif word in ("rollback", "message", "as", "modes"):
            self.block = _with_block_directive(self._inside(), word, value)
        elif word in ("ordered", "unchecked"):
            self.pending = replace(self.pending, **{word: True})
        elif word == "error":
            self.pending = replace(self.pending, error=value.strip())
        elif word == "params":
            self.pending = replace(self.pending, parameters=tuple(json.loads(value)))
        elif word == "types":
            self.pending = replace(self.pending, types=tuple(json.loads(value)))
        else:
            return False
        return True

    def _sql(self, line: str) -> None:
        self.text.append(line)
        text = "\n".join(self.text)
        if line.rstrip().endswith(";") and text.count("$$") % 2 == 0 and not self._inside().message:
            self._end_statement()

    def _end_statement(self) -> None:
        text = "\n".join(self.text).strip()
        if not self._inside().message:
            text = text.removesuffix(";")
        block = self._inside()
        self.block = replace(block, statements=(*block.statements, replace(self.pending, sql=text)))
        self.pending, self.text = Statement(sql=""), []

    def _inside(self) -> Block:
        if self.block is None:
            raise CorpusError("SQL or a directive before the first `-- name:`")
        return self.block

    def _end_block(self) -> None:
        if any(line.strip() for line in self.text):
            if not self._inside().message:
                raise CorpusError(f"block {self._inside().name}: a statement without its ;")
            self._end_statement()
        self.text = []
        if self.block is not None:
            if not self.block.statements:
                raise CorpusError(f"block {self.block.name} is empty")
            if any(b.name == self.block.name for b in self.blocks):
                raise CorpusError(f"two blocks are called {self.block.name}")
            self.blocks.append(self.block)
        self.block = None


def _split(part: str) -> tuple[str, str]:
    word, _, value = part.strip().partition("=")
    return word, value


def _with_block_directive(block: Block, word: str, value: str) -> Block:
    if word == "as":
        return replace(block, role=value.strip())
    if word == "modes":
        return replace(block, modes=tuple(Mode(mode.strip()) for mode in value.split()))
    return replace(block, **{word: True})


def in_flavour(block: Block, flavour: str) -> Block:
    """The block as the server of `flavour` is sent it. A statement for Hanse alone becomes an empty one elsewhere."""
    replacement = r"\1" if flavour == "hanse" else ""
    texts = (HANSE_ONLY.sub(replacement, statement.sql) for statement in block.statements)
    statements = zip(block.statements, texts, strict=True)
    return replace(block, statements=tuple(replace(statement, sql=text) for statement, text in statements))


def parse_file(path: Path) -> list[Block]:
    return _Parser(path).parse()


# --- setup.sql ------------------------------------------------------------------------------------------------------


def statements_of(text: str, flavour: str) -> list[str]:
    """The statements of a setup file for 'hanse', 'plain', or 'partitioned' (plain, with the tables really partitioned).

    'partitioned' serves to check the corpus itself: rows then come in another order than from an unpartitioned table, so
    that a statement whose answer depends on it is found without Hanse.
    """
    if flavour == "hanse":
        text = HANSE_ONLY.sub(r"\1", text)
    elif flavour == "partitioned":
        text = re.sub(r"/\*hanse (PARTITION BY HASH \(.*?\)).*?\*/", r"\1", text)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"^--.*$", "", text, flags=re.M)
    found, buffer = [], ""
    for line in text.splitlines():
        buffer += line + "\n"
        if line.rstrip().endswith(";") and buffer.count("$$") % 2 == 0:
            found.append(buffer.strip().removesuffix(";"))
            buffer = ""
    assert not buffer.strip(), f"a statement without its ;: {buffer}"
    return [part for statement in found for part in _with_partitions(statement, flavour)]


def _with_partitions(statement: str, flavour: str) -> list[str]:
    match = re.search(r"CREATE TABLE (\w+)\b.*PARTITION BY HASH", statement, re.S)
    if flavour != "partitioned" or match is None:
        return [statement]
    table = match.group(1)
    parts = [
        f"CREATE TABLE {table}_part{i} PARTITION OF {table} FOR VALUES WITH (MODULUS 4, REMAINDER {i})"
        for i in range(4)
    ]
    return [statement, *parts]
