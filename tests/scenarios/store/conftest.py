"""A finished sweep, and copies of it to spoil."""

import shutil
from pathlib import Path

import pytest
from small_sweeps import run, tiny

from autoflip_secure.records.run import RunRecord


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunRecord]]:
    """A finished sweep; never change it."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    return folder, run(tiny(), folder).records


@pytest.fixture
def folder(finished: tuple[Path, list[RunRecord]], tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(finished[0], tmp_path / "tiny"))
