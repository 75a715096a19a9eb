from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lifecycle_tools import LocalCluster

from support.processes import sweep

MakeCluster = Callable[..., LocalCluster]


@pytest.fixture
def make_cluster(run_directory: Path) -> Iterator[MakeCluster]:
    """Makes `LocalCluster`s; whatever of them is left at the end of the test is killed."""
    made: list[LocalCluster] = []

    def make(**shape: int) -> LocalCluster:
        directory = run_directory / f"life-{uuid.uuid4().hex[:8]}"
        directory.mkdir()
        made.append(LocalCluster(directory / "data", **shape))
        return made[-1]

    yield make
    for cluster in made:
        sweep(cluster.data)


@pytest.fixture
def local(make_cluster: MakeCluster) -> LocalCluster:
    return make_cluster()
