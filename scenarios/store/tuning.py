"""The tuning stage of a results folder: a results folder of its own inside it, and what it says of the cells outside.

.. code-block:: text

    runs/<name>/
      tuning/     scenario.yaml, manifest.json, cells/, log.txt: every candidate on the tuning seeds
      cells/      the cells that are reported, each with how its settings were chosen
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.choices import chosen
from autoflip_secure.scenarios.config.loading import LoadedScenario
from autoflip_secure.scenarios.store.index import CellIndex
from autoflip_secure.scenarios.store.reading import read_record

TUNING: Final = "tuning"
"""Name of the folder."""


def with_choices(folder: Path, scenario: LoadedScenario) -> LoadedScenario:
    """A scenario with the choices that were made in its results folder; without tuning as it is.

    Raises:
        StoreError: not every cell of the tuning stage is there.
    """
    if scenario.tuning is None:
        return scenario
    return chosen(scenario, stage_records(folder, [cell.key for cell in scenario.tuning.stage.cells]))


def stage_records(folder: Path, keys: Sequence[str]) -> list[RunRecord]:
    """The records of all cells of the tuning stage of a results folder.

    Raises:
        StoreError: not every one is there.
    """
    stage = folder / TUNING
    index = CellIndex.of(stage, len(keys))
    return [read_record(stage / "cells" / f"{key}.json", index) for key in keys]
