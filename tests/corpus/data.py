"""The corpus's rows: the same on every run, made by arithmetic so that a person can foresee them.

Numbers in floating point are multiples of 1/4, so that sums do not depend on the order of rows.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterator, Sequence

Row = Sequence[object]

COUNTRIES = (
    ("DE", "Germany"),
    ("DK", "Denmark"),
    ("EE", "Estonia"),
    ("NO", "Norway"),
    ("SE", "Sweden"),
    ("XX", "Nowhere"),
)
FIRST = ("Ada", "Bo", "Cem", "Dora", "Émile", "Fritz", "Gül")
LAST = ("Ahlers", "Brandt", "O'Neil", "Dahl", "Eriksson")
CATEGORIES = ("wood", "salt", "cloth", "amber", None)
DAY = datetime.timedelta(days=1)


def countries() -> Iterator[Row]:
    yield from COUNTRIES


def products() -> Iterator[Row]:
    for i in range(1, 26):
        attrs = (
            None
            if i % 9 == 0
            else {"weight": i * 3, "colours": ["red", "blue", "green"][: i % 4], "origin": {"port": f"p{i % 3}"}}
        )
        yield i, f"product {i}", CATEGORIES[i % 5], f"{i * 1.25:.2f}", attrs


def customers() -> Iterator[Row]:
    for i in range(1, 41):
        yield (
            i,
            f"{FIRST[i % 7]} {LAST[i % 5]}",
            None if i % 11 == 0 else COUNTRIES[i % 5][0],
            f"{(i * 37) % 500 - 50}.{i % 4 * 25:02d}",
            None if i % 6 == 0 else (i % 9) / 4,
            None if i % 8 == 0 else ["new", "vip", "late", "x y"][: i % 5],
            None
            if i % 10 == 0
            else {"age": 20 + i, "langs": ["de", "en"] if i % 2 else [], "ok": i % 3 == 0, "nick": None},
            datetime.date(2024, 1, 1) + i * 17 * DAY,
            i % 5 != 0,
            ("sad", "ok", "happy", None)[i % 4],
        )


def orders() -> Iterator[Row]:
    """Customers 31 to 40 have none; order numbers are unique over all customers."""
    for i in range(1, 121):
        yield (
            i * 7 % 30 + 1,
            1000 + i,
            ("new", "paid", "sent", "void")[i % 4],
            None if i % 13 == 0 else datetime.datetime(2025, 1, 1) + datetime.timedelta(days=i * 3, minutes=i * 7),
            None if i % 17 == 0 else f"{i * 11 % 400}.{i % 100:02d}",
            None if i % 3 else f"note {i}, with 'quotes' and \\ slash",
        )


def order_lines() -> Iterator[Row]:
    """Every tenth order has no lines."""
    for i in range(1, 121):
        for line in range(1, i % 4 + 2) if i % 10 else ():
            yield (
                i * 7 % 30 + 1,
                1000 + i,
                line,
                (i * line) % 23 + 1,
                i % 6 + line,
                f"{(i * line) % 90}.{line * 20:02d}",
            )


def accounts() -> Iterator[Row]:
    for i in range(1, 31):
        code = f"acc-{i:03d}" if i % 5 else f"Konto Ü{i}"
        opened = None if i % 7 == 0 else datetime.datetime(2025, 3, 1, i % 24, tzinfo=datetime.UTC) + i * DAY
        yield code, None if i % 4 == 0 else f"owner {i % 6}", i * 1000 - 5000, opened


def devices() -> Iterator[Row]:
    for i in range(1, 31):
        payload = None if i % 6 == 0 else "\\x" + bytes((i, 0, 255 - i)).hex()
        yield (
            uuid.UUID(int=i * 0x1234567890ABCDEF1234567890ABCDE),
            f"device {i}",
            f"08:00:2b:01:02:{i:02x}",
            f"10.{i % 3}.0.{i}/24",
            payload,
        )


def readings() -> Iterator[Row]:
    for i in range(100):
        value = None if i % 19 == 0 else f"{i * 7 % 50}.{i % 10}"
        yield i % 10, datetime.date(2026, 1, 1) + (i // 10) * DAY, value, None if i % 7 == 0 else i % 5


def employees() -> Iterator[Row]:
    """A tree: the manager of n is n / 3; number 1 has none."""
    for i in range(1, 26):
        home = None if i % 5 == 0 else f'("{i} Long Lane",{("Lübeck", "Bergen")[i % 2]})'
        yield (
            i,
            i // 3 or None,
            f"{FIRST[i % 7]} {i}",
            ("ship", "shop", "yard", None)[i % 4],
            None if i == 13 else 2000 + i * i * 10,
            home,
        )


def documents() -> Iterator[Row]:
    nouns, verbs = ("ship", "harbour", "merchant", "cargo", "storm"), ("sails", "waits", "trades", "sinks")
    for i in range(1, 21):
        body = (
            None
            if i == 20
            else f"The {nouns[i % 5]} {verbs[i % 4]} while {i} other {nouns[(i * 3) % 5]}s are watching it"
        )
        yield i, f"Document {i}", body


def bookings() -> Iterator[Row]:
    for i in range(1, 31):
        low = i * 5 % 40
        period = (
            None if i % 6 == 0 else f"[2026-02-{i % 27 + 1:02d} 08:00, 2026-02-{i % 27 + 1:02d} {9 + i % 8:02d}:30)"
        )
        yield i % 7, i, f"[{low},{low + i % 5 + 1})", period


def tickets() -> Iterator[Row]:
    for i in range(1, 16):
        yield -i, f"ticket {i}", i % 4 + 1, datetime.date(2026, 3, 1) + i * DAY  # negative: below what the serial gives


def messages() -> Iterator[Row]:
    for i in range(1, 31):
        yield ("corpus_tenant", "corpus_reader", "somebody")[i % 3], i, f"message {i}"


def events() -> Iterator[Row]:
    for i in range(1, 121):
        payload = None if i % 8 == 0 else {"n": i, "path": [i % 2, i % 3], "text": f"event {i}"}
        yield (
            i,
            datetime.date(2024, 6, 1) + i * 6 * DAY,
            ("click", "view", "buy")[i % 3],
            None if i % 12 == 0 else i * 13 % 100,
            None if i % 9 == 0 else i % 45,
            payload,
        )


def stores() -> Iterator[Row]:
    for i in range(1, 25):
        yield (
            i,
            ("north", "south", "west", "east", None)[i % 5],
            f"store {i}",
            datetime.date(2020, 1, 31) + i * 31 * DAY,
            None if i % 7 == 0 else f"{i * 1111}.50",
        )


def settings() -> Iterator[Row]:
    for i, name in enumerate(("theme", "language", "currency", "limit"), start=1):
        yield name, None if name == "limit" else f"value {i}", datetime.datetime(2026, 1, i, tzinfo=datetime.UTC)


def notes() -> Iterator[Row]:
    for i in range(1, 13):
        yield i, None if i == 5 else i * 3, f"note about {i * 3}"


TABLES = (
    *(countries, products, customers, orders, order_lines, accounts, devices, readings, employees, documents),
    *(bookings, tickets, messages, events, stores, settings, notes),
)

COLUMNS = {"documents": "(doc_id, title, body)", "settings": "(name, value, since)"}


def inserts(*, reverse: bool = False) -> Iterator[str]:
    """INSERT statements for all tables, in the order that foreign keys need."""
    for table in TABLES:
        rows = list(table())
        if reverse:
            rows.reverse()
        for start in range(0, len(rows), 100):
            values = ",\n".join("(" + ", ".join(map(literal, row)) + ")" for row in rows[start : start + 100])
            yield f"INSERT INTO {table.__name__} {COLUMNS.get(table.__name__, '')} VALUES\n{values}"


def literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        value = json.dumps(value)
    if isinstance(value, list):
        return "ARRAY[" + ", ".join(map(literal, value)) + "]::text[]"
    return "'" + str(value).replace("'", "''") + "'"
