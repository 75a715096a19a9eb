from __future__ import annotations

import numpy as np
import pytest

from hanse.catalog import keys
from hanse.catalog.model import Bound, Strategy
from hanse.catalog.partition_hash import hash_bytes, hash_int, partition_index, remainders
from hanse.catalog.routing import NO_SHARD, router_for
from support.sharded import hashed, sharded


def span(lower: str | None, upper: str | None) -> Bound:
    return Bound(lower=(lower,), upper=(upper,))


def test_the_hash_is_postgresqls() -> None:
    # hashint4extended(1, 8816678312871386365) … read from a PostgreSQL 16
    assert hash_int(1) == 0x52D621058124E6D5
    assert hash_bytes(b"abc") == 0x325C02D16F43E1C2


def test_hot_path_equals_the_general_path() -> None:
    for type_oid in (keys.INT2, keys.INT4, keys.INT8, keys.DATE, keys.TIMESTAMP, keys.BOOL, keys.CHAR):
        router = router_for(hashed([type_oid], 60))
        for value in (0, 1, -1, 127, 200, 255, -(1 << 31), (1 << 32) - 1, 1 << 32, -(1 << 32), -(1 << 32) - 1, 1 << 62):
            expected = partition_index((value,), (type_oid,), 60)
            assert router.shard_of_int(value) == router.shard_of((value,)) == router.shard_of_one(value) == expected
        assert router.shard_of_one(None) == router.shard_of((None,)) == 0


def test_mixed_moduli_and_a_missing_remainder() -> None:
    bounds = [Bound(modulus=2, remainder=0), Bound(modulus=4, remainder=1), Bound(modulus=8, remainder=3)]
    relation = sharded(Strategy.HASH, [keys.INT8], bounds)
    router = router_for(relation)
    for value in range(-500, 500):
        remainder = partition_index((value,), (keys.INT8,), 8)
        expected = 0 if remainder % 2 == 0 else 1 if remainder % 4 == 1 else 2 if remainder == 3 else None
        assert router.shard_of((value,)) == router.shard_of_int(value) == expected
    found = router.shards_of_columns([np.arange(-500, 500)]).tolist()
    assert set(found) == {0, 1, 2, NO_SHARD}


def test_hash_of_columns_with_nulls() -> None:
    columns = [[1, None, 3, None], [b"a", b"", None, None]]
    expected = [partition_index(key, (keys.INT4, keys.TEXT), 7) for key in zip(*columns, strict=True)]
    assert remainders(columns, (keys.INT4, keys.TEXT), 7).tolist() == expected


def test_range_of_one_column() -> None:
    router = router_for(sharded(Strategy.RANGE, [keys.INT4], [span("10", "20"), span(None, "0"), span("30", None)]))
    expected = {-1: 1, 0: None, 9: None, 10: 0, 19: 0, 20: None, 30: 2, 1 << 40: 2}
    assert {value: router.shard_of((value,)) for value in expected} == expected
    array = router.shards_of_columns([np.array(list(expected))]).tolist()
    assert array == [NO_SHARD if index is None else index for index in expected.values()]
    assert router.shard_of((None,)) is None


def test_range_with_default() -> None:
    router = router_for(sharded(Strategy.RANGE, [keys.INT4], [Bound(default=True), span("0", "10")]))
    assert [router.shard_of((value,)) for value in (-1, 0, 9, 10, None)] == [0, 1, 1, 0, 0]
    assert router.shards_of_columns([np.array([-1, 0, 10])]).tolist() == [0, 1, 0]
    assert router.shards_between(3, 5) == {0, 1}
    assert router_for(sharded(Strategy.RANGE, [keys.INT4], [Bound(default=True)])).shards_of_columns(
        [np.array([1])]
    ).tolist() == [0]


def test_range_of_several_columns() -> None:
    bounds = [
        Bound(lower=("1", None), upper=("2", "b")),
        Bound(lower=("2", "b"), upper=("2", None)),
        Bound(lower=(None, None), upper=("1", None)),
    ]
    router = router_for(sharded(Strategy.RANGE, [keys.INT4, keys.TEXT], bounds))
    # an upper (1, MAXVALUE) includes every (1, x); a lower (1, MINVALUE) begins below them all: these two overlap
    assert router.shard_of((2, b"a")) == 0
    assert router.shard_of((2, b"b")) == 1
    assert router.shard_of((2, b"zzz")) == 1
    assert router.shard_of((3, b"a")) is None
    assert router.shard_of((2, None)) is None
    assert router.shards_between(2, 2) == {0, 1}
    assert router.shards_between(3, None) == set()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((5, 15), {0, 1}),
        ((5, 10), {0, 1}),
        ((5, 10, True, False), {0}),
        ((20, None), set()),
        ((None, 0), {0}),
        ((None, 0, True, False), set()),
        ((19, 100), {1}),
        ((None, None), {0, 1}),
    ],
)
def test_range_between(arguments: tuple[int, int], expected: set[int]) -> None:
    router = router_for(sharded(Strategy.RANGE, [keys.INT4], [span("0", "10"), span("10", "20")]))
    assert router.shards_between(*arguments) == expected


def test_list() -> None:
    bounds = [Bound(values=("a", None)), Bound(values=("b", "c"))]
    router = router_for(sharded(Strategy.LIST, [keys.TEXT], bounds))
    assert [router.shard_of((v,)) for v in (b"a", b"b", b"c", b"d", None)] == [0, 1, 1, None, 0]
    assert [router.shard_of_one(v) for v in (b"a", b"b", b"c", b"d", None)] == [0, 1, 1, None, 0]
    assert router.shards_of_columns([[b"a", b"b", b"d", None]]).tolist() == [0, 1, NO_SHARD, 0]
    assert router.shards_between(b"b", None) == {1}
    assert router.shards_between(None, b"a", True, False) == set()
    assert router.shards_between(None, None) == {0, 1}
    with_default = router_for(sharded(Strategy.LIST, [keys.TEXT], [*bounds, Bound(default=True)]))
    assert with_default.shard_of((b"d",)) == 2
    assert with_default.shards_between(b"b", b"b") == {1, 2}


def test_texts_are_ordered_as_bytes() -> None:
    router = router_for(sharded(Strategy.RANGE, [keys.TEXT], [span("a", "é"), span("é", None)]))
    assert [router.shard_of((text.encode(),)) for text in ("Z", "a", "zz", "é", "漢")] == [None, 0, 0, 1, 1]


def test_the_router_is_made_once() -> None:
    relation = hashed([keys.INT4], 4)
    assert router_for(relation) is router_for(relation)
    assert router_for(relation).group_of(3) == "g2"
