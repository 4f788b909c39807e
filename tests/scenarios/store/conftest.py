"""A finished sweep, small and large, and copies of it to spoil."""

import shutil
from pathlib import Path

import pytest
from many_cells import fill, small_cells
from small_sweeps import run, tiny

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.plan import Plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.store.index import LEAST


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunRecord]]:
    """A finished sweep; never change it."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    return folder, run(tiny(), folder).records


@pytest.fixture
def folder(finished: tuple[Path, list[RunRecord]], tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(finished[0], tmp_path / "tiny"))


@pytest.fixture(scope="session")
def large_plan() -> Plan:
    """Just more cells than a folder needs to have an index."""
    return small_cells(LEAST // 4 + 2)


@pytest.fixture(scope="session")
def large(large_plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their results folder, with its index; never change it."""
    base = [record for block in small_cells(1).blocks for record in run_block(block)]
    return fill(tmp_path_factory.mktemp("large") / "run", base, large_plan)


@pytest.fixture
def large_copy(large: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(large, tmp_path / "run"))
