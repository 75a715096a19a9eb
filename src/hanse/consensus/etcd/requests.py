"""What is asked of etcd's API v3, in the JSON of its gateway, and what its answers mean. No I/O.

Keys and values are base64, 64-bit numbers text, and what is zero or empty is left out
(https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/). A transaction is its conditions, all of which must hold, and what is
done then; it is one revision of the store, and linearizable also where it only reads.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A key as it is now. `revision`: of its last change."""

    key: str
    value: bytes
    revision: int
    lease: int


def _text(value: str | bytes) -> str:
    return b64encode(value.encode() if isinstance(value, str) else value).decode("ascii")


# --- conditions


def is_value(key: str, value: str) -> Json:
    """Never of a key that is not there."""
    return {"key": _text(key), "target": "VALUE", "result": "EQUAL", "value": _text(value)}


def is_unchanged(key: str, revision: int) -> Json:
    """Since `revision`; 0: the key is not there."""
    return {"key": _text(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


# --- steps


def put(key: str, value: str | bytes, *, lease: int = 0) -> Json:
    return {"request_put": {"key": _text(key), "value": _text(value), "lease": str(lease)}}


def get(key: str) -> Json:
    return {"request_range": {"key": _text(key)}}


def get_range(first: str, end: str, *, limit: int) -> Json:
    """Keys from `first` to before `end`, in their order."""
    return {"request_range": {"key": _text(first), "range_end": _text(end), "limit": str(limit)}}


def delete_range(first: str, end: str) -> Json:
    return {"request_delete_range": {"key": _text(first), "range_end": _text(end)}}


def transaction(conditions: list[Json], steps: list[Json]) -> Json:
    return {"compare": conditions, "success": steps}


# --- answers


def was_done(answer: Json) -> bool:
    return bool(answer.get("succeeded", False))


def found(answer: Json) -> list[list[Pair]]:
    """Of a transaction's `get` and `get_range`, in their order."""
    ranges = (each["response_range"] for each in answer.get("responses", ()))
    return [[_pair(each) for each in one.get("kvs", ())] for one in ranges]


def _pair(kv: Json) -> Pair:
    return Pair(
        key=b64decode(kv["key"]).decode(),
        value=b64decode(kv.get("value", "")),
        revision=int(kv["mod_revision"]),
        lease=int(kv.get("lease", 0)),
    )
