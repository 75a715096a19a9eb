"""OIDs of PostgreSQL's built-in types (pg_type.dat): equal on every server, as they are below FirstGenbkiObjectId."""

from __future__ import annotations

from typing import Final

BOOL: Final = 16
BYTEA: Final = 17
CHAR: Final = 18  # "char", one byte
NAME: Final = 19
INT8: Final = 20
INT2: Final = 21
INT4: Final = 23
REGPROC: Final = 24
TEXT: Final = 25
OID: Final = 26
TID: Final = 27
XID: Final = 28
CID: Final = 29
JSON: Final = 114
XML: Final = 142
POINT: Final = 600
CIDR: Final = 650
FLOAT4: Final = 700
FLOAT8: Final = 701
UNKNOWN: Final = 705
MONEY: Final = 790
MACADDR: Final = 829
INET: Final = 869
ACLITEM: Final = 1033
BPCHAR: Final = 1042  # character(n)
VARCHAR: Final = 1043
DATE: Final = 1082
TIME: Final = 1083
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184
INTERVAL: Final = 1186
TIMETZ: Final = 1266
BIT: Final = 1560
VARBIT: Final = 1562
NUMERIC: Final = 1700
REFCURSOR: Final = 1790
REGCLASS: Final = 2205
REGTYPE: Final = 2206
RECORD: Final = 2249
VOID: Final = 2278
UUID: Final = 2950
PG_LSN: Final = 3220
JSONB: Final = 3802
INT4RANGE: Final = 3904
XID8: Final = 5069

# Arrays
BOOL_ARRAY: Final = 1000
BYTEA_ARRAY: Final = 1001
NAME_ARRAY: Final = 1003
INT2_ARRAY: Final = 1005
INT4_ARRAY: Final = 1007
TEXT_ARRAY: Final = 1009
BPCHAR_ARRAY: Final = 1014
VARCHAR_ARRAY: Final = 1015
INT8_ARRAY: Final = 1016
FLOAT4_ARRAY: Final = 1021
FLOAT8_ARRAY: Final = 1022
OID_ARRAY: Final = 1028
TIMESTAMP_ARRAY: Final = 1115
DATE_ARRAY: Final = 1182
TIMESTAMPTZ_ARRAY: Final = 1185
NUMERIC_ARRAY: Final = 1231
UUID_ARRAY: Final = 2951
JSONB_ARRAY: Final = 3807

TEXT_FORMAT: Final = 0
BINARY_FORMAT: Final = 1
