"""The benchmark's rows: the same on every run, as lines of COPY's text format."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from dataclasses import dataclass

LINES_PER_BLOCK = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    accounts: int = 1_000_000
    customers: int = 20_000
    orders_per_customer: int = 10
    lines_per_order: int = 3
    products: int = 1_000
    pgbench_scale: int = 16

    @classmethod
    def quick(cls) -> Sizes:
        return cls(accounts=100_000, customers=2_000, pgbench_scale=1)


def tables(sizes: Sizes) -> Iterator[tuple[str, Iterator[str]]]:
    """(table, lines) of every table that starts with rows."""
    yield "accounts", (f"{aid}\t{aid % 100}\t1000\t{'x' * 60}\n" for aid in range(1, sizes.accounts + 1))
    rnd = random.Random(16)
    yield "customers", (f"{c}\t{rnd.randrange(20)}\tcustomer {c}\n" for c in range(1, sizes.customers + 1))
    yield "orders", (f"{c}\t{o}\t{_status(o)}\t{_day(o)}\n" for c, o in _orders(sizes))
    yield "order_lines", _order_lines(sizes)
    yield "products", (f"{p}\t{p % 25}\tproduct {p}\n" for p in range(1, sizes.products + 1))
    rnd = random.Random(17)
    yield "shipments", (f"{o * 7}\t{o}\t{rnd.randrange(12)}\t{rnd.randrange(1, 5000)}\n" for _, o in _orders(sizes))
    scale = sizes.pgbench_scale
    yield "pgbench_branches", (f"{b}\t0\t\n" for b in range(1, scale + 1))
    yield "pgbench_tellers", (f"{t}\t{(t - 1) // 10 + 1}\t0\t\n" for t in range(1, 10 * scale + 1))
    yield "pgbench_accounts", (f"{a}\t{(a - 1) // 100_000 + 1}\t0\t\n" for a in range(1, 100_000 * scale + 1))


def blocks(lines: Iterator[str]) -> Iterator[bytes]:
    """Lines joined to blocks of a size that COPY likes."""
    block: list[str] = []
    for line in lines:
        block.append(line)
        if len(block) == LINES_PER_BLOCK:
            yield "".join(block).encode()
            block.clear()
    if block:
        yield "".join(block).encode()


def _orders(sizes: Sizes) -> Iterator[tuple[int, int]]:
    """(customer, order); order numbers run through all customers."""
    for customer in range(1, sizes.customers + 1):
        first = (customer - 1) * sizes.orders_per_customer
        yield from ((customer, first + n) for n in range(1, sizes.orders_per_customer + 1))


def _status(order: int) -> int:
    return order * 2_654_435_761 % (1 << 32) % 8


def _day(order: int) -> datetime.date:
    return datetime.date(2025, 1, 1) + datetime.timedelta(days=order * 48_271 % 2_147_483_647 % 365)


def _order_lines(sizes: Sizes) -> Iterator[str]:
    rnd = random.Random(18)
    for customer, order in _orders(sizes):
        for n in range(1, sizes.lines_per_order + 1):
            product, quantity, cents = (
                rnd.randrange(1, sizes.products + 1),
                rnd.randrange(1, 10),
                rnd.randrange(100, 100_000),
            )
            yield f"{customer}\t{order}\t{n}\t{product}\t{quantity}\t{cents // 100}.{cents % 100:02d}\n"
