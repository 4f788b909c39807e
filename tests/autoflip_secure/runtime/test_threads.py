"""One thread wherever numbers are made, whatever the machine, the shell or the calling program has set."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from autoflip_secure.defenses.privacy.accountants import Mechanism, prv_epsilon, rdp_epsilon
from autoflip_secure.runtime import threads as threads_module
from autoflip_secure.runtime.threads import one_thread, one_thread_from_the_start
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import run_block

ROOT = Path(__file__).parents[3]


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threadpool_limits(2):
        torch.set_num_threads(2)
        yield
    torch.set_num_threads(1)


def threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info()} | {torch.get_num_threads()}


@pytest.mark.usefixtures("two_threads")
def test_inside_there_is_one_and_afterwards_as_before() -> None:
    before = threads()
    assert max(before) == 2, "nothing to limit, so the test says nothing"

    @one_thread()
    def inner() -> set[int]:
        with one_thread():
            pass
        return threads()  # leaving the inner one gives nothing back

    assert inner() == {1}
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert threads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only there the loader counts")
def test_what_is_loaded_later_is_looked_for(tmp_path: Path) -> None:
    """To look for libraries takes milliseconds, so it is done again only when there is another one."""
    before = threads_module._pools()
    assert threads_module._pools() is before
    library = next(Path(sysconfig.get_config_var("DESTSHARED")).glob("*.so"))
    ctypes.CDLL(str(shutil.copy(library, tmp_path / "new.so")))
    assert threads_module._pools() is not before


@pytest.mark.usefixtures("two_threads")
def test_numbers_do_not_depend_on_threads(tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "{name: s, clients: 4, cohort: 3, rounds: 2, seeds: [1], algorithm: autoflip, training: {epochs: 1},"
        " exploration: {epochs: 1}, data: {kind: digits, train_samples: 400, test_samples: 300},"
        " privacy: {kind: sample_level, clip: 1.0, noise_multiplier: 1.0}, model: {kind: mlp, hidden: [200]}}"
    )
    (block,) = plan(load(scenario)).blocks
    count = ((Mechanism(1.1, 0.07, "poisson"), 130),)
    found = []
    for number in (2, 1):
        with threadpool_limits(number):
            torch.set_num_threads(number)
            for cached in (rdp_epsilon, prv_epsilon):
                cached.cache_clear()
            found.append((run_block(block)[0].numbers(), rdp_epsilon(count, 1e-5), prv_epsilon(count, 1e-5)))
    assert found[0] == found[1]


def test_a_program_of_ours_starts_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = (
        "import sys; sys.argv[1:] = ['list', 'models']\n"
        "from autoflip_secure.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "import numpy, scipy.linalg, torch; from threadpoolctl import threadpool_info\n"
        "pools = {p['num_threads'] for p in threadpool_info()} | {torch.get_num_threads()}\n"
        "assert pools == {1}, pools\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "7"})
    one_thread_from_the_start()
    assert set(os.environ.values()) == {"1"}
