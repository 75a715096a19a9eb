"""The rows that every comparison uses: NULLs, ties, duplicates, NaN and infinities among them."""

from __future__ import annotations

CITIES = ["Lübeck", "Bergen", "Riga", "Danzig", None, "bergen", ""]


def _users() -> list[str]:
    rows = []
    for i in range(1, 61):
        city = CITIES[i % len(CITIES)]
        rows.append(
            "\t".join(
                (
                    str(i),
                    f"name{i % 17}" if i % 13 else "\\N",
                    str(20 + i * 7 % 31) if i % 11 else "\\N",
                    "\\N" if city is None else city,
                    f"{(i * 37 % 1000) / 4:.2f}" if i % 9 else "\\N",
                    "NaN" if i == 7 else "Infinity" if i == 8 else str(i / 8) if i % 10 else "\\N",
                    "\\N" if i % 19 == 0 else "t" if i % 3 else "f",
                    "infinity" if i == 5 else "0044-03-15 BC" if i == 6 else f"19{50 + i % 40}-0{1 + i % 9}-1{i % 10}",
                    f"2024-0{1 + i % 9}-1{i % 10} 1{i % 10}:00:00.{i:02d}+0{i % 5}" if i % 12 else "\\N",
                    ("sad", "ok", "happy", "\\N")[i % 4],
                    "{a,b}" if i % 2 else "{}",
                    ("ab", "a", "b", "abcd")[i % 4],
                )
            )
        )
    return rows


def _orders() -> list[str]:
    rows = []
    for i in range(1, 61):
        for j in range(i % 4):
            rows.append(
                "\t".join(
                    (
                        str(i),
                        str(j),
                        f"{(i * j * 13 % 700) / 8:.2f}" if (i + j) % 10 else "\\N",
                        str((i + j) % 6),
                        f"note {i % 5}" if i % 6 else "\\N",
                        f"2024-01-{1 + (i + j) % 28:02d} 0{j}:00:00",
                        str(1 + (i + j) % 7) if i % 8 else "\\N",
                        str((i + j) % 5 / 2),
                        str(9_000_000_000_000_000_000 + i) if i % 2 else str(i),
                    )
                )
            )
    return rows


ROWS: dict[str, list[str]] = {
    "users": _users(),
    "orders": _orders(),
    "pairs": [f"{a % 5}\t{b % 3}\t{a * b}" for a in range(10) for b in range(4)],
    "events": [f"kind{i % 3}\t2024-0{1 + i % 6}-0{1 + i % 9}\t{i}" for i in range(40)],
    "nothing": [],
    "countries": ["1\tGermany\tEurope", "2\tNorway\tEurope", "3\tLatvia\tEurope", "4\tPeru\tAmerica", "5\tChad\t\\N"],
    "settings": ["limit\t5", "page\t2", "old\t\\N"],
    "labels": ["1\tone", "2\ttwo", "9\tnine"],
}
