from __future__ import annotations

import pytest

from hanse.catalog import keys
from hanse.catalog.model import Bound, Relation, Strategy
from hanse.catalog.routing import router_for
from hanse.planner.plan import AnyOf, Arithmetic, Asked, Between, Cast, Constant, Equal, Literal, Param, Prune, Value
from hanse.planner.values import (
    NO_PARAMETERS,
    NO_SHARD,
    NotEvaluable,
    Parameters,
    compile_equal,
    compile_insert,
    evaluate,
    shards_for,
)
from support.sharded import hashed, sharded

INT8_TABLE = hashed([keys.INT8], 16)
INT4_TABLE = hashed([keys.INT4], 16)
TEXT_TABLE = hashed([keys.TEXT], 16)
RANGES = sharded(Strategy.RANGE, [keys.INT4], [Bound(lower=(str(n),), upper=(str(n + 10),)) for n in (0, 10, 20)])


def shard(relation: Relation, *key: int | bytes | None) -> int | None:
    return router_for(relation).shard_of(key)


def one(value: Value) -> Equal:
    return Equal((value,))


@pytest.mark.parametrize(
    ("relation", "token", "key"),
    [
        (INT8_TABLE, b"5", 5),
        (INT8_TABLE, b"-5", -5),
        (INT8_TABLE, b"'5'", 5),
        (INT8_TABLE, b"9223372036854775807", (1 << 63) - 1),
        (INT4_TABLE, b"2147483647", (1 << 31) - 1),
        (TEXT_TABLE, b"'abc'", b"abc"),
        (TEXT_TABLE, b"'it''s'", b"it's"),
        (TEXT_TABLE, "'é'".encode(), "é".encode()),
        (hashed([keys.BPCHAR], 16), b"'abc  '", b"abc"),
        (hashed([keys.VARCHAR], 16, type_names=["character varying(3)"]), b"'abc  '", b"abc"),
        (hashed([keys.DATE], 16), b"'2000-01-02'", 1),
    ],
)
def test_a_literal_finds_its_shard(relation: Relation, token: bytes, key: int | bytes) -> None:
    for compiled in (compile_equal, compile_insert):
        assert compiled(one(Literal(1)), relation)([b"0", token], NO_PARAMETERS) == shard(relation, key)


@pytest.mark.parametrize(
    ("relation", "token"),
    [
        (INT4_TABLE, b"5000000000"),
        (INT4_TABLE, b"1.0"),
        (INT4_TABLE, b"1_0"),
        (TEXT_TABLE, b"5"),
        (TEXT_TABLE, b"E'a'"),
    ],
)
def test_a_literal_that_only_postgresql_can_read(relation: Relation, token: bytes) -> None:
    with pytest.raises(NotEvaluable):
        compile_equal(one(Literal(0)), relation)([token], NO_PARAMETERS)


def test_null_matches_nothing_but_can_be_stored() -> None:
    for relation in (INT8_TABLE, TEXT_TABLE):
        for value, literals, parameters in (
            (Literal(0), [b"NULL"], NO_PARAMETERS),
            (Param(0), [], Parameters([None])),
            (Constant(None), [], NO_PARAMETERS),
        ):
            assert compile_equal(one(value), relation)(literals, parameters) == NO_SHARD
            assert compile_insert(one(value), relation)(literals, parameters) == shard(relation, None) == 0
            assert shards_for(Prune(("public", "t"), one(value)), relation, literals, parameters) == frozenset()


@pytest.mark.parametrize(
    ("relation", "parameters", "key"),
    [
        (INT8_TABLE, Parameters([b"77"]), 77),
        (INT8_TABLE, Parameters([b"-77"], [0], [keys.INT4]), -77),
        (INT8_TABLE, Parameters([(77).to_bytes(8, "big")], [1], [keys.INT8]), 77),
        (INT8_TABLE, Parameters([(77).to_bytes(8, "big")], [1]), 77),
        (INT8_TABLE, Parameters([b"\xff\xfe"], [1], [keys.INT2]), -2),
        (INT4_TABLE, Parameters([(77).to_bytes(8, "big")], [1], [keys.INT8]), 77),
        (TEXT_TABLE, Parameters([b"x"]), b"x"),
        (TEXT_TABLE, Parameters(["é".encode()], [1], [keys.VARCHAR]), "é".encode()),
    ],
)
def test_a_parameter_finds_its_shard(relation: Relation, parameters: Parameters, key: int | bytes) -> None:
    assert compile_equal(one(Param(0)), relation)([], parameters) == shard(relation, key)


@pytest.mark.parametrize(
    ("relation", "parameters"),
    [
        (INT4_TABLE, Parameters([(1 << 40).to_bytes(8, "big")], [1], [keys.INT8])),
        (INT4_TABLE, Parameters([b"\0\0"], [1])),
        (INT4_TABLE, Parameters([b"1.0"], [0], [1700])),
        (TEXT_TABLE, Parameters([b"\xff"])),
        (TEXT_TABLE, Parameters([b"a "], [0], [keys.BPCHAR])),
    ],
)
def test_a_parameter_that_only_postgresql_can_read(relation: Relation, parameters: Parameters) -> None:
    with pytest.raises(NotEvaluable):
        compile_equal(one(Param(0)), relation)([], parameters)


def test_formats_are_none_one_or_each() -> None:
    binary = (5).to_bytes(8, "big")
    look_up = compile_equal(one(Param(1)), INT8_TABLE)
    assert look_up([], Parameters([b"0", b"5"])) == shard(INT8_TABLE, 5)
    assert look_up([], Parameters([binary, binary], [1], [20, 20])) == shard(INT8_TABLE, 5)
    assert look_up([], Parameters([b"0", binary], [0, 1], [20, 20])) == shard(INT8_TABLE, 5)


def test_keys_of_several_columns() -> None:
    relation = hashed([keys.INT8, keys.TEXT], 16)
    equal = Equal((Param(0), Literal(0)))
    assert compile_equal(equal, relation)([b"'x'"], Parameters([b"5"])) == shard(relation, 5, b"x")
    assert compile_equal(equal, relation)([b"'x'"], Parameters([None])) == NO_SHARD
    assert compile_insert(equal, relation)([b"'x'"], Parameters([None])) == shard(relation, None, b"x")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Arithmetic("+", Literal(0), Literal(1)), 12),
        (Arithmetic("-", Literal(0), Literal(1)), -2),
        (Arithmetic("*", Literal(0), Param(0)), 15),
        (Arithmetic("+", Cast(keys.INT8, Literal(2)), Literal(2)), 4_000_000_000),
        (Cast(keys.INT8, Literal(3)), 44),
        (Cast(keys.INT2, Literal(0)), 5),
        (Cast(keys.INT8, Param(1)), 6),
        (Arithmetic("+", Constant(1 << 40), Literal(0)), (1 << 40) + 5),
    ],
)
def test_integer_expressions(value: Value, expected: int) -> None:
    parameters = Parameters([b"3", b"6"], [], [keys.INT4, 0])
    assert evaluate(value, keys.INT8, [b"5", b"7", b"2000000000", b"'44'"], parameters) == expected


@pytest.mark.parametrize(
    "value",
    [
        Arithmetic("+", Literal(2), Literal(2)),  # int4 + int4 overflows
        Arithmetic("*", Cast(keys.INT2, Literal(4)), Cast(keys.INT2, Literal(4))),
        Cast(keys.INT2, Literal(2)),
        Arithmetic("/", Literal(0), Literal(1)),
        Arithmetic("+", Param(0), Literal(0)),  # of undeclared type
        Cast(keys.TEXT, Literal(0)),
        Cast(keys.BPCHAR, Literal(3)),
        Asked("now()"),
    ],
)
def test_expressions_left_to_postgresql(value: Value) -> None:
    with pytest.raises(NotEvaluable):
        evaluate(value, keys.INT8, [b"5", b"7", b"2000000000", b"'44'", b"30000"], Parameters([b"1"]))


def prune(condition: Equal | AnyOf | Between | None) -> Prune:
    return Prune(("public", "t"), condition)


def test_shards_for() -> None:
    parameters = Parameters([b"5", None, b"bad"])
    literals = [b"5", b"25", b"99"]

    def found(condition: Equal | AnyOf | Between | None) -> frozenset[int] | None:
        return shards_for(prune(condition), RANGES, literals, parameters)

    assert found(None) == {0, 1, 2}
    assert found(one(Literal(0))) == {0}
    assert found(one(Literal(2))) == frozenset()
    assert found(AnyOf((one(Literal(0)), one(Literal(1)), one(Literal(2)), one(Param(1))))) == {0, 2}
    assert found(AnyOf((one(Literal(0)), one(Param(2))))) is None
    assert found(Between(Param(0), None)) == {0, 1, 2}
    assert found(Between(Literal(1), None)) == {2}
    assert found(Between(None, Literal(0))) == {0}
    assert found(Between(None, Param(1))) == frozenset()
    assert found(Between(None, Param(2))) is None
