"""pytest plugin: the fixture ``robustness`` runs a scenario on your model and data, once, and answers assertions.

.. code-block:: python

    def test_holds(robustness):
        assert robustness("noise.yaml").accuracy(sigma=0.5).lower > 0.8

Everything heavy is imported when the fixture is first asked for: a session that does not use it does not import torch.
Like the command line, this is a composition root, and may know ``scenarios``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from autoflip_secure.scenarios.testing.robustness import Robustness


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--robustness-cache`` and ``--robustness-workers``."""
    group = parser.getgroup("robustness", "robustness of federated training (autoflip-secure)")
    group.addoption(
        "--robustness-cache", metavar="DIR", type=Path, default=None,
        help="where finished runs are kept between sessions (default: pytest's cache directory)",
    )  # fmt: skip
    group.addoption(
        "--robustness-workers", metavar="N", type=int, default=1,
        help="processes that run a scenario (default: 1, in this process); results do not depend on it",
    )  # fmt: skip


@pytest.fixture(scope="session")
def robustness(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Robustness:
    """``robustness(scenario, **overrides)`` runs a scenario file or preset and returns its results; cached by content.

    A path is looked up next to the test file, then in pytest's root directory. ``rounds=5`` or ``attack__sigma=0.3``
    changes a key. The result has ``accuracy(...)``, ``detection_auc(...)`` and more, each with ``mean lower upper n``.
    """
    workers: int = pytestconfig.getoption("robustness_workers")
    if workers < 1:
        raise pytest.UsageError(f"--robustness-workers {workers}: give 1 or more")
    from autoflip_secure.scenarios.testing.robustness import Robustness

    folder: Path | None = pytestconfig.getoption("robustness_cache")
    if folder is None:
        cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)  # absent with -p no:cacheprovider
        folder = cache.mkdir("robustness") if cache is not None else tmp_path_factory.mktemp("robustness")
    return Robustness(pytestconfig.rootpath, folder.absolute(), workers)
