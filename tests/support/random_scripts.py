"""Random transactions over the tables of `tests/corpus/transactions`, one statement after another.

What comes next depends on the seed and on the session's transaction status, so that most statements mean something. What may
differ between servers is left out: rows without an order are compared as a multiset, cursors have a total one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .wire import Mode

NAMES = ("a", "b", "c")
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
SCANS = (
    "SELECT side, id, balance FROM accounts ORDER BY side, id",
    "SELECT side, id, balance FROM accounts WHERE side = 1 ORDER BY id",
    "SELECT side, id, balance FROM accounts WHERE side = 2 ORDER BY id DESC",
    "SELECT side, sum(balance) FROM accounts GROUP BY side ORDER BY side",
    "SELECT p.side, p.id, c.id FROM parents p LEFT JOIN children c ON c.side = p.side AND c.parent = p.id ORDER BY 1, 2, 3",
    "SELECT a.id, b.id FROM accounts a JOIN accounts b ON a.balance = b.balance AND a.side < b.side ORDER BY 1, 2",
)
FETCHES = (
    "NEXT FROM", "PRIOR FROM", "FIRST FROM", "LAST FROM", "ABSOLUTE 3 IN", "ABSOLUTE -2 IN", "ABSOLUTE 0 IN", "RELATIVE 2 FROM",
    "RELATIVE -2 FROM", "RELATIVE 0 FROM", "3 FROM", "-3 FROM", "0 FROM", "ALL IN", "FORWARD 2 FROM", "FORWARD ALL FROM",
    "BACKWARD FROM", "BACKWARD 2 IN", "BACKWARD ALL IN",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    sql: str
    mode: Mode
    ordered: bool = False


def next_step(draw: random.Random, status: str) -> Step:
    """`status` as `Outcome.status` has it."""
    makers: tuple[Callable[[random.Random], str], ...]
    if status == "inerror":
        makers, weights = (_back, _end, _write, _savepoint, _look), (8, 3, 1, 1, 1)
    elif status == "intrans":
        makers = (
            _write,
            _savepoint,
            _back,
            _end,
            _look,
            _cursor,
            _fetch,
            _setting,
            _broken,
            _prepared,
            _current_of,
            _begin,
        )
        weights = (10, 5, 3, 2, 4, 3, 7, 3, 2, 3, 2, 0.3)
    else:
        makers, weights = (_begin, _write, _fetch, _look, _prepared, _end, _setting), (12, 2, 2, 1, 1, 0.5, 0.5)
    (make,) = draw.choices(makers, weights)
    sql = make(draw)
    if status == "intrans" and draw.random() < 0.1 and make in (_write, _savepoint, _look):
        return Step(f"{sql}; {_write(draw)}; {_look(draw)}", Mode.SIMPLE)
    if status == "intrans" and sql.startswith(("PREPARE", "DEALLOCATE", "CLOSE ALL")):
        return Step(f"SELECT 1; {sql}", Mode.SIMPLE)  # PostgreSQL takes a snapshot for them: too late for modes then
    extended = (
        status != "idle" and draw.random() < 0.4
    )  # outside, COMMIT's error would come after the statement's own end
    return Step(sql, Mode.EXTENDED if extended else Mode.SIMPLE, make is _fetch)


def _side(draw: random.Random) -> int:
    return draw.choice((1, 2))


def _begin(draw: random.Random) -> str:
    modes = []
    if draw.random() < 0.5:
        modes.append(f"ISOLATION LEVEL {draw.choice(LEVELS)}")
    if draw.random() < 0.15:
        modes.append(draw.choice(("READ ONLY", "READ WRITE")))
    if draw.random() < 0.1:
        modes.append(draw.choice(("DEFERRABLE", "NOT DEFERRABLE")))
    return f"{draw.choice(('BEGIN', 'START TRANSACTION'))} {', '.join(modes)}"


def _end(draw: random.Random) -> str:
    return draw.choice(
        ("COMMIT", "COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "END", "ABORT")
    )


def _savepoint(draw: random.Random) -> str:
    return f"{draw.choice(('SAVEPOINT', 'SAVEPOINT', 'SAVEPOINT', 'RELEASE'))} {draw.choice(NAMES)}"


def _back(draw: random.Random) -> str:
    return f"ROLLBACK TO {draw.choice(NAMES)}"


def _write(draw: random.Random) -> str:
    side, row, amount = _side(draw), draw.randint(1, 6), draw.randint(-120, 200)
    forms = (
        f"UPDATE accounts SET balance = balance + {amount} WHERE side = {side} AND id = {row}",
        f"UPDATE accounts SET balance = balance + {amount} WHERE id = {row} RETURNING side, id, balance",
        f"UPDATE accounts SET balance = balance + {amount}",
        f"INSERT INTO accounts VALUES ({side}, {row + draw.choice((0, 10))}, {abs(amount)})",
        f"INSERT INTO accounts VALUES (1, {row + 20}, 1), (2, {row + 20}, 2) ON CONFLICT DO NOTHING",
        f"DELETE FROM accounts WHERE id = {row + 20}",
        f"INSERT INTO parents VALUES ({side}, {row + 100}, {draw.randint(1, 9)})",
        f"UPDATE parents SET rank = {draw.randint(1, 4)} WHERE id = {draw.randint(1, 2)}",
        f"DELETE FROM parents WHERE side = {side} AND id = {row}",
        f"INSERT INTO children VALUES ({side}, {row}, {draw.randint(1, 4) + draw.choice((0, 100))}, {row})",
        "UPDATE children SET place = 3 - place WHERE place < 3",
        f"UPDATE children SET parent = {draw.choice((1, 2, 105))} WHERE side = {side}",
        f"DELETE FROM children WHERE parent = {row}",
    )
    return draw.choice(forms)


def _broken(draw: random.Random) -> str:
    side = _side(draw)
    forms = (
        f"UPDATE accounts SET balance = -1 WHERE side = {side}",
        f"INSERT INTO accounts VALUES ({side}, 1, 1), (1, 2, 2), (2, 3, 3)",
        f"SELECT 1 / (side - {side}) FROM accounts",
        "SELECT nothing FROM accounts",
        "SELEC 1",
    )
    return draw.choice(forms)


def _look(draw: random.Random) -> str:
    forms = (
        *SCANS,
        "SELECT side, count(*), sum(balance) FROM accounts GROUP BY side",
        "SELECT * FROM parents",
        "SELECT * FROM children WHERE side = 2",
        "SELECT side, id FROM accounts WHERE id < 4 FOR UPDATE",
        "SHOW transaction_isolation",
        "SHOW transaction_read_only",
        "SHOW work_mem",
        "SELECT name, is_holdable FROM pg_cursors ORDER BY name",
    )
    return draw.choice(forms)


def _setting(draw: random.Random) -> str:
    which = draw.choice(("ALL", "children_place", "children_parent", "parents_rank"))
    forms = (
        f"SET CONSTRAINTS {which} DEFERRED",
        f"SET CONSTRAINTS {which} IMMEDIATE",
        f"SET TRANSACTION ISOLATION LEVEL {draw.choice(LEVELS)}",
        f"SET TRANSACTION {draw.choice(('READ ONLY', 'READ WRITE'))}",
        f"SET LOCAL work_mem = '{draw.randint(1, 9)}MB'",
        f"SET work_mem = '{draw.randint(11, 19)}MB'",
        f"SET default_transaction_isolation = '{draw.choice(LEVELS).lower()}'",
    )
    return draw.choice(forms)


def _cursor(draw: random.Random) -> str:
    if draw.random() < 0.3:
        return f"DECLARE one NO SCROLL CURSOR FOR SELECT id FROM accounts WHERE side = {_side(draw)} ORDER BY id FOR UPDATE"
    scroll, hold = draw.choice(("SCROLL", "SCROLL", "NO SCROLL")), draw.choice(("", "", "WITH HOLD "))
    return f"DECLARE {draw.choice(('two', 'three'))} {scroll} CURSOR {hold}FOR {draw.choice(SCANS)}"


def _fetch(draw: random.Random) -> str:
    name = draw.choice(("one", "two", "three"))
    if draw.random() < 0.1:
        return draw.choice((f"CLOSE {name}", "CLOSE ALL"))
    return f"{draw.choice(('FETCH', 'FETCH', 'MOVE'))} {draw.choice(FETCHES)} {name}"


def _current_of(draw: random.Random) -> str:
    return f"{draw.choice(('UPDATE accounts SET balance = 7', 'DELETE FROM accounts'))} WHERE CURRENT OF one"


def _prepared(draw: random.Random) -> str:
    forms = (
        "PREPARE p (int, int) AS UPDATE accounts SET balance = $2 WHERE id = $1 RETURNING side",
        "PREPARE p AS SELECT side, id FROM accounts WHERE id = $1",
        f"EXECUTE p ({draw.randint(1, 5)}, {draw.randint(-5, 50)})",
        f"EXECUTE p ({draw.randint(1, 5)})",
        "DEALLOCATE p",
    )
    return draw.choice(forms)
