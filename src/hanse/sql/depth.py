"""How deep a statement may nest, and that a deeper one is an error and not the end of the process.

A worker serves thousands of clients on one C stack. pglast turns PostgreSQL's tree into Python's by recursion in C that
checks nothing: `SELECT 1+1+…` of 100,000 terms (200 kB) overflows 8 MiB and kills the worker with all its sessions. So no
text reaches it before its depth is known to be safe:

* What nests to the right (parentheses, subqueries, function calls, NOT, CASE) ends in the grammar's own stack of 10,000
  symbols: "memory exhausted". That much is always safe.
* What grows to the left (operators, casts, UNION, JOIN) the grammar takes without end. `bound` reads the tokens and gives
  a number that the depth of such chains cannot exceed; almost every text ends here, and short ones need not be read.
* Where the bound is too high, libpg_query's JSON printer is asked: it checks its stack, and its text shows the real depth.

Walking a tree costs Python's recursion. `prepare_process` gives the main thread the stack for it; what still runs out
raises RecursionError, which sessions report as 54001, as PostgreSQL does.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator

from pglast.parser import ParseError, parse_sql_json, scan

from ..core.errors import too_deep
from ..core.limits import STACK_BYTES, STATEMENT_DEPTH_MAX
from . import literals

SHORT_BYTES = 8_000  # a level of a chain takes two bytes at least: `1+`
BOUND_SAFE = 4_000  # levels that any stack has room for, beside what the grammar allows to nest
FRAMES_PER_LEVEL = 4  # of Python's stack, for our deepest walks

_TOKEN = re.compile(rb"[(\[]|[)\]]|[,;]|[A-Za-z_\x80-\xff][\w$\x80-\xff]*|[-+*/<>=~!@#%^&|`?:.]+|\"[^\"]*\"")
_BRACES = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]')
_CHAINS = frozenset((b"union", b"intersect", b"except", b"join"))  # commas and AND do not end these
_ENDS = frozenset((b",", b";", b"and", b"or"))  # what follows lies beside, not below


def prepare_process() -> None:
    """For the process that parses clients' statements, on its main thread, before anything else.

    The limit of the stack counts when it grows, so raising it helps a running process on Linux. Elsewhere, or where the
    hard limit is lower, the depth that is allowed stays what the stack has room for (`depth_max`).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    if sys.platform == "linux" and soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
    sys.setrecursionlimit(max(sys.getrecursionlimit(), FRAMES_PER_LEVEL * depth_max()))


def depth_max() -> int:
    """Levels of a tree that this process takes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if soft == resource.RLIM_INFINITY:
        soft = 8 << 20  # the C library's own choice
    return min(STATEMENT_DEPTH_MAX, soft * STATEMENT_DEPTH_MAX // STACK_BYTES)


def check(data: bytes, sql: str) -> None:
    """Raises 54001 where parsing or walking this text could exhaust the stack."""
    if len(data) < SHORT_BYTES or bound(data, sql) <= min(BOUND_SAFE, depth_max()):
        return
    try:
        printed = parse_sql_json(sql)
    except ParseError as error:
        if "stack depth" in str(error.args[0]):
            raise too_deep() from None
        return  # the text is wrong: no tree will be made of it
    if json_depth(printed) > 2 * depth_max():
        raise too_deep()


def bound(data: bytes, sql: str) -> int:
    """A number that no chain of this text's tree exceeds in depth, parentheses and all."""
    stack: list[list[int]] = []
    level = [0, 0, 0, 0]  # chains; the segment: its tokens, the deepest bracket in it; the deepest segment before it
    for token in _tokens(data, sql):
        if token in (b"(", b"["):
            stack.append(level)
            level = [0, 0, 0, 0]
        elif token in (b")", b"]"):
            inner = _total(level)
            level = stack.pop() if stack else [0, 0, 0, 0]
            level[2] = max(level[2], inner + 1)
        elif token in _ENDS:
            level[3] = max(level[3], level[1] + level[2])
            level[1] = level[2] = 0
        elif token in _CHAINS:
            level[0] += 1
        else:
            level[1] += 1
    while stack:
        inner = _total(level)
        level = stack.pop()
        level[2] = max(level[2], inner + 1)
    return _total(level)


def _total(level: list[int]) -> int:
    return level[0] + max(level[3], level[1] + level[2])


def _tokens(data: bytes, sql: str) -> Iterator[bytes]:
    """Everything but literals, in small letters. The lexer's word where the text is not plain."""
    parts = literals.cut(data)
    if literals.parts_are_plain(parts):
        return (found.lower() for found in _TOKEN.findall(b" ".join(parts[::2])))
    return _scanned(data, sql)


def _scanned(data: bytes, sql: str) -> Iterator[bytes]:
    try:
        tokens = scan(sql)
    except ParseError:
        return iter(())  # the lexer does not take it, nor will the parser
    return (sql[token.start : token.end + 1].encode().lower() for token in tokens)


def json_depth(printed: str) -> int:
    """How deep the objects of a JSON text nest."""
    depth = deepest = 0
    for match in _BRACES.finditer(printed):
        brace = match.group()
        if brace == "{":
            depth += 1
            deepest = max(deepest, depth)
        elif brace == "}":
            depth -= 1
    return deepest
