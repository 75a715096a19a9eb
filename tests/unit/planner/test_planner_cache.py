from __future__ import annotations

import pytest

from hanse.planner.cache import PlanCache
from hanse.planner.plan import Forward, Planned


def planned(*, template_safe: bool = True, frozen: tuple[int, ...] = ()) -> Planned:
    return Planned(plan=Forward(place="g1"), template_safe=template_safe, frozen=frozen)


def test_a_template_serves_all_its_texts() -> None:
    cache, plan = PlanCache(), planned()
    cache.store(b"SELECT * FROM t WHERE a = 1", plan)
    assert cache.lookup(b"SELECT * FROM t WHERE a = 'x'") == (plan, [b"SELECT * FROM t WHERE a = ", b"'x'", b""])
    assert cache.lookup(b"SELECT * FROM t WHERE b = 1") is None


def test_an_exact_plan_serves_its_text_only() -> None:
    cache, plan = PlanCache(), planned(template_safe=False)
    cache.store(b"SELECT 1", plan)
    assert cache.lookup(b"SELECT 1") == (plan, [b"SELECT ", b"1", b""])
    assert cache.lookup(b"SELECT 2") is None


@pytest.mark.parametrize("text", [b"SELECT 1 -- c", b"SELECT E'a'", b"SELECT $$a$$, 1"])
def test_a_text_that_is_not_plain_is_kept_whole(text: bytes) -> None:
    cache, plan = PlanCache(), planned()
    cache.store(text, plan)
    assert cache.lookup(text) == (plan, [text])
    assert cache.lookup(text.replace(b"1", b"2").replace(b"a", b"b")) is None


def test_a_text_without_literals() -> None:
    cache, plan = PlanCache(), planned()
    cache.store(b"SELECT $1", plan)
    assert cache.lookup(b"SELECT $1") == (plan, [b"SELECT $1"])


def test_frozen_literals_are_compared() -> None:
    cache, first, second = PlanCache(), planned(frozen=(1,)), planned(frozen=(1,))
    cache.store(b"SELECT 1, 'a'", first)
    cache.store(b"SELECT 1, 'b'", second)
    assert cache.lookup(b"SELECT 7, 'a'") == (first, [b"SELECT ", b"7", b", ", b"'a'", b""])
    found = cache.lookup(b"SELECT 7, 'b'")
    assert found is not None and found[0] is second
    assert cache.lookup(b"SELECT 7, 'c'") is None


def test_it_is_bounded_and_keeps_what_is_used() -> None:
    cache, kept = PlanCache(entries_max=8), planned()
    cache.store(b"SELECT a FROM kept WHERE x = 1", kept)
    cache.store(b"SELECT kept", planned())
    for number in range(100):
        cache.store(b"SELECT a%d FROM t WHERE x = 1" % number, planned())
        found = cache.lookup(b"SELECT a FROM kept WHERE x = 2")
        assert found is not None and found[0] is kept
        assert cache.lookup(b"SELECT kept") is not None
        assert len(cache) <= 10
    assert cache.lookup(b"SELECT a5 FROM t WHERE x = 1") is None
