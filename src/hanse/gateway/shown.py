"""Errors as one server would have told them: a table's name for its shard's, positions in the text that the client wrote.

A group's server speaks of what it has: shard `person_p1`, its index `person_p1_pkey`, and a place in the text that named the
shard. The client knows `person`, `person_pkey` and his own text; applications look at these names to tell one violation
from another. So, before an error leaves:

- the shard's name becomes the table's, in the fields and in the sentences, wherever it stands as a name (in quotes, or behind
  the word for its kind); values of the client's are never touched;
- a constraint that a shard has from its table (`person_p1_pkey`, `letter_person_id_fkey1`) becomes the table's;
- the position is moved back, or taken out where it lies in what we wrote.

Only shards that Hanse has named itself are meant. PostgreSQL shows the names of partitions that a client made and named, and
of any that the client's text mentions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..catalog.ddl.shards import shard_name
from ..catalog.model import Kind, Relation, Snapshot, Strategy, UniqueKey
from ..core.errors import PgError
from ..core.ids import quote_identifier

_SHARD = re.compile(r"\w+_p\d+\b")
_KEY = re.compile(r"Key \((.*?)\)=\(", re.DOTALL)
_NAMING = r"(?:(?<=\")|(?<=table )|(?<=relation )|(?<=column )){}(?=\"|\.|$|\s)"
_STEM_MAX = 25  # so much of a long table name, at least, PostgreSQL leaves in the names it makes (makeObjectName)
_DEPENDENTS = "2BP01"  # dependent_objects_still_exist: a line of the detail for each
# Classes that speak of relations. In others a word like a shard's is the client's own value.
_CLASSES = ("23", "2B", "40", "42", "44", "55")


def as_one_table(error: PgError, snapshot: Snapshot, text: bytes = b"") -> PgError:
    """The same error with the names that the client knows. `text`: what he wrote, where that is at hand."""
    if error.sqlstate[:2] in _CLASSES:
        names = _shards_named(error, snapshot, text.decode("utf-8", "replace"))
        fields = error.fields
        constraint = fields.get("n")
        table = snapshot.relation_by_identity.get(
            (fields.get("s", ""), names.get(fields.get("t", ""), fields.get("t", "")))
        )
        if constraint is not None and table is not None and table.kind is Kind.SHARDED:
            known = _constraint(constraint, table, fields.get("t", ""), error.detail)
            if known != constraint:
                names[constraint] = fields["n"] = known
        if "t" in fields:
            fields["t"] = names.get(fields["t"], fields["t"])
        _rename(error, names)
    return error


def _shards_named(error: PgError, snapshot: Snapshot, text: str) -> dict[str, str]:
    """Names of shards that occur in the error → their tables' names."""
    schema, table = error.fields.get("s"), error.fields.get("t")
    if schema is not None and table is not None:
        found = {table: _table_of(snapshot.relation_by_identity.get((schema, table)), snapshot)}
    else:
        sentences = f"{error.message} {error.detail or ''}"
        candidates = {
            name: [snapshot.relation_by_identity.get((schema, name)) for schema in snapshot.schemas]
            for name in set(_SHARD.findall(sentences))
        }
        found = {
            name: next((t for r in relations if (t := _table_of(r, snapshot)) is not None), None)
            for name, relations in candidates.items()
        }
    if table is not None and error.sqlstate == "23503":  # it speaks of two tables, and names only one in its fields
        for name in _SHARD.findall(error.message):
            found.setdefault(name, _table_of(snapshot.relation_by_identity.get((schema or "", name)), snapshot))
    return {name: other for name, other in found.items() if other is not None and name not in text}


def _table_of(relation: Relation | None, snapshot: Snapshot) -> str | None:
    """The name of the table whose shard this is, if we have named the shard."""
    if relation is None or relation.kind is not Kind.PARTITION or relation.parent is None:
        return None
    table = snapshot.relation_by_identity.get(relation.parent)
    number = relation.name.rpartition("_p")[2]
    if table is None or table.strategy is not Strategy.HASH or not number.isdigit():
        return None
    return table.name if relation.name == shard_name(table.name, int(number)) else None


def _constraint(name: str, table: Relation, shard: str, detail: str | None) -> str:
    """The table's constraint or unique index of which `name` is a shard's, or `name`."""
    keys = {key.name: key for key in table.unique_keys}
    foreign = {key.name for key in table.foreign_keys}
    if name in keys or name in foreign:
        return name
    base = name.rstrip("0123456789")
    if base in foreign:  # PostgreSQL numbers a foreign key's copies for the shards that it refers to
        return base
    if not name.startswith(shard[:_STEM_MAX]):  # named by a client, on the shard itself
        return name
    found = _fitting(list(keys.values()), base.endswith("_pkey"), detail)
    return found.name if found is not None else name


def _fitting(keys: list[UniqueKey], primary: bool, detail: str | None) -> UniqueKey | None:
    match = _KEY.match(detail or "")
    fitting = [
        key
        for key in keys
        if key.primary is primary
        and (match is None or ", ".join(quote_identifier(column) for column in key.columns) == match[1])
    ]
    return fitting[0] if len(fitting) == 1 else None


def _rename(error: PgError, names: dict[str, str]) -> None:
    if not names:
        return
    for old, new in names.items():
        pattern = re.compile(_NAMING.format(re.escape(old)))
        error.message = pattern.sub(lambda _: new, error.message)  # noqa: B023
        if error.detail is not None and not error.detail.startswith("Failing row"):
            head, equals, values = error.detail.partition(")=(")
            tail = values
            if equals and (at := values.rfind(") ")) >= 0:  # the sentence goes on behind the key's values
                tail = values[:at] + pattern.sub(lambda _: new, values[at:])  # noqa: B023
            elif not equals:
                head = pattern.sub(lambda _: new, head)  # noqa: B023
            error.detail = head + equals + tail
            if error.sqlstate == _DEPENDENTS:  # the table has its line already
                error.detail = "\n".join(dict.fromkeys(error.detail.split("\n")))
        if "W" in error.fields:
            error.fields["W"] = pattern.sub(lambda _: new, error.fields["W"])  # noqa: B023


# --- positions -------------------------------------------------------------------------------------------------------


def moved_back(position: int, sent: Sequence[bytes], parts: Sequence[bytes]) -> int | None:
    """Where a position in the sent text (characters, from 1) lies in the client's. Both are split alike; None: in neither."""
    rest, start = position - 1, 0
    for ours, theirs in zip(sent, parts, strict=True):
        new, old = ours.decode(), theirs.decode()
        if rest < len(new):
            inside = _inside(rest, new, old)
            return None if inside is None else start + inside + 1
        rest -= len(new)
        start += len(old)
    return None


def _inside(offset: int, new: str, old: str) -> int | None:
    if new == old:
        return offset
    if new.startswith("$"):  # a literal that was sent as a parameter
        return 0
    common = next((i for i, (a, b) in enumerate(zip(new, old, strict=False)) if a != b), min(len(new), len(old)))
    if offset < common:
        return offset
    behind = len(new) - offset  # characters up to the end of the piece
    return len(old) - behind if behind <= len(old) and new[-behind:] == old[-behind:] else None
