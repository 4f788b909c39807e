"""The tuning stage of a results folder: a results folder of its own inside it, and what it says of the cells outside.

.. code-block:: text

    runs/<name>/
      tuning/     scenario.yaml, manifest.json, cells/, log.txt: every candidate on the tuning seeds
      cells/      the cells that are reported, each with how its settings were chosen
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.choices import chosen
from autoflip_secure.scenarios.config.loading import LoadedScenario

TUNING: Final = "tuning"
"""Name of the folder."""


def with_choices(folder: Path, scenario: LoadedScenario, read: Callable[[Path], RunRecord]) -> LoadedScenario:
    """A scenario with the choices that were made in its results folder; without tuning as it is.

    Args:
        read: reads the file of a cell.

    Raises:
        StoreError: not every cell of the tuning stage is there.
    """
    if scenario.tuning is None:
        return scenario
    cells = folder / TUNING / "cells"
    return chosen(scenario, [read(cells / f"{cell.key}.json") for cell in scenario.tuning.stage.cells])
