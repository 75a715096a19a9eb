"""Who led when everything ended in order, and whether it may begin again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from hanse.agent.resumption import begin_again
from hanse.engines.postgres.group_files import leave_led_mark, take_led_mark
from hanse.engines.postgres.instance import Instance
from hanse.replication.asking import Heard, Reply
from hanse.replication.failover import Refusal
from hanse.replication.pledge import Heartbeat, Pledge

PLEDGE = Pledge(group="g1", term=4, attempt="x", leader="a")


class Server:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started = False

    def bring_up(self) -> None:
        self.started = True


class Others:
    """Members b and c, who answer this, or do not answer."""

    names = frozenset(("a", "b", "c"))

    def __init__(self, answers: Iterable[Reply | OSError]) -> None:
        self.answers = iter(answers)

    async def ask(self, name: str, message: Any, timeout_s: float) -> Reply:
        assert name != "a"
        assert message == Heartbeat(4, "x", "a"), "nobody is asked for a lease"
        answer = next(self.answers)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("mark", "pledge", "answers", "begins"),
    [
        (4, PLEDGE, (OSError(), OSError()), True),  # they are being started, too
        (4, PLEDGE, (Heard("b", 4), OSError()), True),
        (4, PLEDGE, (OSError(), Refusal("c", 5)), False),
        (3, PLEDGE, (), False),  # it did not serve in this term
        (None, PLEDGE, (), False),  # it did not end in order, or did not serve
        (4, Pledge(group="g1", term=4, attempt="x", leader="b"), (), False),
        (4, Pledge(group="g1", term=5, attempt="y"), (), False),
    ],
)
async def test_who_begins_again(
    mark: int | None, pledge: Pledge, answers: tuple[Reply | OSError, ...], begins: bool, tmp_path: Path
) -> None:
    server = Server(tmp_path / "g1")
    instance = cast(Instance, server)
    if mark is not None:
        leave_led_mark(instance, mark)
    assert await begin_again("a", instance, pledge, cast(Any, Others(answers))) is begins
    assert server.started is begins
    assert take_led_mark(instance) is None, "a mark counts once"
