"""`CopyJoin`: the tuples of several binary COPY streams, however their bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.core.errors import PgError
from hanse.engines.postgres.copy_join import HEADER, SIGNATURE, TRAILER, CopyJoin


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@given(
    st.lists(
        st.tuples(st.binary(max_size=40), st.binary(max_size=5), st.lists(st.integers(0, 1000), max_size=12)),
        min_size=1,
        max_size=4,
    )
)
def test_tuples_pass_as_they_are(sources: list[tuple[bytes, bytes, list[int]]]) -> None:
    join = CopyJoin()
    out = b""
    for tuples, extension, places in sources:
        header = SIGNATURE + bytes(4) + len(extension).to_bytes(4, "big") + extension
        join.begin_source()
        for chunk in cut(header + tuples + TRAILER, places):
            out += join.feed(chunk)
        join.end_source()
    assert out == b"".join(tuples for tuples, _, _ in sources)


@pytest.mark.parametrize("data", [b"", HEADER[:10], HEADER, HEADER + b"\0\1", HEADER + b"\0\1" + b"\xff"])
def test_a_source_that_was_cut_short_is_noticed(data: bytes) -> None:
    join = CopyJoin()
    join.begin_source()
    join.feed(data)
    with pytest.raises(PgError) as caught:
        join.end_source()
    assert caught.value.sqlstate == "22P04"


@pytest.mark.parametrize("data", [b"x" * 19, SIGNATURE + (1 << 16).to_bytes(4, "big") + bytes(4)])
def test_something_else_is_refused(data: bytes) -> None:
    join = CopyJoin()
    join.begin_source()
    with pytest.raises(PgError) as caught:
        join.feed(data)
    assert caught.value.sqlstate == "22P04"
