"""One cluster for all tests of a session: it takes seconds to start."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Two workers with their scheduler, as somebody else would have started them."""
    distributed = pytest.importorskip("distributed")
    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", **options) as cluster:
        yield cluster.scheduler_address
