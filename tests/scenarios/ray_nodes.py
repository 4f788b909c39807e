"""A real Ray cluster on this machine: several raylets, each a node of its own, which may be killed."""

from __future__ import annotations

import gc
import os
import warnings
from importlib.util import find_spec
from typing import Any

import pytest

WHY = "Ray is not among the test tools, for it is large: pip install '.[ray]'"

MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason=WHY),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
"""Of tests in whose process Ray is: it leaves files and threads behind."""


class Nodes:
    """A cluster: a head that computes nothing, and nodes of one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self.cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes: list[Any] = []
        self.fill()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, **more: Any) -> Any:
        node = self.cluster.add_node(num_cpus=1, wait=True, **more)
        self.nodes.append(node)
        return node

    def fill(self) -> None:
        while len(self.nodes) < 2:
            self.add()

    def kill(self, node: Any | None = None, *, told: bool = False) -> None:
        """As when its power goes; ``told``: as when a scheduler ends its job, with SIGTERM first."""
        node = node or self.nodes[0]
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=told)

    def close(self) -> None:
        """End all nodes. Ray leaves files open in circles of objects, which pytest would fail for at its end."""
        self.cluster.shutdown()
        self.nodes.clear()
        self.cluster = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
