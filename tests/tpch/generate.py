"""TPC-H's tables at a small scale, the same on every run; about 3,000 orders and 12,000 lines.

Not `dbgen`: columns have the specification's domains (1.4.2, 4.2.3) and the relations between them that the 22
queries look at, but the texts are shorter. Two things differ on purpose, so that no query is empty on so few rows: order
dates and brands are drawn unevenly, and the words that queries search for are more frequent.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator

Row = tuple[object, ...]

SUPPLIERS, PARTS, CUSTOMERS, ORDERS = 40, 400, 300, 3_000
START, CURRENT = datetime.date(1992, 1, 1), datetime.date(1995, 6, 17)
ORDER_DAYS = (datetime.date(1998, 8, 2) - START).days

REGIONS = ("AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST")
NATIONS = (
    *(("ALGERIA", 0), ("ARGENTINA", 1), ("BRAZIL", 1), ("CANADA", 1), ("EGYPT", 4), ("ETHIOPIA", 0), ("FRANCE", 3)),
    *(("GERMANY", 3), ("INDIA", 2), ("INDONESIA", 2), ("IRAN", 4), ("IRAQ", 4), ("JAPAN", 2), ("JORDAN", 4)),
    *(("KENYA", 0), ("MOROCCO", 0), ("MOZAMBIQUE", 0), ("PERU", 1), ("CHINA", 2), ("ROMANIA", 3), ("SAUDI ARABIA", 4)),
    *(("VIETNAM", 2), ("RUSSIA", 3), ("UNITED KINGDOM", 3), ("UNITED STATES", 1)),
)
# nations the queries name come more often
NATION_KEYS = (*range(25), 7, 7, 6, 6, 20, 20, 20, 20, 2, 2, 3, 3, 8, 12, 18, 21)
COLOURS = ("almond", "forest", "green", "blue", "chocolate", "ivory", "red", "salmon", "tan", "white")
TYPE_1 = ("STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO")
TYPE_2 = ("ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED")
TYPE_3 = ("TIN", "NICKEL", "BRASS", "STEEL", "COPPER")
CONTAINER_1 = ("SM", "LG", "MED", "JUMBO", "WRAP")
CONTAINER_2 = ("CASE", "BOX", "BAG", "JAR", "PKG", "PACK", "CAN", "DRUM")
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD")
PRIORITIES = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")
INSTRUCTIONS = ("DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN")
MODES = ("REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB")
WORDS = ("special", "requests", "Customer", "Complaints", "quick", "ideas", "pending", "deposits", "sleep", "furiously")


def tables() -> Iterator[tuple[str, list[Row]]]:
    """(name, rows) in the order that foreign keys need."""
    rnd = random.Random(22)
    yield "region", [(key, name, "comment") for key, name in enumerate(REGIONS)]
    yield "nation", [(key, name, region, "comment") for key, (name, region) in enumerate(NATIONS)]
    yield "supplier", [_supplier(rnd, key) for key in range(1, SUPPLIERS + 1)]
    yield "part", [_part(rnd, key) for key in range(1, PARTS + 1)]
    yield "partsupp", [row for key in range(1, PARTS + 1) for row in _partsupps(rnd, key)]
    yield "customer", [_customer(rnd, key) for key in range(1, CUSTOMERS + 1)]
    orders: list[Row] = []
    lines: list[Row] = []
    for number in range(1, ORDERS + 1):
        _order(rnd, number, orders, lines)
    yield "orders", orders
    yield "lineitem", lines


def _phone(rnd: random.Random, nation: int) -> str:
    return f"{nation + 10}-{rnd.randrange(100, 1000)}-{rnd.randrange(100, 1000)}-{rnd.randrange(1000, 10000)}"


def _money(rnd: random.Random, low: int, high: int) -> str:
    cents = rnd.randrange(low * 100, high * 100)
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _words(rnd: random.Random, count: int) -> str:
    return " ".join(rnd.choice(WORDS) for _ in range(count))


def _supplier(rnd: random.Random, key: int) -> Row:
    nation = NATION_KEYS[key % len(NATION_KEYS)]
    comment = "slow Customer many Complaints" if key % 13 == 0 else _words(rnd, 1).replace("Customer", "quick")
    return key, f"Supplier#{key:09d}", f"address {key}", nation, _phone(rnd, nation), _money(rnd, -999, 9999), comment


def _retail_price(part: int) -> int:
    """In cents (specification 4.2.3)."""
    return 90_000 + (part // 10) % 20_001 + 100 * (part % 1_000)


def _part(rnd: random.Random, key: int) -> Row:
    maker = rnd.randrange(1, 6)
    brand = rnd.choice(("Brand#23", "Brand#12", "Brand#34", f"Brand#{maker}{rnd.randrange(1, 6)}"))
    container = rnd.choice(("MED BOX", "SM CASE", "LG PKG", f"{rnd.choice(CONTAINER_1)} {rnd.choice(CONTAINER_2)}"))
    kind = f"{rnd.choice(TYPE_1)} {rnd.choice(TYPE_2)} {rnd.choice(TYPE_3)}"
    if key % 10 == 0:
        kind = "ECONOMY ANODIZED STEEL"
    size = rnd.choice((15, 1, 5, 49, 14, 23, 45, 19, 3, 36, 9, rnd.randrange(1, 51)))
    price = _retail_price(key)
    name = " ".join(("forest", *rnd.sample(COLOURS, 2)) if key % 7 == 0 else rnd.sample(COLOURS, 3))
    return key, name, f"Manufacturer#{maker}", brand, kind, size, container, f"{price / 100:.2f}", _words(rnd, 2)[:23]


def _suppliers_of(part: int) -> list[int]:
    return [(part + i * (SUPPLIERS // 4 + (part - 1) // SUPPLIERS)) % SUPPLIERS + 1 for i in range(4)]


def _partsupps(rnd: random.Random, part: int) -> Iterator[Row]:
    for supplier in dict.fromkeys(_suppliers_of(part)):
        yield part, supplier, rnd.randrange(1, 10_000), _money(rnd, 1, 1000), _words(rnd, 6)


def _customer(rnd: random.Random, key: int) -> Row:
    nation = rnd.choice(NATION_KEYS)
    segment = rnd.choice(SEGMENTS)
    phone, balance = _phone(rnd, nation), _money(rnd, -999, 9999)
    return key, f"Customer#{key:09d}", f"address {key}", nation, phone, balance, segment, _words(rnd, 4)


def _order(rnd: random.Random, number: int, orders: list[Row], lines: list[Row]) -> None:
    key = (number - 1) // 8 * 32 + (number - 1) % 8 + 1  # sparse, as in the specification
    customer = rnd.randrange(1, CUSTOMERS // 3 + 1) * 3 - rnd.randrange(1, 3)  # a third never orders
    ordered = START + datetime.timedelta(days=rnd.randrange(ORDER_DAYS - 151))
    made = [_line(rnd, key, n, ordered) for n in range(1, rnd.choice((1, 2, 3, 4, 5, 6, 7, 7)) + 1)]
    statuses = {row[9] for row in made}
    status = "P" if len(statuses) > 1 else statuses.pop()
    total = f"{sum(float(str(row[5])) * (1 + float(str(row[7]))) * (1 - float(str(row[6]))) for row in made):.2f}"
    clerk = f"Clerk#{rnd.randrange(1, 10):09d}"
    orders.append((key, customer, status, total, ordered, rnd.choice(PRIORITIES), clerk, 0, _words(rnd, 4)))
    lines.extend(made)


def _line(rnd: random.Random, order: int, number: int, ordered: datetime.date) -> Row:
    part = rnd.randrange(1, PARTS + 1)
    supplier = rnd.choice(_suppliers_of(part))
    quantity = rnd.choice((rnd.randrange(1, 51), rnd.randrange(40, 51)))
    price = f"{quantity * _retail_price(part) / 100:.2f}"
    days = datetime.timedelta
    shipped = ordered + days(days=rnd.randrange(1, 122))
    committed = ordered + days(days=rnd.randrange(30, 91))
    received = shipped + days(days=rnd.randrange(1, 31))
    flag = rnd.choice("RA") if received <= CURRENT else "N"
    status = "O" if shipped > CURRENT else "F"
    discount, tax = f"0.{rnd.randrange(11):02d}", f"0.{rnd.randrange(9):02d}"
    ways = rnd.choice(INSTRUCTIONS), rnd.choice(MODES)
    dates = shipped, committed, received
    return (
        order,
        part,
        supplier,
        number,
        quantity,
        price,
        discount,
        tax,
        flag,
        status,
        *dates,
        *ways,
        _words(rnd, 3)[:44],
    )
