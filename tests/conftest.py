"""Every signature that states shapes is checked while the tests run (:mod:`typecheck`).

What this imports, the process that hands out tests imports too, which runs none: no torch here.
"""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "helpers"))

import built_wheel
import sizes
import typecheck

gc.disable()  # until tests are collected: nearly all that is imported stays
typecheck.install()

# Shells start background jobs with these ignored, and children would inherit that: tests interrupt their children.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


# No deadlines: how long an example takes says something about the machine. `make test` draws the same examples every
# time, so that what is green here is green elsewhere; `make test-all` draws others each time.
def pytest_configure(config: pytest.Config) -> None:
    sizes.follow(config)
    settings.register_profile(
        "project", deadline=None, derandomize=sizes.sized(True, False), max_examples=sizes.sized(20, 100)
    )
    settings.load_profile("project")


def pytest_collection_finish() -> None:
    import torch

    from autoflip_secure.runtime import processes

    torch.set_num_threads(1)
    # The first test that starts a process settles what those of all others find imported: what most of them need.
    processes._SLOW = (
        *("autoflip_secure.scenarios.running.build", "torch.fx.experimental.symbolic_shapes"),
        *("sklearn.datasets", "sklearn.metrics"),
        *(f"autoflip_secure.defenses.secure_aggregation.{name}" for name in ("party", "crypten_ready")),
    )
    # Tests edit modules and import them again within a second, and compiled ones are told apart by second and size.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # What is imported by now stays: looking through it for cycles again and again took an eighth of the time.
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or libraries that count what they have given out complain after the last line
    gc.set_threshold(50_000, 50, 50)
    gc.enable()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the repository; tests that need it skip without it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data is not beside the repository (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel; one for all processes that test side by side."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    (built,) = built_wheel.once(shared / "built" / "wheel", built_wheel.build).glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path) -> Path:
    """The ``bin`` of a fresh environment with the wheel in it, away from this tree."""
    place = wheel.parents[1] / "environment"
    return built_wheel.once(place, lambda home: built_wheel.install(wheel, home)) / "bin"


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What a person is told beside the answer while the test runs."""
    from autoflip_secure.terminal import notes

    heard: list[str] = []
    notes.begin(heard.append)
    yield heard
    notes.begin()
