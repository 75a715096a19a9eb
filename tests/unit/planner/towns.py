"""The fixed snapshot that planner tests plan against.

accounts, batch (bigint keys), orders and order_lines (co-located, with line items), pairs (two-column key), names
(text key), events (uuid key with a volatile default), tickets (identity key), readings (RANGE over dates), users
(RANGE over ids), regions (LIST), countries and currencies (reference), settings (single, g1), audit (single, g2),
some views, sequences and functions. Groups g1 and g2.
"""

from __future__ import annotations

from hanse.catalog.model import (
    Bound,
    Column,
    ForeignKey,
    Function,
    Group,
    Instance,
    Kind,
    Relation,
    Shard,
    Snapshot,
    Strategy,
    UniqueKey,
)

OIDS = {
    "bigint": 20,
    "integer": 23,
    "text": 25,
    "uuid": 2950,
    "date": 1082,
    "numeric": 1700,
    "timestamp with time zone": 1184,
    "boolean": 16,
}


def column(name: str, type_name: str = "text", **more: object) -> Column:
    return Column(name=name, type_oid=OIDS[type_name], type_name=type_name, **more)  # type: ignore[arg-type]


def columns(text: str, **special: Column) -> tuple[Column, ...]:
    """`"a bigint, b text"`; columns given by name replace those of the list."""
    pairs = (entry.strip().split(" ", 1) for entry in text.split(","))
    return tuple(special.get(name) or column(name, kind) for name, kind in pairs)


def hashed(name: str, all_columns: tuple[Column, ...], *key: str, **more: object) -> Relation:
    shards = tuple(
        Shard(schema="public", name=f"{name}_{n}", group=f"g{n % 2 + 1}", bound=Bound(modulus=4, remainder=n))
        for n in range(4)
    )
    return sharded(name, all_columns, Strategy.HASH, key, shards, **more)


def sharded(
    name: str,
    all_columns: tuple[Column, ...],
    strategy: Strategy,
    key: tuple[str, ...],
    shards: tuple[Shard, ...],
    **more: object,
) -> Relation:
    types = {each.name: each.type_oid for each in all_columns}
    more.setdefault("nameable", True)
    return Relation(
        schema="public",
        name=name,
        kind=Kind.SHARDED,
        owner="hanse",
        columns=all_columns,
        strategy=strategy,
        key=key,
        key_types=tuple(types[each] for each in key),
        shards=shards,
        **more,  # type: ignore[arg-type]
    )


def plain(name: str, kind: Kind, all_columns: tuple[Column, ...], **more: object) -> Relation:
    return Relation(schema="public", name=name, kind=kind, owner="hanse", columns=all_columns, **more)  # type: ignore[arg-type]


def view(name: str, definition: str, all_columns: tuple[Column, ...]) -> Relation:
    return plain(name, Kind.VIEW, all_columns, view_definition=definition)


def ranges(name: str, *bounds: tuple[str | None, str | None, str]) -> tuple[Shard, ...]:
    return tuple(
        Shard(schema="public", name=f"{name}_{n}", group=group, bound=Bound(lower=(lower,), upper=(upper,)))
        for n, (lower, upper, group) in enumerate(bounds)
    )


def primary(*names: str) -> tuple[UniqueKey, ...]:
    return (UniqueKey(name="primary", columns=names, primary=True),)


def sequence(name: str, group: str = "g1") -> Relation:
    return plain(name, Kind.SEQUENCE, (), group=group)


SERIAL = {"default_volatile": True, "not_null": True}

ACCOUNTS = hashed(
    "accounts", columns("aid bigint, bid integer, balance bigint, filler text"), "aid", unique_keys=primary("aid")
)
ORDERS = hashed(
    "orders",
    columns("customer_id bigint, order_id bigint, status integer, placed_on date"),
    "customer_id",
    unique_keys=primary("customer_id", "order_id"),
)
ORDER_LINES = hashed(
    "order_lines",
    columns("customer_id bigint, order_id bigint, line_no integer, product text, price numeric"),
    "customer_id",
    unique_keys=primary("customer_id", "order_id", "line_no"),
    foreign_keys=(
        ForeignKey(
            name="lines_order",
            columns=("customer_id", "order_id"),
            referenced_schema="public",
            referenced_name="orders",
            referenced_columns=("customer_id", "order_id"),
        ),
    ),
)
PAIRS = hashed("pairs", columns("a bigint, b text, note text"), "a", "b", unique_keys=primary("a", "b"))
NAMES = hashed("names", columns("name text, score integer"), "name", unique_keys=primary("name"))
NOTES = hashed("notes", columns("id bigint, body text"), "id")  # without a unique key
SECRETS = hashed("secrets", columns("id bigint, body text"), "id", nameable=False, row_security=True)
EVENTS = hashed(
    "events",
    columns(
        "id uuid, kind text, at timestamp with time zone",
        id=column("id", "uuid", default="gen_random_uuid()", default_volatile=True, not_null=True),
        at=column("at", "timestamp with time zone", default="now()"),
    ),
    "id",
    unique_keys=primary("id"),
)
TICKETS = hashed(
    "tickets",
    columns(
        "id bigint, title text",
        id=column("id", "bigint", identity="a", default_sequence="public.tickets_id_seq", **SERIAL),
    ),
    "id",
    unique_keys=primary("id"),
)
VISITS = hashed(
    "visits",
    columns(
        "visit_id bigint, customer_id bigint, page text",
        visit_id=column(
            "visit_id",
            "bigint",
            default="nextval('visits_visit_id_seq'::regclass)",
            default_sequence="public.visits_visit_id_seq",
            **SERIAL,
        ),
    ),
    "customer_id",
    unique_keys=primary("customer_id", "visit_id"),
)
USERS = sharded(
    "users",
    columns("user_id bigint, name text, email text"),
    Strategy.RANGE,
    ("user_id",),
    ranges("users", (None, "10000", "g1"), ("10000", "20000", "g2"), ("20000", None, "g1")),
    unique_keys=primary("user_id"),
)
READINGS = sharded(
    "readings",
    columns("taken date, sensor integer, value numeric"),
    Strategy.RANGE,
    ("taken",),
    ranges("readings", ("2020-01-01", "2021-01-01", "g1"), ("2021-01-01", "2022-01-01", "g2")),
)
REGIONS = sharded(
    "regions",
    columns("code text, title text"),
    Strategy.LIST,
    ("code",),
    (
        Shard(schema="public", name="regions_eu", group="g1", bound=Bound(values=("de", "fr"))),
        Shard(schema="public", name="regions_us", group="g2", bound=Bound(values=("us", None))),
    ),
)
COUNTRIES = plain("countries", Kind.REFERENCE, columns("code text, name text"), unique_keys=primary("code"))
CURRENCIES = plain(
    "currencies",
    Kind.REFERENCE,
    columns(
        "id integer, code text, added timestamp with time zone",
        id=column(
            "id",
            "integer",
            default="nextval('currencies_id_seq')",
            default_sequence="public.currencies_id_seq",
            **SERIAL,
        ),
        added=column("added", "timestamp with time zone", default="clock_timestamp()", default_volatile=True),
    ),
    unique_keys=primary("id"),
)
SETTINGS = plain("settings", Kind.SINGLE, columns("name text, value text"), group="g1", unique_keys=primary("name"))
AUDIT = plain("audit", Kind.SINGLE, columns("id bigint, what text"), group="g2")
ACCOUNTS_0 = plain("accounts_0", Kind.PARTITION, ACCOUNTS.columns, group="g1", parent=("public", "accounts"))

VIEWS = (
    view(
        "rich",
        "SELECT accounts.aid, accounts.balance FROM public.accounts WHERE accounts.balance > 1000",
        ACCOUNTS.columns[:3:2],
    ),
    view("totals", "SELECT sum(accounts.balance) AS total FROM public.accounts", (column("total", "numeric"),)),
    view(
        "euro",
        "SELECT countries.code, countries.name FROM public.countries WHERE countries.code = 'de'::text",
        COUNTRIES.columns,
    ),
    view("my_tables", "SELECT pg_class.relname FROM pg_catalog.pg_class", (column("relname"),)),
)

SNAPSHOT = Snapshot(
    version=7,
    home_group="g1",
    groups=tuple(
        Group(name=name, instances=(Instance(name=f"{name}.1", node="n1", host="127.0.0.1", port=port),))
        for name, port in (("g1", 5501), ("g2", 5502))
    ),
    relations=(
        *(
            ACCOUNTS,
            ORDERS,
            ORDER_LINES,
            PAIRS,
            NAMES,
            NOTES,
            SECRETS,
            EVENTS,
            TICKETS,
            VISITS,
            USERS,
            READINGS,
            REGIONS,
        ),
        *(COUNTRIES, CURRENCIES, SETTINGS, AUDIT, ACCOUNTS_0, *VIEWS),
        *(
            sequence("tickets_id_seq"),
            sequence("visits_visit_id_seq", "g2"),
            sequence("currencies_id_seq"),
            sequence("free", "g2"),
        ),
    ),
    functions=(
        Function(schema="public", name="pay", kind="p", language="plpgsql", volatility="v", argument_count=1),
        Function(schema="public", name="tax", kind="f", language="sql", volatility="i", argument_count=1),
        Function(schema="public", name="touch", kind="f", language="plpgsql", volatility="v", argument_count=0),
    ),
)
