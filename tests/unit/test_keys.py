from __future__ import annotations

import pytest

from hanse.catalog import keys
from hanse.catalog.keys import NotEvaluable, from_binary, from_literal, from_parameter, from_text, stored, why_not_a_key


@pytest.mark.parametrize(
    ("type_oid", "text", "value"),
    [
        (keys.INT4, b"5", 5),
        (keys.INT4, b" +5\n", 5),
        (keys.INT4, b"-2147483648", -(1 << 31)),
        (keys.INT8, b"0000000000000000005", 5),
        (keys.TEXT, b" x ", b" x "),
        (keys.BPCHAR, b" x  ", b" x"),
        (keys.BOOL, b"TRUE", 1),
        (keys.BYTEA, b"\\xFf", b"\xff"),
        (keys.UUID, b"00000000-0000-0000-0000-0000000000FF", bytes(15) + b"\xff"),
        (keys.DATE, b"1999-12-31", -1),
        (keys.DATE, b"infinity", (1 << 31) - 1),
        (keys.TIMESTAMP, b"2000-01-01 00:00:00.000001", 1),
        (keys.TIMESTAMP, b"2000-01-02", 86_400_000_000),
        (keys.TIMESTAMPTZ, b"2000-01-01 01:00:00+01", 0),
        (keys.TIMESTAMPTZ, b"1999-12-31 20:30:00-03:30", 0),
    ],
)
def test_text_form(type_oid: int, text: bytes, value: object) -> None:
    assert from_text(type_oid, text) == value


@pytest.mark.parametrize(
    ("type_oid", "text"),
    [
        (keys.INT4, b"1_000"),
        (keys.INT4, b"0x1F"),
        (keys.INT4, b"2147483648"),
        (keys.INT4, b""),
        (keys.INT4, b"5.0"),
        (keys.INT4, b"- 5"),
        (keys.INT8, b"9" * 5000),
        (keys.OID, b"-1"),
        (keys.OID, b"010"),  # octal
        (keys.TEXT, b"\xff"),
        (keys.TEXT, b"a\0b"),
        (keys.DATE, b"01/08/1999"),
        (keys.DATE, b"99-01-08"),
        (keys.DATE, b"2023-02-29"),
        (keys.DATE, b"0000-01-01"),
        (keys.TIMESTAMP, b"2000-01-01 00:00:00+00"),
        (keys.TIMESTAMP, b"2000-01-01 00:00:00.1234567"),
        (keys.TIMESTAMP, b"2000-01-01 00:00:60"),
        (keys.TIMESTAMPTZ, b"2000-01-01 00:00:00"),
        (keys.TIMESTAMPTZ, b"2000-01-01 00:00:00 Europe/Berlin"),
        (keys.UUID, b"{00000000-0000-0000-0000-0000000000ff}"),
        (keys.BYTEA, b"\\000"),
        (1700, b"1"),
    ],
)
def test_what_is_not_certain_is_left_to_postgresql(type_oid: int, text: bytes) -> None:
    with pytest.raises(NotEvaluable):
        from_text(type_oid, text)


def test_literals() -> None:
    assert from_literal(b"123", keys.INT4) == 123
    assert from_literal(b"-5", keys.INT4) == -5
    assert from_literal(b"'it''s'", keys.TEXT) == b"it's"
    assert from_literal(b"'5'", keys.INT4) == 5
    assert from_literal(b"NuLL", keys.TEXT) is None
    assert from_literal(b"False", keys.BOOL) == 0


@pytest.mark.parametrize(
    ("token", "type_oid"),
    [
        (b"1.0", keys.INT4),
        (b"5000000000", keys.INT4),
        (b"9223372036854775808", keys.INT8),
        (b"5", keys.TEXT),
        (b"1", keys.BOOL),
        (b"E'a'", keys.TEXT),
        (b"$$a$$", keys.TEXT),
        (b"'a' 'b'", keys.TEXT),
        (b"1_000", keys.INT4),
        (b"0x1F", keys.INT4),
        (b"-1", keys.OID),
        (b"2024", keys.DATE),
        (b"'", keys.TEXT),
        (b"'''", keys.TEXT),
    ],
)
def test_literals_that_postgresql_must_read(token: bytes, type_oid: int) -> None:
    with pytest.raises(NotEvaluable):
        from_literal(token, type_oid)


def test_binary_form() -> None:
    assert from_binary(keys.INT8, keys.INT4, (5).to_bytes(8, "big")) == 5
    assert from_binary(keys.INT2, keys.INT8, b"\xff\xff") == -1
    assert from_binary(keys.VARCHAR, keys.TEXT, "é".encode()) == "é".encode()
    assert from_binary(0, keys.INT4, b"\0\0\0\x05") == 5
    assert from_binary(keys.CHAR, keys.CHAR, b"\xff") == 255


@pytest.mark.parametrize(
    ("data_type", "key_type", "data"),
    [
        (keys.INT8, keys.INT4, (1 << 40).to_bytes(8, "big")),
        (keys.INT4, keys.INT4, b"\0"),
        (keys.TEXT, keys.BPCHAR, b"a "),
        (keys.TEXT, keys.INT4, b"5"),
        (keys.DATE, keys.TIMESTAMP, bytes(4)),
        (keys.TEXT, keys.TEXT, b"\xff"),
        (701, keys.INT4, bytes(8)),
    ],
)
def test_binary_of_another_type(data_type: int, key_type: int, data: bytes) -> None:
    with pytest.raises(NotEvaluable):
        from_binary(data_type, key_type, data)


def test_a_declared_type_decides_how_a_text_parameter_is_read() -> None:
    assert from_parameter(keys.INT8, keys.INT4, 0, b"5") == 5
    with pytest.raises(NotEvaluable):
        from_parameter(keys.TEXT, keys.INT4, 0, b"5")


def test_type_modifiers_change_what_is_stored() -> None:
    assert stored("ééé ".encode(), keys.VARCHAR, 3) == "ééé".encode()
    assert stored(1_500_000, keys.TIMESTAMP, 0) == 2_000_000
    assert stored(-1_500_000, keys.TIMESTAMP, 0) == -2_000_000
    assert stored(None, keys.TIMESTAMP, 0) is None
    assert keys.modifier_of(keys.VARCHAR, "character varying(20)") == 20
    assert keys.modifier_of(keys.TIMESTAMPTZ, "timestamp(3) with time zone") == 3
    assert keys.modifier_of(keys.BPCHAR, "character(3)") is None


def test_key_types() -> None:
    assert why_not_a_key(keys.INT4, "hash") is None
    assert why_not_a_key(1700, "hash") is not None
    assert "nondeterministic" in (why_not_a_key(keys.TEXT, "list", False) or "")
    assert "collation C" in (why_not_a_key(keys.TEXT, "range", collation_is_c=False) or "")
