"""A place from which plug-ins from outside this package are imported."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside_plugins import OWN


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A module of classes that no entry point names."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_plugins.py").write_text(OWN)
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))
